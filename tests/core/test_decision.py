"""The one rule of decision, as a table."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zellige.core.decision import decide, min_area_in_px
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Calibration, Decision, PixelSize

NAN, INF = float("nan"), float("inf")
ACCEPT, REJECT, UNDECIDED = Decision.ACCEPT, Decision.REJECT, Decision.UNDECIDED
HALF_MM = PixelSize(cross_web_mm=0.5, down_web_mm=0.5)


def calibration(accept: float = 1.0, reject: float = 2.0, **area: float) -> Calibration:
    return Calibration(
        pixel_threshold=0.5, accept_score=accept, reject_score=reject, fitted_on="f", target="t", guarantee="g", **area
    )


def map_with(num_px: int) -> np.ndarray:
    anomaly_map = np.zeros((4, 10), np.float32)
    anomaly_map[1, :num_px] = 3
    return anomaly_map


@pytest.mark.parametrize(
    ("score", "num_px", "area", "expected", "num_defects"),
    [
        # score alone
        (0.9, 0, {}, ACCEPT, 0),
        (1.0, 0, {}, ACCEPT, 0),
        (0.9, 5, {}, ACCEPT, 0),
        (math.nextafter(1.0, 2), 5, {}, UNDECIDED, 1),
        (2.0, 5, {}, UNDECIDED, 1),
        (math.nextafter(2.0, 3), 5, {}, REJECT, 1),
        (9.0, 0, {}, REJECT, 0),
        # with a minimum area
        (9.0, 5, {"min_area_px": 5}, REJECT, 1),
        (9.0, 4, {"min_area_px": 5}, ACCEPT, 0),
        (9.0, 0, {"min_area_px": 5}, ACCEPT, 0),
        (9.0, 0, {"min_area_px": 0}, REJECT, 0),
        (1.5, 4, {"min_area_px": 5}, UNDECIDED, 0),
        (9.0, 4, {"min_area_mm2": 1.0}, REJECT, 1),
        (9.0, 3, {"min_area_mm2": 1.0}, ACCEPT, 0),
        # never ACCEPT without evidence
        (NAN, 0, {}, UNDECIDED, 0),
        (INF, 5, {}, UNDECIDED, 0),
        (-INF, 0, {}, UNDECIDED, 0),
    ],
)
def test_table(score: float, num_px: int, area: dict, expected: Decision, num_defects: int) -> None:
    decision, defects, reason = decide(score, map_with(num_px), calibration(**area), pixel_size=HALF_MM)
    assert (decision, len(defects)) == (expected, num_defects)
    assert reason


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("score", [0.0, 1.5, 9.0])
def test_a_map_that_is_not_finite_is_undecided(value: float, score: float) -> None:
    anomaly_map = map_with(5)
    anomaly_map[3, 3] = value
    decision, defects, reason = decide(score, anomaly_map, calibration(min_area_px=2))
    assert (decision, defects) == (UNDECIDED, ())
    assert "not finite" in reason


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-5, 5), st.floats(0, 5))
def test_accept_only_at_or_below_the_accept_score(score: float, accept: float, band: float) -> None:
    decision, _, _ = decide(score, map_with(3), calibration(accept, accept + band))
    if math.isfinite(score) and score <= accept:
        assert decision is ACCEPT
    elif score > accept + band and math.isfinite(score):
        assert decision is REJECT
    else:
        assert decision is UNDECIDED


def test_no_band_leaves_nothing_undecided() -> None:
    assert [decide(s, map_with(3), calibration(1.0, 1.0))[0] for s in (1.0, 1.001)] == [ACCEPT, REJECT]


def test_rule_in_mm_without_a_pixel_size_is_refused_whatever_the_score() -> None:
    with pytest.raises(ConfigError, match=r"min_area_mm2=1\.0: expected a calibrated pixel size"):
        decide(0.0, map_with(0), calibration(min_area_mm2=1.0))


def test_min_area_in_px() -> None:
    size = PixelSize(cross_web_mm=0.5, down_web_mm=0.1)
    assert min_area_in_px(calibration(min_area_mm2=2.0), size) == pytest.approx(40)
    assert min_area_in_px(calibration(min_area_px=7), size) == 7
    assert min_area_in_px(calibration(), None) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"accept": 3.0}, InputError, "accept_score <= reject_score"),
        ({"reject": NAN}, InputError, "reject_score"),
        ({"min_area_px": 1, "min_area_mm2": 1}, ConfigError, "both set"),
        ({"min_area_px": -1}, ConfigError, "min_area_px"),
    ],
)
def test_bad_calibration(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        calibration(**changes)
