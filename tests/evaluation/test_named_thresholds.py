"""Thresholds of detectors that name: probabilities that saturate, and VAL without good images."""

from pathlib import Path

import numpy as np
import pytest

from zellige.core.decision import decide
from zellige.core.errors import ConfigError, InputError
from zellige.core.kind_rules import KindRule, Severity
from zellige.core.named import FoundBoxes, KindMap
from zellige.core.types import Decision, LabelledBox, Sample
from zellige.evaluation.calibrate import Target, calibrate, check_calibration
from zellige.evaluation.named_thresholds import best_box_f1
from zellige.evaluation.predictions import PredictionSet, PredictionWriter

KINDS = ("dust", "hole")
SIZE = 60
Box = tuple[float, float, float, float]
Found = tuple[str, Box, float]
WHERE = (10, 10, 20, 20)


def set_of(
    folder: Path, pieces: list[tuple[list[tuple[str, Box]] | str, list[Found]]], form: str = "boxes"
) -> PredictionSet:
    """VAL of pieces: its labelled boxes (or a kind without boxes), and what was found; the score is the best of it."""
    samples, said = [], []
    for index, (truth, found) in enumerate(pieces):
        boxes = [] if isinstance(truth, str) else [LabelledBox(kind=kind, box_px=box) for kind, box in truth]
        kind = truth if isinstance(truth, str) else boxes[0].kind if boxes else "good"
        path = folder / f"{index}.png"
        samples.append(Sample(id=str(index), image_path=path, kind=kind, group_id=str(index), boxes=tuple(boxes)))
        found = sorted(found, key=lambda row: -row[2])
        anomaly_map, numbers = np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.uint8)
        for name, (x0, y0, x1, y1), level in reversed(found):
            anomaly_map[int(y0) : int(y1), int(x0) : int(x1)] = level
            numbers[int(y0) : int(y1), int(x0) : int(x1)] = KINDS.index(name) + 1
        rows = np.array([(*box, level, KINDS.index(name) + 1) for name, box, level in found], np.float32).reshape(-1, 6)
        named = FoundBoxes(boxes=rows, kinds=KINDS) if form == "boxes" else KindMap(numbers=numbers, kinds=KINDS)
        said.append((float(anomaly_map.max()), anomaly_map, named))
    with PredictionWriter(folder / "val", "val", samples, kinds=KINDS) as writer:
        for sample, (score, anomaly_map, named) in zip(samples, said, strict=True):
            writer.write(sample.id, score, anomaly_map, named)
        return writer.close()


def iou(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def f1_at(pieces: list, threshold: float) -> float:
    """By hand: each labelled box is hit by at most one found one, the best of its kind that overlaps by half."""
    num_found = num_hit = num_truth = 0
    for truth, found in pieces:
        free = list(truth)
        num_truth += len(truth)
        for name, box, level in sorted(found, key=lambda row: -row[2]):
            if level <= threshold:
                continue
            num_found += 1
            of_kind = [labelled for labelled in free if labelled[0] == name]
            best = max(of_kind, key=lambda labelled: iou(labelled[1], box), default=None)
            if best is not None and iou(best[1], box) > 0.5:
                num_hit += 1
                free.remove(best)
    return 2 * num_hit / (num_found + num_truth)


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_has_a_better_f1_than_the_chosen_one(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = []
    for number in range(12):
        truth, found = [], []
        for _ in range(0 if number < 4 else rng.integers(1, 4)):
            x, y = rng.integers(0, 40, 2).tolist()
            truth.append((KINDS[rng.integers(2)], (x, y, x + 12, y + 12)))
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.integers(-4, 5, 2).tolist()
                kind = truth[-1][0] if rng.random() < 0.8 else KINDS[rng.integers(2)]
                box = (max(x + dx, 0), max(y + dy, 0), x + dx + 12, y + dy + 12)
                found.append((kind, box, float(np.float32(rng.beta(4, 2)))))
        found.append(("hole", (45, 45, 55, 55), float(np.float32(rng.beta(2, 4)))))
        pieces.append((truth, found))
    best = best_box_f1(set_of(tmp_path, pieces))
    levels = sorted({level for _, found in pieces for _, _, level in found})
    assert best is not None
    assert best.num_boxes == sum(len(truth) for truth, _ in pieces)
    assert best.value == pytest.approx(max(f1_at(pieces, t) for t in [0.0, *levels]))
    assert f1_at(pieces, best.threshold) == pytest.approx(best.value)
    assert best.threshold not in levels


@pytest.mark.parametrize("form", ["boxes", "map"])
def test_without_good_images_the_threshold_is_that_of_the_best_f1(tmp_path: Path, form: str) -> None:
    """Holes of 0.8 in ten images; what lies elsewhere has 0.4. Any threshold between is the best there is."""
    pieces = [([("hole", WHERE)], [("hole", WHERE, 0.8), ("hole", (30, 30, 42, 42), 0.4)])] * 10
    predictions = set_of(tmp_path, pieces, form)
    calibration = calibrate(predictions, Target())
    assert calibration.guarantee.startswith("NOT SHOWN: VAL has no good images")
    assert "the best F1 (1.000) over the 10 labelled boxes of VAL" in calibration.guarantee
    assert 0.4 <= calibration.pixel_threshold == calibration.reject_score == calibration.accept_score < 0.8
    prediction = predictions[0]
    decision, defects, _ = decide(prediction.score, prediction.anomaly_map, calibration, named=prediction.named)
    assert (decision, [defect.box_px for defect in defects]) == (Decision.REJECT, [WHERE])


@pytest.mark.parametrize(("scores", "least", "most"), [((0.6, 0.7, 0.9), 0.5, 0.5), ((0.1, 0.3, 0.9), 0.1, 0.3)])
def test_without_good_images_and_boxes_it_is_one_half_or_below_the_median(
    tmp_path: Path, scores: tuple[float, ...], least: float, most: float
) -> None:
    calibration = calibrate(set_of(tmp_path, [("hole", [("hole", WHERE, score)]) for score in scores]), Target())
    assert calibration.guarantee.startswith("NOT SHOWN: VAL has no good images")
    assert least <= calibration.reject_score <= most
    assert calibration.reject_score not in scores


@pytest.mark.parametrize("form", ["boxes", "map"])
def test_scores_that_saturate_keep_the_guarantees(tmp_path: Path, form: str) -> None:
    """130 good images, most of them 0 and 3 of them 1; np_order(130, 0.05, 0.2) lets 4 lie beyond the limit."""
    good: list = [([], [])] * 127 + [([], [("hole", WHERE, 1.0)])] * 3
    bad: list = [([("hole", WHERE)], [("hole", WHERE, 1.0)])] * 79 + [([("hole", WHERE)], [])]
    predictions = set_of(tmp_path, good + bad, form)
    target = Target(false_reject_rate=0.05, escape_rate=0.05, delta=0.2)
    calibration = calibrate(predictions, target)
    assert 0 < calibration.accept_score == calibration.reject_score < 1
    decisions = [decide(p.score, p.anomaly_map, calibration, named=p.named)[0] for p in predictions]
    assert decisions.count(Decision.REJECT) == 3 + 79
    assert not calibration.guarantee.startswith("NOT SHOWN")


def test_boxes_of_kinds_that_never_reject_do_not_raise_the_threshold(tmp_path: Path) -> None:
    """Every good image shows dust of 0.9; holes have 0.5 to 0.7."""
    good: list = [([], [("dust", WHERE, 0.9)])] * 60
    bad: list = [
        ([("hole", WHERE)], [("hole", WHERE, 0.5 + 0.02 * i), ("dust", (30, 30, 40, 40), 0.95)]) for i in range(10)
    ]
    dusty: list = [([("dust", WHERE)], [("dust", WHERE, 0.9)])] * 5
    predictions = set_of(tmp_path, good + bad + dusty)
    rules = (KindRule(kind="dust", severity=Severity.IGNORE),)
    target = Target(false_reject_rate=0.05, escape_rate=0.3)
    calibration = calibrate(predictions, target, kind_rules=rules)
    assert 0 < calibration.reject_score < 0.5
    assert "from 10 held-out defective images" in calibration.guarantee  # not the dusty ones
    for prediction in predictions:
        decision, _, _ = decide(prediction.score, prediction.anomaly_map, calibration, named=prediction.named)
        has_hole = any(box.kind == "hole" for box in prediction.sample.boxes)
        assert decision is (Decision.REJECT if has_hole else Decision.ACCEPT)
    assert calibrate(predictions, Target()).reject_score >= 0.9


def test_a_defect_that_its_rule_excuses_counts_as_an_escape(tmp_path: Path) -> None:
    """All holes are 10 px long, and the rule wants 11: no threshold can hold the escapes."""
    pieces: list = [([], [])] * 60 + [([("hole", WHERE)], [("hole", WHERE, 0.9)])] * 60
    rules = (KindRule(kind="hole", min_length_px=11),)
    with pytest.raises(InputError, match="60 of 60"):
        calibrate(set_of(tmp_path, pieces), Target(escape_rate=0.05), kind_rules=rules)


def test_what_cannot_be_calibrated_is_one_line(tmp_path: Path) -> None:
    predictions = set_of(tmp_path, [([], [])] * 3 + [([("hole", WHERE)], [("hole", WHERE, 0.9)])] * 9)
    assert calibrate(predictions, Target()).guarantee.startswith("NOT SHOWN: n=3 is too small")
    with pytest.raises(InputError, match="n=3 is too small"):
        calibrate(predictions, Target(), on_too_few="error")
    with pytest.raises(ConfigError, match="expected one of dust, hole, unknown, got kind 'crack'"):
        calibrate(predictions, Target(), min_good=3, kind_rules=(KindRule(kind="crack"),))
    defective = predictions.samples[3:]
    check_calibration(defective, Target(), names_kinds=True)
    with pytest.raises(InputError, match="VAL has no good images"):
        check_calibration(defective, Target(), names_kinds=True, on_too_few="error")
    with pytest.raises(InputError, match="at least 5 good images in VAL, got 0"):
        check_calibration(defective, Target())
