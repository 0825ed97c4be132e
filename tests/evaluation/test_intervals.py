import math

import numpy as np
import pytest
from scipy import stats

from zellige.core.errors import ConfigError
from zellige.evaluation.intervals import (
    auroc_interval,
    lower_bound,
    mean_interval,
    np_min_samples,
    np_order,
    pieces_needed,
    rate,
    upper_bound,
)

ACCEPTANCE_TABLE = {
    0.10: (29, 46, 61, 76),
    0.05: (59, 93, 124, 153),
    0.02: (149, 236, 313, 386),
    0.01: (299, 473, 628, 773),
    0.001: (2995, 4742, 6294, 7752),
}
"""Pieces that show an escape rate at most p, one-sided 95 %, with 0, 1, 2, 3 misses allowed."""


@pytest.mark.parametrize("max_rate", ACCEPTANCE_TABLE)
def test_pieces_needed_is_the_acceptance_table(max_rate):
    assert tuple(pieces_needed(max_rate, allowed=c) for c in range(4)) == ACCEPTANCE_TABLE[max_rate]


@pytest.mark.parametrize("max_rate", ACCEPTANCE_TABLE)
@pytest.mark.parametrize("allowed", range(4))
def test_pieces_needed_is_the_least_number_that_rules_out_a_higher_rate(max_rate, allowed):
    n = pieces_needed(max_rate, allowed=allowed)
    assert stats.binom.cdf(allowed, n, max_rate) <= 0.05 < stats.binom.cdf(allowed, n - 1, max_rate)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (3, 59), (30, 60), (59, 59), (7, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_rate_is_scipys_exact_interval(k, n, confidence):
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    actual = rate(k, n, confidence)
    assert (actual.value, actual.n) == (k / n, n)
    assert actual.low == pytest.approx(expected.low, abs=1e-12)
    assert actual.high == pytest.approx(expected.high, abs=1e-12)


def test_rate_of_nothing_is_unknown():
    empty = rate(0, 0)
    assert math.isnan(empty.value)
    assert (empty.low, empty.high, empty.n) == (0.0, 1.0, 0)


def test_one_sided_bounds():
    assert upper_bound(0, 50) == pytest.approx(1 - 0.05 ** (1 / 50), abs=1e-12)
    assert lower_bound(50, 50) == pytest.approx(0.05 ** (1 / 50), abs=1e-12)
    assert upper_bound(5, 5) == 1.0
    assert lower_bound(0, 5) == 0.0


@pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)])
def test_impossible_counts_are_refused(k, n, confidence):
    with pytest.raises(ConfigError, match="0 <= k <= n"):
        rate(k, n, confidence)


def brute_force_order(n, alpha, delta):
    """The paper's proposition 1, term by term."""
    for k in range(1, n + 1):
        violation = sum(math.comb(n, j) * (1 - alpha) ** j * alpha ** (n - j) for j in range(k, n + 1))
        if violation <= delta:
            return k
    return None


@pytest.mark.parametrize("n", [1, 28, 29, 58, 59, 60, 92, 93, 150, 400])
@pytest.mark.parametrize(("alpha", "delta"), [(0.05, 0.05), (0.1, 0.05), (0.01, 0.1), (0.5, 0.01)])
def test_np_order_is_the_papers_sum(n, alpha, delta):
    assert np_order(n, alpha, delta) == brute_force_order(n, alpha, delta)


def draw(kind, rng, shape):
    """Scores, and the true share of such scores above a threshold."""
    if kind == "normal":
        return rng.normal(size=shape), stats.norm.sf
    return rng.integers(0, 30, size=shape).astype(float), lambda t: (29 - t) / 30


@pytest.mark.parametrize("kind", ["normal", "discrete"])
@pytest.mark.parametrize(("n", "alpha", "delta"), [(59, 0.05, 0.05), (80, 0.05, 0.2), (300, 0.1, 0.05)])
def test_true_rate_beyond_the_order_statistic_exceeds_alpha_in_at_most_delta_of_draws(kind, n, alpha, delta):
    draws = 20_000
    scores, share_above = draw(kind, np.random.default_rng(n), (draws, n))
    thresholds = np.sort(scores, axis=1)[:, np_order(n, alpha, delta) - 1]
    violations = np.mean(share_above(thresholds) > alpha + 1e-12)
    assert violations <= delta + 3 * math.sqrt(delta * (1 - delta) / draws)


@pytest.mark.parametrize(
    ("alpha", "delta", "least"), [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.1, 0.05, 29), (0.5, 0.5, 1)]
)
def test_np_min_samples_is_where_orders_begin(alpha, delta, least):
    assert np_min_samples(alpha, delta) == least
    assert np_order(least, alpha, delta) == least
    assert least == 1 or np_order(least - 1, alpha, delta) is None


def test_guarantee_needs_probabilities():
    for alpha, delta in ((0.0, 0.05), (0.05, 1.0), (1.5, 0.05)):
        with pytest.raises(ConfigError, match="alpha and delta"):
            np_order(100, alpha, delta)


def share_of_ordered_pairs(scores, labels):
    return float(np.mean(scores[labels == 1][:, None] > scores[labels == 0]))


@pytest.mark.parametrize(("num_good", "num_defective", "shift"), [(20, 15, 1.0), (60, 20, 2.0), (15, 10, 3.5)])
def test_auroc_interval_covers_the_truth(num_good, num_defective, shift):
    rng = np.random.default_rng(7)
    truth = stats.norm.cdf(shift / math.sqrt(2))
    labels = np.repeat([0, 1], [num_good, num_defective])
    covered, draws = 0, 600
    for _ in range(draws):
        scores = rng.normal(size=labels.size) + shift * labels
        low, high = auroc_interval(share_of_ordered_pairs(scores, labels), num_good, num_defective)
        covered += low <= truth <= high
    assert covered / draws > 0.925


def test_auroc_interval_solves_newcombes_equation_and_stays_open_at_the_ends():
    theta, m, n = 0.83, 40, 25
    z = 1.959963984540054
    for bound in auroc_interval(theta, m, n):
        half = (m + n) / 2 - 1
        spread = 1 + half * (1 - bound) / (2 - bound) + half * bound / (1 + bound)
        assert abs(theta - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) * spread / (m * n)), rel=1e-6)
    low, high = auroc_interval(1.0, 10, 10)
    assert high == 1.0
    assert 0.75 < low < 0.9
    assert auroc_interval(0.0, 10, 10) == (0.0, pytest.approx(1 - low))
    assert auroc_interval(math.nan, 10, 0) == (0.0, 1.0)


@pytest.mark.parametrize("values", [[0.9, 0.95], [0.71, 0.73, 0.7, 0.78, 0.75], [3.0, -8.0, 100.0]])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_mean_interval_is_that_of_the_t_test(values, confidence):
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    assert mean_interval(values, confidence) == pytest.approx((expected.low, expected.high))


def test_mean_interval_of_one_number_is_not_known():
    assert all(math.isnan(bound) for bound in mean_interval([0.9]))
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ConfigError, match="confidence"):
        mean_interval([0.5, 0.6], 1.0)
