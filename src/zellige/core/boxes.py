"""Boxes x0, y0, x1, y1: how far they agree, and how those of overlapping tiles become those of the frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.named import FoundBoxes
from zellige.core.tiling import Layout, Tiles, tile_corners
from zellige.core.types import GeometryMode

Boxes = NDArray[np.float64]
"""(N, 4) x0, y0, x1, y1."""
Mask = NDArray[np.bool_]

_SAME_IOU = 0.5
"""Boxes of two tiles that agree more than this are one, also in what both tiles see of them."""
_MOSTLY_INSIDE = 0.8
_SEAM_PX = 2.0
"""A box this near to the inner border of its tile is taken for cut by it."""
_MOST = 1000
"""Most boxes of a frame that are joined: the best. A hundred tiles of noise have ten thousand of them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Boxes of all tiles, the best first: (N, 4) in px of the frame, score and kind (N,), and the tile of each."""

    boxes: Boxes
    scores: Boxes
    kinds: Boxes
    tiles: Boxes
    """(N, 4), where the tile lies in the frame."""
    owners: NDArray[np.int64]
    """(N,) number of the tile."""
    is_cut: Mask
    """(N,) whether the box ends where its tile does, and the frame goes on."""


def box_iou(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union of each of (N, 4) boxes with each of (M, 4): (N, M), 0 where both are empty.

    Example:
        >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 3, 2]])).round(3).tolist()
        [[1.0, 0.333]]
    """
    shared = _shared(first[:, None], second[None])
    union = _area(first)[:, None] + _area(second)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def join_boxes(boxes: NDArray[np.float32], tiles: Tiles | Layout, kinds: tuple[str, ...]) -> FoundBoxes:
    """Join the tiles' boxes into the frame's: each defect once, however the tiles cut it.

    Boxes of one kind and of different tiles are one defect where their IoU is above 0.5; where what both tiles see of
    them has that IoU and one of them ends at its tile's border; or where such a cut one lies mostly inside the other.
    The best box that no border cuts stands for the defect, or else all of them put together; its score is the best.
    Boxes are clipped to the frame; those whose center lies outside it, or in what is not inspected, are dropped.

    Args:
        boxes: (N, M, 6) of N tiles, as `models.detector.BoxOutput` describes it.

    Raises:
        InputError: a kind's number out of range.
    """
    if not np.isfinite(boxes).all():  # nothing can be said of the frame: `decide` makes it UNDECIDED
        return FoundBoxes(boxes=boxes.reshape(-1, 6).astype(np.float32), kinds=kinds)
    parts = _place(boxes, tiles)
    if tiles.geometry.mode is GeometryMode.RESIZE or len(boxes) == 1:
        rows = np.column_stack([parts.boxes, parts.scores, parts.kinds])
    else:
        rows = _merge(parts)
    return FoundBoxes(boxes=_inside_frame(rows, tiles), kinds=kinds)


def _place(boxes: NDArray[np.float32], tiles: Tiles | Layout) -> _Parts:
    """Bring the boxes that are used into the frame's pixels."""
    is_resized = tiles.geometry.mode is GeometryMode.RESIZE
    corners = np.array([(0, 0)] if is_resized else tile_corners(tiles), np.float64)
    if len(corners) != len(boxes):
        raise InputError(f"boxes: expected those of {len(corners)} tiles, got {len(boxes)}")
    size = np.array([tiles.geometry.width, tiles.geometry.height], np.float64)
    owners, places = np.nonzero((boxes != 0).any(axis=2))
    rows = boxes[owners, places].astype(np.float64)
    best = _most_likely(rows)
    rows, owners = rows[best], owners[best]
    starts = corners[owners][:, ::-1]
    if is_resized:
        rows[:, :4] *= np.tile(np.array(tiles.frame_size[::-1]) / size, 2)
        places_px = np.zeros((len(rows), 4))
        is_cut: Mask = np.zeros(len(rows), bool)
    else:
        rows[:, :4] = rows[:, :4].clip(0, np.tile(size, 2)) + np.tile(starts, 2)
        places_px = np.hstack([starts, starts + size])
        last = np.array([tiles.xs[-1], tiles.ys[-1]])
        is_before = (rows[:, :2] - starts <= _SEAM_PX) & (starts > 0)
        is_after = (starts + size - rows[:, 2:4] <= _SEAM_PX) & (starts < last)
        is_cut = np.asarray((is_before | is_after).any(axis=1), bool)
    return _Parts(rows[:, :4], rows[:, 4], rows[:, 5], places_px, owners, is_cut)


def _most_likely(rows: Boxes) -> NDArray[np.int64]:
    """Number the `_MOST` boxes to look at, the best first; no kind crowds another out."""
    order = np.argsort(-rows[:, 4], kind="stable")
    turns = np.zeros(len(rows), np.int64)  # of each box among those of its kind
    for kind in np.unique(rows[:, 5]):
        own = order[rows[order, 5] == kind]
        turns[own] = np.arange(len(own))
    kept = order[np.argsort(turns[order], kind="stable")[:_MOST]]
    return kept[np.argsort(-rows[kept, 4], kind="stable")]


def _merge(parts: _Parts) -> Boxes:
    """Put the parts of each defect together, greedily from the best score on; (K, 6), the best first."""
    is_same, iou = _same(parts)
    groups: list[list[int]] = []
    group_of: dict[int, list[int]] = {}
    for index in range(len(parts.boxes)):
        joined = [index]
        owners = {int(parts.owners[index])}
        earlier = np.flatnonzero(is_same[index, :index])
        for other in earlier[np.argsort(-iou[index, earlier], kind="stable")]:
            group = group_of[int(other)]
            its_owners = {int(parts.owners[i]) for i in group}
            # A tile has said by its own suppression that its boxes are different defects.
            if group is joined or owners & its_owners:
                continue
            groups = [g for g in groups if g is not group]
            joined, owners = sorted([*group, *joined]), owners | its_owners
            group_of.update(dict.fromkeys(joined, joined))
        group_of[index] = joined
        groups.append(joined)
    rows = np.array([_stand_for(group, parts) for group in groups]).reshape(-1, 6)
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def _stand_for(group: list[int], parts: _Parts) -> Boxes:
    """One row for a defect; the group's members are in the order of their scores."""
    whole = [i for i in group if not parts.is_cut[i]][:1]
    boxes = parts.boxes[whole or group]
    corners = [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]
    return np.array([*corners, parts.scores[group[0]], parts.kinds[group[0]]])


def _same(parts: _Parts) -> tuple[Mask, Boxes]:
    """Which boxes are one defect (N, N), and how well they agree."""
    iou = box_iou(parts.boxes, parts.boxes)
    may_be = (parts.kinds[:, None] == parts.kinds[None]) & (parts.owners[:, None] != parts.owners[None])
    first, second = np.nonzero(np.triu(may_be & (parts.is_cut[:, None] | parts.is_cut[None])))
    a, b = parts.boxes[first], parts.boxes[second]
    shared, area_a, area_b = _shared(a, b), _area(a), _area(b)
    is_inside = shared > _MOSTLY_INSIDE * np.where(parts.is_cut[first], area_a, np.inf)
    is_inside |= shared > _MOSTLY_INSIDE * np.where(parts.is_cut[second], area_b, np.inf)
    # Grown by a little, so that tiles without a common pixel agree too, along their border.
    grow = np.array([-1.0, -1.0, 1.0, 1.0]) * _SEAM_PX
    seam = _intersection(parts.tiles[first], parts.tiles[second]) + grow
    seen_a, seen_b = _intersection(a + grow, seam), _intersection(b + grow, seam)
    seen = _shared(seen_a, seen_b)
    union = _area(seen_a) + _area(seen_b) - seen
    is_one = is_inside | (seen > _SAME_IOU * union)
    agreement = np.maximum(iou[first, second], np.divide(seen, union, out=np.zeros_like(seen), where=union > 0))
    same = may_be & (iou > _SAME_IOU)
    same[first, second] |= is_one
    same[second, first] |= is_one
    iou[first, second] = iou[second, first] = agreement
    return same, iou


def _inside_frame(rows: Boxes, tiles: Tiles | Layout) -> NDArray[np.float32]:
    height, width = tiles.frame_size
    x, y = (rows[:, 0] + rows[:, 2]) / 2, (rows[:, 1] + rows[:, 3]) / 2
    is_kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    rows = rows[is_kept]
    rows[:, :4] = rows[:, :4].clip(0, [width, height, width, height])
    if tiles.roi is not None:
        rows = rows[[is_box_inspected(row[:4], tiles.roi.inspected) for row in rows]]
    return np.ascontiguousarray(rows, np.float32)


def is_box_inspected(box: Sequence[float] | Boxes, inspected: Mask) -> bool:
    """Whether a box x0, y0, x1, y1 reaches into what is inspected, (H, W) bool, by more than boxes are loose.

    A defect that lies partly in an ignored region is found; one that only touches its border is not.
    """
    grow = [min(_SEAM_PX, (box[axis + 2] - box[axis]) / 2 - 0.5) for axis in (0, 1)]
    x0, y0 = (max(0, math.floor(box[axis] + grow[axis])) for axis in (0, 1))
    x1, y1 = (math.ceil(box[axis + 2] - grow[axis]) for axis in (0, 1))
    return bool(inspected[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].any())


def _intersection(first: Boxes, second: Boxes) -> Boxes:
    return np.concatenate(
        [np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:4], second[..., 2:4])], axis=-1
    )


def _shared(first: Boxes, second: Boxes) -> Boxes:
    return _area(_intersection(first, second))


def _area(boxes: Boxes) -> Boxes:
    """Area of boxes (..., 4); 0 where a side is negative."""
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1), np.float64)
