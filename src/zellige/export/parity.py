"""Whether the exported graph says what the trained detector says: the gate before a bundle is written."""

from dataclasses import dataclass, field

import numpy as np

from zellige.core.decision import decide
from zellige.core.errors import BundleError
from zellige.core.image_files import read_frame
from zellige.core.progress import progress
from zellige.core.roi import is_inspected
from zellige.core.types import Calibration, Color, Prediction
from zellige.evaluation.predictions import PredictionSet
from zellige.export.named_parity import defects_iou
from zellige.station.runtime import Runtime

_LEAST_IOU = 0.99
_LEAST_PROBABILITY = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Agreement of torch and ONNX Runtime on the images of one split: the same verdict on every one."""

    num_images: int
    max_relative_score_difference: float
    max_relative_map_difference: float
    """Largest difference of a map's pixel, relative to that map's maximum."""
    min_defect_iou: float | None = None
    """Lowest IoU of a defect with itself, of its kind; None where the detector names none."""


@dataclass(slots=True)
class _Differences:
    """What was measured so far, image by image."""

    scores: list[float] = field(default_factory=lambda: [0.0])
    maps: list[float] = field(default_factory=lambda: [0.0])
    ious: list[float] = field(default_factory=lambda: [1.0])
    other_verdicts: list[str] = field(default_factory=list)
    other_defects: list[str] = field(default_factory=list)


def verify_parity(
    predictions: PredictionSet, runtime: Runtime, calibration: Calibration, *, color: Color, tolerance: float
) -> Parity:
    """Run the runtime over the images of stored torch predictions and compare.

    Raises:
        BundleError: one verdict differs, or a score (relative) or a map (relative to its peak) differs by more than
            the tolerance, or a named defect has another kind or an IoU of at most 0.99.
    """
    found = _Differences()
    with progress("parity", len(predictions)) as advance:
        for prediction in predictions:
            _compare(prediction, runtime, calibration, color, tolerance, found)
            advance()
    _refuse_others(found.other_verdicts, len(predictions), "verdicts", "the same on all")
    # Not max(): it passes over a NaN that is not the first.
    worst_score, worst_map = float(np.max(found.scores)), float(np.max(found.maps))
    for what, worst in (("scores", worst_score), ("maps", worst_map)):
        if not worst <= tolerance:
            raise BundleError(
                f"export: torch and ONNX Runtime {what} differ by {worst:.2g} (relative), "
                f"expected at most {tolerance:g}"
            )
    worst_iou = float(np.min(found.ious))
    expected = f"the same kinds and an IoU above {_LEAST_IOU} on all (lowest {worst_iou:.4f})"
    _refuse_others(found.other_defects, len(predictions), "defects", expected)
    return Parity(
        num_images=len(predictions),
        max_relative_score_difference=worst_score,
        max_relative_map_difference=worst_map,
        min_defect_iou=worst_iou if predictions.kinds else None,
    )


def _compare(
    prediction: Prediction,
    runtime: Runtime,
    calibration: Calibration,
    color: Color,
    tolerance: float,
    found: _Differences,
) -> None:
    """Compare one image."""
    sample, anomaly_map = prediction.sample, prediction.anomaly_map
    frame = read_frame(sample.image_path, color=color, pixel_size=sample.pixel_size)
    score, their_map, named = runtime.run(frame)
    size = sample.pixel_size
    ours = decide(prediction.score, anomaly_map, calibration, pixel_size=size, named=prediction.named)
    theirs = decide(score, their_map, calibration, pixel_size=size, named=named)
    if ours[0] is not theirs[0]:
        found.other_verdicts.append(sample.id)
    # Probabilities may be as small as they like: a hundredth of one is the least that differences are related to.
    least = 1e-9 if prediction.named is None else _LEAST_PROBABILITY
    found.scores.append(abs(score - prediction.score) / max(abs(prediction.score), least))
    peak = max(float(abs(anomaly_map[is_inspected(anomaly_map)]).max()), least)
    found.maps.append(float(abs(their_map - anomaly_map).max()) / peak)
    if prediction.named is not None and named is not None:
        threshold, slack = calibration.pixel_threshold, tolerance * peak
        iou = defects_iou(prediction.named, anomaly_map, named, their_map, threshold=threshold, slack=slack)
        found.ious.append(iou)
        if not iou > _LEAST_IOU:
            found.other_defects.append(sample.id)


def _refuse_others(ids: list[str], num_images: int, what: str, expected: str) -> None:
    if ids:
        raise BundleError(
            f"export: torch and ONNX Runtime give other {what} on {len(ids)} of {num_images} images, "
            f"first {ids[0]}; expected {expected}"
        )
