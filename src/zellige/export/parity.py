"""Whether the exported graph says what the trained detector says: the gate before a bundle is written."""

from dataclasses import dataclass

import numpy as np

from zellige.core.decision import decide
from zellige.core.errors import BundleError
from zellige.core.image_files import read_sample
from zellige.core.progress import progress
from zellige.core.roi import is_inspected
from zellige.core.types import Calibration, Color
from zellige.evaluation.predictions import PredictionSet
from zellige.station.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Agreement of torch and ONNX Runtime on the images of one split: the same verdict on every one."""

    num_images: int
    max_relative_score_difference: float
    max_relative_map_difference: float
    """Largest difference of a map's pixel, relative to that map's maximum."""


def verify_parity(
    predictions: PredictionSet, runtime: Runtime, calibration: Calibration, *, color: Color, tolerance: float
) -> Parity:
    """Run the runtime over the images of stored torch predictions and compare.

    Raises:
        BundleError: one verdict differs, or a score (relative) or a map (relative to its peak) differs by more than
            the tolerance.
    """
    score_differences, map_differences = [0.0], [0.0]
    others: list[str] = []
    with progress("parity", len(predictions)) as advance:
        for prediction in predictions:
            sample = prediction.sample
            frame = read_sample(sample, color=color)
            score, anomaly_map = runtime.run(frame)
            ours = decide(prediction.score, prediction.anomaly_map, calibration, pixel_size=sample.pixel_size)
            theirs = decide(score, anomaly_map, calibration, pixel_size=sample.pixel_size)
            if ours[0] is not theirs[0]:
                others.append(sample.id)
            score_differences.append(abs(score - prediction.score) / max(abs(prediction.score), 1e-9))
            peak = max(float(abs(prediction.anomaly_map[is_inspected(prediction.anomaly_map)]).max()), 1e-9)
            map_differences.append(float(abs(anomaly_map - prediction.anomaly_map).max()) / peak)
            advance()
    if others:
        raise BundleError(
            f"export: torch and ONNX Runtime give other verdicts on {len(others)} of {len(predictions)} images, "
            f"first {others[0]}; expected the same on all"
        )
    # Not max(): it passes over a NaN that is not the first.
    worst_score, worst_map = float(np.max(score_differences)), float(np.max(map_differences))
    for what, worst in (("scores", worst_score), ("maps", worst_map)):
        if not worst <= tolerance:
            raise BundleError(
                f"export: torch and ONNX Runtime {what} differ by {worst:.2g} (relative), "
                f"expected at most {tolerance:g}"
            )
    return Parity(
        num_images=len(predictions),
        max_relative_score_difference=worst_score,
        max_relative_map_difference=worst_map,
    )
