"""Exact statements about rates from counts: intervals, how many pieces a claim needs, thresholds with a guarantee."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from zellige.core.errors import ConfigError
from zellige.core.types import Rate


def rate(k: int, n: int, confidence: float = 0.95) -> Rate:
    """Estimate a proportion from k events in n pieces, with its exact two-sided interval.

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404-413. Holds for independent pieces.

    Raises:
        ConfigError: k outside 0..n, or a confidence outside (0, 1).

    Example:
        >>> r = rate(0, 50)
        >>> (r.value, r.low, round(r.high, 4), r.n)
        (0.0, 0.0, 0.0711, 50)
    """
    _check(k, n, confidence)
    if n == 0:
        return Rate(value=math.nan, low=0.0, high=1.0, n=0)
    tail = (1 + confidence) / 2
    return Rate(value=k / n, low=lower_bound(k, n, tail), high=upper_bound(k, n, tail), n=n)


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Bound a proportion from above: it is at most this with the stated confidence (one-sided, exact).

    Example:
        >>> round(upper_bound(0, 50), 3)
        0.058
    """
    _check(k, n, confidence)
    return 1.0 if k == n else float(stats.beta.ppf(confidence, k + 1, n - k))


def lower_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Bound a proportion from below: it is at least this with the stated confidence (one-sided, exact).

    Example:
        >>> round(lower_bound(50, 50), 3)
        0.942
    """
    _check(k, n, confidence)
    return 0.0 if k == 0 else float(stats.beta.ppf(1 - confidence, k, n - k + 1))


def pieces_needed(max_rate: float, *, allowed: int = 0, confidence: float = 0.95) -> int:
    """Count the pieces that show "the rate is at most max_rate" when `allowed` of them may fail.

    Example:
        >>> pieces_needed(0.01), pieces_needed(0.01, allowed=3)
        (299, 773)
    """
    if not (0 < max_rate < 1 and 0 < confidence < 1 and allowed >= 0):
        raise ConfigError(
            f"pieces_needed: expected max_rate and confidence in (0, 1) and allowed >= 0, "
            f"got {max_rate}, {confidence}, {allowed}"
        )
    high = allowed + 1
    while upper_bound(allowed, high, confidence) > max_rate:
        high *= 2
    low = allowed
    while high - low > 1:
        middle = (low + high) // 2
        if upper_bound(allowed, middle, confidence) <= max_rate:
            high = middle
        else:
            low = middle
    return high


def np_order(n: int, alpha: float, delta: float) -> int | None:
    """Pick the order statistic of n scores that only a fraction alpha of new scores exceeds.

    Returns the smallest k in 1..n such that P(new score > k-th smallest score) <= alpha with probability at least
    1 - delta over the draw of the n scores, whatever their distribution (ties only make it safer); None where n is
    too small for any k.

    Source: X. Tong, Y. Feng, J. J. Li, Science Advances 4 (2018) eaao1659, proposition 1.

    Example:
        >>> np_order(58, 0.05, 0.05), np_order(59, 0.05, 0.05), np_order(200, 0.05, 0.05)
        (None, 59, 196)
    """
    _check_alpha_delta(alpha, delta)
    orders = np.arange(1, n + 1)
    holds = stats.binom.sf(orders - 1, n, 1 - alpha) <= delta
    return int(orders[np.argmax(holds)]) if holds.any() else None


def np_min_samples(alpha: float, delta: float) -> int:
    """Count the scores below which `np_order` has no answer: the least n with (1 - alpha)^n <= delta.

    Example:
        >>> np_min_samples(0.05, 0.05), np_min_samples(0.01, 0.05)
        (59, 299)
    """
    _check_alpha_delta(alpha, delta)
    n = max(1, math.floor(math.log(delta) / math.log1p(-alpha)) - 1)
    while np_order(n, alpha, delta) is None:
        n += 1
    return n


def auroc_interval(auroc: float, num_good: int, num_defective: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bound an AUROC that was measured on `num_good` and `num_defective` independent pieces.

    A score-type interval: unlike the bootstrap and DeLong's it does not shrink to a point at AUROC 1, where small
    test sets usually end. NaN or an empty class gives (0, 1).

    Source: R. G. Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5.

    Example:
        >>> low, high = auroc_interval(1.0, 20, 20)
        >>> (round(low, 2), high)
        (0.9, 1.0)
    """
    if math.isnan(auroc) or num_good == 0 or num_defective == 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf((1 + confidence) / 2))
    half = (num_good + num_defective) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
        variance = theta * (1 - theta) * spread / (num_good * num_defective)
        return (auroc - theta) ** 2 - z * z * variance

    low = 0.0 if auroc == 0 else float(optimize.brentq(excess, 0.0, _inside(auroc)))
    high = 1.0 if auroc == 1 else float(optimize.brentq(excess, _inside(auroc), 1.0))
    return low, high


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Bound the mean of few independent numbers, such as one per seed, by Student's t; NaN for fewer than two.

    Holds for numbers that scatter like a normal distribution; the bounds may leave the range of the numbers.

    Source: Student, Biometrika 6 (1908) 1-25.

    Example:
        >>> low, high = mean_interval([0.90, 0.92, 0.94])
        >>> round(low, 3), round(high, 3)
        (0.87, 0.97)
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"mean_interval: expected a confidence in (0, 1), got {confidence}")
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _inside(auroc: float) -> float:
    """A point next to the estimate where the variance is not zero, so that a root is bracketed."""
    return min(max(auroc, 1e-9), 1 - 1e-9)


def _check(k: int, n: int, confidence: float) -> None:
    if not (0 <= k <= n and 0 < confidence < 1):
        raise ConfigError(f"rate: expected 0 <= k <= n and confidence in (0, 1), got k={k}, n={n}, {confidence}")


def _check_alpha_delta(alpha: float, delta: float) -> None:
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ConfigError(f"guarantee: expected alpha and delta in (0, 1), got {alpha} and {delta}")
