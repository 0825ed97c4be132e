import csv
import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Calibration, Decision, PixelSize
from zellige.evaluation.predictions_csv import write_predictions_csv
from zellige.evaluation.report import evaluate

BAND = Calibration(
    pixel_threshold=0.5, reject_score=2.0, accept_score=1.0, fitted_on="val", target="t", guarantee="NOT SHOWN: x"
)
ONE = Calibration(
    pixel_threshold=0.5, reject_score=1.0, accept_score=1.0, fitted_on="val", target="t", guarantee="shown"
)


def bar(length):
    """A map of 12 x 40 with one line of `length` pixels, one thick."""
    anomaly_map = np.zeros((12, 40), np.float32)
    anomaly_map[4, 2 : 2 + length] = 0.9
    return anomaly_map


def strict(report):
    return json.loads(json.dumps(report.to_json(), allow_nan=False))


@pytest.fixture
def mixed(predictions_of, piece):
    good = [piece(score=s, group_id=f"roll {i // 2}") for i, s in enumerate((0.1, 0.2, 0.9, 1.5, 2.5, 0.3))]
    holes = [piece(kind="hole", score=s, group_id="roll 9") for s in (0.5, 1.5, 3.0)]
    cracks = [piece(kind="crack", score=s) for s in (4.0, 5.0)]
    return predictions_of("test", [*good, *holes, *cracks])


def test_undecided_is_neither_escape_nor_false_reject(mixed):
    report = evaluate(mixed, BAND)
    assert (report.num_good, report.num_defective, report.num_groups) == (6, 5, 6)
    rates = {
        "escape": (report.escape_rate, 1, 5),
        "false": (report.false_reject_rate, 1, 6),
        "undecided defective": (report.undecided_defective_rate, 1, 5),
        "undecided good": (report.undecided_good_rate, 1, 6),
    }
    for name, (rate, k, n) in rates.items():
        expected = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert (rate.value, rate.n) == (pytest.approx(k / n), n), name
        assert (rate.low, rate.high) == (pytest.approx(expected.low), pytest.approx(expected.high)), name


def test_kinds_are_counted_apart(mixed):
    rows = {row.name: row for row in evaluate(mixed, BAND).by_kind}
    assert list(rows) == ["good", "crack", "hole"]
    counts = {name: (row.num_accept, row.num_reject, row.num_undecided) for name, row in rows.items()}
    assert counts == {"good": (4, 1, 1), "crack": (0, 2, 0), "hole": (1, 1, 1)}
    assert rows["hole"].error_rate.value == pytest.approx(1 / 3)
    assert rows["crack"].error_rate.value == 0.0


def test_image_metrics_are_those_of_the_scores(mixed):
    report = evaluate(mixed, BAND)
    assert report.image_auroc == pytest.approx(roc_auc_score(mixed.is_defective, mixed.scores))
    assert report.average_precision == pytest.approx(average_precision_score(mixed.is_defective, mixed.scores))
    low, high = report.image_auroc_interval
    assert low < report.image_auroc < high


def test_size_class_is_the_length_of_the_largest_region(predictions_of, piece):
    pixel_size = PixelSize(cross_web_mm=0.1, down_web_mm=0.1)
    two = bar(3)
    two[9, 5:30] = 0.9
    pieces = [
        piece(kind="scratch", score=3.0, anomaly_map=bar(3), mask=bar(3) > 0, pixel_size=pixel_size),
        piece(kind="scratch", score=0.0, anomaly_map=bar(20), mask=bar(20) > 0, pixel_size=pixel_size),
        piece(kind="scratch", score=3.0, anomaly_map=two, mask=two > 0, pixel_size=pixel_size),
        piece(kind="scratch", score=3.0, anomaly_map=bar(30), pixel_size=pixel_size),
        piece(score=0.0, anomaly_map=bar(1) * 0, pixel_size=pixel_size),
    ]
    report = evaluate(predictions_of("test", pieces), ONE)
    assert [row.size_class for row in report.samples] == ["< 0.5 mm", "2 to 5 mm", "2 to 5 mm", "no mask", "good"]
    sizes = {row.name: (row.error_rate.value, row.error_rate.n) for row in report.by_size}
    assert sizes == {"< 0.5 mm": (0.0, 1), "2 to 5 mm": (0.5, 2), "no mask": (0.0, 1)}
    assert report.is_calibrated
    assert report.pixel.num_left_out == 1


def test_without_pixel_size_everything_is_in_px_and_says_uncalibrated(predictions_of, piece):
    pieces = [piece(kind="scratch", score=3.0, anomaly_map=bar(n), mask=bar(n) > 0) for n in (5, 10, 35)]
    report = evaluate(predictions_of("test", pieces), ONE, size_edges_px=(10, 30))
    assert [row.name for row in report.by_size] == ["< 10 px", "10 to 30 px", ">= 30 px"]
    content = strict(report)
    assert (content["calibrated"], content["units"]) == (False, "px (uncalibrated)")


def test_minimum_area_of_the_station_rules_here_too(predictions_of, piece):
    pieces = [piece(score=3.0, anomaly_map=bar(4)), piece(kind="hole", score=3.0, anomaly_map=bar(20))]
    rule = Calibration(
        pixel_threshold=0.5, reject_score=1.0, accept_score=1.0, min_area_px=10, fitted_on="", target="", guarantee=""
    )
    report = evaluate(predictions_of("test", pieces), rule)
    assert [row.decision for row in report.samples] == [Decision.ACCEPT, Decision.REJECT]


def test_good_images_alone_leave_nulls_with_reasons(predictions_of, piece):
    content = strict(evaluate(predictions_of("test", [piece(score=0.1), piece(score=3.0)]), ONE))
    for name in ("image_auroc", "average_precision", "f1_max", "pixel_auroc", "pixel_ap", "aupro"):
        assert content[name] is None
        assert content["undefined"][name]
    assert content["escape_rate"] == {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    assert content["undefined"]["escape_rate"] == "TEST has no defective images"
    assert content["false_reject_rate"]["value"] == 0.5
    assert content["by_size"] == []


def test_defective_images_alone_without_masks(predictions_of, piece):
    content = strict(evaluate(predictions_of("test", [piece(kind="hole", score=3.0)]), ONE))
    assert content["image_auroc"] is None
    assert content["undefined"]["image_auroc"] == "TEST has no good images"
    assert content["undefined"]["aupro"] == "TEST has no defect masks"
    assert content["num_defective_without_mask"] == 1
    assert content["escape_rate"]["value"] == 0.0


def test_interval_of_auroc_counts_groups_not_images(predictions_of, piece):
    scores = np.random.default_rng(0).normal(size=60)
    single = [piece(kind="good" if i % 2 else "hole", score=s) for i, s in enumerate(scores)]
    rolls = [piece(kind="good" if i % 2 else "hole", score=s, group_id=str(i // 10)) for i, s in enumerate(scores)]
    narrow, wide = (evaluate(predictions_of("test", pieces), ONE).image_auroc_interval for pieces in (single, rolls))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_csv_has_one_row_per_sample(mixed, tmp_path):
    report = evaluate(mixed, BAND)
    write_predictions_csv(report, tmp_path / "predictions.csv")
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [sample.id for sample in mixed.samples]
    assert [float(row["score"]) for row in rows] == mixed.scores.tolist()
    assert [row["decision"] for row in rows[3:7]] == ["UNDECIDED", "REJECT", "ACCEPT", "ACCEPT"]


def test_val_predictions_and_wrong_borders_are_refused(predictions_of, piece):
    with pytest.raises(InputError, match="expected predictions of split test, got val"):
        evaluate(predictions_of("val", [piece()]), ONE)
    for edges in ((2.0, 1.0), (0.0, 1.0), (1.0, math.inf)):
        with pytest.raises(ConfigError, match="ascending numbers above 0"):
            evaluate(predictions_of("test", [piece()]), ONE, size_edges_mm=edges)


def test_mask_of_another_size_is_refused(predictions_of, piece):
    pieces = [piece(kind="hole", score=1.0, anomaly_map=bar(3), mask=np.ones((5, 5), bool))]
    with pytest.raises(InputError, match="expected its image's size 12 x 40 px, got 5 x 5"):
        evaluate(predictions_of("test", pieces), ONE)
