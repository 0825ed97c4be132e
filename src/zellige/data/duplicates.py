"""Find images that show the same thing: shot twice, under another exposure, saved again.

Two steps. A 64-bit perceptual hash proposes pairs; the correlation of two small, locally normalized thumbnails, after
the mean thumbnail of the set is taken away and over shifts of up to 2 px, confirms them. Local normalization makes the
comparison blind to exposure (gain, offset, slow light). The mean holds what all images of a fixtured product share,
so two good parts in the same fixture are not duplicates of each other.

The thresholds come from the magnetic-tile set (1344 images, six exposure series of one stock of about 224 tiles). There
the correlation of all pairs has two humps with their valley at 0.50 to 0.55. With Hamming distance <= 16 and
correlation >= 0.55: about 3190 pairs, 1.4 % of them inside one exposure series (chance alone would give 17 %), 170
groups of exactly six, none above 18. At 0.45 groups of different tiles run together (up to 72). Plain correlation of
32 px thumbnails (tried first) confuses tiles under the same light: at 0.90 it chains 173 images into one group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.types import Pixels

THUMBNAIL_PX = 48
MAX_HAMMING = 16
MIN_CORRELATION = 0.55
MAX_SHIFT_PX = 2
MIN_IMAGES_FOR_MEAN = 8
"""Below this number of images the mean thumbnail is mostly the images themselves and is not taken away."""
MIN_TEXTURE = 0.1
"""Spread of a normalized thumbnail below which it shows nothing to compare; then only equal bytes count."""

_BLUR_PX = 2.25
_BLOCK = 512

Thumbnail = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images (indices, first < second) that show the same; correlation is 1 where their bytes are equal."""

    first: int
    second: int
    correlation: float
    is_exact: bool


def thumbnail_of(pixels: Pixels) -> Thumbnail:
    """Shrink an image to a locally normalized gray thumbnail, float32 (48, 48), around 0 and about -3 to 3."""
    gray = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.float32)
    detail = small - _blur(small, _BLUR_PX)
    spread = np.sqrt(_blur(detail * detail, 1.5 * _BLUR_PX))
    return np.asarray(detail / (spread + 1.0), np.float32)


def hash_of(thumbnail: Thumbnail) -> int:
    """Hash a thumbnail to 64 bits: the signs of its 8 x 8 lowest DCT coefficients about their median."""
    small = cv2.resize(thumbnail, (32, 32), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small)[:8, :8].ravel()
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes(), "big")


def find_pairs(thumbnails: Sequence[Thumbnail], contents: Sequence[str]) -> list[Pair]:
    """Find the pairs of images that show the same, sorted by index.

    Args:
        thumbnails: from `thumbnail_of`, one per image.
        contents: a hash of each file's bytes.

    Returns:
        Exact pairs link equal files in a chain (n equal files give n - 1 pairs); near pairs are all listed.
    """
    exact = _equal_bytes(contents)
    is_exact = {(pair.first, pair.second) for pair in exact}
    near = [pair for pair in _near_pairs(thumbnails) if (pair.first, pair.second) not in is_exact]
    return sorted(exact + near, key=lambda pair: (pair.first, pair.second))


def merge_groups(groups: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    """Merge the groups that a pair links; a merged group takes the name that sorts first.

    Example:
        >>> merge_groups(["a", "b", "c"], [Pair(first=0, second=2, correlation=0.9, is_exact=False)])
        ['a', 'b', 'a']
    """
    parent = {name: name for name in groups}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in pairs:
        low, high = sorted((root(groups[pair.first]), root(groups[pair.second])))
        parent[high] = low
    return [root(name) for name in groups]


def _equal_bytes(contents: Sequence[str]) -> list[Pair]:
    last: dict[str, int] = {}
    pairs = []
    for index, content in enumerate(contents):
        if content in last:
            pairs.append(Pair(first=last[content], second=index, correlation=1.0, is_exact=True))
        last[content] = index
    return pairs


def _near_pairs(thumbnails: Sequence[Thumbnail]) -> list[Pair]:
    if len(thumbnails) < 2:
        return []
    hashes = np.array([hash_of(thumbnail) for thumbnail in thumbnails], np.uint64)
    stack = np.stack(thumbnails)
    if len(stack) >= MIN_IMAGES_FOR_MEAN:
        stack -= stack.mean(axis=0)
    has_texture = stack.std(axis=(1, 2)) >= MIN_TEXTURE
    inner = slice(MAX_SHIFT_PX, THUMBNAIL_PX - MAX_SHIFT_PX)
    centers = _unit_rows(stack[:, inner, inner].reshape(len(stack), -1))
    pairs = []
    for first, others in _close_hashes(hashes):
        others = others[has_texture[others]]
        if has_texture[first] and len(others):
            correlations = (_shifted(stack[first]) @ centers[others].T).max(axis=0)
            for second, value in zip(others, correlations, strict=True):
                if value >= MIN_CORRELATION:
                    pairs.append(Pair(first=first, second=int(second), correlation=float(value), is_exact=False))
    return pairs


def _close_hashes(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For each image the later images within `MAX_HAMMING`; memory is one block of rows."""
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        distance = np.bitwise_count(block[:, None] ^ hashes[None, :])
        for offset, row in enumerate(distance):
            later = np.flatnonzero(row[start + offset + 1 :] <= MAX_HAMMING) + start + offset + 1
            if len(later):
                yield start + offset, later


def _shifted(thumbnail: Thumbnail) -> Thumbnail:
    """The central part of a thumbnail under every shift, as unit rows."""
    side, num_shifts = THUMBNAIL_PX - 2 * MAX_SHIFT_PX, 2 * MAX_SHIFT_PX + 1
    windows = np.lib.stride_tricks.sliding_window_view(thumbnail, (side, side))
    return _unit_rows(windows.reshape(num_shifts * num_shifts, -1))


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centered = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-6), np.float32)


def _blur(image: Thumbnail, sigma: float) -> Thumbnail:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)
