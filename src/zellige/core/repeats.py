"""Faults that a roller repeats: evenly spaced defects at one position across the web.

Every two marks of a place are a start: their spacing is followed along the web, and each further mark corrects where
the next one is due. A place is a window of `across_mm` that begins at a mark (where marks are dense, at every eighth of
it). Neighboring windows share nearly all of their marks, so a chain is followed once for all windows that hold its
marks, and splits where some of them lack the next one. The work is about in proportion to the marks.
"""

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np

from zellige.core.errors import ConfigError
from zellige.core.roll_records import RollDefect

_MAX_GAP = 5
"""Turns in a row that may leave no mark. Without an end, a mark that fits by chance far down the web joins a chain and
spoils its share of turns with a mark."""
_LONG = 12
"""Marks from which on a chain no longer splits and goes on in the larger part of its windows: they are those that lie
around the roller, and a mark beside it that fits by chance lies in few of them."""
_WINDOWS = 8
"""Windows that begin within one `across_mm`, where there are so many marks."""
_MAX_SECONDS = 64
"""Marks behind one that are tried as its next: the nearest."""


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
    longest. Three quarters of the turns or more must have left their mark; where more than five turns in a row left
    none, the repeat ends. The marks of a repeat are taken out and the rest is searched again.

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
    spacings = (min_period_mm - along_mm, max_period_mm + along_mm)
    marks = sorted((d for d in defects if not (d.is_continuing or d.is_continuation)), key=lambda d: (d.x_mm, d.number))
    return tuple(_take_best_first(_Marks(marks, across_mm, along_mm), spacings, min_count))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """Marks that follow each other evenly in every window from `low` to `high`."""

    low: int
    high: int
    spacing: float
    """Of the two marks that it started from."""
    second: int
    marks: list[int]
    turns: list[int]
    """On which turn each mark lies, from 0."""
    period: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Most marks first, then the longest period; the rest only makes the order certain."""
        return -len(self.marks), -self.period, self.low


class _Marks:
    """The marks of a roll by their places in the order of x."""

    def __init__(self, marks: Sequence[RollDefect], across_mm: float, along_mm: float) -> None:
        self.records, self._across, self._along = marks, across_mm, along_mm
        x = np.array([d.x_mm for d in marks])
        self.y = [d.y_mm for d in marks]
        cells = np.floor(x / (across_mm / _WINDOWS)).astype(np.int64)
        starts = np.flatnonzero(np.diff(cells, prepend=cells[:1] - 1))
        self._starts: list[float] = x[starts].tolist()
        """Where each window begins, mm: at the first mark of each cell."""
        stops, places = np.searchsorted(x, x[starts] + across_mm, side="right"), np.arange(len(x))
        self._first_window = np.searchsorted(stops, places, side="right").tolist()
        """The first window that holds each mark, and the last."""
        self._last_window = (np.searchsorted(starts, places, side="right") - 1).tolist()
        self.is_used = bytearray(len(marks))
        self._followed: set[tuple[int, int]] = set()
        """Neighbors in a long chain: what starts from them is its end, with fewer marks."""
        # A little wider than a window, so that all of a mark's windows lie in three neighboring strips.
        self._strip = np.floor(x / (1.001 * across_mm)).astype(np.int64).tolist()
        by_strip: dict[int, list[int]] = {}
        for mark, strip in enumerate(self._strip):
            for near in (strip - 1, strip, strip + 1):
                by_strip.setdefault(near, []).append(mark)
        self._near = {strip: sorted(near, key=lambda k: (self.y[k], k)) for strip, near in by_strip.items()}
        self._near_y = {strip: [self.y[k] for k in near] for strip, near in self._near.items()}

    def windows_of(self, first: int, second: int) -> tuple[int, int]:
        """First and last window that hold both; none where the first comes after the last."""
        low = max(self._first_window[first], self._first_window[second])
        return low, min(self._last_window[first], self._last_window[second])

    def seconds(self, first: int, spacings: tuple[float, float]) -> Iterator[int]:
        """Give the unused marks that share a window with one and lie at one of these spacings behind it."""
        near, y = self._near[self._strip[first]], self._near_y[self._strip[first]]
        start, stop = bisect_left(y, self.y[first] + spacings[0]), bisect_right(y, self.y[first] + spacings[1])
        for second in near[start : min(stop, start + _MAX_SECONDS)]:
            low, high = self.windows_of(first, second)
            if low <= high and not self.is_used[second] and (first, second) not in self._followed:
                yield second

    def most_marks(self, first: int, spacing: float) -> int:
        """Bound the marks of any chain from one mark on, at this spacing or a longer one.

        The n-th mark corrects the period by 1/n of `along_mm` at most, all together by less than 1 + ln n times that.
        """
        y = self._near_y[self._strip[first]]
        most = len(y) - bisect_left(y, self.y[first])
        shortest = spacing - self._along * (1 + math.log(most))
        return most if shortest <= 0 else min(most, 1 + int((y[-1] - self.y[first]) / shortest))

    def follow(self, first: int, second: int, low: int, high: int) -> Iterator[_Chain]:
        """Follow the spacing of two marks along the web, in the windows from `low` to `high`."""
        y, spacing = self.y, self.y[second] - self.y[first]
        pending = [(low, high, 0, [first], [0], spacing)]
        while pending:
            low, high, place, marks, turns, period = pending.pop()
            while (found := self._next(marks, place, period, low, high)) is not None:
                place, whole = found
                mark = self._near[self._strip[first]][place]
                place += 1
                held = max(low, self._first_window[mark]), min(high, self._last_window[mark])
                sides = [side for side in (held, (low, held[0] - 1), (held[1] + 1, high)) if side[0] <= side[1]]
                if len(marks) < _LONG:  # windows without this mark go on without it
                    pending += [(*side, place, marks.copy(), turns.copy(), period) for side in sides[1:]]
                    low, high = held
                else:
                    low, high = max(sides, key=self._room)
                    if (low, high) != held:
                        continue
                marks.append(mark)
                turns.append(turns[-1] + whole)
                period = (y[mark] - y[first]) / turns[-1]
            length = _full_length(turns)
            marks, turns = marks[:length], turns[:length]
            if length >= _LONG:
                self._followed.update(pairwise(marks))
            slope = _slope(turns, [y[k] for k in marks]) if length > 1 else spacing
            yield _Chain(
                low=low, high=high, spacing=spacing, second=second, marks=marks, turns=turns, period=round(slope, 3)
            )

    def reopen(self, chain: _Chain) -> list[int]:
        """Give the marks that are left of a long chain of which others were taken: its end may be one of its own."""
        steps = self._followed.intersection(pairwise(chain.marks))
        self._followed -= steps
        return sorted((first for first, _ in steps if not self.is_used[first]), key=lambda k: (self.y[k], k))

    def _room(self, windows: tuple[int, int]) -> float:
        """Length across on which windows that hold what these hold may begin, mm."""
        low, high = windows
        before = self._starts[low - 1] if low else -math.inf
        return self._starts[high] - max(before, self._starts[high] - self._across)

    def _next(self, marks: list[int], place: int, period: float, low: int, high: int) -> tuple[int, int] | None:
        """Find the next mark of a chain in any of the windows: its place in the strip, and after how many turns."""
        strip = self._strip[marks[0]]
        near, y, last = self._near[strip], self._near_y[strip], self.y[marks[-1]]
        for whole in range(1, _MAX_GAP + 2):
            due = last + whole * period
            place = bisect_left(y, due - self._along, place)
            while place < len(y) and y[place] <= due + self._along:
                mark = near[place]
                is_held = self._first_window[mark] <= high and self._last_window[mark] >= low
                if is_held and not self.is_used[mark]:
                    return place, whole
                place += 1
        return None


def _full_length(turns: list[int]) -> int:
    """Count the marks of the longest beginning of a chain that has a mark on three quarters of its turns or more."""
    length = len(turns)
    while 3 * (turns[length - 1] + 1 - length) > length:
        length -= 1
    return length


def _slope(turns: Sequence[int], y: Sequence[float]) -> float:
    """Slope of the straight line through marks, by least squares."""
    middle, center = sum(turns) / len(turns), sum(y) / len(y)
    along = sum((t - middle) * (v - center) for t, v in zip(turns, y, strict=True))
    return along / sum((t - middle) ** 2 for t in turns)


def _take_best_first(marks: _Marks, spacings: tuple[float, float], min_count: int) -> Iterator[Repeat]:
    """Give the repeats, the one with most marks first.

    Marks wait by a bound of what may begin with them, so of a long repeat only the first marks are followed to its end.
    """
    number = count()
    waiting: list[tuple[tuple[float, ...], int, int, _Chain | None]] = []

    def add(chains: Iterator[_Chain]) -> None:
        for chain in chains:
            if len(chain.marks) >= min_count:
                first = chain.marks[0]
                rank = (*chain.rank, marks.y[first], float(first), chain.spacing)
                heapq.heappush(waiting, (rank, next(number), first, chain))

    for first in range(len(marks.y)):
        nearest = next(marks.seconds(first, spacings), None)
        if nearest is not None:
            most = marks.most_marks(first, marks.y[nearest] - marks.y[first])
            waiting.append(((float(-most), -math.inf), next(number), first, None))
    heapq.heapify(waiting)
    while waiting:
        _, _, first, chain = heapq.heappop(waiting)
        if chain is None:
            seconds = () if marks.is_used[first] else marks.seconds(first, spacings)
            for second in seconds:
                add(marks.follow(first, second, *marks.windows_of(first, second)))
        elif not any(marks.is_used[k] for k in chain.marks):
            yield _to_repeat(chain, marks)
        else:
            for start in marks.reopen(chain):
                heapq.heappush(waiting, ((float(-len(chain.marks)), -math.inf), next(number), start, None))
            if not (marks.is_used[first] or marks.is_used[chain.second]):
                add(marks.follow(first, chain.second, chain.low, chain.high))


def _to_repeat(chain: _Chain, marks: _Marks) -> Repeat:
    """Take the marks of a chain out."""
    for mark in chain.marks:
        marks.is_used[mark] = 1
    records = [marks.records[k] for k in chain.marks]
    return Repeat(
        x_mm=float(np.mean([d.x_mm for d in records])),
        period_mm=chain.period,
        numbers=tuple(d.number for d in records),
        num_missing=chain.turns[-1] + 1 - len(records),
    )


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
