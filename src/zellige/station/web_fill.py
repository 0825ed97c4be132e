"""What the net is shown where there is no web: the web itself, mirrored at its edge.

A tile's score is one number for all that the tile shows. Background beside the web, a dark stretch after a web break,
would decide it. The map there is masked anyhow; mirrored web keeps score and map from knowing what lies beyond.
"""

import numpy as np
from numpy.typing import NDArray

from zellige.core.types import Pixels

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def fill_outside(pixels: Pixels, left_px: Floats, right_px: Floats, is_judged: Mask, *, margin_px: float) -> Pixels:
    """Return lines that show web everywhere: beside it and in place of lines that are not judged.

    Args:
        pixels: uint8 (H, W) or (H, W, 3); returned as they are where nothing is to be filled.
        left_px: (H,) left edge at each line, NaN where there is none.
        right_px: (H,) right edge.
        is_judged: (H,) lines that show web; at least one of them is true.
        margin_px: what does not count as web at each edge.

    Example:
        >>> line = np.array([[0, 0, 5, 6, 7, 0]], np.uint8)
        >>> fill_outside(line, np.array([2.0]), np.array([5.0]), np.array([True]), margin_px=0).tolist()
        [[6, 5, 5, 6, 7, 7]]
    """
    height, width = pixels.shape[:2]
    good = np.flatnonzero(is_judged)
    first = np.clip(np.ceil(left_px[good] + margin_px), 0, width - 1).astype(np.intp)
    count = np.maximum(np.floor(right_px[good] - margin_px).astype(np.intp) - first, 1)
    beside = (first.max(), (first + count).min())
    if len(good) == height and beside[0] == 0 and beside[1] >= width:
        return pixels
    lines = pixels[good]
    for columns in (np.arange(beside[0]), np.arange(max(beside[1], beside[0]), width)):
        source = first[:, None] + _mirrored(columns[None, :] - first[:, None], count[:, None])
        lines[:, columns] = pixels[good[:, None], source]
    if len(good) == height:
        return lines
    wanted = np.arange(height)
    after = np.searchsorted(good, wanted)
    above = wanted - good[np.maximum(after - 1, 0)]
    below = good[np.minimum(after, len(good) - 1)] - wanted
    is_above = (after > 0) & ((after == len(good)) | (above <= below))
    # Mirrored at the nearer judged line: one line away shows that line, two lines away the one behind it.
    rows = np.where(is_judged, after, np.where(is_above, after - above, after + below - 1))
    return np.asarray(lines[_mirrored(rows, np.intp(len(good)))], np.uint8)


def _mirrored(positions: Indices, count: Indices | np.intp) -> Indices:
    """Bring positions into [0, count) by mirroring at both borders, as often as it takes."""
    wave = positions % (2 * count)
    return np.asarray(np.where(wave < count, wave, 2 * count - 1 - wave), np.intp)
