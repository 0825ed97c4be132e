"""Show on a picture which part of the frame is not inspected: darker, with slanted stripes."""

import cv2
import numpy as np

from zellige.core.ignore import Mask
from zellige.core.types import Pixels

_PERIOD_PX, _STRIPE_PX = 12, 4
_DIMMED, _STRIPE_LEVEL = 0.45, 150.0


def hatch(picture: Pixels, inspected: Mask) -> Pixels:
    """Hatch what is not inspected.

    Args:
        picture: (h, w, 3) uint8 RGB, the frame at any size.
        inspected: (H, W) bool, of the frame.

    Example:
        >>> shown = hatch(np.full((20, 20, 3), 200, np.uint8), np.arange(20)[None, :].repeat(20, axis=0) < 10)
        >>> int(shown[5, 5, 0]), sorted(set(shown[:, 15, 0].tolist()))
        (200, [90, 175])
    """
    height, width = picture.shape[:2]
    size = (width, height)
    kept = np.asarray(cv2.resize(inspected.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)).astype(np.bool_)
    if kept.all():
        return picture
    dimmed = picture * _DIMMED
    y, x = np.ogrid[:height, :width]
    on_stripe = ((x + y) % _PERIOD_PX < _STRIPE_PX)[..., None]
    hatched = np.where(on_stripe, (picture + _STRIPE_LEVEL) / 2, dimmed)
    return np.where(kept[..., None], picture, np.rint(hatched).clip(0, 255).astype(np.uint8))
