"""From a score and an anomaly map to a decision: the one rule that evaluation and the station share."""

import math

from zellige.core.errors import ConfigError
from zellige.core.kind_rules import check_units
from zellige.core.named import FoundBoxes, Named
from zellige.core.named_defects import SortedDefects, counted_score, has_finite_content, sort_defects
from zellige.core.regions import MAX_DEFECTS
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
    named: Named | None = None,
) -> tuple[Decision, tuple[Defect, ...], str]:
    """Decide on one frame; return the decision, the defects that stand for it, and the reason in words.

    Args:
        score: higher = worse; NaN or infinite is UNDECIDED, never ACCEPT.
        anomaly_map: (H, W) float32 at the frame's size; a NaN or infinite pixel makes the frame UNDECIDED.
        named: what a detector that names says beside. A map of kinds names the regions of the anomaly map; boxes are
            the defects where their score is above the pixel threshold. The calibration's rules of kinds then say what
            each defect does; they can turn a REJECT into an ACCEPT, and a critical kind bars the minimum area from it.

    Raises:
        ConfigError: a rule in mm or mm2 and no pixel size.

    Example:
        >>> import numpy as np
        >>> limits = {"pixel_threshold": 0.5, "reject_score": 1.0, "accept_score": 1.0}
        >>> c = Calibration(**limits, fitted_on="", target="", guarantee="")
        >>> decide(0.4, np.zeros((4, 4), np.float32), c)[0].value
        'ACCEPT'
    """
    min_area_px = min_area_in_px(calibration, pixel_size)
    check_units(calibration.kind_rules, is_calibrated=pixel_size is not None)
    if not math.isfinite(score):
        return Decision.UNDECIDED, (), f"score is {score}"
    if not has_finite_content(anomaly_map, named):
        what = "the anomaly map holds values that are not finite"
        return Decision.UNDECIDED, (), what if named is None else f"{what}, or the boxes do"
    if score <= calibration.accept_score:
        return Decision.ACCEPT, (), f"score {score:.4g} <= {calibration.accept_score:.4g}"
    found = sort_defects(
        anomaly_map,
        calibration,
        min_area_px=min_area_px,
        pixel_size=pixel_size,
        first_line=first_line,
        named=named,
    )
    score = counted_score(score, named, calibration, min_area_px=min_area_px, pixel_size=pixel_size)
    return _decide(score, found, calibration, min_area_px, has_boxes=isinstance(named, FoundBoxes))


def _decide(
    score: float, found: SortedDefects, calibration: Calibration, min_area_px: float, *, has_boxes: bool
) -> tuple[Decision, tuple[Defect, ...], str]:
    """Decide on a frame whose score is above the accept score, or was before the boxes that may not reject.

    With boxes the score is that of one that may reject; else a score above the threshold needs a region that may.
    """
    excused = found.excused_in_words()
    if score <= calibration.accept_score:
        without = f"without {excused}" if excused else "without what may not reject"
        return Decision.ACCEPT, found.noted, f"score {score:.4g} <= {calibration.accept_score:.4g} {without}"
    if score <= calibration.reject_score:
        reason = f"score {score:.4g} in ({calibration.accept_score:.4g}, {calibration.reject_score:.4g}]"
        return Decision.UNDECIDED, found.listed, reason
    above = f"score {score:.4g} > {calibration.reject_score:.4g}"
    has_none = not found.rejecting and not has_boxes
    if has_none and calibration.kind_rules and found.is_cut:
        return (
            Decision.UNDECIDED,
            found.listed,
            f"{above}; more than {MAX_DEFECTS} regions, none of the largest rejects",
        )
    if has_none and excused:
        return Decision.ACCEPT, found.noted, f"{above}, but no defect rejects: {excused}"
    if has_none and min_area_px > 0:
        return Decision.ACCEPT, (), f"{above}, but no defect reaches the minimum area"
    if found.is_cut:
        above += f"; only the {MAX_DEFECTS} largest defects are listed"
    return Decision.REJECT, found.listed, above
