"""Tell a part from the background around it, by what the border of the frame looks like.

What lies along the frame's border is taken for background: its median level and its scatter. Whatever differs from it
by more than that scatter is the part. Otsu's threshold was not taken: on a part with a dark and a bright face it parts
the faces, and the darker one would not be inspected. Here a mistake should add background to what is inspected, not
take the part away, and where the picture is not clear the answer is None: inspect the whole frame.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.ignore import Mask
from zellige.core.types import Pixels

_SIDE_PX = 256
"""The longer side of the reduced picture that is looked at. It is smoothed too: the grain of a belt averages out."""
_SMOOTHING_PX = 1.5
_LEAST_CONTRAST_DN = 12.0
_SCATTERS = 4.0
_LEAST_MARGIN = 1.5
"""How many times the threshold the part must differ by."""
_CLOSING = 0.02
"""Share of the longer side: gaps up to twice as wide do not part a part in two."""
_MARGIN = 0.005
"""Share of the longer side around the outline that is inspected too; smoothing adds up to about as much again."""
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.98
_SPECK = 0.01
"""Smaller spots than this share of the largest are dirt, and are dropped before they could be joined to the part."""
_LEAST_PIECE = 0.1
"""Smaller pieces than this share of the largest are dropped once the gaps are closed."""
_MOST_ON_BORDER = 0.9
"""Largest share of the border that is part, relative to the share of the whole frame."""


def find_foreground(pixels: Pixels, ignored: Mask) -> tuple[Mask | None, str]:
    """Find the part in a frame.

    The part is convex: its holes and notches belong to it, since a crack at the outline looks like background, and so
    does a small margin around it.

    Args:
        pixels: (H, W) or (H, W, 3) uint8; what is ignored should be filled already (`core.roi.fill`).
        ignored: (H, W) bool: pixels that say nothing.

    Returns:
        (H, W) bool, true on the part, and ""; or None and the reason in words why the part could not be told from its
        background for certain.

    Example:
        >>> frame = np.full((64, 64), 20, np.uint8)
        >>> frame[16:48, 20:44] = 180
        >>> part, reason = find_foreground(frame, np.zeros((64, 64), bool))
        >>> bool(part[32, 32]), bool(part[4, 4]), reason
        (True, False, '')
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.GaussianBlur(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), (0, 0), _SMOOTHING_PX)
    is_known = np.asarray(cv2.resize(ignored.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)) < 128
    border = _border(is_known)
    if not border.any():
        return None, "the whole border of the frame is ignored, so the background is not known"
    distance, threshold = _distance_from_border(np.asarray(small, np.uint8), border)
    found = _cleaned((distance > threshold) & is_known)
    reason = _doubt(found, distance, threshold, is_known, border)
    if reason:
        return None, reason
    grown = _morph(found, cv2.MORPH_DILATE, _MARGIN)
    return np.asarray(cv2.resize(grown, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8).view(np.bool_), ""


def _border(is_known: Mask) -> Mask:
    border = np.zeros_like(is_known)
    border[[0, -1], :] = border[:, [0, -1]] = True
    return border & is_known


def _distance_from_border(small: Pixels, border: Mask) -> tuple[NDArray[np.float32], float]:
    """Distance (h, w) in gray levels from the border's median, the largest of the channels, and its threshold."""
    levels = small.reshape(*small.shape[:2], -1).astype(np.float32)
    background = np.median(levels[border], axis=0).astype(np.float32)
    distance = np.abs(levels - background).max(axis=2)
    # 1.4826 makes the median of absolute deviations the standard deviation of a Gaussian.
    scatter = 1.4826 * float(np.median(distance[border]))
    return distance, max(_LEAST_CONTRAST_DN, _SCATTERS * scatter)


def _cleaned(found: Mask) -> NDArray[np.uint8]:
    """Drop specks, close gaps and keep the large pieces with their convex hulls; 0 or 1 (h, w)."""
    opened = cv2.morphologyEx(found.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.asarray(opened, np.uint8), connectivity=8)
    areas_px = stats[:, cv2.CC_STAT_AREA] * (np.arange(len(stats)) > 0)
    is_large = areas_px > _SPECK * areas_px.max()
    closed = _morph(np.asarray(is_large[labels], np.uint8), cv2.MORPH_CLOSE, _CLOSING)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    least = _LEAST_PIECE * max(areas, default=0.0)
    hulls = [cv2.convexHull(outline) for outline, area in zip(outlines, areas, strict=True) if area >= least]
    filled = np.zeros(found.shape, np.uint8)
    for hull in hulls:
        cv2.drawContours(filled, [hull], -1, 1, cv2.FILLED)
    return filled


def _morph(found: NDArray[np.uint8], operation: int, share: float) -> NDArray[np.uint8]:
    reach = max(1, round(share * max(found.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.morphologyEx(found, operation, kernel), np.uint8)


def _doubt(
    found: NDArray[np.uint8], distance: NDArray[np.float32], threshold: float, is_known: Mask, border: Mask
) -> str:
    """Why the found part is not to be trusted, in words; "" where it is."""
    part = found.view(np.bool_)
    share = float(part[is_known].mean())
    if not _LEAST_SHARE <= share <= _MOST_SHARE:
        return (
            f"the part would be {100 * share:.0f} % of the frame, "
            f"expected {100 * _LEAST_SHARE:.0f} to {100 * _MOST_SHARE:.0f} %"
        )
    on_border = float(part[border].mean())
    if on_border > _MOST_ON_BORDER * share:
        return f"the border of the frame is not background: {100 * on_border:.0f} % of it would be part"
    contrast = float(np.median(distance[part]))
    if contrast < _LEAST_MARGIN * threshold:
        wanted = _LEAST_MARGIN * threshold
        return f"the part differs from its background by {contrast:.0f} gray levels, expected {wanted:.0f}"
    return ""
