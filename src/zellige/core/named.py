"""What a detector that names says of one frame beside its map: the kind of each pixel, or boxes with their kinds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN_KIND = "unknown"
"""The kind of a defect that a detector found and could not name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KindMap:
    """The kind of each pixel: `numbers` uint8 (H, W), 0 without a name and k for `kinds[k - 1]`."""

    numbers: NDArray[np.uint8]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundBoxes:
    """Boxes (N, 6) float32, the best first: x0, y0, x1, y1 in px of the frame, score, k for `kinds[k - 1]`."""

    boxes: NDArray[np.float32]
    kinds: tuple[str, ...]


Named = KindMap | FoundBoxes
