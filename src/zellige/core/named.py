"""What a detector that names says of one frame beside its map: the kind of each pixel, or boxes with their kinds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError

UNKNOWN_KIND = "unknown"
"""The kind of a defect that a detector found and could not name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KindMap:
    """The kind of each pixel: `numbers` uint8 (H, W), 0 without a name and k for `kinds[k - 1]`."""

    numbers: NDArray[np.uint8]
    kinds: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.numbers.dtype != np.uint8 or self.numbers.ndim != 2:
            raise InputError(f"kind map: expected uint8 (H, W), got {self.numbers.dtype} {self.numbers.shape}")
        if self.numbers.size and int(self.numbers.max()) > len(self.kinds):
            raise InputError(f"kind map: expected numbers up to {len(self.kinds)}, got {int(self.numbers.max())}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundBoxes:
    """Boxes (N, 6) float32, the best first: x0, y0, x1, y1 in px of the frame, score, k for `kinds[k - 1]`.

    Values that are not finite are let in, so that `decide` can make the frame UNDECIDED.
    """

    boxes: NDArray[np.float32]
    kinds: tuple[str, ...]

    def __post_init__(self) -> None:
        boxes = self.boxes
        if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 6:
            raise InputError(f"found boxes: expected float32 (N, 6), got {boxes.dtype} {boxes.shape}")
        numbers = boxes[:, 5]
        if self.is_finite and not ((numbers == np.rint(numbers)) & (numbers >= 1) & (numbers <= len(self.kinds))).all():
            raise InputError(f"found boxes: expected the numbers of kinds, 1 to {len(self.kinds)}, got others")

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.boxes).all())

    @property
    def names(self) -> tuple[str, ...]:
        """The kind of each box."""
        return tuple(self.kinds[int(number) - 1] for number in self.boxes[:, 5])


Named = KindMap | FoundBoxes


def frame_score(tile_scores: NDArray[np.float32] | list[float], named: Named | None) -> float:
    """Score of a frame: that of its worst tile, NaN where one is NaN; of boxes, that of the best one left, 0 of none.

    Boxes are dropped where nothing is inspected, and the score must not speak of them.

    Example:
        >>> frame_score([0.2, 0.7], None)
        0.7
        >>> frame_score([0.2, 0.7], FoundBoxes(boxes=np.zeros((0, 6), np.float32), kinds=("hole",)))
        0.0
    """
    highest = float(np.max(tile_scores))  # not max(): it passes over a NaN that is not the first
    if isinstance(named, FoundBoxes) and np.isfinite(highest):
        return float(named.boxes[:, 4].max()) if len(named.boxes) else 0.0
    return highest
