from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.core.types import Calibration, Decision, Sample
from zellige.evaluation.pictures import typical_hits, undecided, worst_escapes, worst_false_rejects, write_pictures
from zellige.evaluation.predictions import PredictionSet, PredictionWriter
from zellige.evaluation.report import SampleResult, evaluate

NAMES = ["scores", "roc_pr", "escapes", "false_rejects", "hits"]


def calibration(accept=1.0, reject=1.0):
    return Calibration(
        pixel_threshold=0.5, reject_score=reject, accept_score=accept, fitted_on="", target="t", guarantee="g"
    )


def result(number, kind, score, decision):
    return SampleResult(
        id=str(number), kind=kind, group_id="g", score=score, decision=Decision(decision), reason="", size_class=""
    )


def predict(folder: Path, pieces, size=(40, 60)) -> PredictionSet:
    """Predictions on real image files; each piece is (kind, score, has a mask)."""
    samples = []
    for index, (kind, _, has_mask) in enumerate(pieces):
        image_path, mask_path = folder / f"bild ü{index}.png", folder / f"{index}_mask.png"
        pixels = np.random.default_rng(index).integers(0, 255, (*size, 3)).astype(np.uint8)
        image_path.write_bytes(cv2.imencode(".png", pixels if index % 2 else pixels[..., 0])[1].tobytes())
        mask = np.zeros(size, np.uint8)
        mask[size[0] // 2, 5:15] = 255
        cv2.imwrite(str(mask_path), mask)
        sample = Sample(
            id=f"prüfung/{'x' * 90}/{index} $a_b$.png",
            image_path=image_path,
            kind=kind,
            group_id=str(index),
            mask_path=mask_path if has_mask else None,
        )
        samples.append(sample)
    with PredictionWriter(folder / "predictions", "test", samples) as writer:
        for sample, (_, score, _) in zip(samples, pieces, strict=True):
            anomaly_map = np.full(size, 0.1, np.float32)
            anomaly_map[size[0] // 2, 5:15] = score / 2
            writer.write(sample.id, score, anomaly_map)
        return writer.close()


def sizes(paths):
    return {path.stem: cv2.imread(str(path)).shape[:2] for path in paths}


def test_sheets_choose_the_cases_that_matter():
    rows = [
        result(0, "good", 0.1, "ACCEPT"),
        result(1, "hole", 0.5, "ACCEPT"),
        result(2, "hole", 0.2, "ACCEPT"),
        result(3, "good", 2.0, "REJECT"),
        result(4, "good", 3.0, "REJECT"),
        result(5, "hole", 9.0, "REJECT"),
        result(6, "hole", 5.0, "REJECT"),
        result(7, "hole", 4.0, "REJECT"),
        result(8, "crack", 2.0, "REJECT"),
        result(9, "crack", 1.0, "UNDECIDED"),
        result(10, "good", 1.2, "UNDECIDED"),
    ]
    assert worst_escapes(rows) == [2, 1]
    assert worst_false_rejects(rows) == [4, 3]
    assert typical_hits(rows) == [8, 6, 7, 5]
    assert undecided(rows) == [10, 9]
    assert typical_hits([]) == worst_escapes([]) == []


def test_all_pictures_are_written_1200_px_wide(tmp_path):
    pieces = [
        ("good", 0.2, False),
        ("good", 2.0, False),
        ("hole", 0.3, True),
        ("hole", 3.0, True),
        ("crack", 4.0, False),
    ]
    predictions = predict(tmp_path, pieces)
    paths = write_pictures(predictions, evaluate(predictions, calibration()), tmp_path)
    assert [path.stem for path in paths] == NAMES
    assert {width for _, width in sizes(paths).values()} == {1200}


def test_band_adds_a_sheet_of_undecided_pieces(tmp_path):
    predictions = predict(tmp_path, [("good", 1.5, False), ("hole", 3.0, True)])
    report = evaluate(predictions, calibration(accept=1.0, reject=2.0))
    assert [path.stem for path in write_pictures(predictions, report, tmp_path)] == [*NAMES, "undecided"]


def test_sheet_without_cases_is_small_and_one_class_is_enough(tmp_path):
    predictions = predict(tmp_path, [("good", 0.5, False)])
    paths = write_pictures(predictions, evaluate(predictions, calibration()), tmp_path)
    heights = {name: height for name, (height, _) in sizes(paths).items()}
    assert heights["escapes"] == heights["false_rejects"] == heights["hits"] < 200


def test_number_of_cases_is_bounded(tmp_path):
    predictions = predict(tmp_path, [("hole", 3.0 + i, True) for i in range(9)])
    report = evaluate(predictions, calibration())
    few = sizes(write_pictures(predictions, report, tmp_path, max_cases=2))["hits"][0]
    many = sizes(write_pictures(predictions, report, tmp_path, max_cases=8))["hits"][0]
    header = sizes(write_pictures(predictions, report, tmp_path, max_cases=0))["hits"][0]
    assert many - few == pytest.approx(3 * (few - header), abs=60)


@pytest.mark.parametrize("size", [(3000, 90), (90, 3000), (1500, 1700), (8, 8)])
def test_any_image_shape_fits_on_a_sheet(tmp_path, size):
    predictions = predict(tmp_path, [("hole", 3.0, size[1] > 20)], size)
    height, width = sizes(write_pictures(predictions, evaluate(predictions, calibration()), tmp_path))["hits"]
    assert width == 1200
    assert height < 900


def test_equal_reports_give_equal_files(tmp_path):
    predictions = predict(tmp_path, [("good", 0.2, False), ("hole", 3.0, True)])
    report = evaluate(predictions, calibration())
    first = [path.read_bytes() for path in write_pictures(predictions, report, tmp_path)]
    assert first == [path.read_bytes() for path in write_pictures(predictions, report, tmp_path)]


def test_image_of_another_size_and_foreign_predictions_are_refused(tmp_path):
    predictions = predict(tmp_path, [("hole", 3.0, False)])
    report = evaluate(predictions, calibration())
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((9, 9), np.uint8))
    predictions.samples[0].image_path.write_bytes((tmp_path / "other.png").read_bytes())
    with pytest.raises(InputError, match="expected its map's size 40 x 60 px, got 9 x 9"):
        write_pictures(predictions, report, tmp_path)
    (tmp_path / "b").mkdir()
    foreign = predict(tmp_path / "b", [("hole", 3.5, False)])
    with pytest.raises(InputError, match="got others"):
        write_pictures(foreign, report, tmp_path)
