"""What a roll's defects add up to: records in mm, lanes, defects per m2, and faults that a roller repeats."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.open_region import WebDefect

_MAX_MARKS = 300
_MAX_DRIFT = 6.3
"""By how many `along_mm` the mean period of a chain can shrink: its n-th mark corrects it by 1/n at most, and
1 + 1/2 + ... + 1/300 is below 6.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A strip that the web is slit into, from `from_mm` up to `to_mm` across, counted from the datum."""

    name: str
    from_mm: float
    to_mm: float

    def __post_init__(self) -> None:
        if not self.name or not (math.isfinite(self.from_mm) and math.isfinite(self.to_mm)):
            raise ConfigError(f"lane {self.name!r}: expected a name and finite borders")
        if not self.from_mm < self.to_mm:
            raise ConfigError(f"lane {self.name}: expected from_mm < to_mm, got {self.from_mm} and {self.to_mm}")

    @property
    def width_mm(self) -> float:
        return self.to_mm - self.from_mm


@dataclass(frozen=True, slots=True, kw_only=True)
class RollDefect:
    """One defect of a roll: across from the datum, along from the start of the roll."""

    number: int
    """From 1, in the order in which defects end."""
    x_mm: float
    """Middle of its box across the web."""
    y_mm: float
    """Where it begins along the web."""
    width_mm: float
    """Extent across the web."""
    extent_mm: float
    """Extent along the web."""
    length_mm: float
    """Longer side of the smallest rotated rectangle."""
    area_mm2: float
    kind: str
    score: float
    lanes: tuple[str, ...]
    """Every lane that it touches; empty where it lies in none."""
    is_continuing: bool = False
    is_continuation: bool = False


def to_roll_defect(defect: WebDefect, *, number: int, datum_mm: float, lanes: Sequence[Lane] = ()) -> RollDefect:
    """Turn a stitched defect into a roll's record.

    Args:
        defect: from `core.stitching`, with mm.
        number: its number in the roll.
        datum_mm: where the datum lies across, mm from column 0, where the defect is.
        lanes: the lanes, in mm from the datum.

    Raises:
        InputError: a defect without mm; records of a roll need a pixel size.
    """
    if defect.box_mm is None or defect.area_mm2 is None or defect.length_mm is None:
        raise InputError("roll records: expected defects in mm, got an uncalibrated one; state the pixel size")
    left, start, right, end = defect.box_mm
    left, right = left - datum_mm, right - datum_mm
    return RollDefect(
        number=number,
        x_mm=(left + right) / 2,
        y_mm=start,
        width_mm=right - left,
        extent_mm=end - start,
        length_mm=defect.length_mm,
        area_mm2=defect.area_mm2,
        kind=defect.kind,
        score=defect.peak_score,
        lanes=tuple(lane.name for lane in lanes if left < lane.to_mm and right > lane.from_mm),
        is_continuing=defect.is_continuing,
        is_continuation=defect.is_continuation,
    )


def defects_per_m2(defects: Iterable[RollDefect], *, width_mm: float, length_mm: float) -> float:
    """Count of defects for each square metre of web; a streak in several records counts once.

    Raises:
        InputError: no area.
    """
    if not (width_mm > 0 and length_mm > 0):
        raise InputError(f"defects per m2: expected a width and a length above 0 mm, got {width_mm} and {length_mm}")
    return sum(not d.is_continuation for d in defects) / (width_mm * length_mm * 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Defects at one place across, spaced evenly along: something that turns marks the web."""

    x_mm: float
    period_mm: float
    """Distance from mark to mark: the roller's circumference."""
    numbers: tuple[int, ...]
    """Numbers of its defects, at least three."""
    num_missing: int
    """Turns between the first and the last mark that left none."""


def find_repeats(
    defects: Sequence[RollDefect],
    *,
    across_mm: float,
    along_mm: float,
    min_period_mm: float,
    max_period_mm: float,
    min_count: int = 3,
) -> tuple[Repeat, ...]:
    """Find evenly spaced defects at one position across the web.

    Each spacing of two marks of a place is tried as the period; the one that most marks fit wins, of equally many the
    longest. Three quarters of the turns or more must have left their mark. The marks of a repeat are taken out and the
    rest is searched again. Of a place with more than 300 marks, the first 300 are searched.

    Args:
        defects: of one roll, in any order; streaks do not repeat and are left out.
        across_mm: how far marks of one roller may lie apart across the web.
        along_mm: how far a mark may lie from its even place along the web.
        min_period_mm: circumference of the smallest roller.
        max_period_mm: circumference of the largest.
        min_count: fewest marks, at least 3: two marks have always a distance.

    Raises:
        ConfigError: tolerances or periods that cannot be.
    """
    if min_count < 3 or not (across_mm > 0 and 0 < 4 * along_mm <= min_period_mm <= max_period_mm):
        raise ConfigError(
            "repeats: expected min_count >= 3, across_mm > 0 and 0 < 4 x along_mm <= min_period_mm <= max_period_mm"
        )
    marks = sorted((d for d in defects if not (d.is_continuing or d.is_continuation)), key=lambda d: (d.x_mm, d.number))
    x = np.array([d.x_mm for d in marks])
    stops = np.searchsorted(x, x + across_mm, side="right")
    used: set[int] = set()

    def best_from(first: int) -> Repeat | None:
        place = [d for d in marks[first : stops[first]] if d.number not in used]
        return _best_repeat(place, along_mm, min_period_mm, max_period_mm, min_count)

    candidates = {first: repeat for first in range(len(marks)) if (repeat := best_from(first))}
    found: list[Repeat] = []
    while candidates:
        best = max(candidates.values(), key=_rank)
        found.append(best)
        used.update(best.numbers)
        for first in [f for f, repeat in candidates.items() if used.intersection(repeat.numbers)]:
            again = best_from(first)
            if again is None:
                del candidates[first]
            else:
                candidates[first] = again
    return tuple(found)


def _rank(repeat: Repeat) -> tuple[int, float]:
    return len(repeat.numbers), repeat.period_mm


def _best_repeat(
    place: Sequence[RollDefect], along_mm: float, min_period_mm: float, max_period_mm: float, min_count: int
) -> Repeat | None:
    place = sorted(place, key=lambda d: d.y_mm)[:_MAX_MARKS]
    if len(place) < min_count:
        return None
    y = np.array([d.y_mm for d in place])
    best: Repeat | None = None
    for i in range(len(y)):
        if best is not None and len(y) - i < len(best.numbers):
            break
        spacings = y[i + 1 :] - y[i]
        spacings = spacings[(spacings >= min_period_mm - along_mm) & (spacings <= max_period_mm + along_mm)]
        shortest = np.maximum(spacings - _MAX_DRIFT * along_mm, 1e-9)
        for spacing, most_marks in zip(spacings, 1 + (y[-1] - y[i]) / shortest, strict=True):
            if best is not None and most_marks < len(best.numbers):
                break  # this spacing and all longer ones leave fewer marks
            chosen, turns = _chain(y, i, float(spacing), along_mm)
            num_missing = turns[-1] + 1 - len(chosen)
            if len(chosen) < min_count or num_missing * 3 > len(chosen):
                continue
            repeat = Repeat(
                x_mm=float(np.mean([place[k].x_mm for k in chosen])),
                period_mm=round(float(np.polyfit(turns, y[chosen], 1)[0]), 3),
                numbers=tuple(place[k].number for k in chosen),
                num_missing=num_missing,
            )
            if best is None or _rank(repeat) > _rank(best):
                best = repeat
    return best


def _chain(y: NDArray[np.float64], first: int, period: float, along_mm: float) -> tuple[list[int], list[int]]:
    """Follow a period from a mark on: which marks fit, and on which turn. Each mark corrects where the next is due."""
    chosen, turns = [first], [0]
    for k in range(first + 1, len(y)):
        since = float(y[k] - y[chosen[-1]])
        whole = round(since / period)
        if whole >= 1 and abs(since - whole * period) <= along_mm:
            chosen.append(k)
            turns.append(turns[-1] + whole)
            period = float(y[k] - y[first]) / turns[-1]
    return chosen, turns


def fitting_rollers(repeat: Repeat, diameters_mm: Mapping[str, float], *, tolerance: float = 0.01) -> tuple[str, ...]:
    """Name the rollers whose circumference is the repeat's period, the nearest first.

    Args:
        repeat: from `find_repeats`.
        diameters_mm: the machine's rollers by name.
        tolerance: largest relative difference; the web slips and stretches a little.

    Example:
        >>> repeat = Repeat(x_mm=12.0, period_mm=314.0, numbers=(1, 2, 3), num_missing=0)
        >>> fitting_rollers(repeat, {"nip": 100.0, "chill": 200.0})
        ('nip',)
    """
    off = {name: abs(math.pi * d / repeat.period_mm - 1) for name, d in diameters_mm.items()}
    return tuple(sorted((name for name in off if off[name] <= tolerance), key=lambda name: (off[name], name)))
