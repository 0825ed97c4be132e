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

_SIDE_PX = 512
"""The longer side of the reduced picture that is looked at."""
_LEAST_CONTRAST_DN = 12.0
_SCATTERS = 6.0
_CLOSING = 0.02
"""Share of the longer side: notches in the outline up to twice as wide belong to the part."""
_MARGIN = 0.01
"""Share of the longer side around the outline that is inspected too."""
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.98
_LEAST_COMPONENT = 0.1
"""Smaller pieces than this share of the largest one are dirt on the background."""
_MOST_ON_BORDER = 0.9
"""Largest share of the border that is part, relative to the share of the whole frame."""


def find_foreground(pixels: Pixels, ignored: Mask) -> tuple[Mask | None, str]:
    """Find the part in a frame.

    Holes of the part belong to it, and so do narrow notches and a small margin around its outline.

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
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    is_known = np.asarray(cv2.resize(ignored.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)) < 128
    border = _border(is_known)
    if not border.any():
        return None, "the whole border of the frame is ignored, so the background is not known"
    distance, threshold = _distance_from_border(small, border)
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
    """Drop specks, close notches, fill holes and keep the large pieces; 0 or 1 (h, w)."""
    opened = cv2.morphologyEx(found.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = _morph(np.asarray(opened, np.uint8), cv2.MORPH_CLOSE, _CLOSING)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(found.shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    is_large = areas >= max(1.0, _LEAST_COMPONENT * float(areas.max()))
    return np.asarray(is_large[labels], np.bool_).view(np.uint8)


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
    if contrast < 2 * threshold:
        return f"the part differs from its background by {contrast:.0f} gray levels, expected {2 * threshold:.0f}"
    return ""
