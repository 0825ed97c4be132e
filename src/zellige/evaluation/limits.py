"""What an operating point must hold; a threshold for one class of scores, and what it supports in words."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.evaluation.intervals import np_min_samples, np_order, upper_bound

logger = logging.getLogger(__name__)

NOT_SHOWN = "NOT SHOWN"
"""How the guarantee begins when VAL is too small for what was asked."""


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
class Limit:
    """A threshold for one class, and what it supports in words."""

    score: float
    is_shown: bool
    guarantee: str


def upper_limit(ascending: NDArray[np.float64], alpha: float, delta: float, rate_name: str, class_name: str) -> Limit:
    """Cap the fraction of a class above a limit by an order statistic of its (N,) scores."""
    n = len(ascending)
    order = np_order(n, alpha, delta)
    probability = f"with probability {1 - delta:g}"
    claim = f"{rate_name} <= {alpha:g}"
    if order is not None:
        text = f"{claim} {probability}, from {n} held-out {class_name} images ({n - order} of them beyond the limit)"
        return Limit(score=float(ascending[order - 1]), is_shown=True, guarantee=text)
    missing = np_min_samples(alpha, delta) - n
    text = (
        f"{NOT_SHOWN}: n={n} is too small for {claim}: {missing} more {class_name} images needed; "
        f"what {n} show: <= {upper_bound(0, n, 1 - delta):.3f} {probability}"
    )
    return Limit(score=float(ascending[-1]), is_shown=False, guarantee=text)


def escape_limit(defective_scores: NDArray[np.float64], beta: float, delta: float) -> Limit:
    """The classes swapped: negated scores are capped; a score equal to the order statistic is not accepted.

    Raises:
        InputError: too many are -inf: they are accepted whatever the threshold.
    """
    limit = upper_limit(np.sort(-defective_scores), beta, delta, "escape_rate", "defective")
    if limit.score == math.inf:
        lost = int(np.isneginf(defective_scores).sum())
        raise InputError(
            f"calibrate: escape_rate <= {beta:g} cannot be held by a threshold: {lost} of {len(defective_scores)} "
            "defective VAL images have no region of the minimum area; expected a smaller minimum area"
        )
    below = math.nextafter(-limit.score, -math.inf)
    return Limit(score=below, is_shown=limit.is_shown, guarantee=limit.guarantee)


def refuse_or_warn(limits: Sequence[Limit], on_too_few: str) -> None:
    """Refuse limits that support nothing, or warn of them.

    Raises:
        InputError: there is one, and `on_too_few` is "error".
    """
    for limit in limits:
        if limit.is_shown:
            continue
        if on_too_few == "error":
            raise InputError(f"calibrate: {limit.guarantee}")
        logger.warning("%s", limit.guarantee)
