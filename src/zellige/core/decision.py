"""From a score and an anomaly map to a decision: the one rule that evaluation and the station share."""

import math

import numpy as np

from zellige.core.errors import ConfigError
from zellige.core.regions import MAX_DEFECTS, find_defects
from zellige.core.types import AnomalyMap, Calibration, Decision, Defect, PixelSize


def min_area_in_px(calibration: Calibration, pixel_size: PixelSize | None) -> float:
    """Smallest area of a defect that rejects, in pixels; 0 where no minimum is set.

    Raises:
        ConfigError: a rule in mm2 and a frame whose pixel size nobody stated.
    """
    if calibration.min_area_mm2 is not None:
        if pixel_size is None:
            raise ConfigError(
                f"min_area_mm2={calibration.min_area_mm2}: expected a calibrated pixel size, got none; "
                "set data.pixel_size_mm or use min_area_px"
            )
        return calibration.min_area_mm2 / pixel_size.area_mm2
    return calibration.min_area_px or 0.0


def decide(
    score: float,
    anomaly_map: AnomalyMap,
    calibration: Calibration,
    *,
    pixel_size: PixelSize | None = None,
    first_line: int = 0,
) -> tuple[Decision, tuple[Defect, ...], str]:
    """Decide on one frame; return the decision, the defects that stand for it, and the reason in words.

    Args:
        score: higher = worse; NaN or infinite is UNDECIDED, never ACCEPT.
        anomaly_map: (H, W) float32 at the frame's size; a NaN or infinite pixel makes the frame UNDECIDED.

    Raises:
        ConfigError: a rule in mm2 and no pixel size.

    Example:
        >>> import numpy as np
        >>> limits = {"pixel_threshold": 0.5, "reject_score": 1.0, "accept_score": 1.0}
        >>> c = Calibration(**limits, fitted_on="", target="", guarantee="")
        >>> decide(0.4, np.zeros((4, 4), np.float32), c)[0].value
        'ACCEPT'
    """
    min_area_px = min_area_in_px(calibration, pixel_size)
    if not math.isfinite(score):
        return Decision.UNDECIDED, (), f"score is {score}"
    if not np.isfinite(anomaly_map).all():
        return Decision.UNDECIDED, (), "the anomaly map holds values that are not finite"
    if score <= calibration.accept_score:
        return Decision.ACCEPT, (), f"score {score:.4g} <= {calibration.accept_score:.4g}"
    defects = find_defects(
        anomaly_map,
        pixel_threshold=calibration.pixel_threshold,
        min_area_px=min_area_px,
        pixel_size=pixel_size,
        first_line=first_line,
    )
    if score <= calibration.reject_score:
        reason = f"score {score:.4g} in ({calibration.accept_score:.4g}, {calibration.reject_score:.4g}]"
        return Decision.UNDECIDED, defects, reason
    above = f"score {score:.4g} > {calibration.reject_score:.4g}"
    if min_area_px > 0 and not defects:
        return Decision.ACCEPT, (), f"{above}, but no defect reaches the minimum area"
    if len(defects) == MAX_DEFECTS:
        above += f"; only the {MAX_DEFECTS} largest defects are listed"
    return Decision.REJECT, defects, above
