"""Moments of a stream against numpy's over all vectors at once."""

import numpy as np
import pytest
import torch

from zellige.core.errors import InputError
from zellige.models.moments import Moments, collect_moments


def drawn(offset: float, num: int = 500, groups: int = 3, width: int = 6) -> np.ndarray:
    """(G, N, D) float32, correlated, far from zero by `offset`; the groups differ in mean and spread."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (groups, width, width))
    return (rng.normal(0, 1, (groups, num, width)) @ mixing + offset + np.arange(groups)[:, None, None]).astype(
        np.float32
    )


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("part", [1, 7, 500])
def test_mean_and_covariance_are_those_of_numpy(offset: float, part: int) -> None:
    vectors = drawn(offset)
    moments = Moments(torch.from_numpy(vectors[:, :20]).mean(1))
    for batch in torch.split(torch.from_numpy(vectors), part, dim=1):
        moments.add(batch)
    assert moments.count == vectors.shape[1]
    for group, (mean, covariance) in enumerate(zip(moments.mean(), moments.covariance(), strict=True)):
        assert mean.numpy() == pytest.approx(vectors[group].astype(np.float64).mean(0), rel=1e-12)
        expected = np.cov(vectors[group].astype(np.float64), rowvar=False, bias=True)
        assert covariance.numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_shift_far_away_costs_no_more_than_digits() -> None:
    vectors = drawn(0.0)
    moments = Moments(torch.full((3, 6), 1e3))
    moments.add(torch.from_numpy(vectors))
    expected = np.cov(vectors[1].astype(np.float64), rowvar=False, bias=True)
    assert moments.covariance()[1].numpy() == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_stages_are_collected_apart_and_in_one_pass() -> None:
    rng = np.random.default_rng(1)
    fine, coarse = (rng.normal(3, 2, size).astype(np.float32) for size in ((10, 4, 6, 5), (10, 2, 3, 8)))
    batches = iter([(torch.from_numpy(fine[i : i + 4]), torch.from_numpy(coarse[i : i + 4])) for i in (0, 4, 8)])
    whole, by_position = collect_moments(
        batches, [lambda f: f.flatten(0, 2)[None], lambda f: f.flatten(1, 2).transpose(0, 1)]
    )
    assert next(batches, None) is None
    assert whole.count == 10 * 24
    assert whole.covariance()[0].numpy() == pytest.approx(
        np.cov(fine.reshape(-1, 5).astype(np.float64), rowvar=False, bias=True), rel=1e-9, abs=1e-9
    )
    assert by_position.count == 10
    for row in range(2):
        for col in range(3):
            expected = coarse[:, row, col].astype(np.float64).mean(0)
            assert by_position.mean()[3 * row + col].numpy() == pytest.approx(expected, rel=1e-12)


def test_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least one good training image, got none"):
        collect_moments([], [torch.clone])
