"""Thresholds of detectors that name: scores and maps are probabilities, and VAL may have no good image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.boxes import Boxes, box_iou, is_box_inspected
from zellige.core.decision import decide, min_area_in_px
from zellige.core.named import FoundBoxes
from zellige.core.named_defects import counted_score
from zellige.core.regions import find_defects
from zellige.core.roi import is_inspected
from zellige.core.types import Calibration, Decision, Prediction, Sample
from zellige.evaluation.matching import match
from zellige.evaluation.predictions import PredictionSet

_MATCH_IOU = float(np.nextafter(0.5, 1.0))
"""The smallest IoU that is larger than a half."""
_MIDDLE = 0.5
"""Where a defect is as likely as none."""
_LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Levels that regions are tried at: unlike boxes they change with the level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxF1:
    """The threshold with the best F1 over labelled boxes: found is what has the kind and an IoU above 0.5."""

    threshold: float
    value: float
    num_boxes: int


def best_box_f1(predictions: PredictionSet) -> BoxF1 | None:
    """Find the threshold with the best F1 over the labelled boxes, the highest of equal ones.

    Samples with a defect and without boxes are left out, and so are boxes that are not inspected. Boxes are
    tried at every score, with the threshold halfway to the next lower one; regions at 0.05, 0.1 and so on to 0.95.

    Returns:
        None where there are no labelled boxes, or where nothing is found at any level.
    """
    num_boxes = 0
    hits: dict[float, int] = {}
    found: dict[float, int] = {}
    for prediction in predictions:
        if prediction.sample.is_defective and not prediction.sample.boxes:
            continue
        truth, kinds = _labelled(prediction)
        num_boxes += len(kinds)
        for level, is_hit in _tried(prediction, truth, kinds):
            found[level] = found.get(level, 0) + 1
            hits[level] = hits.get(level, 0) + is_hit
    if num_boxes == 0 or not any(hits.values()):
        return None
    levels = np.array(sorted(found))
    num_found, num_hit = (np.array([counts[level] for level in levels.tolist()]) for counts in (found, hits))
    if isinstance(predictions[0].named, FoundBoxes):  # all boxes from this score on
        num_found, num_hit = (np.cumsum(counts[::-1])[::-1] for counts in (num_found, num_hit))
    f1 = 2 * num_hit / (num_found + num_boxes)
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    threshold = float(levels[best])
    if isinstance(predictions[0].named, FoundBoxes):
        threshold = (threshold + (float(levels[best - 1]) if best else 0.0)) / 2
    return BoxF1(threshold=threshold, value=float(f1[best]), num_boxes=num_boxes)


def match_boxes(boxes: Boxes, kinds: Sequence[str], truth: Boxes, truth_kinds: Sequence[str]) -> list[bool]:
    """Say of each found box, the best first, whether it hits a labelled one of its kind that no better one hit.

    Example:
        >>> one = np.array([[0.0, 0, 9, 9]])
        >>> match_boxes(np.vstack([one, one]), ["hole", "hole"], one, ["hole"])
        [True, False]
    """
    is_kind = np.array(kinds, object)[:, None] == np.array(truth_kinds, object)[None]
    found = match(box_iou(boxes, truth) * is_kind, _MATCH_IOU)
    return [index >= 0 for index in found.tolist()]


def _tried(prediction: Prediction, truth: Boxes, kinds: Sequence[str]) -> list[tuple[float, bool]]:
    """Each box or region of a sample: its score, or the level that it was found at, and whether it is a hit."""
    named = prediction.named
    if isinstance(named, FoundBoxes):
        order = np.argsort(-named.boxes[:, 4], kind="stable")
        every = named.names
        names = [every[index] for index in order]
        is_hit = match_boxes(named.boxes[order, :4].astype(np.float64), names, truth, kinds)
        return list(zip(named.boxes[order, 4].tolist(), is_hit, strict=True))
    tried = []
    for level in _LEVELS:
        defects = find_defects(prediction.anomaly_map, pixel_threshold=level, kind_map=named)
        boxes = np.array([d.box_px for d in defects], np.float64).reshape(-1, 4)
        tried += [(level, hit) for hit in match_boxes(boxes, [d.kind for d in defects], truth, kinds)]
    return tried


def _labelled(prediction: Prediction) -> tuple[Boxes, list[str]]:
    """The labelled boxes that were to be found."""
    inspected = is_inspected(prediction.anomaly_map)
    kept = [box for box in prediction.sample.boxes if is_box_inspected(box.box_px, inspected)]
    return np.array([box.box_px for box in kept], np.float64).reshape(-1, 4), [box.kind for box in kept]


def named_pixel_threshold(predictions: PredictionSet, from_masks: float, box_f1: BoxF1 | None) -> float:
    """The level above which a box, or a pixel of a region, is a defect.

    Of boxes the one with the best F1; of regions that of the masks (NaN where there are none), then the one with the
    best F1 over boxes; and where nobody drew anything the middle of a probability.
    """
    if not math.isnan(from_masks) and not isinstance(predictions[0].named, FoundBoxes):
        return from_masks
    return _MIDDLE if box_f1 is None else box_f1.threshold


def threshold_without_good(predictions: PredictionSet, box_f1: BoxF1 | None) -> tuple[float, str]:
    """Choose a threshold of the score where VAL has no good image, and say which it is."""
    if box_f1 is not None:
        words = f"has the best F1 ({box_f1.value:.3f}) over the {box_f1.num_boxes} labelled boxes of VAL"
        return box_f1.threshold, words
    median = float(np.median(predictions.scores))
    if median > _MIDDLE:
        return _MIDDLE, f"is {_MIDDLE}, where a defect is as likely as none"
    below = between(math.nextafter(median, -math.inf), predictions.scores, is_upward=False)
    return below, f"is below the median score of the {len(predictions)} images of VAL"


def counted_scores(predictions: PredictionSet, calibration: Calibration) -> NDArray[np.float64]:
    """Scores (N,) that the thresholds are for: of boxes those that may reject, by their kinds and sizes."""
    is_plain = not (calibration.kind_rules or calibration.min_area_px or calibration.min_area_mm2)
    return predictions.scores if is_plain else np.array([_counted(p, calibration) for p in predictions], np.float64)


def _counted(found: Prediction, calibration: Calibration) -> float:
    size = found.sample.pixel_size
    least = min_area_in_px(calibration, size)
    return counted_score(found.score, found.named, calibration, min_area_px=least, pixel_size=size)


def scores_that_can_reject(
    predictions: PredictionSet, scores: NDArray[np.float64], calibration: Calibration
) -> NDArray[np.float64]:
    """The counted scores (N,), -inf for a defective sample whose defects may not reject, whatever the threshold.

    Args:
        scores: of `counted_scores`.
        calibration: with thresholds below every score, so that what it accepts is accepted for its defects.
    """
    scores = scores.copy()
    for index in np.flatnonzero(predictions.is_defective):
        found = predictions[int(index)]
        if isinstance(found.named, FoundBoxes):
            is_excused = scores[index] <= 0 < found.score
        else:
            size = found.sample.pixel_size
            decision, _, _ = decide(found.score, found.anomaly_map, calibration, pixel_size=size, named=found.named)
            is_excused = decision is Decision.ACCEPT
        if is_excused:
            scores[index] = -math.inf
    return scores


def never_rejects(sample: Sample, calibration: Calibration) -> bool:
    """Whether a defective sample shows, by its labels, kinds alone that are never to reject."""
    excused = {rule.kind for rule in calibration.kind_rules if not rule.can_reject}
    return sample.is_defective and ({box.kind for box in sample.boxes} or {sample.kind}) <= excused


def between(score: float, scores: NDArray[np.float64], *, is_upward: bool) -> float:
    """Move a threshold halfway to the next score on one side, which changes the decision on none of them.

    Probabilities saturate: a threshold that is a score itself would be decided by the last bit of another machine.

    Example:
        >>> between(0.0, np.array([0.0, 0.0, 1.0]), is_upward=True)
        0.5
    """
    others = scores[np.isfinite(scores)]
    others = others[others > score] if is_upward else others[others < score]
    if len(others) == 0:
        return score
    return (score + float(others.min() if is_upward else others.max())) / 2
