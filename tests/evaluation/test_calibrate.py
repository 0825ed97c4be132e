import logging
import math

import numpy as np
import pytest
from scipy import stats

from zellige.core.decision import decide
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Decision, PixelSize
from zellige.evaluation.calibrate import Target, calibrate

MM = PixelSize(cross_web_mm=0.1, down_web_mm=0.2)


def spot_map(size_px, level=1.0):
    """A map whose top left size_px pixels are at a level above a background of zero."""
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map.ravel()[:size_px] = level
    return anomaly_map


@pytest.fixture
def val(predictions_of, piece):
    """VAL of good and defective scores, all maps zero."""
    return lambda good, defective=(): predictions_of(
        "val", [*(piece(score=s) for s in good), *(piece(kind="hole", score=s) for s in defective)]
    )


def test_threshold_is_the_order_statistic_of_the_good_scores(val):
    scores = np.random.default_rng(0).permutation(200).astype(float)
    calibration = calibrate(val(scores), Target(false_reject_rate=0.05))
    assert calibration.reject_score == calibration.accept_score == 195.0  # the 196th smallest of 0..199
    assert calibration.target == "false_reject_rate <= 0.05 with probability 0.95"
    assert calibration.guarantee.startswith("false_reject_rate <= 0.05 with probability 0.95, from 200 held-out good")


def test_too_few_good_images_widen_and_say_how_many_more(val, caplog):
    with caplog.at_level(logging.WARNING):
        predictions = val(range(20))
        calibration = calibrate(predictions, Target())
    assert calibration.reject_score == 19.0
    assert calibration.guarantee == (
        "NOT SHOWN: n=20 is too small for false_reject_rate <= 0.05: 39 more good images needed; "
        "what 20 show: <= 0.139 with probability 0.95"
    )
    assert calibration.guarantee in caplog.text
    assert calibration.fitted_on == predictions.fingerprint


def test_too_few_good_images_are_refused_on_request_and_below_the_minimum(val):
    with pytest.raises(InputError, match="39 more good images needed"):
        calibrate(val(range(20)), Target(), on_too_few="error")
    with pytest.raises(InputError, match="at least 5 good images in VAL, got 4"):
        calibrate(val(range(4)), Target())
    assert calibrate(val(range(4)), Target(), min_good=4).reject_score == 3.0


@pytest.mark.parametrize("kind", ["normal", "discrete"])
@pytest.mark.parametrize("seed", range(3))
def test_few_enough_scores_lie_beyond_each_limit(val, kind, seed):
    """Orders 126 of 130 and 78 of 80, from scipy's binomial tail; that they suffice is simulated in test_intervals."""
    rng = np.random.default_rng(seed)
    draw = rng.normal if kind == "normal" else lambda size: rng.integers(0, 30, size=size).astype(float)
    good, defective = draw(size=130), draw(size=80)
    beyond_good = 130 - int(stats.binom.ppf(0.8, 130, 0.95)) - 1
    beyond_defective = 80 - int(stats.binom.ppf(0.8, 80, 0.95)) - 1
    calibration = calibrate(val(good, defective), Target(false_reject_rate=0.05, escape_rate=0.05, delta=0.2))
    assert np.sum(good > calibration.reject_score) <= beyond_good <= np.sum(good >= calibration.reject_score) - 1
    accepted = np.sum(defective <= calibration.accept_score)
    one_up = np.nextafter(calibration.accept_score, np.inf)
    assert accepted <= beyond_defective <= np.sum(defective <= one_up) - 1


def test_piece_at_the_escape_limit_is_not_accepted(val):
    defective = np.arange(100.0, 200.0)
    calibration = calibrate(val([0.0] * 5, defective), Target(false_reject_rate=None, escape_rate=0.05))
    # np_order(100, 0.05, 0.05) = 99: at most one of the hundred lies below the limit, which is the second smallest.
    assert calibration.accept_score == calibration.reject_score == math.nextafter(101.0, 0.0)
    assert decide(101.0, np.zeros((2, 2), np.float32), calibration)[0] is Decision.REJECT
    assert decide(100.0, np.zeros((2, 2), np.float32), calibration)[0] is Decision.ACCEPT


def test_overlapping_classes_leave_an_undecided_band(val):
    good, defective = np.arange(0.0, 100.0), np.arange(50.0, 150.0)
    calibration = calibrate(val(good, defective), Target(false_reject_rate=0.05, escape_rate=0.05))
    assert calibration.accept_score == math.nextafter(51.0, 0.0)
    assert calibration.reject_score == 98.0
    assert "false_reject_rate <= 0.05" in calibration.guarantee
    assert "escape_rate <= 0.05" in calibration.guarantee
    assert decide(70.0, np.zeros((2, 2), np.float32), calibration)[0] is Decision.UNDECIDED


def test_separable_classes_get_one_threshold_at_the_lower_limit(val):
    good, defective = np.arange(0.0, 100.0), np.arange(1000.0, 1100.0)
    calibration = calibrate(val(good, defective), Target(false_reject_rate=0.05, escape_rate=0.05))
    assert calibration.accept_score == calibration.reject_score == 98.0
    assert not calibration.guarantee.startswith("NOT SHOWN")


def test_not_shown_comes_first_when_one_of_two_is_shown(val):
    calibration = calibrate(val(range(100), range(500, 510)), Target(escape_rate=0.05))
    first, second = calibration.guarantee.split("; false")
    assert first.startswith("NOT SHOWN: n=10 is too small for escape_rate <= 0.05: 49 more defective images needed")
    assert second.startswith("_reject_rate <= 0.05 with probability")


def test_escape_target_without_defective_images_is_not_shown(val, caplog):
    calibration = calibrate(val(range(100)), Target(escape_rate=0.01))
    assert calibration.guarantee.startswith("NOT SHOWN: escape_rate <= 0.01: VAL has no defective images, 299 needed")
    assert calibration.accept_score == calibration.reject_score == 98.0
    assert "299 needed" in caplog.text
    with pytest.raises(InputError, match="at least 5 defective images in VAL, got 0"):
        calibrate(val(range(100)), Target(false_reject_rate=None, escape_rate=0.01))


def test_guarantee_says_when_images_share_groups(predictions_of, piece):
    pieces = [piece(score=float(i), group_id=f"roll {i // 10}") for i in range(60)]
    calibration = calibrate(predictions_of("val", pieces), Target())
    assert calibration.guarantee.endswith("; presumes independent images, VAL has 60 from 6 groups")


def test_defective_images_do_not_move_a_false_reject_limit(val):
    good = np.arange(0.0, 100.0)
    alone, mixed = calibrate(val(good), Target()), calibrate(val(good, [1.0, 2.0, 500.0]), Target())
    assert alone.reject_score == mixed.reject_score
    assert mixed.accept_score == mixed.reject_score


def test_pixel_threshold_from_good_maps_leaves_the_stated_share_above(predictions_of, piece):
    rng = np.random.default_rng(1)
    maps = rng.gamma(2.0, size=(60, 40, 50)).astype(np.float32)
    predictions = predictions_of("val", [piece(score=float(m.max()), anomaly_map=m) for m in maps])
    threshold = calibrate(predictions, Target(), pixel_false_alarm=0.01).pixel_threshold
    assert 0.0099 < np.mean(maps > threshold) <= 0.01


def test_pixel_threshold_from_masks_separates_defect_from_background(predictions_of, piece):
    mask = spot_map(12) > 0
    pieces = [piece(anomaly_map=spot_map(5, level=0.1)) for _ in range(60)]
    pieces.append(piece(kind="hole", score=1.0, anomaly_map=spot_map(12, level=0.8), mask=mask))
    threshold = calibrate(predictions_of("val", pieces), Target()).pixel_threshold
    assert threshold == pytest.approx(0.45, abs=1e-3)


def test_empty_mask_counts_as_no_mask(predictions_of, piece):
    pieces = [piece(anomaly_map=spot_map(5, level=0.1)) for _ in range(10)]
    pieces.append(piece(kind="hole", score=1.0, anomaly_map=spot_map(12, level=0.8), mask=np.zeros((8, 8), bool)))
    assert calibrate(predictions_of("val", pieces), Target(), pixel_false_alarm=0.2).pixel_threshold < 0.11


def test_defects_below_the_minimum_area_count_as_escapes(predictions_of, piece):
    """4 of 100 defective pieces are too small to reject at any score: the limit moves up by that many pieces."""
    good = [piece(score=0.0) for _ in range(5)]
    sizes = [2] * 4 + [20] * 116
    defective = [piece(kind="hole", score=1000.0 - i, anomaly_map=spot_map(size)) for i, size in enumerate(sizes)]
    target = Target(false_reject_rate=None, escape_rate=0.1)
    predictions = predictions_of("val", good + defective)
    calibration = calibrate(predictions, target, min_area_px=10)
    escaped = [
        decide(p.score, p.anomaly_map, calibration)[0] is Decision.ACCEPT for p in predictions if p.sample.is_defective
    ]
    # The umbrella order for n=120, alpha=0.1, delta=0.05 leaves 6 beyond the limit (sum checked in test_intervals).
    assert sum(escaped) == 6
    assert escaped[:4] == [True] * 4


def test_minimum_area_that_lets_too_many_escape_is_refused(predictions_of, piece):
    pieces = [piece(score=0.0) for _ in range(5)]
    pieces += [piece(kind="hole", score=9.0, anomaly_map=spot_map(2), pixel_size=None) for _ in range(60)]
    with pytest.raises(InputError, match="60 of 60 defective VAL images have no region of the minimum area"):
        calibrate(predictions_of("val", pieces), Target(false_reject_rate=None, escape_rate=0.05), min_area_px=3)


def test_minimum_area_in_mm2_needs_a_pixel_size_everywhere(predictions_of, piece):
    known = [piece(score=float(i), pixel_size=MM) for i in range(60)]
    assert calibrate(predictions_of("val", known), Target(), min_area_mm2=0.5).min_area_mm2 == 0.5
    with pytest.raises(ConfigError, match="1 without, first val/good/60; set data"):
        calibrate(predictions_of("val", [*known, piece(score=1.0)]), Target(), min_area_mm2=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_area_mm2": 1.0, "min_area_px": 1.0}, "both set"),
        ({"min_area_px": -1.0}, "min_area_px"),
        ({"pixel_false_alarm": 0.0}, "pixel_false_alarm"),
        ({"on_too_few": "guess"}, "on_too_few"),
    ],
)
def test_contradictory_settings_are_refused(val, settings, message):
    with pytest.raises(ConfigError, match=message):
        calibrate(val(range(60)), Target(), **settings)


@pytest.mark.parametrize(
    "rates", [{"false_reject_rate": None}, {"false_reject_rate": 0.0}, {"escape_rate": 1.0}, {"delta": -0.1}]
)
def test_impossible_targets_are_refused(rates):
    with pytest.raises(ConfigError, match="calibration target"):
        Target(**rates)


def test_test_predictions_are_refused(predictions_of, piece):
    with pytest.raises(InputError, match="expected predictions of split val, got test"):
        calibrate(predictions_of("test", [piece()] * 60), Target())
