"""Synthetic anomalies in good tiles, for what must be chosen or learned without real defects.

- `cut_paste`, `scar`: Li, Sohn, Yoon, Pfister, "CutPaste", CVPR 2021, arXiv:2104.04015: a patch, or a thin rotated
  strip, of good surface where it does not belong.
- `perlin`: Zavrtanik, Kristan, Skocaj, "DRAEM", ICCV 2021, arXiv:2108.07610: another texture within thresholded Perlin
  noise. Deviations: the texture comes from good tiles (there is no external texture set), and a few of the noise's
  blobs are kept, where the paper keeps all of them and covers the whole image.
- scratch, spot, stain, smudge, missing: see structural_anomalies.py.

They say how well a detector finds *changes*. They are no model of real defects, and no rate measured on them is one.

Shapes: tiles (H, W) or (H, W, 3) uint8, at least 32 px on a side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.perlin_noise import perlin_noise
from zellige.core.types import Pixels
from zellige.data.structural_anomalies import STRUCTURAL, Change

Mask = NDArray[np.bool_]

LEAST_TILE_PX = 32
LEAST_CHANGED_SHARE = 0.5
"""Share of an anomaly's masked pixels that differ from the good tile, at least."""
LEAST_CHANGE_DN = 2.0
"""Mean absolute change within the mask, gray levels, at least."""

_ATTEMPTS = 8
_SHIFT_DN = 24
_PAPER_SIDE_PX = 256
_PATCH_AREA, _PATCH_ASPECT = (0.02, 0.15), (0.3, 1.0)
_SCAR_WIDTH_PX, _SCAR_LENGTH_PX, _SCAR_ANGLE = (2, 16), (10, 25), (-45.0, 45.0)
_JITTER = 0.1
_PERLIN_THRESHOLD, _PERLIN_OPACITY = 0.5, (0.1, 1.0)
_MOST_BLOBS = 3
_LEAST_BLOB_PX = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anomaly:
    """A tile with one synthetic anomaly. Outside `mask` (H, W) bool, which is never empty, it is the good tile."""

    pixels: Pixels
    mask: Mask
    kind: str


def make_anomaly(
    pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator, kind: str | None = None
) -> Anomaly:
    """Put one anomaly into a good tile.

    At least half of the masked pixels differ from the good tile, by two gray levels on average over the mask. Where a
    kind cannot show itself, such as a patch of an even surface pasted on it, it is drawn again, and after some attempts
    its region is made lighter or darker.

    Args:
        pixels: the good tile, uint8 (H, W) or (H, W, 3); it is not changed.
        others: good tiles of the same shape that patches and textures are taken from; none means `pixels` itself.
        rng: decides everything; the same state gives the same anomaly.
        kind: one of `KINDS`, or None for a random one.

    Raises:
        ConfigError: an unknown kind.
        InputError: a tile that is too small, not uint8, or other tiles of another shape.
    """
    _check(pixels, others, kind)
    kind = kind or KINDS[int(rng.integers(len(KINDS)))]
    donors = others or [pixels]
    for _ in range(_ATTEMPTS):
        after, region = _PASTED[kind](pixels, donors, rng) if kind in _PASTED else STRUCTURAL[kind](pixels, rng)
        anomaly = _bounded(pixels, after, region, kind)
        if _is_visible(pixels, anomaly):
            return anomaly
    shifted = np.where(pixels < 128, pixels + _SHIFT_DN, pixels - _SHIFT_DN).astype(np.uint8)
    return _bounded(pixels, shifted, region, kind)


def cut_paste(pixels: Pixels, donors: Sequence[Pixels], rng: np.random.Generator) -> Change:
    """Paste a patch of a good tile, 2 to 15 % of the area, aspect 0.3 to 3.3, slightly changed in tone.

    Source: section 2.1 and appendix of the paper.
    """
    height, width = pixels.shape[:2]
    area = rng.uniform(*_PATCH_AREA) * height * width
    narrow = rng.uniform(*_PATCH_ASPECT)
    aspect = narrow if rng.random() < 0.5 else 1 / narrow
    h = int(np.clip(round(np.sqrt(area / aspect)), 2, height - 1))
    w = int(np.clip(round(np.sqrt(area * aspect)), 2, width - 1))
    donor = donors[int(rng.integers(len(donors)))]
    patch = _jittered(_random_crop(donor, h, w, rng), rng)
    return _pasted(pixels, patch, np.ones((h, w), bool), rng)


def scar(pixels: Pixels, donors: Sequence[Pixels], rng: np.random.Generator) -> Change:
    """Paste a thin strip of a good tile, turned by up to 45 degrees.

    It is 2 to 16 px by 10 to 25 px on a tile of 256 px, as in the paper, and in proportion on others.
    """
    scale = min(pixels.shape[:2]) / _PAPER_SIDE_PX
    w = max(2, round(rng.uniform(*_SCAR_WIDTH_PX) * scale))
    h = max(4, round(rng.uniform(*_SCAR_LENGTH_PX) * scale))
    donor = donors[int(rng.integers(len(donors)))]
    strip = _jittered(_random_crop(donor, h, w, rng), rng)
    side = int(np.ceil(np.hypot(h, w))) + 2
    top, left = (side - h) // 2, (side - w) // 2
    border = (top, side - h - top, left, side - w - left)
    canvas = cv2.copyMakeBorder(strip, *border, cv2.BORDER_REPLICATE)
    inside = cv2.copyMakeBorder(np.ones((h, w), np.uint8), *border, cv2.BORDER_CONSTANT, value=0)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), rng.uniform(*_SCAR_ANGLE), 1.0)
    turned = cv2.warpAffine(canvas, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(inside, turn, (side, side), flags=cv2.INTER_NEAREST) > 0
    return _pasted(pixels, np.asarray(turned, np.uint8), mask, rng)


def perlin(pixels: Pixels, donors: Sequence[Pixels], rng: np.random.Generator) -> Change:
    """Blend another texture into one to three blobs of Perlin noise above 0.5, with an opacity of 0.1 to 1.

    Source: section 3.2 of the paper (opacity), and its code (1 to 32 cells along each side, the threshold).
    """
    height, width = pixels.shape[:2]
    cells = tuple(2 ** int(rng.integers(0, 6)) for _ in range(2))
    noise = perlin_noise((height, width), (min(cells[0], height // 4), min(cells[1], width // 4)), rng)
    region = _some_blobs(noise >= min(_PERLIN_THRESHOLD, float(np.quantile(noise, 0.98))), rng)
    texture = _other_texture(donors[int(rng.integers(len(donors)))], rng).astype(np.float32)
    opacity = np.float32(rng.uniform(*_PERLIN_OPACITY))
    mixed = np.rint((1 - opacity) * pixels + opacity * texture).astype(np.uint8)
    return mixed, region


_PASTED: MappingProxyType[str, Callable[[Pixels, Sequence[Pixels], np.random.Generator], Change]] = MappingProxyType(
    {"cut_paste": cut_paste, "scar": scar, "perlin": perlin}
)
KINDS = (*_PASTED, *STRUCTURAL)


def _check(pixels: Pixels, others: Sequence[Pixels], kind: str | None) -> None:
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"anomaly kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    shape = pixels.shape
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    if pixels.dtype != np.uint8 or not is_image or min(shape[:2]) < LEAST_TILE_PX:
        raise InputError(
            f"anomaly: expected a tile uint8 (H, W) or (H, W, 3) of at least {LEAST_TILE_PX} px, "
            f"got {pixels.dtype} {shape}"
        )
    odd = next((other for other in others if other.shape != shape or other.dtype != np.uint8), None)
    if odd is not None:
        raise InputError(f"anomaly: expected other tiles uint8 {shape}, got {odd.dtype} {odd.shape}")


def _bounded(before: Pixels, after: Pixels, region: Mask, kind: str) -> Anomaly:
    """Keep what changed within the region; the mask is what differs, with single unchanged pixels in it filled."""
    inside = region if before.ndim == 2 else region[..., None]
    pixels = np.where(inside, after, before)
    differs = pixels != before
    changed = (differs if differs.ndim == 2 else differs.any(axis=2)).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    return Anomaly(pixels=pixels, mask=np.asarray(closed & region), kind=kind)


def _is_visible(before: Pixels, anomaly: Anomaly) -> bool:
    if not anomaly.mask.any():
        return False
    change = np.abs(anomaly.pixels[anomaly.mask].astype(np.int16) - before[anomaly.mask])
    per_pixel = change if change.ndim == 1 else change.max(axis=1)
    return bool((per_pixel > 0).mean() >= LEAST_CHANGED_SHARE and per_pixel.mean() >= LEAST_CHANGE_DN)


def _random_crop(pixels: Pixels, height: int, width: int, rng: np.random.Generator) -> Pixels:
    y = int(rng.integers(pixels.shape[0] - height + 1))
    x = int(rng.integers(pixels.shape[1] - width + 1))
    return pixels[y : y + height, x : x + width]


def _jittered(patch: Pixels, rng: np.random.Generator) -> Pixels:
    """Change brightness and contrast by up to a tenth each."""
    brightness, contrast = rng.uniform(1 - _JITTER, 1 + _JITTER, 2)
    mean = patch.mean()
    return np.asarray(np.clip(np.rint(((patch - mean) * contrast + mean) * brightness), 0, 255), np.uint8)


def _pasted(pixels: Pixels, patch: Pixels, mask: Mask, rng: np.random.Generator) -> Change:
    """Put a patch (h, w) somewhere into the tile, where its mask (h, w) is true."""
    height, width = mask.shape
    y = int(rng.integers(pixels.shape[0] - height + 1))
    x = int(rng.integers(pixels.shape[1] - width + 1))
    after, region = pixels.copy(), np.zeros(pixels.shape[:2], bool)
    after[y : y + height, x : x + width][mask] = patch[mask]
    region[y : y + height, x : x + width] = mask
    return after, region


def _some_blobs(region: Mask, rng: np.random.Generator) -> Mask:
    """Keep one to three connected parts, none of only a few px where there are larger ones."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    usable = 1 + np.flatnonzero(areas >= min(_LEAST_BLOB_PX, int(areas.max())))
    kept = rng.choice(usable, size=min(len(usable), int(rng.integers(1, _MOST_BLOBS + 1))), replace=False)
    return np.asarray(np.isin(labels, kept))


def _other_texture(tile: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn a good tile into a texture that does not belong: moved, enlarged or shrunk, and changed in tone."""
    height, width = tile.shape[:2]
    moved = np.roll(tile, (int(rng.integers(height)), int(rng.integers(width))), axis=(0, 1))
    turned = np.rot90(moved, int(rng.integers(4)))
    zoom = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
    grown = cv2.resize(np.ascontiguousarray(turned), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    rows, columns = np.arange(height) % grown.shape[0], np.arange(width) % grown.shape[1]
    texture = np.asarray(grown[rows][:, columns], np.uint8)
    tone = int(rng.integers(4))
    if tone == 0:
        return np.asarray(255 - texture, np.uint8)
    if tone == 1:
        return np.asarray(np.rint(255 * (texture / 255) ** rng.uniform(0.5, 2.0)), np.uint8)
    if tone == 2:
        return np.asarray(texture & 0b11100000, np.uint8)
    return texture
