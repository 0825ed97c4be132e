"""Good or defective, nothing between: the accuracy that published tables of two classes state.

It is no operating point: the threshold has the highest accuracy on VAL, with no word about escapes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.types import Rate
from zellige.evaluation.intervals import rate
from zellige.evaluation.kind_metrics import rate_json


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodOrDefective:
    """How many TEST images are on the right side of a threshold from VAL; NaN and no image where VAL gives none."""

    threshold: float
    accuracy: Rate
    """Exact interval, for independent images."""

    def to_json(self) -> dict[str, object]:
        """Give strict JSON values: null for what is undefined."""
        known = self.threshold if math.isfinite(self.threshold) else None
        return {"threshold": known, "accuracy": rate_json(self.accuracy)}


def most_accurate_threshold(scores: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> float:
    """Find the threshold above which calling a score defective is right most often.

    It lies halfway between two neighboring scores, or outside of all of them; of several that are equally good the
    lowest is taken, with the fewest escapes.

    Args:
        scores: (N,), higher = worse.
        is_defective: (N,) bool.

    Returns:
        NaN where one of the classes is missing.

    Example:
        >>> most_accurate_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True]))
        0.4
    """
    if not 0 < is_defective.sum() < len(scores):
        return math.nan
    levels, place = np.unique(scores, return_inverse=True)
    defective = np.bincount(place, weights=is_defective)
    good = np.bincount(place, weights=~is_defective)
    # Entry k: the k lowest levels are called good.
    num_right = (
        np.concatenate([[0.0], np.cumsum(good)]) + defective.sum() - np.concatenate([[0.0], np.cumsum(defective)])
    )
    best = int(num_right.argmax())
    if best == 0:
        return float(np.nextafter(levels[0], -math.inf))
    if best == len(levels):
        return float(levels[-1])
    return float((levels[best - 1] + levels[best]) / 2)


def judge_good_or_defective(val: Sequence[tuple[float, bool]], test: Sequence[tuple[float, bool]]) -> GoodOrDefective:
    """Count the TEST images on the right side of the threshold that is most accurate on VAL.

    Args:
        val, test: score and whether it is defective, of each image.

    Example:
        >>> val = [(0.2, False), (0.8, True)]
        >>> judge_good_or_defective(val, [(0.3, False), (0.4, True)]).accuracy.value
        0.5
    """
    scores, is_defective = (np.array([pair[place] for pair in val]) for place in (0, 1))
    threshold = most_accurate_threshold(scores.astype(np.float64), is_defective.astype(np.bool_))
    if math.isnan(threshold):
        return GoodOrDefective(threshold=threshold, accuracy=rate(0, 0))
    num_right = sum((score > threshold) == truth for score, truth in test)
    return GoodOrDefective(threshold=threshold, accuracy=rate(num_right, len(test)))
