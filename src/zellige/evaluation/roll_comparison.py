"""Which known defects of a roll were found: the records of a station against a list, in mm.

A record and a known defect are the same where their boxes overlap, or lie no further apart than a tolerance along each
axis: a list is written by hand, and a map has the resolution of its patches. That is generous to records that cover
much of the web, or are many. So the comparison also says what share of the web the records' boxes take, and how many
known defects they would meet at other places along the roll.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.known_defects import KnownDefect
from zellige.core.roll_records import RollDefect

_NUM_SHIFTS = 20
"""By how many shifts along the roll, evenly spaced, chance is estimated."""

Boxes = NDArray[np.float64]
"""(N, 4) x0, y0, x1, y1 in mm from column 0 and line 0."""


class Outcome(StrEnum):
    """What became of a known defect."""

    HIT = "hit"
    UNDECIDED = "undecided"
    """No record, but nobody judged the place."""
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A known defect, and the record that stands for it where it is a hit."""

    known: KnownDefect
    outcome: Outcome
    record: RollDefect | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RollComparison:
    """A judged roll against a list of its defects."""

    compared: tuple[Compared, ...]
    """In the order of the list."""
    false_alarms: tuple[RollDefect, ...]
    """Records beside every known defect; a streak in several records is its first."""
    num_records: int
    area_m2: float
    """Of what was judged."""
    box_share: float
    """Area of the records' boxes over that of the web; boxes that overlap count twice."""
    chance_share: float
    """Of the known defects that the same records meet when they are moved along the roll, mean of 19 shifts."""
    datum_mm: float

    def of(self, outcome: Outcome) -> tuple[Compared, ...]:
        """The known defects of an outcome."""
        return tuple(one for one in self.compared if one.outcome is outcome)

    def errors_mm(self) -> Boxes:
        """Found minus known, of the hits: middle across, middle along, width, extent; (N, 4) mm."""
        rows = []
        for one in self.compared:
            if one.record is not None:
                known, found = one.known.box_mm, box_of(one.record, self.datum_mm)
                middles = ((found[k] + found[k + 2] - known[k] - known[k + 2]) / 2 for k in (0, 1))
                sizes = (found[k + 2] - found[k] - known[k + 2] + known[k] for k in (0, 1))
                rows.append((*middles, *sizes))
        return np.array(rows, np.float64).reshape(-1, 4)

    def ious(self) -> NDArray[np.float64]:
        """Intersection over union of the known box and the record's, of the hits: (N,)."""
        hits = [
            (one.known.box_mm, box_of(one.record, self.datum_mm)) for one in self.compared if one.record is not None
        ]
        return np.array([_ious(np.array([found]), np.asarray(known))[0] for known, found in hits])


def box_of(record: RollDefect, datum_mm: float) -> tuple[float, float, float, float]:
    """Give a record's box in mm from column 0 and line 0; the datum lies `datum_mm` from column 0."""
    left = record.x_mm + datum_mm - record.width_mm / 2
    return left, record.y_mm, left + record.width_mm, record.y_mm + record.extent_mm


def compare_roll(
    known: Sequence[KnownDefect],
    records: Sequence[RollDefect],
    *,
    width_mm: float,
    length_mm: float,
    left_mm: float = 0.0,
    undecided: Sequence[tuple[float, float, float, float]] = (),
    tolerance_mm: float = 0.0,
    datum_mm: float = 0.0,
) -> RollComparison:
    """Compare the records of a roll with its known defects.

    Of several records on a known defect the one with the largest overlap (IoU) stands for it, of none with an overlap
    the nearest; the others are no false alarms. One record may stand for several known defects.

    Args:
        known: of this roll.
        records: of the station.
        width_mm, length_mm: of the web.
        left_mm: where the web begins across, mm from column 0.
        undecided: what nobody judged: x0, y0, x1, y1 in mm from column 0 and line 0. They may overlap and reach beyond
            the web; a whole width may be infinite.
        tolerance_mm: how far apart boxes of one defect may lie.
        datum_mm: where the records' datum lies across, mm from column 0.

    Raises:
        ConfigError: a negative tolerance.
        InputError: no known defect, one that lies beyond the roll, or a roll without area.

    Example:
        >>> known = [KnownDefect(kind="hole", box_mm=(10.0, 20.0, 12.0, 22.0))]
        >>> record = RollDefect(number=1, x_mm=11.5, y_mm=20.0, width_mm=1.0, extent_mm=2.0, length_mm=2.0,
        ...     area_mm2=2.0, kind="anomaly", score=1.0, lanes=())
        >>> compare_roll(known, [record], width_mm=100.0, length_mm=1000.0).compared[0].outcome
        <Outcome.HIT: 'hit'>
    """
    if not tolerance_mm >= 0:
        raise ConfigError(f"tolerance: expected 0 mm or more, got {tolerance_mm}")
    if not (width_mm > 0 and length_mm > 0):
        raise InputError(f"roll: expected a width and a length above 0 mm, got {width_mm} and {length_mm}")
    if not known:
        raise InputError("known defects: expected some on this roll, got none")
    for one in known:
        if one.box_mm[1] >= length_mm:
            raise InputError(
                f"known defect {one.kind} at {one.box_mm[1]:g} mm: expected it on the roll of {length_mm:g} mm; is it "
                "the list of this roll?"
            )
    boxes = np.array([box_of(record, datum_mm) for record in records]).reshape(-1, 4)
    gaps = np.array(undecided, np.float64).reshape(-1, 4)
    compared, is_met = [], np.zeros(len(records), bool)
    for one in known:
        met = _meets(boxes, one.box_mm, tolerance_mm)
        is_met |= met
        best = _best(boxes, met, one.box_mm)
        is_open = _overlaps(gaps, one.box_mm).any()
        outcome = Outcome.HIT if best is not None else Outcome.UNDECIDED if is_open else Outcome.MISSED
        compared.append(Compared(known=one, outcome=outcome, record=None if best is None else records[best]))
    web = (left_mm, 0.0, left_mm + width_mm, length_mm)
    return RollComparison(
        compared=tuple(compared),
        false_alarms=tuple(r for r, met in zip(records, is_met, strict=True) if not met and not r.is_continuation),
        num_records=len(records),
        area_m2=max(0.0, (width_mm * length_mm - _union_mm2(gaps, web)) * 1e-6),
        box_share=float((boxes[:, 2:] - boxes[:, :2]).prod(1).sum() / (width_mm * length_mm)),
        chance_share=_chance(boxes, known, length_mm, tolerance_mm),
        datum_mm=datum_mm,
    )


def _meets(boxes: Boxes, box: Sequence[float], tolerance_mm: float) -> NDArray[np.bool_]:
    """Which boxes (N, 4) overlap one, or lie no further from it than the tolerance along each axis: (N,)."""
    x0, y0, x1, y1 = box
    across = (boxes[:, 0] <= x1 + tolerance_mm) & (boxes[:, 2] >= x0 - tolerance_mm)
    met: NDArray[np.bool_] = across & (boxes[:, 1] <= y1 + tolerance_mm) & (boxes[:, 3] >= y0 - tolerance_mm)
    return met


def _overlaps(boxes: Boxes, box: Sequence[float]) -> NDArray[np.bool_]:
    """Which boxes (N, 4) have an area in common with one: (N,)."""
    x0, y0, x1, y1 = box
    across = (boxes[:, 0] < x1) & (boxes[:, 2] > x0)
    shared: NDArray[np.bool_] = across & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
    return shared


def _union_mm2(boxes: Boxes, web: Sequence[float]) -> float:
    """Area that boxes (N, 4) take of the web; what several take counts once."""
    x0, y0, x1, y1 = web
    inside = np.clip(boxes, (x0, y0, x0, y0), (x1, y1, x1, y1))
    inside = inside[np.argsort(inside[:, 1])]
    area = 0.0
    for left, right in pairwise(np.unique(inside[:, [0, 2]])):
        starts, stops = inside[(inside[:, 0] <= left) & (inside[:, 2] >= right)][:, [1, 3]].T
        reached = np.maximum.accumulate(np.append(y0, stops))[:-1]
        area += (right - left) * np.clip(stops - np.maximum(starts, reached), 0, None).sum()
    return float(area)


def _best(boxes: Boxes, met: NDArray[np.bool_], box: Sequence[float]) -> int | None:
    """Index of the box that overlaps one most (IoU), of those without an overlap that with the nearest middle."""
    places = np.flatnonzero(met)
    if not len(places):
        return None
    near, one = boxes[places], np.asarray(box)
    iou = _ious(near, one)
    apart = np.hypot(*((near[:, :2] + near[:, 2:] - one[:2] - one[2:]) / 2).T)
    return int(places[np.lexsort((apart, -iou))[0]])


def _ious(boxes: Boxes, box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of (N, 4) boxes with one (4,): (N,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared: NDArray[np.float64] = np.clip(sides, 0, None).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    ious: NDArray[np.float64] = shared / np.maximum(union, 1e-12)
    return ious


def _chance(boxes: Boxes, known: Sequence[KnownDefect], length_mm: float, tolerance_mm: float) -> float:
    shares = []
    for turn in range(1, _NUM_SHIFTS):
        moved = boxes.copy()
        start = (boxes[:, 1] + turn * length_mm / _NUM_SHIFTS) % length_mm
        moved[:, 3] += start - moved[:, 1]
        moved[:, 1] = start
        shares.append(np.mean([_meets(moved, one.box_mm, tolerance_mm).any() for one in known]))
    return float(np.mean(shares))
