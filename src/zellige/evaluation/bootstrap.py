"""How far a number of TEST could have been off, had other groups of pieces come: the bootstrap over groups."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError

Weights = NDArray[np.float64]
"""(N,) how often each image counts: 1 each in the data themselves, 0, 1, 2, ... in a resample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % bootstrap interval; NaN where undefined (the interval also with fewer than two groups)."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Give strict JSON values: null for what is undefined.

        Example:
            >>> Estimate(value=0.5, low=math.nan, high=math.nan).to_json()
            {'value': 0.5, 'low': None, 'high': None}
        """
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


class GroupBootstrap:
    """Draws whole groups with replacement, since the images of one group resemble each other.

    The interval is that of the percentiles. It says how the number scatters, not that it is free of bias, and
    it shrinks to a point where every image agrees: a perfect number of few images is less certain than that.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 (groups) and 13 (percentiles).

    Example:
        >>> is_right = np.array([1.0, 1.0, 0.0, 1.0])
        >>> boot = GroupBootstrap(["roll 1", "roll 1", "roll 2", "roll 3"], times=200)
        >>> (share,) = boot.estimate(lambda weights: np.array([weights @ is_right / weights.sum()]))
        >>> share.value, share.low, share.high
        (0.75, 0.0, 1.0)
    """

    def __init__(self, groups: Sequence[str], *, times: int = 1000, seed: int = 0) -> None:
        """Say which images belong together.

        Args:
            groups: N group ids, one an image.
            times: resamples.
            seed: the same seed draws the same groups.

        Raises:
            ConfigError: fewer than one resample.
        """
        if times < 1:
            raise ConfigError(f"bootstrap times: expected at least 1, got {times}")
        names, self._group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self._num_groups = len(names)
        self._times, self._seed = times, seed

    def estimate(self, measure: Callable[[Weights], NDArray[np.float64]]) -> tuple[Estimate, ...]:
        """Estimate several numbers of the same images at once.

        Args:
            measure: gives (M,) numbers for (N,) weights, NaN where they say nothing.

        Returns:
            M estimates. Resamples without an answer, such as those without a defect of a kind, are left out.
        """
        values = measure(np.ones(len(self._group_of)))
        if self._num_groups < 2:
            return tuple(Estimate(value=float(value), low=math.nan, high=math.nan) for value in values)
        drawn = np.stack([measure(weights) for weights in self._resamples()])  # (times, M)
        return tuple(_estimate(float(value), column) for value, column in zip(values, drawn.T, strict=True))

    def _resamples(self) -> Iterator[Weights]:
        generator = np.random.default_rng(self._seed)
        for _ in range(self._times):
            drawn = generator.integers(0, self._num_groups, self._num_groups)
            yield np.bincount(drawn, minlength=self._num_groups).astype(np.float64)[self._group_of]


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    known = drawn[np.isfinite(drawn)]
    if math.isnan(value) or len(known) == 0:
        return Estimate(value=value, low=math.nan, high=math.nan)
    low, high = np.quantile(known, (0.025, 0.975))
    return Estimate(value=value, low=float(low), high=float(high))
