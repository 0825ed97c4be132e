"""What a roll adds up to: records in mm, and defects per m2."""

import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.open_region import WebDefect
from zellige.core.roll_records import (
    Lane,
    RollDefect,
    defects_per_m2,
    to_roll_defect,
)

LANES = (Lane(name="left", from_mm=0, to_mm=100), Lane(name="right", from_mm=100, to_mm=200))


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
