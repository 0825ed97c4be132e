"""The ranking against scikit-learn and against the evaluation's AUPRO; the choice among near equals."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from zellige.evaluation.metrics import aupro, count_levels
from zellige.models.patch_scores import PatchScores
from zellige.training.stage_ranking import (
    Looked,
    SubsetScore,
    all_subsets,
    choose,
    image_ranks,
    look,
    overlaps,
    rank,
)


def looked(seed: int, num: int, shift: float = 0.0, num_pixels: int = 50) -> Looked:
    """Scores with ties, pixels without."""
    rng = np.random.default_rng(seed)
    return Looked(scores=np.round(rng.normal(shift, 1, num), 1), pixels=rng.normal(shift, 1, (num, num_pixels)))


def row(stages: tuple[int, ...], criterion: float, behind: float, error: float) -> SubsetScore:
    return SubsetScore(
        stages=stages,
        criterion=criterion,
        image_auroc=criterion,
        aupro=criterion,
        behind=behind,
        standard_error=error,
        by_kind={},
    )


def test_all_subsets() -> None:
    assert all_subsets((0, 1, 2)) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert len(all_subsets(range(5))) == 31


def test_the_mean_rank_is_the_auroc() -> None:
    good, bad = looked(0, 30), looked(1, 40, 0.7)
    labels = np.repeat([False, True], [30, 40])
    expected = roc_auc_score(labels, np.concatenate([good.scores, bad.scores]))
    assert image_ranks(good, bad).mean() == pytest.approx(expected)


def test_the_mean_overlap_is_the_aupro() -> None:
    """The evaluation's, with a trapezoid for each step, so equal up to the width of the steps."""
    good, bad = looked(0, 200), looked(1, 40, 1.0)
    values = np.concatenate([good.pixels.ravel(), bad.pixels.ravel()])
    is_bad = np.repeat([False, True], [good.pixels.size, bad.pixels.size])
    _, num_good, num_bad = count_levels(values, is_bad)
    expected = aupro(num_good, num_bad / bad.pixels.shape[1], fpr_limit=0.3)
    assert overlaps(good, bad).mean() == pytest.approx(expected, abs=1e-3)


def test_looking_is_what_the_detector_says() -> None:
    pool = PatchScores(0.1, 1.0)
    generator = torch.Generator().manual_seed(0)
    gaps = [torch.rand(40, 1, side, side, generator=generator) for side in (8, 4)]
    positions = torch.randint(0, 64 * 48, (40, 7), generator=generator)
    found = look(pool, gaps, (64, 48), positions)
    for index in (0, 17, 39):
        output = pool([gap[index : index + 1] for gap in gaps], (64, 48))
        assert found.scores[index] == pytest.approx(output.score.item())
        expected = [output.anomaly_map[0, 0, p // 48, p % 48].item() for p in positions[index].tolist()]
        assert found.pixels[index] == pytest.approx(expected)


def test_the_table() -> None:
    kinds, sources = np.array(["a", "a", "a", "b"]), np.array([0, 1, 1, 0])
    fine, rough = np.array([1.0, 1.0, 0.4, 1.0]), np.array([0.5, 0.9, 0.4, 0.2])
    table = rank([((2,), rough, rough), ((1,), fine, fine - 0.2)], kinds, sources)
    assert [r.stages for r in table] == [(1,), (2,)]
    assert table[0].image_auroc == pytest.approx((0.8 + 1.0) / 2)
    assert table[0].aupro == pytest.approx((0.6 + 0.8) / 2)
    assert table[0].criterion == pytest.approx(0.8)
    assert table[0].by_kind == pytest.approx({"a": 0.7, "b": 0.9})
    assert (table[0].behind, table[0].standard_error) == (0, 0)
    assert table[1].behind == pytest.approx(0.8 - (0.6 + 0.2) / 2)
    # Differences 0.4, 0 | -0.1, 0.7; weights 1/6 and 1/2: source 0 adds 0.4/6 + 0.7/2, source 1 adds 0 - 0.1/6.
    parts = np.array([0.4 / 6 + 0.7 / 2, 0.0 - 0.1 / 6])
    assert table[1].standard_error == pytest.approx(np.sqrt(2) * parts.std(ddof=1))


def test_the_standard_error_is_that_of_a_sum_over_sources() -> None:
    """Against many data sets: how much the difference of two subsets varies from one to the next."""
    kinds, sources = np.array(["a", "b"] * 40), np.repeat(np.arange(20), 4)
    behind, errors = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        of_source = rng.normal(0.1, 0.1, 20)[sources]
        worse = 0.6 - of_source + rng.normal(0, 0.05, 80)
        second = next(
            r
            for r in rank([((0,), np.full(80, 0.9), np.full(80, 0.9)), ((1,), worse, worse)], kinds, sources)
            if r.stages == (1,)
        )
        behind.append(second.behind)
        errors.append(second.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(behind), rel=0.15)


SURE = row((0, 1), 0.9, 0.0, 0.0), row((3,), 0.85, 0.05, 0.02)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([*SURE, row((2,), 0.89, 0.01, 0.02)], (2,)),
        ([*SURE, row((2,), 0.87, 0.03, 0.02)], (0, 1)),
        ([row((4,), 0.9, 0.0, 0.0), row((2,), 0.89, 0.01, 0.02), SURE[1]], (2,)),
        ([row((1, 3), 0.9, 0.0, 0.0), row((2, 3), 0.89, 0.01, 0.02), SURE[1]], (1, 3)),
    ],
    ids=["fewer", "only within noise", "less deep", "higher"],
)
def test_the_cheapest_of_the_best_where_the_default_is_beaten(table: list, expected: tuple[int, ...]) -> None:
    assert choose(table, (3,), num_sources=10) == expected


@pytest.mark.parametrize(
    ("num_sources", "expected"),
    [(1, (3,)), (2, (3,)), (4, (3,)), (5, (0, 1)), (100, (0, 1))],
)
def test_the_default_is_kept_unless_it_is_beaten_for_certain(num_sources: int, expected: tuple[int, ...]) -> None:
    """The default is 3 standard errors behind; t(0.975) is 12.7 for 2 sources, 3.18 for 4, 2.78 for 5."""
    table = [row((0, 1), 0.9, 0.0, 0.0), row((3,), 0.84, 0.06, 0.02)]
    assert choose(table, (3,), num_sources) == expected
