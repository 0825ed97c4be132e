"""Numbers where a part of the images is not inspected: inside only, and nothing vanishes in silence."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from zellige.core.errors import InputError
from zellige.core.roi import BACKGROUND, IGNORED
from zellige.core.types import Calibration, LabelledBox, Prediction, Sample
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.contact_sheet import load_case
from zellige.evaluation.pictures import typical_hits, worst_escapes
from zellige.evaluation.pixels import is_defect_ignored
from zellige.evaluation.predictions_csv import write_predictions_csv
from zellige.evaluation.report import evaluate

ONE = Calibration(pixel_threshold=0.5, reject_score=1.0, accept_score=1.0, fitted_on="", target="t", guarantee="shown")
LEFT = (slice(None), slice(0, 10))
"""Of the maps of 12 x 40: declared to be ignored."""


def noise_map(seed, *, hidden=True):
    anomaly_map = np.random.default_rng(seed).random((12, 40)).astype(np.float32)
    if hidden:
        anomaly_map[LEFT] = IGNORED
    return anomaly_map


def mask_at(rows, columns):
    mask = np.zeros((12, 40), bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def pieces(piece):
    """Good ones, hits and an escape outside the region, one defect across its edge."""
    good = [piece(score=0.1 * i, anomaly_map=noise_map(i)) for i in range(4)]
    outside = [
        piece(kind="hole", score=s, anomaly_map=noise_map(9 + i), mask=mask_at(slice(2, 5), slice(20, 26)))
        for i, s in enumerate((3.0, 0.2))
    ]
    across = piece(kind="hole", score=2.0, anomaly_map=noise_map(20), mask=mask_at(slice(6, 8), slice(4, 16)))
    return [*good, *outside, across]


@pytest.fixture
def inside(piece):
    """A defect in the region alone, accepted."""
    return piece(kind="scratch", score=0.0, anomaly_map=noise_map(30), mask=mask_at(slice(2, 9), slice(1, 8)))


def without_samples(report):
    content = report.to_json()
    return {name: value for name, value in content.items() if name not in ("ignored_defects", "test_fingerprint")}


def test_a_defect_in_the_region_alone_is_reported_and_in_no_number(predictions_of, pieces, inside, tmp_path):
    alone = evaluate(predictions_of("test", pieces), ONE)
    report = evaluate(predictions_of("test", [*pieces, inside]), ONE)
    assert json.dumps(without_samples(report)) == json.dumps(without_samples(alone))
    assert report.to_json()["ignored_defects"] == ["test/scratch/7"]
    assert (report.num_defective, report.escape_rate.n, report.escape_rate.value) == (3, 3, pytest.approx(1 / 3))
    assert [row.is_ignored for row in report.samples] == [False] * 7 + [True]
    assert len(report.judged) == 7
    assert worst_escapes(report.samples) == [5]
    assert sorted(typical_hits(report.samples)) == [4, 6]
    write_predictions_csv(report, tmp_path / "p.csv")
    assert ",ACCEPT,ignored," in (tmp_path / "p.csv").read_text().splitlines()[-1]


def test_pixel_numbers_are_those_of_the_inspected_pixels(predictions_of, pieces):
    predictions = predictions_of("test", pieces)
    levels, labels = [], []
    for one in pieces:
        kept = one.anomaly_map != IGNORED
        mask = np.zeros((12, 40), bool) if one.mask is None else one.mask
        levels.append(one.anomaly_map[kept])
        labels.append(mask[kept])
    levels, labels = np.concatenate(levels), np.concatenate(labels)
    pixel = evaluate(predictions, ONE).pixel
    assert pixel.auroc == pytest.approx(roc_auc_score(labels, levels), abs=2e-3)
    assert pixel.average_precision == pytest.approx(average_precision_score(labels, levels), abs=2e-3)
    assert pixel.num_regions == 3


def test_a_defect_taken_for_background_is_an_escape(predictions_of, piece):
    """Nobody declared it: what an automatic mask hides must count."""
    lost = noise_map(1, hidden=False)
    mask = mask_at(slice(2, 9), slice(1, 8))
    lost[mask] = BACKGROUND
    report = evaluate(
        predictions_of("test", [piece(kind="scratch", score=0.0, anomaly_map=lost, mask=mask), piece(score=0.1)]), ONE
    )
    assert (report.escape_rate.value, report.escape_rate.n) == (1.0, 1)
    assert report.to_json()["ignored_defects"] == []
    assert report.pixel.auroc == 0.0


def test_calibration_on_labels_leaves_ignored_defects_out(predictions_of, pieces, inside, caplog):
    target = Target(escape_rate=0.4, false_reject_rate=None, delta=0.4)
    chosen = [calibrate(predictions_of("val", val), target, min_good=2) for val in (pieces, [*pieces, inside])]
    assert chosen[0].reject_score == chosen[1].reject_score
    assert chosen[0].pixel_threshold == chosen[1].pixel_threshold
    assert "1 defective VAL images show defects in ignored regions only and are left out" in caplog.text
    with pytest.raises(InputError, match=r"at least 2 defective \(outside ignored regions\) images in VAL, got 0"):
        calibrate(predictions_of("val", [*pieces[:4], inside, inside]), target, min_good=2)


def test_a_threshold_never_reaches_what_is_hidden(predictions_of, piece):
    """All defects are taken for background: masks then say nothing about a level."""
    mask = mask_at(slice(2, 9), slice(1, 8))
    lost = noise_map(1, hidden=False)
    lost[mask] = BACKGROUND
    defective = [piece(kind="hole", score=1.0, anomaly_map=lost, mask=mask) for _ in range(6)]
    good = [piece(score=0.1 * i, anomaly_map=noise_map(i, hidden=False)) for i in range(6)]
    assert 0 <= calibrate(predictions_of("val", [*good, *defective]), Target()).pixel_threshold <= 1


def test_a_picture_shows_the_region_hatched(predictions_of, pieces, tmp_path):
    predictions = predictions_of("test", pieces)
    report = evaluate(predictions, ONE)
    cv2.imwrite(str(predictions.samples[4].image_path), np.full((12, 40), 200, np.uint8))
    case = load_case(predictions[4], report.samples[4], 0.5)
    edge = case.image.shape[1] // 4
    assert case.image[:, : edge - 3].mean() < 150
    assert (case.image[:, edge + 3 :] == 200).all()
    assert 0 <= case.anomaly_map.min() <= case.anomaly_map.max() <= 1


@pytest.mark.parametrize(("boxes", "is_ignored"), [([(1, 2, 8, 9)], True), ([(1, 2, 8, 9), (8, 3, 12, 6)], False)])
def test_a_defect_that_boxes_alone_show_is_ignored_where_all_of_them_are(boxes, is_ignored):
    drawn = tuple(LabelledBox(kind="hole", box_px=box) for box in boxes)
    sample = Sample(id="a", image_path=Path("a.png"), kind="hole", group_id="a", boxes=drawn)
    assert is_defect_ignored(Prediction(sample=sample, score=0.0, anomaly_map=noise_map(0))) is is_ignored
