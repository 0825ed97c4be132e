"""Placements and the noise of a difference, against slow references, scikit-learn and repeated draws."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from zellige.core.errors import InputError
from zellige.evaluation.paired import difference_noise, placements, read_scores, unpaired_difference_noise

LABELS = np.repeat([False, True], [9, 7])


def draw(seed: int, num_seeds: int, *, ties: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_seeds, LABELS.size)) + 0.8 * LABELS
    return np.round(scores, 1) if ties else scores


def share_won(scores: np.ndarray, labels: np.ndarray, index: int) -> float:
    """The definition, pair by pair: 1 for a right order, 0.5 for a tie."""
    wins = []
    for other in range(len(scores)):
        if labels[other] == labels[index]:
            continue
        gap = (scores[index] - scores[other]) * (1 if labels[index] else -1)
        wins.append(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0)
    return float(np.mean(wins))


def test_placements_are_shares_of_pairs_in_the_right_order() -> None:
    scores = draw(0, 2)
    found = placements(scores, LABELS)
    expected = [[share_won(row, LABELS, index) for index in range(LABELS.size)] for row in scores]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    for row, placed in zip(scores, found, strict=True):
        assert placed[LABELS].mean() == pytest.approx(roc_auc_score(LABELS, row))
        assert placed[~LABELS].mean() == pytest.approx(roc_auc_score(LABELS, row))


def won(scores: np.ndarray, labels: np.ndarray) -> float:
    """The AUROC as it is defined, for scores without ties: the share of pairs in the right order."""
    return float((scores[labels][:, None] > scores[~labels]).mean())


def slow_noise(first: np.ndarray, second: np.ndarray, groups: list[str]) -> float:
    """The two sources, written out with loops and with scikit-learn's AUROC."""
    gaps = [roc_auc_score(LABELS, a) - roc_auc_score(LABELS, b) for a, b in zip(first, second, strict=True)]
    of_seeds = np.var(gaps, ddof=1) / len(gaps) if len(gaps) > 1 else 0.0
    by_group: dict[str, float] = {}
    by_piece: list[float] = []
    for index in range(LABELS.size):
        pairs = zip(first, second, strict=True)
        gap = np.mean([share_won(a, LABELS, index) - share_won(b, LABELS, index) for a, b in pairs])
        part = (gap - np.mean(gaps)) / np.count_nonzero(LABELS[index] == LABELS)
        by_group[groups[index]] = by_group.get(groups[index], 0.0) + part
        by_piece.append(part)
    squares = [sum(p**2 for p in parts) * len(parts) / (len(parts) - 1) for parts in (by_group.values(), by_piece)]
    return float(np.sqrt(of_seeds + max(squares)))


@pytest.mark.parametrize("num_seeds", [1, 4])
@pytest.mark.parametrize("per_group", [1, 3])
def test_noise_is_that_of_its_definition(num_seeds: int, per_group: int) -> None:
    first, second = draw(1, num_seeds), draw(2, num_seeds)
    groups = [f"g{index // per_group}" for index in range(LABELS.size)]
    found = difference_noise(first, second, LABELS, groups)
    assert found == pytest.approx(slow_noise(first, second, groups))
    assert found == pytest.approx(difference_noise(second, first, LABELS, groups))
    assert found > 0


@pytest.mark.parametrize("num_fits", [(3, 2), (1, 4), (1, 1)])
def test_noise_without_seeds_in_common_adds_the_variance_of_each_sides_fits(num_fits: tuple[int, int]) -> None:
    first, second = draw(1, num_fits[0]), draw(2, num_fits[1])
    groups = [f"g{index // 3}" for index in range(LABELS.size)]
    rounds = int(np.lcm(*num_fits))  # with each fit repeated, the paired means are those of all fits
    paired = [np.repeat(scores, rounds // len(scores), axis=0) for scores in (first, second)]
    gaps = [roc_auc_score(LABELS, a) - roc_auc_score(LABELS, b) for a, b in zip(*paired, strict=True)]
    of_pairs = np.var(gaps, ddof=1) / rounds if rounds > 1 else 0.0
    of_images = slow_noise(paired[0], paired[1], groups) ** 2 - of_pairs
    sides = [[roc_auc_score(LABELS, row) for row in side] for side in (first, second)]
    of_fits = sum(np.var(side, ddof=1) / len(side) for side in sides if len(side) > 1)
    expected = np.sqrt(of_images + of_fits)
    assert unpaired_difference_noise(first, second, LABELS, groups) == pytest.approx(expected)


def test_noise_is_the_scatter_of_the_difference_over_other_pieces() -> None:
    """What it estimates from one test set is what the difference does over 1500 of them."""
    rng = np.random.default_rng(5)
    labels = np.repeat([False, True], [60, 40])
    gaps, noises = [], []
    for _ in range(1500):
        shared = rng.normal(size=labels.size) + 1.5 * labels
        first, second = (shared + rng.normal(scale=s, size=labels.size) for s in (0.5, 1.0))
        gaps.append(won(first, labels) - won(second, labels))
        if len(noises) < 150:
            ids = [str(index) for index in range(labels.size)]
            noises.append(difference_noise(first[None], second[None], labels, ids))
    assert np.mean(noises) == pytest.approx(np.std(gaps), rel=0.08)


def test_a_second_shot_of_every_piece_brings_no_certainty() -> None:
    first, second = draw(3, 2), draw(4, 2)
    groups = [str(index) for index in range(LABELS.size)]
    once = difference_noise(first, second, LABELS, groups)
    twice = difference_noise(np.hstack([first] * 2), np.hstack([second] * 2), np.hstack([LABELS] * 2), groups * 2)
    assert twice == pytest.approx(once)


def test_two_groups_do_not_hide_the_noise_of_their_pieces() -> None:
    """Two groups cancel each other by construction; what is left of their scatter may be next to nothing."""
    first, second = draw(3, 1), draw(4, 1)
    alone = difference_noise(first, second, LABELS, [str(index) for index in range(LABELS.size)])
    halves = [str(index % 2) for index in range(LABELS.size)]
    assert difference_noise(first, second, LABELS, halves) >= alone


def test_noise_needs_both_classes_and_the_same_images() -> None:
    scores = draw(6, 1)
    ids = [str(index) for index in range(LABELS.size)]
    assert np.isnan(difference_noise(scores, scores, np.zeros_like(LABELS), ids))
    with pytest.raises(InputError, match="same seeds and images"):
        difference_noise(scores, scores[:, 1:], LABELS, ids)


def test_stored_scores_come_back_in_the_order_of_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text('id,kind,group,score,decision\n"b,1",hole,r1,0.5,REJECT\na,good,r2,0.25,ACCEPT\n')
    stored = read_scores(path)
    assert stored.ids == ("a", "b,1")
    assert stored.scores.tolist() == [0.25, 0.5]
    assert stored.is_defective.tolist() == [False, True]
    assert stored.groups == ("r2", "r1")


@pytest.mark.parametrize("content", [None, "id,score\na,1\n", "id,kind,group,score\na,good,g,many\n"])
def test_another_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "predictions.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"scores .*predictions.csv: expected the table"):
        read_scores(path)
