"""Defects by kind and place, found and drawn: the plain rows that the numbers of detectors that name are made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from zellige.core.boxes import is_box_inspected
from zellige.core.named import UNKNOWN_KIND, FoundBoxes, Named
from zellige.core.regions import find_defects, majority_kind
from zellige.core.roi import IGNORED
from zellige.core.types import MIXED, AnomalyMap, Defect, Sample
from zellige.evaluation.pixels import Mask

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in px of the image; pixel i reaches from i to i + 1."""

LOW_LEVEL = 0.1
"""Level of a map of probabilities from which a region is a candidate at all, however unlikely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDefect:
    """A defect that a detector claims; `score` in [0, 1], higher = surer."""

    sample_id: str
    kind: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueDefect:
    """A defect that a person marked."""

    sample_id: str
    kind: str
    box: Box


def found_defects(
    sample_id: str, anomaly_map: AnomalyMap, named: Named, *, pixel_threshold: float
) -> tuple[FoundDefect, ...]:
    """List all that a detector claims of one image, the best first.

    Boxes are taken as they are. Of a map of kinds these are the regions above the pixel threshold, as the station lists
    them, and behind them the regions above `LOW_LEVEL` of which no pixel is above the threshold; the score is the
    region's peak.

    Args:
        anomaly_map: (H, W) float32 probabilities.
        named: what the detector says of kinds, at the size of the map.
        pixel_threshold: of the calibration.

    Example:
        >>> from zellige.core.named import KindMap
        >>> m = np.zeros((8, 8), np.float32); m[2:4, 1:6] = 0.9
        >>> kinds = KindMap(numbers=np.full((8, 8), 2, np.uint8), kinds=("hole", "scratch"))
        >>> [(d.kind, d.box) for d in found_defects("a", m, kinds, pixel_threshold=0.5)]
        [('scratch', (1.0, 2.0, 6.0, 4.0))]
    """
    if isinstance(named, FoundBoxes):
        boxes = ((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in named.boxes[:, :4])
        rows = zip(named.names, named.boxes[:, 4].tolist(), boxes, strict=True)
        found = (FoundDefect(sample_id=sample_id, kind=kind, score=score, box=box) for kind, score, box in rows)
        return tuple(sorted(found, key=lambda row: -row.score))
    sure = find_defects(anomaly_map, pixel_threshold=pixel_threshold, kind_map=named)
    unsure = find_defects(anomaly_map, pixel_threshold=LOW_LEVEL, kind_map=named)
    return tuple(rows_of(sample_id, (*sure, *(one for one in unsure if one.peak_score <= pixel_threshold))))


def rows_of(sample_id: str, defects: Iterable[Defect]) -> Iterator[FoundDefect]:
    """Turn defects of one image, as `core.decision.decide` lists them, into rows."""
    for one in defects:
        x0, y0, x1, y1 = (float(edge) for edge in one.box_px)
        yield FoundDefect(sample_id=sample_id, kind=one.kind, score=one.peak_score, box=(x0, y0, x1, y1))


def true_defects(sample: Sample, mask: Mask | None, anomaly_map: AnomalyMap) -> tuple[TrueDefect, ...] | None:
    """List the defects of one image by the sample's boxes, else by the regions of its mask.

    Args:
        mask: what `pixels.read_defect_mask` gave: (H, W) bool, without what lies in ignore regions.
        anomaly_map: (H, W); a box that reaches into what is not ignored by no more than boxes are loose is no defect to
            be found, as it is none when it was found.

    Returns:
        None for a defective sample of which nobody said where, or which kind where.

    Example:
        >>> from pathlib import Path
        >>> sample = Sample(id="a", image_path=Path("a.png"), kind="hole", group_id="a")
        >>> mask = np.zeros((8, 8), bool); mask[1:3, 5:7] = True
        >>> true_defects(sample, mask, np.zeros((8, 8), np.float32))[0].box
        (5.0, 1.0, 7.0, 3.0)
        >>> true_defects(sample, None, np.zeros((8, 8), np.float32)) is None
        True
    """
    if not sample.is_defective:
        return ()
    if sample.boxes:
        inspected = anomaly_map != IGNORED
        kept = (box for box in sample.boxes if is_box_inspected(box.box_px, inspected))
        return tuple(TrueDefect(sample_id=sample.id, kind=box.kind, box=box.box_px) for box in kept)
    if mask is None or sample.kind == MIXED:
        return None
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    boxes = ((float(x), float(y), float(x + w), float(y + h)) for x, y, w, h, _ in stats[1:].tolist())
    return tuple(TrueDefect(sample_id=sample.id, kind=sample.kind, box=box) for box in boxes)


def true_kind(sample: Sample) -> str:
    """Say the one kind of an image: "good", its defects' kind, or "mixed" where they are of several."""
    kinds = {box.kind for box in sample.boxes} or {sample.kind}
    return kinds.pop() if len(kinds) == 1 else MIXED


def named_kind(anomaly_map: AnomalyMap, named: Named, *, pixel_threshold: float) -> str:
    """Say the kind that a detector gives to a whole image, whether it is rejected or not.

    The kind of the best box; of a map of kinds the one with the largest sum of the map above the pixel threshold or,
    where nothing is above it, anywhere. "unknown" where nothing has a name.

    Example:
        >>> boxes = FoundBoxes(boxes=np.array([[0, 0, 4, 4, 0.9, 1]], np.float32), kinds=("hole",))
        >>> named_kind(np.zeros((8, 8), np.float32), boxes, pixel_threshold=0.5)
        'hole'
    """
    if isinstance(named, FoundBoxes):
        return named.names[int(named.boxes[:, 4].argmax())] if len(named.boxes) else UNKNOWN_KIND
    counts = anomaly_map > pixel_threshold
    if not counts.any():
        counts = named.numbers > 0
    if not counts.any():
        return UNKNOWN_KIND
    number = majority_kind(named.numbers[counts], anomaly_map[counts])
    return named.kinds[number - 1] if number else UNKNOWN_KIND
