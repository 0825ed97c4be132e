"""Grades: the four-point system against sums done by hand, every limit at its border, and rules that are refused."""

import json
from pathlib import Path

import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.grading import FOUR_POINT, parse_rules, points_per_100_yd2, read_rules, roll_points
from zellige.core.lane_grades import grade_lanes, most_in_window
from zellige.core.roll_records import Lane, RollDefect

EXAMPLE = Path(__file__).parents[2] / "docs/guide/grading.yaml"
INCH, YARD = 25.4, 914.4
LANE = Lane(name="all", from_mm=0, to_mm=1000)


def defect(number: int, y_mm: float, length_mm: float, **changes: object) -> RollDefect:
    fields = {
        "number": number,
        "x_mm": 500.0,
        "y_mm": y_mm,
        "width_mm": 1.0,
        "extent_mm": length_mm,
        "length_mm": length_mm,
        "area_mm2": length_mm,
        "kind": "anomaly",
        "score": 1.0,
        "lanes": ("all",),
    }
    return RollDefect(**{**fields, **changes})


@pytest.mark.parametrize(
    ("inches", "points"),
    [(0.1, 1), (3, 1), (3.01, 2), (6, 2), (6.01, 3), (9, 3), (9.01, 4), (35, 4)],
)
def test_points_by_length(inches: float, points: int) -> None:
    assert roll_points([defect(1, 0, inches * INCH)], FOUR_POINT, length_mm=100 * YARD) == points


def test_at_most_four_points_in_a_yard() -> None:
    """Yard 0: 3 + 3 is 4. Yard 1: 1. Yard 2: 2 + 1 is 3. Yards 4 to 6: a continuous defect, 4 in each."""
    defects = [
        defect(1, 0.1 * YARD, 8 * INCH),
        defect(2, 0.9 * YARD, 8 * INCH),
        defect(3, 1.5 * YARD, 1 * INCH),
        defect(4, 2.1 * YARD, 5 * INCH),
        defect(5, 2.2 * YARD, 2 * INCH),
        defect(6, 4.5 * YARD, 2.25 * YARD),
        defect(7, 5.5 * YARD, 4 * INCH),
    ]
    assert roll_points(defects, FOUR_POINT, length_mm=20 * YARD) == 4 + 1 + 3 + 12
    # The records of one streak are continuous, however short the last of them is.
    streak = [
        defect(1, 0.0, 2 * YARD, is_continuing=True),
        defect(2, 2 * YARD, 2 * INCH, is_continuation=True),
    ]
    assert roll_points(streak, FOUR_POINT, length_mm=20 * YARD) == 12


def test_points_for_100_square_yards() -> None:
    """24 points on 120 yd of 60 in: 24 x 3600 / (60 x 120) = 12. 40 points on 100 yd of 36 in are 40."""
    assert points_per_100_yd2(24, width_mm=60 * INCH, length_mm=120 * YARD) == pytest.approx(12)
    assert points_per_100_yd2(40, width_mm=36 * INCH, length_mm=100 * YARD) == pytest.approx(40)
    for width_mm, length_mm in ((0, 5), (5, 0)):
        with pytest.raises(InputError, match="above 0 mm"):
            points_per_100_yd2(1, width_mm=width_mm, length_mm=length_mm)
    with pytest.raises(InputError, match=r"within 0 to 914\.4 mm along the roll, got 1000"):
        roll_points([defect(1, 1000, 1)], FOUR_POINT, length_mm=YARD)


def grade(defects: list[RollDefect], *limits: dict, length_mm: float = 10_000) -> tuple[str, str]:
    rules = parse_rules(
        {
            "name": "test",
            "points": "astm_d5430",
            "grades": [{"grade": "A", "limits": list(limits)}],
            "otherwise": "B",
        },
        "test",
    )
    (found,) = grade_lanes(defects, [LANE], rules, length_mm=length_mm)
    return found.grade, "; ".join(found.reasons)


MANY = [defect(i, 1000 * i, 10 * i) for i in range(1, 6)]  # 10 to 50 mm, a metre apart, on 10 m2
STREAK = [
    defect(1, 100, 2000, is_continuing=True),
    defect(2, 2100, 500, is_continuation=True),
]


@pytest.mark.parametrize(
    ("defects", "kept", "broken", "reason"),
    [
        (MANY, {"max_count": 5}, {"max_count": 4}, "A: 5 defects, at most 4"),
        (MANY, {"max_per_m2": 0.5}, {"max_per_m2": 0.49}, "A: 0.5 defects per m2, at most 0.49"),
        (MANY, {"max_length_mm": 50}, {"max_length_mm": 49}, "A: defects of 50 mm, at most 49 mm"),
        (
            MANY,
            {"max_in_window": 2, "window_mm": 1999},
            {"max_in_window": 2, "window_mm": 2000},
            "A: 3 defects within 2000 mm, at most 2",
        ),
        (MANY, {"min_length_mm": 31, "max_count": 2}, {"min_length_mm": 30, "max_count": 2}, "A: 3 defects, at most 2"),
        (
            [defect(1, 5, 1, kind="hole")],
            {"kinds": ["scratch"], "max_count": 0},
            {"kinds": ["hole", "tear"], "max_count": 0},
            "A: 1 hole or tear, at most 0",
        ),
        (STREAK, {"max_count": 1, "max_length_mm": 2500}, {"max_length_mm": 2499}, "A: defects of 2500 mm"),
        # 5 points on 10 m2, which are 11.96 yd2.
        (MANY, {"max_points_per_100_yd2": 41.9}, {"max_points_per_100_yd2": 41.7}, "A: 41.81 points per 100 yd2"),
    ],
    ids=["count", "density", "length", "window", "filter", "kind", "streak", "points"],
)
def test_each_limit_at_its_border(defects: list[RollDefect], kept: dict, broken: dict, reason: str) -> None:
    assert grade(defects, kept) == ("A", "")
    name, why = grade(defects, kept, broken)
    assert name == "B"
    assert why.startswith(reason)


def test_lanes_are_graded_apart_and_the_first_grade_that_is_kept_counts() -> None:
    lanes = [Lane(name="left", from_mm=0, to_mm=500), Lane(name="right", from_mm=500, to_mm=1000)]
    defects = [
        defect(1, 10, 5, lanes=("left",), kind="hole"),
        defect(2, 500, 400, lanes=("left", "right")),
    ]
    left, right = grade_lanes(defects, lanes, read_rules(EXAMPLE), length_mm=100_000)
    assert (left.grade, left.num_defects) == ("reject", 2)
    assert left.reasons == ("A: 1 hole, at most 0", "B: 1 hole, at most 0")
    assert (right.grade, right.num_defects) == ("B", 1)
    assert right.reasons == ("A: defects of 400 mm, at most 300 mm",)
    # 4 points on 50 m2, 59.80 yd2.
    assert right.points_per_100_yd2 == pytest.approx(4 / 59.7995 * 100, rel=1e-4)
    (empty,) = grade_lanes([], lanes[:1], read_rules(EXAMPLE), length_mm=100_000)
    assert (empty.grade, empty.reasons, empty.points_per_100_yd2) == ("A", (), 0)


def test_most_in_window() -> None:
    assert most_in_window([], 10) == 0
    assert most_in_window([30, 0, 10, 10, 50], 10) == 3


RULES = {"name": "x", "grades": [{"grade": "A", "limits": [{"max_count": 1}]}], "otherwise": "B"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grades": []}, "grades: "),
        ({"extra": 1}, "extra: "),
        ({"otherwise": "A"}, "expected every grade once, got A, A"),
        ({"grades": [{"grade": "A", "limits": [{"kinds": ["hole"]}]}]}, "expected at least one max_ field"),
        ({"grades": [{"grade": "A", "limits": [{"max_in_window": 1}]}]}, "max_in_window and window_mm together"),
        ({"grades": [{"grade": "A", "limits": [{"max_points_per_100_yd2": 1}]}]}, "needs points"),
        ({"grades": [{"grade": "A", "limits": [{"max_count": -1}]}]}, "max_count: "),
        ({"points": "ten_point"}, "points: "),
        (
            {
                "points": {
                    "steps": [{"up_to_mm": 5, "points": 1}, {"up_to_mm": 4, "points": 2}],
                    "longer_points": 4,
                    "section_mm": 1000,
                    "max_section_points": 4,
                }
            },
            "growing length",
        ),
    ],
)
def test_bad_rules(change: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({**RULES, **change}))
    with pytest.raises(ConfigError, match=message) as caught:
        read_rules(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.yaml", "a: [", "not valid YAML"),
        ("a.yaml", "- 1", "expected a mapping, got list"),
        ("b/none.yaml", None, "cannot be read"),
    ],
)
def test_unreadable_rules(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_rules(tmp_path / name)


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**RULES, "points": "astm_d5430"}))
    (tmp_path / "a.yaml").write_text(
        "name: x\npoints: astm_d5430\ngrades: [{grade: A, limits: [{max_count: 1}]}]\notherwise: B\n"
    )
    assert read_rules(tmp_path / "a.json") == read_rules(tmp_path / "a.yaml")
