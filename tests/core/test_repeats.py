"""Repeats that were put there, among other defects; and the quick search against a plain one that tries everything."""

import math
from bisect import bisect_left

import numpy as np
import pytest

from tests.core.test_roll_records import mark
from zellige.core import repeats
from zellige.core.errors import ConfigError
from zellige.core.repeats import Repeat, find_repeats, fitting_rollers
from zellige.core.roll_records import RollDefect

SEARCH = {"across_mm": 2.0, "along_mm": 1.5, "min_period_mm": 100.0, "max_period_mm": 1000.0}


def roller(first_number: int, x_mm: float, ys_mm: np.ndarray, rng: np.random.Generator) -> list[RollDefect]:
    """Marks near these places, off by up to half a millimetre across and along."""
    return [
        mark(first_number + i, x_mm + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5)) for i, y in enumerate(ys_mm)
    ]


def scattered(count: int, width_mm: float, length_mm: float, rng: np.random.Generator) -> list[RollDefect]:
    return [mark(10_000 + i, rng.uniform(0, width_mm), rng.uniform(0, length_mm)) for i in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_a_roller_is_found_among_other_defects(seed: int) -> None:
    """A mark each 471.2 mm (150 mm roller), two turns without one, and 60 others anywhere on a web of 20 m x 1 m."""
    rng = np.random.default_rng(seed)
    circumference = 150 * math.pi
    turns = [t for t in range(40) if t not in (7, 22)]
    marks = [mark(t, 300 + rng.uniform(-0.5, 0.5), 100 + t * circumference + rng.uniform(-0.3, 0.3)) for t in turns]
    others = [mark(100 + i, rng.uniform(0, 1000), rng.uniform(0, 20_000)) for i in range(60)]
    found = find_repeats([*others, *marks], **SEARCH)
    best = found[0]
    assert set(turns) <= set(best.numbers)
    assert best.period_mm == pytest.approx(circumference, abs=0.1)
    assert best.num_missing == 2
    assert fitting_rollers(best, {"nip": 150.0, "chill": 300.0, "idler": 148.9}) == ("nip", "idler")
    assert len(found) == 1


def test_two_rollers_at_one_place_are_told_apart() -> None:
    marks = [mark(i, 10, 130.0 + 317.0 * i) for i in range(12)] + [mark(50 + i, 10, 45.0 + 701.0 * i) for i in range(6)]
    first, second = find_repeats(marks, **SEARCH)
    assert (first.period_mm, first.numbers) == (pytest.approx(317), tuple(range(12)))
    assert (second.period_mm, second.numbers) == (pytest.approx(701), tuple(range(50, 56)))


@pytest.mark.parametrize(
    "marks",
    [
        [mark(1, 10, 0), mark(2, 10, 300)],
        [mark(1, 10, 0), mark(2, 10, 300), mark(3, 20, 600)],
        [mark(1, 10, 0), mark(2, 10, 300), mark(3, 10, 640)],
        [mark(i, 10, 20 * i) for i in range(4)],
        [mark(1, 10, 0, is_continuing=True), mark(2, 10, 300, is_continuation=True), mark(3, 10, 600)],
        [],
    ],
    ids=["two", "elsewhere", "uneven", "smaller than any roller", "streak", "none"],
)
def test_what_is_no_repeat(marks: list[RollDefect]) -> None:
    assert find_repeats(marks, **SEARCH) == ()


@pytest.mark.parametrize("change", [{"min_count": 2}, {"across_mm": 0}, {"min_period_mm": 5}, {"max_period_mm": 50}])
def test_bad_searches(change: dict) -> None:
    with pytest.raises(ConfigError, match="repeats: expected min_count >= 3"):
        find_repeats([], **{**SEARCH, **change})


def test_the_nearest_roller_comes_first() -> None:
    repeat = Repeat(x_mm=0, period_mm=100 * math.pi, numbers=(1, 2, 3), num_missing=0)
    assert fitting_rollers(repeat, {"a": 100.9, "b": 100.0, "c": 99.5, "d": 102.0}) == ("b", "c", "a")


@pytest.mark.parametrize("shared", [0, 11])
def test_two_rollers_that_share_a_mark(shared: int) -> None:
    """The one with more marks takes it; of the other the rest is found, whether it began with that mark or not."""
    many = [mark(i, 10, 50 + 317.0 * i) for i in range(60)]
    start = 50 + 317.0 * 20 - 471.0 * shared
    few = [mark(100 + i, 10, start + 471.0 * i) for i in range(24) if i != shared]
    far = mark(999, 10, 90_000)  # what the other begins with is followed before the first one is taken
    first, second = find_repeats([*many, *few, far], **SEARCH, min_count=6)[:2]
    assert first.numbers == tuple(range(60))
    assert set(second.numbers) >= {100 + i for i in range(shared + 1, 24)}
    assert second.period_mm == pytest.approx(471, abs=0.2)


def test_a_roller_that_marked_the_first_part_of_a_long_roll() -> None:
    """Marks that fit by chance far behind its last turn do not spoil it."""
    rng = np.random.default_rng(0)
    marks = roller(0, 500, 50 + 471.2 * np.arange(30), rng)
    others = [mark(100 + i, 500 + rng.uniform(-0.5, 0.5), y) for i, y in enumerate(rng.uniform(15_000, 400_000, 150))]
    best = find_repeats([*marks, *others], **SEARCH)[0]
    assert best.period_mm == pytest.approx(471.2, abs=0.1)
    assert best.numbers[:30] == tuple(range(30))
    assert best.num_missing <= 10


# The plain search


def plain_chain(y: list[float], first: int, period: float, along_mm: float) -> tuple[list[int], list[int]]:
    """Look at every later mark; stop after five empty turns, go back to where three of four turns have one."""
    chosen, turns = [first], [0]
    for k in range(first + 1, len(y)):
        since = y[k] - y[chosen[-1]]
        whole = round(since / period)
        if whole > 6:
            break
        if whole >= 1 and abs(since - whole * period) <= along_mm:
            chosen.append(k)
            turns.append(turns[-1] + whole)
            period = (y[k] - y[first]) / turns[-1]
    while 3 * (turns[-1] + 1 - len(turns)) > len(turns):
        del chosen[-1], turns[-1]
    return chosen, turns


def plain_best(place: list[RollDefect], search: dict, min_count: int) -> Repeat | None:
    place = sorted(place, key=lambda d: d.y_mm)
    y, found = [d.y_mm for d in place], []
    for i in range(len(y)):
        for j in range(i + 1, len(y)):
            spacing, along = y[j] - y[i], search["along_mm"]
            if search["min_period_mm"] - along <= spacing <= search["max_period_mm"] + along:
                chosen, turns = plain_chain(y, i, spacing, along)
                if len(chosen) >= min_count:
                    marks = [place[k] for k in chosen]
                    period = float(np.polyfit(turns, [d.y_mm for d in marks], 1)[0])
                    numbers = tuple(d.number for d in marks)
                    x_mm, num_missing = float(np.mean([d.x_mm for d in marks])), turns[-1] + 1 - len(marks)
                    found.append(Repeat(x_mm=x_mm, period_mm=period, numbers=numbers, num_missing=num_missing))
    return max(found, key=lambda r: (len(r.numbers), r.period_mm), default=None)


def plain_repeats(defects: list[RollDefect], search: dict, min_count: int) -> list[Repeat]:
    """Search every window anew until nothing is left."""
    marks, found = sorted(defects, key=lambda d: d.x_mm), []
    while True:
        places = [[d for d in marks[f:] if d.x_mm <= first.x_mm + search["across_mm"]] for f, first in enumerate(marks)]
        candidates = [best for place in places if (best := plain_best(place, search, min_count)) is not None]
        if not candidates:
            return found
        found.append(max(candidates, key=lambda r: (len(r.numbers), r.period_mm)))
        marks = [d for d in marks if d.number not in found[-1].numbers]


@pytest.mark.parametrize("seed", range(8))
def test_the_quick_search_finds_what_the_plain_one_finds(seed: int) -> None:
    """Scattered so densely that most marks are on some even spacing by chance, among one roller or two."""
    rng = np.random.default_rng(seed)
    marks = scattered(int(rng.integers(40, 90)), 12, 5000, rng)
    for number in range(1 + seed % 2):
        period = rng.uniform(150, 600)
        turns = np.flatnonzero(rng.random(int(5000 / period)) < 0.85)
        marks += roller(100 * number, rng.uniform(2, 10), rng.uniform(0, 100) + period * turns, rng)
    min_count = 3 + seed % 3
    quick, plain = find_repeats(marks, **SEARCH, min_count=min_count), plain_repeats(marks, SEARCH, min_count)
    assert len(quick) == len(plain) > 0
    for one, other in zip(quick, plain, strict=True):
        assert (one.numbers, one.num_missing) == (other.numbers, other.num_missing)
        assert (one.x_mm, one.period_mm) == pytest.approx((other.x_mm, other.period_mm), abs=1e-3)


def test_the_work_grows_with_the_roll_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the roll at the same density takes ten times as many looks at the marks, not a hundred times."""
    num_looks = 0

    def look(*arguments: object) -> int:
        nonlocal num_looks
        num_looks += 1
        return bisect_left(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(repeats, "bisect_left", look)
    counts = []
    for length_mm in (5_000, 50_000):
        num_looks = 0
        rng = np.random.default_rng(0)
        find_repeats(scattered(length_mm // 10, 1000, length_mm, rng), **SEARCH)
        counts.append(num_looks)
    assert counts[0] > 1000
    assert counts[1] < 15 * counts[0]
