"""What a roll adds up to: records in mm, defects per m2, and repeats that were put there, among other defects."""

import math

import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.open_region import WebDefect
from zellige.core.roll_records import (
    Lane,
    Repeat,
    RollDefect,
    defects_per_m2,
    find_repeats,
    fitting_rollers,
    to_roll_defect,
)

LANES = (Lane(name="left", from_mm=0, to_mm=100), Lane(name="right", from_mm=100, to_mm=200))
SEARCH = {"across_mm": 2.0, "along_mm": 1.5, "min_period_mm": 100.0, "max_period_mm": 1000.0}


def mark(number: int, x_mm: float, y_mm: float, **changes: object) -> RollDefect:
    fields = {
        "number": number,
        "x_mm": x_mm,
        "y_mm": y_mm,
        "width_mm": 1.0,
        "extent_mm": 1.0,
        "length_mm": 1.0,
        "area_mm2": 1.0,
        "kind": "anomaly",
        "score": 1.0,
        "lanes": (),
    }
    return RollDefect(**{**fields, **changes})


def web_defect(box_mm: tuple[float, float, float, float] | None) -> WebDefect:
    return WebDefect(
        box_px=(0, 0, 10, 10),
        area_px=100,
        length_px=10.0,
        peak_score=3.5,
        box_mm=box_mm,
        area_mm2=None if box_mm is None else 12.0,
        length_mm=None if box_mm is None else 7.0,
    )


def test_a_record_counts_from_the_datum_and_knows_its_lanes() -> None:
    record = to_roll_defect(web_defect((140.0, 900.0, 170.0, 930.0)), number=4, datum_mm=50, lanes=LANES)
    assert record == mark(
        4, 105.0, 900.0, width_mm=30.0, extent_mm=30.0, length_mm=7.0, area_mm2=12.0, score=3.5, lanes=("left", "right")
    )
    assert to_roll_defect(web_defect((150.0, 0.0, 160.0, 1.0)), number=1, datum_mm=50, lanes=LANES).lanes == ("right",)
    assert to_roll_defect(web_defect((20.0, 0.0, 50.0, 1.0)), number=1, datum_mm=50, lanes=LANES).lanes == ()
    with pytest.raises(InputError, match="expected defects in mm, got an uncalibrated one"):
        to_roll_defect(web_defect(None), number=1, datum_mm=0)
    with pytest.raises(ConfigError, match="lane a: expected from_mm < to_mm"):
        Lane(name="a", from_mm=3, to_mm=3)


def test_defects_per_m2_count_a_streak_once() -> None:
    defects = [mark(1, 0, 0), mark(2, 0, 5, is_continuing=True), mark(3, 0, 6, is_continuation=True)]
    assert defects_per_m2(defects, width_mm=500, length_mm=8000) == pytest.approx(2 / 4)
    with pytest.raises(InputError, match="above 0 mm"):
        defects_per_m2(defects, width_mm=500, length_mm=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_roller_is_found_among_other_defects(seed: int) -> None:
    """A mark each 471.2 mm (150 mm roller), two turns without one, and 60 others anywhere on a web of 20 m x 1 m."""
    rng = np.random.default_rng(seed)
    circumference = 150 * math.pi
    turns = [t for t in range(40) if t not in (7, 22)]
    marks = [mark(t, 300 + rng.uniform(-0.5, 0.5), 100 + t * circumference + rng.uniform(-0.3, 0.3)) for t in turns]
    others = [mark(100 + i, rng.uniform(0, 1000), rng.uniform(0, 20_000)) for i in range(60)]
    repeats = find_repeats([*others, *marks], **SEARCH)
    best = repeats[0]
    assert set(turns) <= set(best.numbers)
    assert best.period_mm == pytest.approx(circumference, abs=0.1)
    assert best.num_missing == 2
    assert fitting_rollers(best, {"nip": 150.0, "chill": 300.0, "idler": 148.9}) == ("nip", "idler")
    assert len(repeats) == 1


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
