"""Which known defects were found, against a slow count of pairs and against errors by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.known_defects import KnownDefect
from zellige.core.roll_records import RollDefect
from zellige.evaluation.roll_comparison import Outcome, compare_roll
from zellige.evaluation.roll_comparison_text import in_words, to_json, write_table

Box = tuple[float, float, float, float]


def record(number: int, box: Box, **other: object) -> RollDefect:
    x0, y0, x1, y1 = box
    place = {"x_mm": (x0 + x1) / 2, "y_mm": y0, "width_mm": x1 - x0, "extent_mm": y1 - y0, "length_mm": 1.0}
    return RollDefect(
        number=number, **{**place, "area_mm2": 1.0, "kind": "anomaly", "score": 2.0, "lanes": (), **other}
    )


def known(box: Box, kind: str = "hole") -> KnownDefect:
    return KnownDefect(kind=kind, box_mm=box)


def touch(one: Box, other: Box, tolerance: float) -> bool:
    apart = [max(one[k] - other[k + 2], other[k] - one[k + 2]) for k in (0, 1)]
    return max(apart) <= tolerance


@pytest.mark.parametrize("tolerance", [0.0, 3.0])
def test_hits_misses_false_alarms_and_chance_as_a_slow_count_has_them(tolerance: float) -> None:
    rng = np.random.default_rng(5)

    def boxes(count: int) -> list[Box]:
        corners = rng.uniform((0, 0), (95, 990), (count, 2))
        sides = rng.uniform(1, 9, (count, 2))
        return [tuple(np.concatenate(pair).tolist()) for pair in zip(corners, corners + sides, strict=True)]

    wanted, found = boxes(40), boxes(120)
    result = compare_roll(
        [known(box) for box in wanted],
        [record(number, box) for number, box in enumerate(found)],
        width_mm=100.0,
        length_mm=1000.0,
        tolerance_mm=tolerance,
    )
    hits = [any(touch(box, other, tolerance) for other in found) for box in wanted]
    assert [one.outcome is Outcome.HIT for one in result.compared] == hits
    assert 5 < sum(hits) < 40
    alarms = [k for k, box in enumerate(found) if not any(touch(box, other, tolerance) for other in wanted)]
    assert [one.number for one in result.false_alarms] == alarms
    shares = []
    for turn in range(1, 20):
        moved = []
        for x0, y0, x1, y1 in found:
            start = (y0 + turn * 50.0) % 1000.0
            moved.append((x0, start, x1, start + y1 - y0))
        shares.append(np.mean([any(touch(box, other, tolerance) for other in moved) for box in wanted]))
    assert result.chance_share == pytest.approx(np.mean(shares))
    assert result.box_share == pytest.approx(sum((b[2] - b[0]) * (b[3] - b[1]) for b in found) / 1e5)


def test_the_record_that_overlaps_most_stands_for_a_defect_and_its_errors_are_in_mm() -> None:
    """The datum lies 10 mm from column 0, so a record at 12 mm is at column 22 mm."""
    defects = [known((20, 100, 24, 110), "slub"), known((60, 500, 62, 502)), known((5, 900, 6, 901))]
    records = [
        record(1, (9, 99, 11, 101)),  # touches the corner
        record(2, (11, 101, 14, 113)),  # is the slub
        record(3, (40, 40, 41, 41)),
        record(4, (40, 41, 41, 60), is_continuation=True),
    ]
    result = compare_roll(
        defects,
        records,
        width_mm=80.0,
        length_mm=1000.0,
        undecided=[(-np.inf, 490, np.inf, 501), (-np.inf, 950, np.inf, 1000)],
        datum_mm=10.0,
    )
    assert [one.outcome for one in result.compared] == [Outcome.HIT, Outcome.UNDECIDED, Outcome.MISSED]
    assert result.compared[0].record == records[1]
    assert result.errors_mm().tolist() == [[0.5, 2.0, -1.0, 2.0]]
    assert result.ious().tolist() == pytest.approx([3 * 9 / (40 + 36 - 3 * 9)])  # 21 to 24 mm across, 101 to 110 along
    assert [one.number for one in result.false_alarms] == [3]
    assert result.area_m2 == pytest.approx(80 * (1000 - 11 - 50) * 1e-6)
    content = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert (content["num_hit"], content["num_undecided"], content["num_missed"]) == (1, 1, 1)
    assert content["false_alarms_per_m2"] == pytest.approx(1 / (80 * 939 * 1e-6))
    assert content["by_kind"]["slub"]["value"] == 1.0
    assert content["errors_mm"]["dw_mm"] == {"median": -1.0, "p90_abs": 1.0}


def test_what_one_camera_left_undecided_excuses_nothing_beside_it_and_counts_once() -> None:
    """A web from column 5 to 85 mm, the cameras' seam at 40 mm; the area against a count of square millimetres."""
    left, right, whole = (0, 100, 40, 200), (40, 150, 90, 300), (-np.inf, 250, np.inf, 280)
    gaps = [right, left, whole, (0, 180, 40, 220), (0, 110, 40, 120), (0, 400, 40, 600)]
    is_open = {(60, 120, 62, 122): False, (20, 120, 22, 122): True, (39, 120, 41, 122): True, (40, 120, 42, 122): False}
    is_open |= {(60, 160, 62, 162): True, (20, 240, 22, 251): True, (20, 221, 22, 250): False, (90, 260, 91, 261): True}
    result = compare_roll(
        [known(box) for box in is_open], [], width_mm=80.0, length_mm=500.0, left_mm=5.0, undecided=gaps
    )
    wanted = [Outcome.UNDECIDED if one else Outcome.MISSED for one in is_open.values()]
    assert [one.outcome for one in result.compared] == wanted
    y, x = np.mgrid[0:500, 5:85] + 0.5
    is_judged = np.ones(x.shape, bool)
    for x0, y0, x1, y1 in gaps:
        is_judged &= ~((x0 < x) & (x < x1) & (y0 < y) & (y < y1))
    assert result.area_m2 == pytest.approx(is_judged.sum() * 1e-6)


def test_of_records_beside_a_defect_the_nearest_stands_for_it() -> None:
    records = [record(1, (0, 15, 2, 17)), record(2, (0, 13, 2, 14))]
    result = compare_roll([known((0, 10, 2, 12))], records, width_mm=10, length_mm=50, tolerance_mm=4)
    assert result.compared[0].record == records[1]
    assert result.false_alarms == ()
    assert to_json(result)["num_far_hits"] == 1


def test_the_table_has_a_line_for_each_known_defect_and_each_false_alarm(tmp_path: Path) -> None:
    defects = [known((1, 1, 2, 2)), known((1, 30, 2, 32), "slub")]
    result = compare_roll(defects, [record(7, (1, 30, 3, 31)), record(8, (5, 5, 6, 6))], width_mm=10, length_mm=50)
    write_table(tmp_path / "t.csv", result)
    rows = list(csv.reader((tmp_path / "t.csv").read_text().splitlines()))
    assert rows[1:] == [
        ["missed", "hole", "1", "1", "1", "1", *[""] * 6],
        ["hit", "slub", "1", "30", "1", "2", "7", "2.0", "0.5", "-0.5", "1.0", "-1.0"],
        ["false alarm", "anomaly", "5.0", "5", "1.0", "1", "8", "2.0", *[""] * 4],
    ]
    words = "\n".join(in_words(result))
    assert "known defects: 1 of 2 (50.0 %, between 1.3 and 98.7 %) found; 1 missed, 0 where nobody judged" in words
    assert "false alarms: 1 of 2 records, 2000 per m2 of 0.0005 m2 judged" in words
    assert in_words(compare_roll(defects, [], width_mm=10, length_mm=50))[0].startswith("known defects: 0 of 2")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"tolerance_mm": -1.0}, ConfigError, "tolerance: expected 0 mm or more"),
        ({"known": []}, InputError, "expected some on this roll, got none"),
        ({"known": [known((0, 60, 1, 61))]}, InputError, "hole at 60 mm: expected it on the roll of 50 mm"),
        ({"width_mm": 0.0}, InputError, "expected a width and a length above 0 mm"),
    ],
)
def test_mistakes(wrong: dict[str, object], error: type[Exception], message: str) -> None:
    right = {"known": [known((0, 0, 1, 1))], "records": [], "width_mm": 10.0, "length_mm": 50.0}
    with pytest.raises(error, match=message):
        compare_roll(**{**right, **wrong})
