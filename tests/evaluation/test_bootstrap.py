import math

import numpy as np
import pytest
from scipy import stats

from zellige.core.errors import ConfigError
from zellige.evaluation.bootstrap import GroupBootstrap


def share_of(values):
    return lambda weights: np.array([weights @ values / weights.sum()])


def test_the_interval_is_that_of_the_binomial_that_resampling_draws_from():
    values = np.repeat([1.0, 0.0], [15, 45])
    (share,) = GroupBootstrap([str(i) for i in range(60)], times=4000, seed=3).estimate(share_of(values))
    assert share.value == 0.25
    expected = stats.binom.ppf([0.025, 0.975], 60, 0.25) / 60
    assert [share.low, share.high] == pytest.approx(expected, abs=1 / 60)


def test_copies_of_an_image_in_its_group_say_nothing_new():
    values = np.random.default_rng(0).random(12)
    groups = [f"roll {i}" for i in range(12)]
    alone = GroupBootstrap(groups, times=300, seed=5).estimate(share_of(values))
    thrice = GroupBootstrap(groups * 3, times=300, seed=5).estimate(share_of(np.tile(values, 3)))
    assert (thrice[0].low, thrice[0].high) == pytest.approx((alone[0].low, alone[0].high), rel=1e-12)
    again = GroupBootstrap(groups, times=300, seed=5).estimate(share_of(values))
    assert again == alone


def test_what_is_not_known_has_no_interval():
    (one_group,) = GroupBootstrap(["a", "a"]).estimate(share_of(np.array([0.0, 1.0])))
    assert one_group.to_json() == {"value": 0.5, "low": None, "high": None}
    (never,) = GroupBootstrap(["a", "b"], times=9).estimate(lambda weights: np.array([math.nan]))
    assert never.to_json() == {"value": None, "low": None, "high": None}
    # The share among images of "a" alone is not defined in the resamples without "a"; the others count.
    (some,) = GroupBootstrap(["a", "b"], times=50).estimate(lambda weights: np.array([1.0 if weights[0] else math.nan]))
    assert (some.low, some.high) == (1.0, 1.0)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        GroupBootstrap(["a"], times=0)
