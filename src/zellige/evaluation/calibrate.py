"""Choose the operating point on VAL predictions, with a guarantee or with a plain "NOT SHOWN".

The guarantee is about independent images of the process that VAL was drawn from. It ends when that process drifts.
"""

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.kind_rules import KindRule, check_kind_rules, check_units
from zellige.core.named import FoundBoxes
from zellige.core.roi import is_inspected
from zellige.core.types import Calibration, Sample
from zellige.evaluation.intervals import np_min_samples
from zellige.evaluation.limits import NOT_SHOWN, Limit, Target, escape_limit, refuse_or_warn, upper_limit
from zellige.evaluation.named_thresholds import (
    BoxF1,
    best_box_f1,
    between,
    counted_scores,
    named_pixel_threshold,
    never_rejects,
    scores_that_can_reject,
    threshold_without_good,
)
from zellige.evaluation.pixels import PixelHistogram, is_defect_ignored, read_defect_mask
from zellige.evaluation.predictions import PredictionSet

__all__ = ["NOT_SHOWN", "PRESUMES", "Target", "calibrate", "check_calibration"]

logger = logging.getLogger(__name__)

PRESUMES = "presumes independent images"
"""How the guarantee's last part begins when images of VAL belong together, so that they count for fewer."""
_LOWEST = -sys.float_info.max


def calibrate(
    predictions: PredictionSet,
    target: Target,
    *,
    min_area_mm2: float | None = None,
    min_area_px: float | None = None,
    pixel_false_alarm: float = 0.001,
    on_too_few: Literal["widen", "error"] = "widen",
    min_good: int = 5,
    kind_rules: tuple[KindRule, ...] = (),
) -> Calibration:
    """Choose the thresholds on VAL predictions.

    False rejects are capped by an order statistic of the good scores, escapes by one of the defective scores
    (`intervals.np_order`). With both targets: where the escape limit lies below the false-reject limit, scores
    between them are UNDECIDED; otherwise the classes are far enough apart for one threshold, and it is the
    false-reject limit, the lower of the two, because escapes cost more. With an escape target alone there is one
    threshold, the escape limit. An escape target without defective VAL samples is NOT SHOWN and changes nothing.

    The pixel threshold has the highest pixel F1 where VAL has masks; otherwise, and where a minimum area and an
    escape target need it to be independent of the defects, a fraction `pixel_false_alarm` of good pixels exceeds it.
    A defective sample whose regions are all below the minimum area counts as an escape, whatever its score.
    One whose drawn defect lies in declared ignore regions alone says nothing about escapes and is left out.

    Where the detector names kinds, thresholds lie halfway between neighboring scores of VAL, and VAL may have no good
    image: then the false-reject rate is NOT SHOWN, and the threshold is that of `threshold_without_good`. Kinds that
    never reject count neither as scores of boxes nor as defects to find.

    Args:
        predictions: of split "val".
        min_area_mm2: smallest defect that rejects, mm2; every sample must have a pixel size.
        min_area_px: the same in pixels; at most one of the two.
        pixel_false_alarm: in (0, 1); for models without kinds, where VAL has no masks.
        on_too_few: "widen" takes the outermost score and says NOT SHOWN, "error" refuses.
        min_good: fewer good samples than this (or fewer defective ones under an escape target) are always refused.
        kind_rules: what each kind means for the decision; see `core.kind_rules`.

    Raises:
        InputError: not VAL, too few samples, or a minimum area that by itself lets too many defects escape.
        ConfigError: a rule in mm2 on uncalibrated samples, two minimum areas, a number out of range, a rule for a kind
            that the detector does not name.
    """
    if predictions.split != "val":
        raise InputError(f"calibrate {predictions.folder}: expected predictions of split val, got {predictions.split}")
    check_calibration(
        predictions.samples,
        target,
        min_area_mm2=min_area_mm2,
        min_area_px=min_area_px,
        pixel_false_alarm=pixel_false_alarm,
        on_too_few=on_too_few,
        min_good=min_good,
        kind_rules=kind_rules,
        names_kinds=bool(predictions.kinds),
    )
    check_kind_rules(kind_rules, predictions.kinds)
    caps_escapes = _caps_escapes(predictions.samples, target)
    # Under a cap on escapes the regions that may reject must not depend on the defects that it counts.
    # A box has its size whatever the threshold; the size of a region depends on it.
    has_regions = not (predictions.kinds and isinstance(predictions[0].named, FoundBoxes))
    is_blind = has_regions and caps_escapes and bool(min_area_mm2 or min_area_px or kind_rules)
    box_f1 = best_box_f1(predictions) if predictions.kinds else None
    pixel_threshold = _pixel_threshold(predictions, pixel_false_alarm, None if is_blind else box_f1, is_blind=is_blind)
    draft = Calibration(
        pixel_threshold=pixel_threshold,
        reject_score=_LOWEST,
        accept_score=_LOWEST,
        min_area_mm2=min_area_mm2,
        min_area_px=min_area_px,
        fitted_on=predictions.fingerprint,
        target=str(target),
        guarantee="",
        kind_rules=kind_rules,
    )
    limits = _limits(predictions, draft, target, box_f1, caps_escapes=caps_escapes, min_good=min_good)
    refuse_or_warn(limits, on_too_few)
    reject_score = limits[0].score
    if predictions.kinds and not is_blind:  # so that what rejects shows a defect
        pixel_threshold = min(pixel_threshold, max(reject_score, 0.0))
    return replace(
        draft,
        pixel_threshold=pixel_threshold,
        reject_score=reject_score,
        accept_score=min(limit.score for limit in limits),
        guarantee=_guarantee(limits, target, predictions, caps_escapes=caps_escapes),
    )


def _limits(
    predictions: PredictionSet,
    draft: Calibration,
    target: Target,
    box_f1: BoxF1 | None,
    *,
    caps_escapes: bool,
    min_good: int,
) -> list[Limit]:
    """The limits that the target asks for, that of the false rejects first; `draft` has all but the thresholds."""
    scores = counted_scores(predictions, draft)
    limits: list[Limit] = []
    if target.false_reject_rate is not None:
        limits.append(_false_reject_limit(predictions, scores, target, box_f1))
    if target.escape_rate is not None and caps_escapes:
        has_rules = draft.min_area_mm2 or draft.min_area_px or draft.kind_rules
        can_reject = scores_that_can_reject(predictions, scores, draft) if has_rules else scores
        to_find = _defects_to_find(predictions, draft, min_good)
        limit = escape_limit(can_reject[to_find], target.escape_rate, target.delta)
        limits.append(_moved(limit, scores, is_upward=False) if predictions.kinds else limit)
    return limits


def _false_reject_limit(
    predictions: PredictionSet, scores: NDArray[np.float64], target: Target, box_f1: BoxF1 | None
) -> Limit:
    """Cap the false rejects by the good scores; without any, take what is sensible and promise nothing."""
    assert target.false_reject_rate is not None
    good = scores[~predictions.is_defective]
    if len(good) == 0:
        score, words = threshold_without_good(predictions, box_f1)
        claim = f"{NOT_SHOWN}: VAL has no good images for false_reject_rate <= {target.false_reject_rate:g}"
        return Limit(score=score, is_shown=False, guarantee=f"{claim} (the threshold {score:.4g} {words})")
    limit = upper_limit(np.sort(good), target.false_reject_rate, target.delta, "false_reject_rate", "good")
    return _moved(limit, scores, is_upward=True) if predictions.kinds else limit


def _moved(limit: Limit, scores: NDArray[np.float64], *, is_upward: bool) -> Limit:
    """Move a limit away from the scores: that of the good ones is one of them, that of escapes just below one."""
    at = limit.score if is_upward else math.nextafter(limit.score, math.inf)
    moved = between(at, scores, is_upward=is_upward)
    return replace(limit, score=limit.score if moved == at else moved)


def _guarantee(limits: list[Limit], target: Target, predictions: PredictionSet, *, caps_escapes: bool) -> str:
    """Join what the limits support, what is NOT SHOWN first, and what it presumes."""
    shown = [limit.guarantee for limit in limits if limit.is_shown]
    not_shown = [limit.guarantee for limit in limits if not limit.is_shown]
    if target.escape_rate is not None and not caps_escapes:
        needed = np_min_samples(target.escape_rate, target.delta)
        claim = f"escape_rate <= {target.escape_rate:g}"
        not_shown.append(f"{NOT_SHOWN}: {claim}: VAL has no defective images, {needed} needed")
        logger.warning("%s", not_shown[-1])
    presumed = []
    num_groups = len({sample.group_id for sample in predictions.samples})
    if num_groups < len(predictions):
        presumed = [f"{PRESUMES}, VAL has {len(predictions)} from {num_groups} groups"]
    return "; ".join(not_shown + shown + presumed)


def check_calibration(
    val: Sequence[Sample],
    target: Target,
    *,
    min_area_mm2: float | None = None,
    min_area_px: float | None = None,
    pixel_false_alarm: float = 0.001,
    on_too_few: str = "widen",
    min_good: int = 5,
    kind_rules: tuple[KindRule, ...] = (),
    names_kinds: bool = False,
) -> None:
    """Refuse what `calibrate` would refuse, as far as the samples and the settings say it: before a long fit.

    Raises:
        InputError: too few samples in VAL.
        ConfigError: a rule in mm2 on uncalibrated samples, two minimum areas, a number out of range.
    """
    if on_too_few not in ("widen", "error"):
        raise ConfigError(f"calibration on_too_few: expected widen or error, got {on_too_few!r}")
    if not 0 < pixel_false_alarm < 1:
        raise ConfigError(f"calibration pixel_false_alarm: expected a number in (0, 1), got {pixel_false_alarm!r}")
    _check_areas(val, min_area_mm2, min_area_px)
    check_units(kind_rules, is_calibrated=all(sample.pixel_size is not None for sample in val))
    num_defective = sum(sample.is_defective for sample in val)
    limits = []
    if target.false_reject_rate is not None:
        num_good = len(val) - num_defective
        if num_good or not (names_kinds and num_defective):
            # Where a set without good images is accepted, one with a few is too: its limit is wide, and says so.
            _check_enough(num_good, 1 if names_kinds and num_defective else min_good, "good")
            zeros = np.zeros(num_good)
            limits.append(upper_limit(zeros, target.false_reject_rate, target.delta, "false_reject_rate", "good"))
        elif on_too_few == "error":
            raise InputError(f"calibrate: {NOT_SHOWN}: VAL has no good images")
    if target.escape_rate is not None and _caps_escapes(val, target):
        _check_enough(num_defective, min_good, "defective")
        limits.append(escape_limit(np.zeros(num_defective), target.escape_rate, target.delta))
    if on_too_few == "error":
        refuse_or_warn(limits, on_too_few)


def _caps_escapes(val: Sequence[Sample], target: Target) -> bool:
    has_defective = any(sample.is_defective for sample in val)
    return target.escape_rate is not None and (has_defective or target.false_reject_rate is None)


def _defects_to_find(predictions: PredictionSet, calibration: Calibration, min_good: int) -> NDArray[np.bool_]:
    """(N,) bool: the defective samples, but for those whose defect is ignored by its place or never rejects."""
    to_find = predictions.is_defective
    excused = [index for index, sample in enumerate(predictions.samples) if never_rejects(sample, calibration)]
    if excused:
        logger.warning("%d defective VAL images show kinds only that never reject and are left out", len(excused))
        to_find[excused] = False
        _check_enough(int(to_find.sum()), min_good, "defective (of kinds that reject)")
    ignored = [index for index in np.flatnonzero(to_find) if is_defect_ignored(predictions[int(index)])]
    if ignored:
        logger.warning("%d defective VAL images show defects in ignored regions only and are left out", len(ignored))
        to_find[ignored] = False
        _check_enough(int(to_find.sum()), min_good, "defective (outside ignored regions)")
    return to_find


def _check_areas(samples: Sequence[Sample], min_area_mm2: float | None, min_area_px: float | None) -> None:
    if min_area_mm2 is not None and min_area_px is not None:
        raise ConfigError("calibration: min_area_mm2 and min_area_px are both set, expected one")
    for name, value in (("min_area_mm2", min_area_mm2), ("min_area_px", min_area_px)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"calibration {name}: expected a number >= 0, got {value}")
    uncalibrated = [sample.id for sample in samples if sample.pixel_size is None]
    if min_area_mm2 is not None and uncalibrated:
        raise ConfigError(
            f"min_area_mm2={min_area_mm2}: expected a pixel size for every sample, got {len(uncalibrated)} without, "
            f"first {uncalibrated[0]}; set data.pixel_size_mm or use min_area_px"
        )


def _check_enough(num: int, least: int, what: str) -> None:
    if num < max(least, 1):
        setting = "val" if what == "good" else "val_defects"
        raise InputError(
            f"calibrate: expected at least {max(least, 1)} {what} images in VAL, got {num}: the threshold is chosen on "
            f"images that were not trained on; raise data.fractions.{setting} or declare more of them for val"
        )


def _pixel_threshold(
    predictions: PredictionSet, pixel_false_alarm: float, box_f1: BoxF1 | None, *, is_blind: bool
) -> float:
    """The level of regions and boxes; `is_blind` to the defects where it must not depend on them."""
    histogram = PixelHistogram()
    for prediction in predictions:
        if prediction.sample.is_defective and is_blind:
            continue
        mask = read_defect_mask(prediction)
        if mask is not None:
            mask &= is_inspected(prediction.anomaly_map)
            if not mask.any():
                continue  # taken for background: no level of the map can tell it
        histogram.add_prediction(prediction, mask)
    threshold = histogram.best_f1_threshold()
    if predictions.kinds:
        return named_pixel_threshold(predictions, threshold, box_f1)
    if math.isnan(threshold):
        threshold = histogram.good_quantile(1 - pixel_false_alarm)
    if math.isnan(threshold):
        raise InputError("calibrate: expected good images or defect masks in VAL for the pixel threshold, got neither")
    return threshold
