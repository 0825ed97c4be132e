"""Whether the exported graph says what the trained detector says: the gate before a bundle is written."""

from dataclasses import dataclass

from zellige.core.decision import decide
from zellige.core.errors import BundleError
from zellige.core.image_files import read_frame
from zellige.core.progress import progress
from zellige.core.types import Calibration, Color
from zellige.evaluation.predictions import PredictionSet
from zellige.station.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Agreement of torch and ONNX Runtime on the images of one split."""

    num_images: int
    max_relative_score_difference: float
    max_relative_map_difference: float
    """Largest difference of a map's pixel, relative to that map's maximum."""
    num_other_verdicts: int


def verify_parity(
    predictions: PredictionSet, runtime: Runtime, calibration: Calibration, *, color: Color, tolerance: float
) -> Parity:
    """Run the runtime over the images of stored torch predictions and compare.

    Raises:
        BundleError: one verdict differs, or a score differs by more than the tolerance (relative).
    """
    worst_score = worst_map = 0.0
    others: list[str] = []
    with progress("parity", len(predictions)) as advance:
        for prediction in predictions:
            sample = prediction.sample
            frame = read_frame(sample.image_path, color=color, pixel_size=sample.pixel_size)
            score, anomaly_map = runtime.run(frame)
            ours = decide(prediction.score, prediction.anomaly_map, calibration, pixel_size=sample.pixel_size)
            theirs = decide(score, anomaly_map, calibration, pixel_size=sample.pixel_size)
            if ours[0] is not theirs[0]:
                others.append(sample.id)
            worst_score = max(worst_score, abs(score - prediction.score) / max(abs(prediction.score), 1e-9))
            peak = max(float(abs(prediction.anomaly_map).max()), 1e-9)
            worst_map = max(worst_map, float(abs(anomaly_map - prediction.anomaly_map).max()) / peak)
            advance()
    if others:
        raise BundleError(
            f"export: torch and ONNX Runtime give other verdicts on {len(others)} of {len(predictions)} images, "
            f"first {others[0]}; expected the same on all"
        )
    if worst_score > tolerance:
        raise BundleError(
            f"export: torch and ONNX Runtime scores differ by {worst_score:.2g} (relative), "
            f"expected at most {tolerance:g}"
        )
    return Parity(
        num_images=len(predictions),
        max_relative_score_difference=worst_score,
        max_relative_map_difference=worst_map,
        num_other_verdicts=0,
    )
