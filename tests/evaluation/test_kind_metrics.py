"""Kinds of images against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference

from zellige.evaluation.bootstrap import GroupBootstrap
from zellige.evaluation.intervals import rate
from zellige.evaluation.kind_metrics import count_pairs, measure_kinds


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    true = generator.choice(["good", "hole", "scratch", "spur"], 60, p=[0.4, 0.3, 0.2, 0.1]).tolist()
    guessed = generator.choice(["good", "hole", "scratch", "unknown", "crack"], 60).tolist()
    said = [t if right else g for t, g, right in zip(true, guessed, generator.random(60) < 0.6, strict=True)]
    numbers = measure_kinds(list(zip(true, said, strict=True)), GroupBootstrap(true, times=1))

    labels = list(numbers.confusion.said_names)
    expected = reference.confusion_matrix(true, said, labels=labels)
    rows = [labels.index(name) for name in numbers.confusion.true_names]
    np.testing.assert_array_equal(numbers.confusion.counts, expected[rows])
    assert numbers.confusion.counts.sum() == 60
    assert numbers.accuracy.value == pytest.approx(reference.accuracy_score(true, said))
    present = sorted(set(true))
    macro = reference.f1_score(true, said, labels=present, average="macro", zero_division=0)
    assert numbers.macro_f1.value == pytest.approx(macro)
    by_kind = reference.precision_recall_fscore_support(true, said, labels=present, zero_division=0)
    got = {row.kind: row for row in numbers.by_kind}
    for kind, precision, recall, f1, n in zip(present, *by_kind, strict=True):
        assert (got[kind].f1.value, got[kind].recall.value, got[kind].recall.n) == pytest.approx((f1, recall, n))
        if kind in said:
            assert got[kind].precision.value == pytest.approx(precision)


def test_intervals_are_exact_for_rates_and_over_groups_for_f1():
    pairs = [("hole", "hole")] * 18 + [("hole", "good")] * 2 + [("good", "good")] * 30
    groups = [f"roll {i // 5}" for i in range(50)]
    numbers = measure_kinds(pairs, GroupBootstrap(groups, times=400, seed=1))
    assert numbers.accuracy == rate(48, 50)
    hole = next(row for row in numbers.by_kind if row.kind == "hole")
    assert (hole.recall, hole.precision) == (rate(18, 20), rate(18, 18))
    assert hole.f1.value == pytest.approx(36 / 38)
    assert hole.f1.low < hole.f1.value < hole.f1.high == 1.0


def test_rows_and_columns_have_an_order_that_people_read():
    pairs = [("spur", "unknown"), ("good", "hole"), ("hole", "missed"), ("nothing there", "spur"), ("hole", "crack")]
    confusion = count_pairs(pairs)
    assert confusion.true_names == ("good", "hole", "spur", "nothing there")
    assert confusion.said_names == ("good", "crack", "hole", "spur", "unknown", "missed")
    assert confusion.counts[1].tolist() == [0, 1, 0, 0, 0, 1]


def test_without_images_nothing_is_known():
    numbers = measure_kinds([], GroupBootstrap([]))
    assert numbers.to_json() == {
        "accuracy": {"value": None, "low": 0.0, "high": 1.0, "n": 0},
        "macro_f1": {"value": None, "low": None, "high": None},
        "by_kind": [],
        "confusion": {"true": [], "said": [], "counts": []},
    }
