"""What the picture of a roll shows: which defects, in which color and size, ticks in mm or m, density along it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zellige.core.roll_records import RollDefect
from zellige.station.roll_files import JudgedRoll, RollLane

MAX_DRAWN = 20_000
"""Defects drawn one by one; of more, the most notable. The density strip counts all."""
COLORS = ("#0b5cad", "#c2410c", "#00795f", "#8b2f8f", "#a8790a", "#0e7490", "#b3124f")
OTHER_COLOR = "#4b5563"
MARKER_PX = (4, 7, 10)
"""Smallest marker by how notable a defect is; a defect that is larger at this scale has its own size."""
FULL_SIZE = 1_500
"""Of more defects the markers are smaller, so that they cover no more of the web."""
LEAST_SHARE = 0.4
_NOTABLE = (0.6, 0.9)
_MAX_BINS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A defect as it is drawn: `along`, `across` is its corner, mm from the picture's corner."""

    number: int
    along: float
    across: float
    extent: float
    width: float
    kind: int
    """Index in `kinds`; the last is "other kinds" where there are more kinds than colors."""
    step: int
    """Index in MARKER_PX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollLayout:
    """All that both pictures and the page draw."""

    roll: JudgedRoll
    kinds: tuple[tuple[str, str, int], ...]
    """Name, color and count."""
    markers: tuple[Marker, ...]
    """The most notable last, on top."""
    bin_mm: float
    densities: tuple[float, ...]
    """Defects per m2 in each `bin_mm` along, or their count where nobody knows the web's width yet; a streak counts
    where it begins."""


def lay_out(roll: JudgedRoll) -> RollLayout:
    """Choose colors, marker sizes and the density's bins; the same roll gives the same picture."""
    counts = Counter(d.kind for d in roll.defects)
    names = sorted(counts, key=lambda kind: (-counts[kind], kind))
    named = names if len(names) <= len(COLORS) else names[: len(COLORS) - 1]
    kinds = [(name, COLORS[i], counts[name]) for i, name in enumerate(named)]
    if len(named) < len(names):
        kinds.append(("other kinds", OTHER_COLOR, len(roll.defects) - sum(counts[name] for name in named)))
    index = {name: min(i, len(kinds) - 1) for i, name in enumerate(names)}
    steps = _steps(roll.defects)
    order = sorted(zip(steps, roll.defects, strict=True), key=lambda item: (item[0], item[1].length_mm, item[1].number))
    markers = tuple(
        Marker(
            number=d.number,
            along=round(d.y_mm, 3),
            across=round(d.x_mm - d.width_mm / 2 - roll.left_mm, 3),
            extent=round(d.extent_mm, 3),
            width=round(d.width_mm, 3),
            kind=index[d.kind],
            step=step,
        )
        for step, d in order[-MAX_DRAWN:]
    )
    # Bins much shorter than the web is wide hold one defect or none, and their density says nothing.
    bin_mm = nice_step(max(roll.length_mm / _MAX_BINS, min(roll.width_mm / 4, roll.length_mm)))
    return RollLayout(roll=roll, kinds=tuple(kinds), markers=markers, bin_mm=bin_mm, densities=_densities(roll, bin_mm))


def marker_share(num_defects: int) -> float:
    """Give the share of MARKER_PX that markers have among so many.

    Example:
        >>> marker_share(100), marker_share(6_000), marker_share(20_000)
        (1.0, 0.5, 0.4)
    """
    return max(LEAST_SHARE, min(1.0, math.sqrt(FULL_SIZE / max(1, num_defects))))


def _steps(defects: Sequence[RollDefect]) -> list[int]:
    """Count for each defect how many of the shares in _NOTABLE are below it, by its length or by its score."""
    if not defects:
        return []
    steps = np.zeros(len(defects), np.int64)
    for values in (np.array([d.length_mm for d in defects]), np.array([d.score for d in defects])):
        steps = np.maximum(steps, np.searchsorted(np.quantile(values, _NOTABLE), values, side="left"))
    return [int(step) for step in steps]


def _densities(roll: JudgedRoll, bin_mm: float) -> tuple[float, ...]:
    num_bins = max(1, math.ceil(roll.length_mm / bin_mm - 1e-9))
    places = np.array([d.y_mm for d in roll.defects if not d.is_continuation])
    bins = np.clip((places / bin_mm).astype(np.int64), 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    if not roll.summary.width_mm:
        return tuple(float(count) for count in counts)
    lengths = np.minimum(bin_mm, roll.length_mm - bin_mm * np.arange(num_bins))
    return tuple(float(value) for value in counts / (lengths * roll.summary.width_mm * 1e-6))


def nice_step(least: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten.

    Example:
        >>> nice_step(13.0), nice_step(2.0), nice_step(0.21)
        (20.0, 2.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in (1, 2, 5) if step * power >= least * (1 - 1e-9)), 10 * power)


def ticks(start: float, stop: float, most: int) -> list[float]:
    """Give round values from `start` to `stop`, about `most` of them or fewer."""
    step = nice_step((stop - start) / most)
    first = math.ceil(start / step - 1e-9)
    return [i * step for i in range(first, math.floor(stop / step + 1e-9) + 1)]


def length_words(mm: float, *, in_m: bool) -> str:
    """Write a place along the roll in its axis' unit.

    Example:
        >>> length_words(12500.0, in_m=True), length_words(12500.0, in_m=False)
        ('12.5', '12,500')
    """
    return f"{mm / 1000 if in_m else mm:,.10g}"


def density_text(value: float) -> str:
    """Write a density to three places.

    Example:
        >>> density_text(0.21823), density_text(3551.2)
        ('0.218', '3,551')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def is_in_m(roll: JudgedRoll) -> bool:
    """From 10 m on, places along are written in m."""
    return roll.length_mm >= 10_000


def lane_grades(roll: JudgedRoll) -> list[tuple[RollLane, str | None]]:
    """Give each lane with its grade, None where it has none."""
    grades = {grade.lane: grade.grade for grade in roll.summary.grades}
    return [(lane, grades.get(lane.name)) for lane in roll.summary.lanes]
