"""One tile with what is known of its defects by kind: what a supervised detector learns from, before batches are made.

Shapes: a tile (C, h, w), M boxes (x0, y0, x1, y1 in its px, number of the kind), M from 0 up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.types import Pixels

Boxes = NDArray[np.float32]

LEAST_LEFT = 0.25
"""Share of a box that a tile must show for the box to be one of the tile's; of a box larger than the tile, of what the
tile can show of it."""


_COVERED = 32
"""Gray level, of 255, from which a pixel of a resized mask is defective: an eighth of its area."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledTile:
    """One tile uint8 (C, h, w) with its labels; a row of `KindTargets`, which says what they mean.

    `kind_mask` uint8 (h, w); `boxes` float32 (M, 5).
    """

    pixels: Pixels
    kind_mask: Pixels
    has_mask: bool
    kind: int
    boxes: Boxes
    has_boxes: bool

    def with_its_kind(self) -> "LabelledTile":
        """Take the kind with the largest area of the mask, good where that is empty, if somebody drew places at all."""
        if not self.has_boxes:
            return self
        counts = np.bincount(self.kind_mask.ravel())[1:]
        found = int(counts.argmax()) + 1 if counts.any() else 0
        return replace(self, kind=found, has_mask=self.has_mask or found == 0)

    def negative(self, opposites: NDArray[np.uint8]) -> "LabelledTile":
        """Turn light into dark and dark into light; kind k becomes `opposites[k]` (K + 1,), good stays good."""
        boxes = self.boxes.copy()
        boxes[:, 4] = opposites[boxes[:, 4].astype(np.intp)]
        return replace(
            self,
            pixels=255 - self.pixels,
            kind_mask=opposites[self.kind_mask],
            kind=int(opposites[self.kind]) if self.kind > 0 else self.kind,
            boxes=boxes,
        )

    def brought_to(self, height: int, width: int) -> "LabelledTile":
        """Resize pixels, mask and boxes: by areas where it gets smaller, linearly where it gets larger."""
        h, w = self.kind_mask.shape
        if (h, w) == (height, width):
            return self
        channels = [_resized(channel, height, width) for channel in self.pixels]
        drawn = [(number, self.kind_mask == number) for number in np.unique(self.kind_mask).tolist() if number]
        boxes = self.boxes.copy()
        boxes[:, :4] *= np.array([width / w, height / h] * 2, np.float32)
        return replace(
            self,
            pixels=np.stack(channels),
            kind_mask=painted(
                [(n, _resized(m.astype(np.uint8) * 255, height, width)) for n, m in drawn], (height, width)
            ),
            boxes=boxes,
        ).with_its_kind()


def painted(layers: Sequence[tuple[int, Pixels]], size: tuple[int, int]) -> Pixels:
    """Paint defects of one scale one over the other: uint8 `size` (h, w), the number of the kind of each pixel.

    Args:
        layers: number and gray levels (h, w) of each, 255 where the defect covers all of the pixel. What covers an
            eighth of it counts; a defect that covers less of every pixel is painted wherever it is.
        size: (h, w).
    """
    numbers = np.zeros(size, np.uint8)
    for number, levels in layers:
        covered = levels >= _COVERED
        numbers[covered if covered.any() else levels > 0] = number
    return numbers


def _resized(channel: Pixels, height: int, width: int) -> Pixels:
    how = cv2.INTER_AREA if height < channel.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(channel, (width, height), interpolation=how), np.uint8)


def clipped(boxes: Boxes, corner: tuple[int, int], size: tuple[int, int]) -> Boxes:
    """Move boxes (M, 5) into the window of `size` (h, w) at `corner` (y, x) and clip them; those mostly outside go."""
    offset, limit = np.array([corner[1], corner[0]] * 2), np.array([size[1], size[0]] * 2)
    moved = boxes.copy()
    moved[:, :4] = np.clip(boxes[:, :4] - offset, 0, limit)
    most = np.minimum(boxes[:, 2:4] - boxes[:, :2], limit[:2]).prod(axis=1)
    return np.asarray(moved[_areas(moved) >= LEAST_LEFT * most])


def _areas(boxes: Boxes) -> Boxes:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float32)
