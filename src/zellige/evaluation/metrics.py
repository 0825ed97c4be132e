"""How well scores rank: AUROC, average precision, F1-max and AUPRO, from counts per score level.

All are computed from levels in ascending order and how many good and how many defective items lie on each. The same
functions serve images (a level per distinct score, exact) and pixels (a level per histogram bin).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestF1:
    """The highest F1 over all thresholds, and the level index at and above which items are called defective."""

    value: float
    level: int


def image_auroc(scores: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> float:
    """Compute the area under the ROC curve; ties count half; NaN unless both classes are there.

    Args:
        scores: (N,) finite, higher = worse.
        is_defective: (N,) bool.

    Example:
        >>> image_auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
        0.875
    """
    return auroc(*count_levels(scores, is_defective)[1:])


def image_average_precision(scores: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> float:
    """Compute the average precision (step sum, no interpolation); NaN unless both classes are there.

    Example:
        >>> image_average_precision(np.array([0.1, 0.4, 0.8, 0.9]), np.array([False, True, False, True]))
        0.8333333333333333
    """
    return average_precision(*count_levels(scores, is_defective)[1:])


def image_f1_max(scores: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> float:
    """Compute the best F1 that any threshold reaches on these very items; NaN unless both classes are there.

    Example:
        >>> image_f1_max(np.array([0.1, 0.4, 0.8, 0.9]), np.array([False, True, False, True]))
        0.8
    """
    return f1_max(*count_levels(scores, is_defective)[1:]).value


def count_levels(
    scores: NDArray[np.float64], is_defective: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], Counts, Counts]:
    """List the distinct scores, ascending, with the number of good and of defective items at each.

    Raises:
        InputError: lengths that differ, or a score that is not finite.
    """
    if scores.shape != is_defective.shape or scores.ndim != 1:
        raise InputError(f"metrics: expected as many labels as scores, got {is_defective.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError("metrics: expected finite scores, got NaN or infinity")
    levels, place = np.unique(scores, return_inverse=True)
    good = np.bincount(place[~is_defective], minlength=len(levels)).astype(np.float64)
    defective = np.bincount(place[is_defective], minlength=len(levels)).astype(np.float64)
    return levels, good, defective


def auroc(good: Counts, defective: Counts) -> float:
    """Compute AUROC from (L,) counts per level, ascending; NaN where a class is empty."""
    num_good, num_defective = good.sum(), defective.sum()
    if num_good == 0 or num_defective == 0:
        return math.nan
    below = np.cumsum(good) - good
    return float(np.sum(defective / num_defective * (below + good / 2) / num_good))


def average_precision(good: Counts, defective: Counts) -> float:
    """Compute the average precision from (L,) counts per level, ascending; NaN where a class is empty."""
    if good.sum() == 0 or defective.sum() == 0:
        return math.nan
    found, false_alarms = _from_the_top(defective), _from_the_top(good)
    flagged = found + false_alarms
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    return float(np.sum(np.diff(found, prepend=0.0) / defective.sum() * precision))


def f1_max(good: Counts, defective: Counts) -> BestF1:
    """Find the best F1 from (L,) counts per level, ascending; value NaN where a class is empty.

    Among equal values the highest level wins: it calls the fewest items defective.
    """
    if good.sum() == 0 or defective.sum() == 0:
        return BestF1(value=math.nan, level=len(good))
    found, false_alarms = _from_the_top(defective), _from_the_top(good)
    f1 = 2 * found / (found + false_alarms + defective.sum())
    best = int(np.argmax(f1))
    return BestF1(value=float(f1[best]), level=len(good) - 1 - best)


def aupro(good: Counts, region_shares: Counts, fpr_limit: float = 0.3) -> float:
    """Compute the area under the per-region overlap curve up to a false-positive rate, divided by that rate.

    Args:
        good: (L,) counts of pixels outside every defect, per level, ascending.
        region_shares: (L,) sum over the pixels of defects at that level of 1 / (pixels of its region); all of them
            add up to the number of regions.
        fpr_limit: in (0, 1].

    Returns:
        In [0, 1]; NaN without a region or without good pixels.

    Source: P. Bergmann et al., IJCV 129 (2021) 1038-1059, section 5.2; 8-connected regions.

    Example:
        >>> aupro(np.array([10.0, 0.0]), np.array([0.0, 2.0]))
        1.0
    """
    if good.sum() == 0 or region_shares.sum() == 0:
        return math.nan
    fpr = np.concatenate([[0.0], _from_the_top(good) / good.sum()])
    overlap = np.concatenate([[0.0], np.minimum(_from_the_top(region_shares) / region_shares.sum(), 1.0)])
    end = int(np.searchsorted(fpr, fpr_limit, side="right"))
    at_limit = float(np.interp(fpr_limit, fpr, overlap)) if end < len(fpr) else float(overlap[-1])
    x = np.append(fpr[:end], fpr_limit)
    y = np.append(overlap[:end], at_limit)
    return min(float(np.trapezoid(y, x)) / fpr_limit, 1.0)


def _from_the_top(counts: Counts) -> Counts:
    return np.cumsum(counts[::-1])
