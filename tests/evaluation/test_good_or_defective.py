import math

import numpy as np
import pytest

from zellige.evaluation.good_or_defective import judge_good_or_defective, most_accurate_threshold


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_is_more_accurate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_defective = rng.random(60) < 0.4
    scores = np.round(rng.normal(is_defective * (seed - 1.0), 1), 1)  # with ties, and once upside down
    threshold = most_accurate_threshold(scores, is_defective)
    levels = np.unique(scores)
    everywhere = [levels[0] - 1, *(levels[:-1] + levels[1:]) / 2, levels[-1] + 1]
    accuracies = [np.mean((scores > level) == is_defective) for level in everywhere]
    assert np.mean((scores > threshold) == is_defective) == max(accuracies)
    lowest = everywhere[int(np.argmax(accuracies))]
    assert np.array_equal(scores > threshold, scores > lowest)


def test_without_one_of_the_classes_in_val_there_is_none() -> None:
    judged = judge_good_or_defective([(0.3, True), (0.4, True)], [(0.1, False), (0.9, True)])
    assert math.isnan(judged.threshold)
    assert judged.to_json() == {"threshold": None, "accuracy": {"value": None, "low": 0.0, "high": 1.0, "n": 0}}
