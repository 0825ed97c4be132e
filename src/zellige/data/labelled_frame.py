"""One image as the net sees it, with what is known of its defects by kind: what labelled tiles are cut from.

Shapes: a frame (C, H, W) at the scale of the tiles, M boxes (x0, y0, x1, y1 in its px, number of the kind).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from zellige.core.image_files import Mask, read_mask, read_sample
from zellige.core.tiling import Layout, lay_out, seen_alike
from zellige.core.types import Color, Geometry, GeometryMode, Pixels, Sample
from zellige.data.labelled_tile import Boxes, LabelledTile, clipped, painted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledFrame:
    """An image uint8 (C, H, W), or with its template (2 C, H, W), as the net sees it, and its labels.

    `numbers` uint8 (H, W) is the kind of each pixel, 0 good; `inspected` (H, W) bool or None where all is; `corners`
    are (y, x) of the tiles of evaluation.
    """

    pixels: Pixels
    numbers: Pixels
    boxes: Boxes
    has_mask: bool
    has_place: bool
    """Whether masks or boxes say where the defects are; true for a good image."""
    kind: int
    """Of the image; counts where `has_place` is false."""
    inspected: Mask | None
    corners: tuple[tuple[int, int], ...]
    tile_size: tuple[int, int]

    @property
    def num_bytes(self) -> int:
        return self.pixels.nbytes + self.numbers.nbytes + (0 if self.inspected is None else self.inspected.nbytes)

    def tile(self, y: int, x: int, size: tuple[int, int] | None = None) -> LabelledTile:
        """Cut the tile whose first pixel is at row y and column x; `size` is (h, w), evaluation's tile if not given."""
        height, width = size or self.tile_size
        window = (slice(y, y + height), slice(x, x + width))
        return LabelledTile(
            pixels=np.ascontiguousarray(self.pixels[:, *window]),
            kind_mask=np.ascontiguousarray(self.numbers[window]),
            has_mask=self.has_mask,
            kind=self.kind,
            boxes=clipped(self.boxes, (y, x), (height, width)),
            has_boxes=self.has_place,
        ).with_its_kind()

    def tiles(self) -> list[LabelledTile]:
        """Cut the tiles of evaluation."""
        return [self.tile(y, x) for y, x in self.corners]


def label_frame(sample: Sample, kinds: Mapping[str, int], *, geometry: Geometry, color: Color) -> LabelledFrame | str:
    """Read an image and its labels.

    Boxes with a mask: each defect is the mask within its box. Boxes alone are filled in. A mask alone is of the image's
    kind, and each of its connected regions has a box.

    Args:
        sample: good or defective.
        kinds: the number of each kind, from 1.
        geometry, color: how it is seen.

    Returns:
        The frame, or in words why nothing can be learned from it.

    Raises:
        InputError: an image or a mask that cannot be read, or that do not fit each other.
    """
    named = {box.kind for box in sample.boxes} or ({sample.kind} if sample.is_defective else set())
    if unknown := named - kinds.keys():
        return f"of a kind that the model does not have ({min(unknown)})"
    frame = read_sample(sample, color=color)
    layout = lay_out(frame, geometry)
    has_place = sample.mask_path is not None or bool(sample.boxes) or not sample.is_defective
    if not has_place and len(layout.parts) > 1:
        return "without a mask or boxes, and cut into several tiles: draw them or use geometry=resize"
    layers = _layers(sample, kinds, frame.size)
    if layout.roi is not None and layers:
        layers = [(number, mask & layout.roi.inspected) for number, mask in layers]
        layers = [(number, mask) for number, mask in layers if mask.any()]
        if not layers:
            return "with defects where nothing is inspected"
    levels = [(number, seen_alike(mask.astype(np.uint8) * 255, layout)) for number, mask in layers]
    numbers = painted(levels, (layout.whole.shape[0], layout.whole.shape[1]))
    seen = [layout.whole] if layout.template_whole is None else [layout.whole, layout.template_whole]
    return LabelledFrame(
        pixels=np.concatenate([one[None] if one.ndim == 2 else one.transpose(2, 0, 1) for one in seen]),
        numbers=numbers,
        boxes=_scaled_boxes(sample, kinds, layout) if sample.boxes else _boxes_of(numbers),
        has_mask=sample.mask_path is not None or not sample.is_defective,
        has_place=has_place,
        kind=kinds.get(sample.kind, 0),
        inspected=None if layout.roi is None else seen_alike(layout.roi.inspected.view(np.uint8) * 255, layout) > 0,
        corners=layout.corners,
        tile_size=(geometry.height, geometry.width),
    )


def _layers(sample: Sample, kinds: Mapping[str, int], size: tuple[int, int]) -> list[tuple[int, Mask]]:
    """The defects as (number, mask (H, W) bool) in px of the stored image, the larger boxes first."""
    drawn = None if sample.mask_path is None else read_mask(sample.mask_path, size)
    if drawn is not None and not sample.boxes:
        return [(kinds[sample.kind], drawn)]
    layers = []
    for box in sorted(sample.boxes, key=lambda box: -_area(box.box_px)):
        window = _window(box.box_px)
        inside = np.zeros(size, np.bool_)
        inside[window] = True if drawn is None else drawn[window]
        layers.append((kinds[box.kind], inside))
    return layers


def _area(box_px: Sequence[float]) -> float:
    return (box_px[2] - box_px[0]) * (box_px[3] - box_px[1])


def _window(box_px: Sequence[float]) -> tuple[slice, slice]:
    """The pixels that a box touches: rows and columns."""
    x0, y0 = (int(value) for value in np.floor(box_px[:2]))
    x1, y1 = (int(value) for value in np.ceil(box_px[2:4]))
    return slice(y0, y1), slice(x0, x1)


def _boxes_of(numbers: Pixels) -> Boxes:
    """The boxes (M, 5) of the connected regions (8-neighborhood) of each kind."""
    rows = []
    for number in np.unique(numbers[numbers > 0]):
        _, _, stats, _ = cv2.connectedComponentsWithStats((numbers == number).view(np.uint8), connectivity=8)
        rows += [(x, y, x + w, y + h, number) for x, y, w, h, _ in stats[1:].tolist()]
    return np.array(rows, np.float32).reshape(-1, 5)


def _scaled_boxes(sample: Sample, kinds: Mapping[str, int], layout: Layout) -> Boxes:
    """The drawn boxes (M, 5) at the net's scale; where the frame is mirrored up to a tile, their images too."""
    drawn, roi = sample.boxes, layout.roi
    if roi is not None:
        drawn = tuple(box for box in drawn if roi.inspected[_window(box.box_px)].any())
    boxes = np.array([(*box.box_px, kinds[box.kind]) for box in drawn], np.float32).reshape(-1, 5)
    height, width = layout.frame_size
    seen = (layout.whole.shape[0], layout.whole.shape[1])
    if layout.geometry.mode is GeometryMode.RESIZE:
        boxes[:, :4] *= np.array([seen[1] / width, seen[0] / height] * 2, np.float32)
        return boxes
    for axis, (length, needed) in enumerate(((width, seen[1]), (height, seen[0]))):
        boxes = np.concatenate([_copy(boxes, axis, length, turn) for turn in range(-(-needed // length))])
    return clipped(boxes, (0, 0), seen)


def _copy(boxes: Boxes, axis: int, length: int, turn: int) -> Boxes:
    """The boxes in the copy number `turn` of a frame that is mirrored again and again along one axis."""
    copied = boxes.copy()
    low, high = boxes[:, axis], boxes[:, axis + 2]
    is_mirrored = turn % 2 == 1
    copied[:, axis] = turn * length + (length - high if is_mirrored else low)
    copied[:, axis + 2] = turn * length + (length - low if is_mirrored else high)
    return copied
