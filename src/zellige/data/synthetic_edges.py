"""The edges of the synthetic web: dark background beside it, and edges that wander as its material does."""

import numpy as np
from numpy.typing import NDArray

from zellige.core.types import Pixels
from zellige.data.synthetic_camera import SyntheticWeb, wander_mm

BACKGROUND_DN = 2
"""Level beside the web, and the noise on it."""


def edge_shift_px(web: SyntheticWeb, roll: int, first_line: int) -> NDArray[np.float64]:
    """Tell how far a frame's material lies to the right of where it lies without wander, (H,) px."""
    numbers = np.arange(first_line, first_line + web.height, dtype=np.int64)
    return -wander_mm(web, roll, numbers).astype(np.float64) / web.pixel_size.cross_web_mm


def on_background(pixels: Pixels, shift_px: NDArray[np.float64], background_px: int) -> Pixels:
    """Show a frame's web between dark margins: (H, W, ...) to (H, W + 2 background_px, ...).

    Args:
        pixels: (H, W) or (H, W, 3), the material as the camera sees it, which wanders already.
        shift_px: (H,) where each line's left edge lies, px to the right of `background_px`.
        background_px: columns on each side, more than the web wanders.

    Example:
        >>> on_background(np.full((1, 4), 90, np.uint8), np.array([1.0]), 2)[0].tolist()
        [2, 2, 2, 90, 90, 90, 90, 2]
    """
    width = pixels.shape[1]
    sides = ((0, 0), (background_px, background_px), (0, 0))[: pixels.ndim]
    wide = np.pad(pixels, sides, mode="symmetric").astype(np.float32)
    columns = np.arange(width + 2 * background_px)[None, :]
    left = background_px + shift_px[:, None]
    # The share of each pixel that is web: edges lie anywhere within one.
    share = np.clip(np.minimum(columns + 1, left + width) - np.maximum(columns, left), 0, 1)
    share = share.reshape(*share.shape, *[1] * (pixels.ndim - 2)).astype(np.float32)
    return np.asarray(np.rint(wide * share + BACKGROUND_DN * (1 - share)), np.uint8)
