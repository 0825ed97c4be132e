"""Choose the operating point on VAL predictions, with a guarantee or with a plain "NOT SHOWN".

The guarantee is about independent images of the process that VAL was drawn from. It ends when that process drifts.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.regions import find_defects
from zellige.core.roi import is_inspected
from zellige.core.types import Calibration, Sample
from zellige.evaluation.intervals import np_min_samples, np_order, upper_bound
from zellige.evaluation.pixels import PixelHistogram, is_defect_ignored, read_defect_mask
from zellige.evaluation.predictions import PredictionSet

logger = logging.getLogger(__name__)

NOT_SHOWN = "NOT SHOWN"
"""How the guarantee begins when VAL is too small for what was asked."""
PRESUMES = "presumes independent images"
"""How the guarantee's last part begins when images of VAL belong together, so that they count for fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the operating point must hold, each with probability 1 - delta; at least one of the two rates.

    Example:
        >>> print(Target(escape_rate=0.01))
        false_reject_rate <= 0.05 and escape_rate <= 0.01, each with probability 0.95
    """

    false_reject_rate: float | None = 0.05
    escape_rate: float | None = None
    delta: float = 0.05

    def __post_init__(self) -> None:
        if self.false_reject_rate is None and self.escape_rate is None:
            raise ConfigError("calibration target: expected false_reject_rate, escape_rate or both, got neither")
        for name in ("false_reject_rate", "escape_rate", "delta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"calibration target {name}: expected a number in (0, 1), got {value!r}")

    def __str__(self) -> str:
        names = ("false_reject_rate", "escape_rate")
        parts = [f"{name} <= {getattr(self, name):g}" for name in names if getattr(self, name) is not None]
        each = ", each" if len(parts) == 2 else ""
        return f"{' and '.join(parts)}{each} with probability {1 - self.delta:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """A threshold for one class, and what it supports in words."""

    score: float
    is_shown: bool
    guarantee: str


def calibrate(
    predictions: PredictionSet,
    target: Target,
    *,
    min_area_mm2: float | None = None,
    min_area_px: float | None = None,
    pixel_false_alarm: float = 0.001,
    on_too_few: Literal["widen", "error"] = "widen",
    min_good: int = 5,
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

    Args:
        predictions: of split "val".
        min_area_mm2: smallest defect that rejects, mm2; every sample must have a pixel size.
        min_area_px: the same in pixels; at most one of the two.
        pixel_false_alarm: in (0, 1).
        on_too_few: "widen" takes the outermost score and says NOT SHOWN, "error" refuses.
        min_good: fewer good samples than this (or fewer defective ones under an escape target) are always refused.

    Raises:
        InputError: not VAL, too few samples, or a minimum area that by itself lets too many defects escape.
        ConfigError: a rule in mm2 on uncalibrated samples, two minimum areas, a number out of range.
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
    )
    caps_escapes = _caps_escapes(predictions.samples, target)
    has_min_area = bool(min_area_mm2 or min_area_px)
    pixel_threshold = _pixel_threshold(predictions, pixel_false_alarm, use_masks=not (caps_escapes and has_min_area))

    limits: list[_Limit] = []
    if target.false_reject_rate is not None:
        scores = predictions.scores[~predictions.is_defective]
        limits.append(_limit(np.sort(scores), target.false_reject_rate, target.delta, "false_reject_rate", "good"))
    if target.escape_rate is not None and caps_escapes:
        scores = predictions.scores
        if has_min_area:
            scores = _scores_that_can_reject(predictions, pixel_threshold, min_area_mm2, min_area_px)
        to_find = _defects_to_find(predictions, min_good)
        limits.append(_escape_limit(scores[to_find], target.escape_rate, target.delta))
    _refuse_or_warn(limits, on_too_few)
    return Calibration(
        pixel_threshold=pixel_threshold,
        reject_score=limits[0].score,
        accept_score=min(limit.score for limit in limits),
        min_area_mm2=min_area_mm2,
        min_area_px=min_area_px,
        fitted_on=predictions.fingerprint,
        target=str(target),
        guarantee=_guarantee(limits, target, predictions, caps_escapes=caps_escapes),
    )


def _guarantee(limits: list[_Limit], target: Target, predictions: PredictionSet, *, caps_escapes: bool) -> str:
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
    num_defective = sum(sample.is_defective for sample in val)
    limits = []
    if target.false_reject_rate is not None:
        num_good = len(val) - num_defective
        _check_enough(num_good, min_good, "good")
        limits.append(_limit(np.zeros(num_good), target.false_reject_rate, target.delta, "false_reject_rate", "good"))
    if target.escape_rate is not None and _caps_escapes(val, target):
        _check_enough(num_defective, min_good, "defective")
        limits.append(_escape_limit(np.zeros(num_defective), target.escape_rate, target.delta))
    if on_too_few == "error":
        _refuse_or_warn(limits, on_too_few)


def _caps_escapes(val: Sequence[Sample], target: Target) -> bool:
    has_defective = any(sample.is_defective for sample in val)
    return target.escape_rate is not None and (has_defective or target.false_reject_rate is None)


def _defects_to_find(predictions: PredictionSet, min_good: int) -> NDArray[np.bool_]:
    """(N,) bool: the defective samples, but for those whose defect lies in declared ignore regions alone."""
    to_find = predictions.is_defective
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


def _escape_limit(defective_scores: NDArray[np.float64], beta: float, delta: float) -> _Limit:
    """The classes swapped: negated scores are capped; a score equal to the order statistic is not accepted."""
    limit = _limit(np.sort(-defective_scores), beta, delta, "escape_rate", "defective")
    if limit.score == math.inf:
        lost = int(np.isneginf(defective_scores).sum())
        raise InputError(
            f"calibrate: escape_rate <= {beta:g} cannot be held by a threshold: {lost} of {len(defective_scores)} "
            "defective VAL images have no region of the minimum area; expected a smaller minimum area"
        )
    below = math.nextafter(-limit.score, -math.inf)
    return _Limit(score=below, is_shown=limit.is_shown, guarantee=limit.guarantee)


def _limit(ascending: NDArray[np.float64], alpha: float, delta: float, rate_name: str, class_name: str) -> _Limit:
    """Cap the fraction of a class above a limit by an order statistic of its (N,) scores."""
    n = len(ascending)
    order = np_order(n, alpha, delta)
    probability = f"with probability {1 - delta:g}"
    claim = f"{rate_name} <= {alpha:g}"
    if order is not None:
        text = f"{claim} {probability}, from {n} held-out {class_name} images ({n - order} of them beyond the limit)"
        return _Limit(score=float(ascending[order - 1]), is_shown=True, guarantee=text)
    missing = np_min_samples(alpha, delta) - n
    text = (
        f"{NOT_SHOWN}: n={n} is too small for {claim}: {missing} more {class_name} images needed; "
        f"what {n} show: <= {upper_bound(0, n, 1 - delta):.3f} {probability}"
    )
    return _Limit(score=float(ascending[-1]), is_shown=False, guarantee=text)


def _refuse_or_warn(limits: list[_Limit], on_too_few: str) -> None:
    for limit in limits:
        if limit.is_shown:
            continue
        if on_too_few == "error":
            raise InputError(f"calibrate: {limit.guarantee}")
        logger.warning("%s", limit.guarantee)


def _pixel_threshold(predictions: PredictionSet, pixel_false_alarm: float, *, use_masks: bool) -> float:
    histogram = PixelHistogram()
    for prediction in predictions:
        if prediction.sample.is_defective and not use_masks:
            continue
        mask = read_defect_mask(prediction)
        if mask is not None:
            mask &= is_inspected(prediction.anomaly_map)
            if not mask.any():
                continue  # taken for background: no level of the map can tell it
        histogram.add_prediction(prediction, mask)
    threshold = histogram.best_f1_threshold()
    if math.isnan(threshold):
        threshold = histogram.good_quantile(1 - pixel_false_alarm)
    if math.isnan(threshold):
        raise InputError("calibrate: expected good images or defect masks in VAL for the pixel threshold, got neither")
    return threshold


def _scores_that_can_reject(
    predictions: PredictionSet, pixel_threshold: float, min_area_mm2: float | None, min_area_px: float | None
) -> NDArray[np.float64]:
    """The scores, -inf where no region of a defective sample reaches the minimum area: `decide` may accept those."""
    scores = predictions.scores.copy()
    for index in np.flatnonzero(predictions.is_defective):
        prediction = predictions[int(index)]
        least = min_area_px or 0.0
        if min_area_mm2 is not None and prediction.sample.pixel_size is not None:
            least = min_area_mm2 / prediction.sample.pixel_size.area_mm2
        if not find_defects(prediction.anomaly_map, pixel_threshold=pixel_threshold, min_area_px=least):
            scores[index] = -math.inf
    return scores
