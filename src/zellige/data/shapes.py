"""Outlines and masks of single defects: from polygons to pixels, to COCO's run lengths, and back to polygons.

pycocotools turns polygons into pixels, so a mask made here is the one that COCO's own evaluation sees.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from zellige.core.errors import InputError
from zellige.core.image_files import Mask
from zellige.data.annotations import AnnotatedDefect, Box, Polygon, Rle, Size


def encode(mask: Mask) -> Rle:
    """Encode a mask (H, W) bool, true on the defect."""
    found = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return Rle(size=(mask.shape[0], mask.shape[1]), counts=found["counts"].decode("ascii"))


def decode(rle: Rle) -> Mask:
    """Decode to (H, W) bool, true on the defect."""
    return np.asarray(coco_mask.decode(_as_coco(rle)), np.uint8).view(np.bool_)


def read_rle(record: Mapping[str, Any], size: Size, where: str) -> Rle:
    """Read COCO's {"size": [H, W], "counts": text or list}; the result is in one canonical form.

    Raises:
        InputError: another size than the image's, run lengths that do not add up to it, or an empty mask.
    """
    if record.get("size") != list(size):
        raise InputError(f"{where}: expected a mask of size {list(size)}, its image's, got {record.get('size')}")
    counts = record.get("counts")
    runs = counts if isinstance(counts, list) else _runs_of(counts, where)
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise InputError(f"{where}: expected run lengths that add up to {size[0]} x {size[1]} px, got others")
    values = np.arange(len(runs)) % 2 == 1
    mask = np.repeat(values, runs).reshape(size[1], size[0]).T
    if not mask.any():
        raise InputError(f"{where}: expected a mask with at least one pixel, it is empty")
    return encode(mask)


def mask_of(defect: AnnotatedDefect, size: Size) -> Mask | None:
    """Rasterize what is drawn of a defect to (H, W) bool; None where it has a box only.

    An outline so thin that it holds no pixel's center becomes the pixel of its first corner: a defect is never lost.
    """
    if defect.mask is not None:
        return decode(defect.mask)
    if not defect.polygons:
        return None
    flat = [[value for corner in polygon for value in corner] for polygon in defect.polygons]
    merged = coco_mask.merge(coco_mask.frPyObjects(flat, size[0], size[1]))
    mask = np.asarray(coco_mask.decode(merged), np.uint8).view(np.bool_)
    if not mask.any():
        x, y = defect.polygons[0][0]
        mask[min(int(y), size[0] - 1), min(int(x), size[1] - 1)] = True
    return mask


def box_around(mask: Rle) -> Box:
    """The smallest box around a mask that is not empty."""
    x, y, width, height = (float(value) for value in coco_mask.toBbox(_as_coco(mask)))
    return x, y, x + width, y + height


def fill_box(box: Box, size: Size) -> Mask:
    """All pixels that a box touches, (H, W) bool."""
    mask = np.zeros(size, np.bool_)
    x0, y0, x1, y1 = box
    mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    return mask


def regions_of(mask: Mask, kind: str) -> list[AnnotatedDefect]:
    """Turn each connected region (8-neighborhood) of a mask into a defect of a kind, from the top down."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    defects = []
    for label, (x, y, width, height, _) in enumerate(stats[1:].tolist(), start=1):
        box = (float(x), float(y), float(x + width), float(y + height))
        defects.append(AnnotatedDefect(kind=kind, box=box, mask=encode(np.asarray(labels == label))))
    return defects


def outline_of(defect: AnnotatedDefect, size: Size) -> Polygon:
    """Bring what is drawn of a defect into one polygon, for formats that have no other form.

    A single polygon is kept as it is. Anything else is traced along its pixels' edges; holes and separate parts hang
    together by cuts of no width, so filling the polygon (even-odd) gives the same pixels.
    """
    if len(defect.polygons) == 1:
        return defect.polygons[0]
    mask = mask_of(defect, size)
    assert mask is not None, "a box alone has no outline"
    return join_rings(trace(mask))


def trace(mask: Mask) -> list[Polygon]:
    """Trace the edges of a mask's pixels: closed rings of corners, those around regions and those around holes.

    Args:
        mask: (H, W) bool.

    Returns:
        Corners in whole px. Even-odd filling of all rings gives the mask back.
    """
    steps = _edge_steps(mask)
    rings = []
    while steps:
        start = at = next(iter(steps))
        heading, ring = (0, 0), list[tuple[float, float]]()
        while not ring or at != start:
            step = _next_step(steps[at], heading)
            steps[at].remove(step)
            if not steps[at]:
                del steps[at]
            if step != heading:
                ring.append((float(at[0]), float(at[1])))
            at, heading = (at[0] + step[0], at[1] + step[1]), step
        rings.append(tuple(ring))
    return rings


def join_rings(rings: Sequence[Polygon]) -> Polygon:
    """Join rings into one polygon by cuts of no width, each from a ring's first corner to the nearest one so far."""
    joined = np.array(rings[0], np.float64)
    for ring in rings[1:]:
        more = np.array(ring, np.float64)
        at = int(((joined - more[0]) ** 2).sum(axis=1).argmin())
        joined = np.concatenate([joined[: at + 1], more, more[:1], joined[at:]])
    return tuple((float(x), float(y)) for x, y in joined)


_Point = tuple[int, int]


def _edge_steps(mask: Mask) -> dict[_Point, list[_Point]]:
    """From each corner the unit steps along a region's border, with the region on the right hand."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides: tuple[tuple[NDArray[np.bool_], _Point, _Point], ...] = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # nothing above: along the top edge, to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    steps: dict[_Point, list[_Point]] = {}
    for neighbor, (dx, dy), step in sides:
        for y, x in np.argwhere(inside & ~neighbor).tolist():
            steps.setdefault((x + dx, y + dy), []).append(step)
    return steps


def _next_step(options: Sequence[_Point], heading: _Point) -> _Point:
    """Turn right where two pixels touch at a corner, so that they stay apart."""
    right = (-heading[1], heading[0])
    return right if right in options else options[0]


def _runs_of(counts: object, where: str) -> list[int]:
    """Undo COCO's text of run lengths: 6 bits a character, differences to the run before the last from the third on.

    pycocotools does not check that the runs fill the mask, nor that the text is whole.

    Source: cocoapi, common/maskApi.c, rleToString.
    """
    if not isinstance(counts, str) or not counts or not all("0" <= char <= "o" for char in counts):
        raise InputError(f"{where}: expected run lengths as COCO's text or as a list, got {str(counts)[:20]!r}")
    runs: list[int] = []
    value = shift = 0
    for char in counts:
        bits = ord(char) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20 and shift < 64:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError(f"{where}: expected whole run lengths, the text stops inside one")
    return runs


def _as_coco(rle: Rle) -> dict[str, Any]:
    return {"size": list(rle.size), "counts": rle.counts.encode("ascii")}


def union(masks: Iterable[Mask], size: Size) -> Mask:
    """All pixels of several masks, (H, W) bool."""
    total = np.zeros(size, np.bool_)
    for mask in masks:
        total |= mask
    return total
