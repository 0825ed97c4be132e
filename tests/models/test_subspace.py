"""The residuals of Subspace against a singular value decomposition of all patches at once, in numpy."""

import math

import numpy as np
import pytest
import torch

from tests.conftest import texture
from zellige.core.errors import ConfigError
from zellige.models.moments import Moments
from zellige.models.subspace import Residual, Subspace


def images(*seeds: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([texture(seed)[None] for seed in seeds]))


def learned(vectors: np.ndarray, variance: float) -> Residual:
    """A stage fitted on patches (N, D)."""
    moments = Moments(torch.from_numpy(vectors[:10]).float().mean(0, keepdim=True))
    for part in torch.split(torch.from_numpy(vectors).float(), 50):
        moments.add(part[None])
    residual = Residual(vectors.shape[1])
    residual.learn(moments, variance)
    return residual


def distances(residual: Residual, vectors: np.ndarray) -> np.ndarray:
    return residual(torch.from_numpy(vectors).float()[None, None])[0, 0, 0].numpy()


def reference(train: np.ndarray, test: np.ndarray, variance: float) -> np.ndarray:
    """Norms of the residuals (N,) in units of the training patches' root mean square residual."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean = train.mean(0)
    _, singular, rows = np.linalg.svd(train - mean, full_matrices=False)
    explained = np.cumsum(singular**2) / np.sum(singular**2)
    kept = rows[: int(np.argmax(explained >= variance)) + 1]

    def residual(vectors: np.ndarray) -> np.ndarray:
        moved = vectors - mean
        return np.linalg.norm(moved - moved @ kept.T @ kept, axis=1)

    return residual(test) / np.sqrt(np.mean(residual(train) ** 2))


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99, 0.999])
def test_residuals_of_real_features_are_those_of_numpy(variance: float) -> None:
    detector = Subspace(variance=variance)
    with torch.inference_mode():
        train, test = detector.embed(images(*range(8))), detector.embed(images(20, 21))
        detector.build(tuple(stage[i : i + 3] for stage in train) for i in (0, 3, 6))
        for residual, seen, new in zip(detector.residuals, train, test, strict=True):
            expected = reference(seen.flatten(0, 2).numpy(), new.flatten(0, 2).numpy(), variance)
            assert residual(new).flatten().numpy() == pytest.approx(expected, rel=2e-4)


def test_the_height_above_a_plane() -> None:
    """Patches spread 10 in a plane and 0.1 across it: the distance is the height in units of 0.1, wherever in it."""
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.uniform(-10, 10, (4000, 2)), rng.choice([-0.1, 0.1], 4000)])
    turn, _ = np.linalg.qr(rng.normal(0, 1, (3, 3)))
    probes = np.array([[0.0, 0, 0.3], [50, 0, 0.3], [0, -50, 0.3], [3, 4, 0]])
    found = distances(learned(flat @ turn + 7, 0.99), probes @ turn + 7)
    assert found[[0, 3]] == pytest.approx([3, 0], abs=0.05)
    assert found[1:3] == pytest.approx([3, 3], abs=0.5)


def test_good_patches_in_the_subspace_alone_leave_a_small_share_of_their_spread_as_unit() -> None:
    rng = np.random.default_rng(1)
    line = np.outer(rng.choice([-2.0, 2.0], 1000), [0.6, 0.8, 0])
    found = distances(learned(line, 0.99), np.array([[0, 0, 0.01], [0.6, 0.8, 0], [0, 0, 0]]))
    assert found == pytest.approx([0.01 / (1e-3 * 2), 0, 0], abs=1e-2)


def test_equal_patches_are_their_own_mean() -> None:
    found = distances(learned(np.full((100, 4), 3.0), 0.99), np.array([[3.0, 3, 3, 3], [3, 3, 3, 4]]))
    assert found[0] == 0
    assert found[1] > 100
    assert np.isfinite(found).all()


def test_more_variance_leaves_fewer_directions_and_always_one() -> None:
    vectors = np.random.default_rng(2).normal(0, 1, (400, 8)) * 2.0 ** np.arange(8)
    counts = [learned(vectors, share).directions.shape[1] for share in (0.01, 0.5, 0.9, 0.99, 0.9999999)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 7
    assert counts[-1] == 1


@pytest.mark.parametrize("variance", [0, 1, -0.1, 1.5, math.nan])
def test_a_share_out_of_range_is_refused(variance: float) -> None:
    with pytest.raises(ConfigError, match=r"variance: expected a number in \(0, 1\), got"):
        Subspace(variance=variance)
