"""The ranking of unlabelled images against slow loops over its definition, and what it must do whatever the numbers."""

import math

import numpy as np
import pytest

from zellige.training.usefulness import choose, common_units, doubt_of


def slow_uncertainty(scores: list[float], val: list[float], accept: float, reject: float) -> list[float]:
    def between(score: float, other: float) -> bool:
        return reject < other < score if score > reject else score < other <= accept

    def share(values: list[float], score: float) -> float:
        return sum(between(score, other) for other in values) / len(values)

    most = max((share(val, end) + share(scores, end)) / 2 for end in (-math.inf, math.inf))
    return [1 - (share(val, score) + share(scores, score)) / 2 / most for score in scores]


@pytest.mark.parametrize(("accept", "reject"), [(0.6, 0.6), (0.4, 0.7)])
def test_uncertainty_counts_the_images_between_score_and_threshold(accept: float, reject: float) -> None:
    rng = np.random.default_rng(0)
    scores, val = rng.uniform(0, 2, 40).round(2), rng.uniform(0, 1, 25).round(2)  # rounded: some are equal
    scores[:3] = accept, reject, (accept + reject) / 2
    doubt = doubt_of(scores, val, accept_score=accept, reject_score=reject)
    np.testing.assert_allclose(
        doubt.uncertainty, slow_uncertainty(scores.tolist(), val.tolist(), accept, reject), atol=1e-12
    )
    assert list(doubt.uncertainty[:3]) == [1, 1, 1]
    # The unit of the scores does not matter, only their order.
    warped = doubt_of(scores**3, val**3, accept_score=accept**3, reject_score=reject**3)
    np.testing.assert_array_equal(warped.uncertainty, doubt.uncertainty)
    np.testing.assert_array_equal(warped.num_between, doubt.num_between)


def test_above_all_of_val_the_folder_itself_says_which_is_nearer() -> None:
    doubt = doubt_of(np.array([0.1, 1.1, 1.2, 9.0]), np.array([0.2, 0.3]), accept_score=1.0, reject_score=1.0)
    assert list(doubt.num_between) == [2, 0, 0, 0]
    assert doubt.uncertainty[1] > doubt.uncertainty[2] > doubt.uncertainty[3] > doubt.uncertainty[0]


def slow_choice(
    uncertainty: np.ndarray, features: np.ndarray, labelled: np.ndarray, number: int, weights: tuple[float, float]
) -> list[int]:
    def nearest(i: int, others: list[np.ndarray]) -> float:
        return min(math.dist(features[i], other) for other in others)

    at_first = [nearest(i, list(labelled)) for i in range(len(features))]
    chosen: list[int] = []
    for _ in range(number):
        best, most = -1, -1.0
        for i in range(len(features)):
            gap = nearest(i, [*labelled, *(features[j] for j in chosen)])
            novelty = sum(other < gap for other in at_first) / len(at_first)
            value = (weights[0] * uncertainty[i] + weights[1] * novelty) / sum(weights)
            if i not in chosen and value > most:
                best, most = i, value
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 1.0), (2.0, 1.0)])
def test_the_choice_is_that_of_slow_loops(weights: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    # Whole numbers: distances are exact in float32.
    features, labelled = (rng.integers(0, 50, (n, 3)).astype(np.float32) for n in (30, 5))
    uncertainty = rng.uniform(0, 1, 30)
    chosen = choose(uncertainty, features, labelled, 12, weights=weights, random_share=0.0)
    assert [one.index for one in chosen] == slow_choice(uncertainty, features, labelled, 12, weights)
    assert not any(one.is_random for one in chosen)


def test_novelty_goes_through_the_clusters_before_it_comes_back() -> None:
    rng = np.random.default_rng(2)
    centers = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    cluster = rng.integers(1, 4, 60)
    features = centers[cluster] + rng.normal(0, 1, (60, 2)).astype(np.float32)
    chosen = choose(np.zeros(60), features, centers[:1], 6, weights=(0, 1), random_share=0)
    assert {cluster[one.index] for one in chosen[:3]} == {1, 2, 3}
    assert all(one.novelty < 0.1 for one in chosen[3:])


def test_uncertainty_alone_is_a_sort_and_needs_no_features() -> None:
    uncertainty = np.array([0.2, 0.9, 0.1, 0.9, 0.5])
    nothing = np.zeros((5, 0), np.float32)
    chosen = choose(uncertainty, nothing, nothing[:1], 9, weights=(1, 0), random_share=0)
    assert [one.index for one in chosen] == [1, 3, 4, 0, 2]


def test_drawn_images_are_spread_over_the_list_and_drawn_alike() -> None:
    rng = np.random.default_rng(3)
    features, uncertainty = rng.normal(size=(20, 2)).astype(np.float32), np.linspace(0, 1, 20)
    times, num_seeds = np.zeros(20), 500
    for seed in range(num_seeds):
        chosen = choose(uncertainty, features, features[:1] + 9, 10, random_share=0.25, seed=seed)
        assert len({one.index for one in chosen}) == 10
        assert [one.is_random for one in chosen].count(True) == 3
        assert chosen[3].is_random
        assert sum(one.is_random for one in chosen[:7]) == 2
        times[[one.index for one in chosen if one.is_random]] += 1
    expected = num_seeds * 3 / 20
    assert ((times - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees of freedom, 0.1 %
    again = [choose(uncertainty, features, features[:1] + 9, 10, random_share=0.25, seed=7) for _ in range(2)]
    assert again[0] == again[1]


def test_blocks_come_into_one_unit() -> None:
    rng = np.random.default_rng(4)
    small, large = rng.normal(3, 0.01, (30, 4)), rng.normal(-5, 100, (30, 2))
    blocks = [(block[:20].astype(np.float32), block[20:].astype(np.float32)) for block in (small, large)]
    new, labelled = common_units(tuple(b[0] for b in blocks), tuple(b[1] for b in blocks))
    both = np.concatenate([new, labelled])
    assert (new.shape, labelled.shape) == ((20, 6), (10, 6))
    for part in (both[:, :4], both[:, 4:]):
        assert ((part - part.mean(0)) ** 2).sum(1).mean() == pytest.approx(1, abs=1e-3)
