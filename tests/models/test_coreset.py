"""The streaming coreset against the exact greedy selection, written here in numpy.

Promised: greedy selection of k centers is within twice the best possible radius (Gonzalez 1985). Each thinning of the
stream moves a vector's nearest kept one away by at most the radius of that thinning, which is at most twice the best;
so one thinning gives at most twice the best, and each further one may add as much.
Measured, over 10 seeds of each set below with 8, 24 and 64 kept and four batch sizes: 1.04 to 1.07 times the exact
greedy radius in the mean, 1.36 times at worst. The tests ask for FACTOR.
"""

import numpy as np
import pytest
import torch

from zellige.core.errors import ConfigError
from zellige.models.coreset import StreamingCoreset, distance_to_nearest, greedy_cover

FACTOR = 1.5


def distances(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(N, M) Euclidean distances in double precision."""
    return np.linalg.norm(points[:, None].astype(np.float64) - centers[None].astype(np.float64), axis=2)


def covering_radius(points: np.ndarray, centers: np.ndarray) -> float:
    return float(distances(points, centers).min(1).max())


def exact_greedy(points: np.ndarray, size: int, first: int = 0) -> np.ndarray:
    """Indices of the farthest-first selection over all points at once."""
    taken = [first]
    gap = distances(points, points[[first]])[:, 0]
    while len(taken) < min(size, len(points)):
        taken.append(int(gap.argmax()))
        gap = np.minimum(gap, distances(points, points[taken[-1:]])[:, 0])
    return np.array(taken)


def uniform(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (600, 8))


def clustered(rng: np.random.Generator) -> np.ndarray:
    centers = rng.normal(0, 10, (12, 8))
    return centers[rng.integers(0, 12, 600)] + rng.normal(0, 0.3, (600, 8))


def sorted_drift(rng: np.random.Generator) -> np.ndarray:
    """A stream whose mean wanders away: the hardest order for one pass."""
    return rng.normal(0, 1, (600, 8)) + np.linspace(0, 30, 600)[:, None]


def with_outliers_last(rng: np.random.Generator) -> np.ndarray:
    points = rng.normal(0, 1, (600, 8))
    points[-5:] += 50
    return points


SETS = (uniform, clustered, sorted_drift, with_outliers_last)


def stream(points: np.ndarray, size: int, batch: int, **settings) -> StreamingCoreset:
    coreset = StreamingCoreset(size, **settings)
    for part in torch.split(torch.from_numpy(points.astype(np.float32)), batch):
        coreset.add(part)
    return coreset


@pytest.mark.parametrize("batch", [1, 7, 64, 600])
@pytest.mark.parametrize("make", SETS)
def test_covering_radius_against_the_exact_greedy_selection(make, batch: int) -> None:
    worst = 0.0
    for seed in range(3):
        points = make(np.random.default_rng(seed)).astype(np.float32)
        exact = covering_radius(points, points[exact_greedy(points, 24)])
        kept = stream(points, 24, batch, seed=seed).selected().numpy()
        assert len(kept) <= 24
        worst = max(worst, covering_radius(points, kept) / exact)
    assert worst <= FACTOR


@pytest.mark.parametrize("make", SETS)
def test_one_batch_of_no_more_than_fits_is_the_exact_selection(make) -> None:
    """Thinned once, from a start of its own, greedy gives at most twice what another start gives."""
    points = make(np.random.default_rng(3)).astype(np.float32)[:96]
    kept = stream(points, 48, 96, seed=0).selected().numpy()
    starts = [covering_radius(points, points[exact_greedy(points, 48, first)]) for first in range(0, 96, 8)]
    assert min(starts) / 2 <= covering_radius(points, kept) <= 2 * min(starts)


def test_projection_keeps_the_cover_close() -> None:
    rng = np.random.default_rng(0)
    points = (rng.normal(0, 1, (500, 6)) @ rng.normal(0, 1, (6, 152))).astype(np.float32)
    exact = covering_radius(points, points[exact_greedy(points, 32)])
    kept = stream(points, 32, 50, projected=48).selected().numpy()
    assert covering_radius(points, kept) <= 2 * exact


def test_what_is_kept_was_offered_and_is_kept_once() -> None:
    points = uniform(np.random.default_rng(1)).astype(np.float32)
    kept = stream(points, 40, 33).selected().numpy()
    places = distances(kept, points).argmin(1)
    assert np.array_equal(points[places], kept)
    assert len(set(places.tolist())) == len(kept) == 40


def test_duplicates_push_nothing_out() -> None:
    base = np.random.default_rng(2).normal(0, 1, (10, 5)).astype(np.float32)
    kept = stream(np.tile(base, (50, 1)), 16, 70).selected().numpy()
    assert len(kept) <= 16
    assert covering_radius(base, kept) == covering_radius(kept, base) == 0


def test_fewer_vectors_than_room_are_all_kept() -> None:
    points = np.random.default_rng(4).normal(0, 1, (9, 4)).astype(np.float32)
    kept = stream(points, 100, 4).selected().numpy()
    assert sorted(map(tuple, kept.tolist())) == sorted(map(tuple, points.tolist()))


@pytest.mark.parametrize("size", [1, 5])
def test_one_vector(size: int) -> None:
    kept = stream(np.full((1, 3), 2.5), size, 1).selected()
    assert kept.tolist() == [[2.5, 2.5, 2.5]]


def test_equal_vectors_give_one() -> None:
    assert stream(np.full((300, 3), -1.5), 8, 64).selected().tolist() == [[-1.5, -1.5, -1.5]]


@pytest.mark.parametrize("size", [1, 2, 17])
@pytest.mark.parametrize("make", SETS)
def test_memory_is_bounded_at_all_times(make, size: int) -> None:
    coreset = StreamingCoreset(size)
    for part in torch.split(torch.from_numpy(make(np.random.default_rng(5)).astype(np.float32)), 13):
        coreset.add(part)
        assert coreset._kept is not None
        assert len(coreset._kept) <= 2 * size
    assert 1 <= len(coreset.selected()) <= size


def test_the_seed_decides() -> None:
    points = uniform(np.random.default_rng(6))
    first, again, other = (stream(points, 20, 50, seed=seed, projected=4).selected() for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_chunks_inside_do_not_depend_on_the_size_of_a_batch() -> None:
    points = clustered(np.random.default_rng(7))
    exact = covering_radius(points, points[exact_greedy(points, 24)])
    for chunk in (1, 10, 599):
        kept = stream(points, 24, 600, chunk=chunk).selected().numpy()
        assert covering_radius(points, kept) <= FACTOR * exact


def test_adding_goes_on_after_a_look_at_the_selection() -> None:
    points = uniform(np.random.default_rng(8)).astype(np.float32)
    coreset = stream(points[:300], 24, 50)
    coreset.selected()
    coreset.add(torch.from_numpy(points[300:]))
    exact = covering_radius(points, points[exact_greedy(points, 24)])
    assert covering_radius(points, coreset.selected().numpy()) <= FACTOR * exact


@pytest.mark.parametrize("settings", [{"size": 0}, {"size": -1}, {"size": 4, "projected": 0}])
def test_sizes_below_one_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match="expected size and projection >= 1"):
        StreamingCoreset(**settings)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_distance_to_nearest(offset: float) -> None:
    """Single precision: the squares of the offset cancel, which costs digits."""
    rng = np.random.default_rng(9)
    points, centers = (rng.normal(offset, 1, (n, 16)).astype(np.float32) for n in (50, 7))
    found = distance_to_nearest(torch.from_numpy(points), torch.from_numpy(centers)).numpy()
    assert found == pytest.approx(distances(points, centers).min(1), abs=1e-5 + 2e-6 * offset**2)


def test_distance_of_a_center_to_itself_is_zero() -> None:
    points = torch.from_numpy(np.random.default_rng(10).normal(0, 1, (20, 16)).astype(np.float32))
    assert float(distance_to_nearest(points, points).max()) < 2e-3


def test_greedy_cover_takes_the_farthest_first() -> None:
    points = torch.tensor([[0.0], [1.0], [4.0], [10.0], [11.0]])
    order, gap = greedy_cover(points, points[:, 0].clone(), 2, 0.0)
    assert order.tolist() == [4, 2]
    assert gap.tolist() == pytest.approx([0.0, 1.0, 0.0, 1.0, 0.0])
    order, _ = greedy_cover(points, points[:, 0].clone(), 5, 1.5)
    assert order.tolist() == [4, 2]
