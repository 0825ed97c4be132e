"""The recommendation, on tables worked out by hand."""

import math

import pytest

from zellige.core.errors import ConfigError
from zellige.evaluation.recommendation import Budget, Measured, recommend

# name: image AUROC, p50 ms, p95 ms, megapixels per second
TABLE = {
    "large": (0.960, 80.0, 90.0, 1.0),
    "middle": (0.952, 40.0, 50.0, 2.0),
    "small": (0.930, 10.0, 20.0, 8.0),
}


def rows_of(table: dict[str, tuple[float, float, float, float]]) -> list[Measured]:
    return [
        Measured(name=name, quality=quality, p50_ms=p50, p95_ms=p95, mp_per_s=speed)
        for name, (quality, p50, p95, speed) in table.items()
    ]


def noise_of(value: float, names: tuple[str, ...] = tuple(TABLE)) -> dict[tuple[str, str], float]:
    return {(a, b): value for a in names for b in names if a != b}


CASES = {
    # noise, budget, recommended, as good as the best
    "nothing comes close": (0.001, Budget(), "large", ("large",)),
    "the middle one is within 0.009": (0.009, Budget(), "middle", ("middle", "large")),
    "all are within 0.031": (0.031, Budget(), "small", ("small", "middle", "large")),
    "the best keeps the budget": (0.001, Budget(ms_per_frame=90.0), "large", ("large",)),
    "the quickest as good one is within the budget": (0.009, Budget(ms_per_frame=50.0), "middle", ("middle", "large")),
    "p95 counts, not p50": (0.009, Budget(ms_per_frame=45.0), None, ("middle", "large")),
    "megapixels": (0.009, Budget(mp_per_s=2.0), "middle", ("middle", "large")),
    "both limits": (0.031, Budget(ms_per_frame=60.0, mp_per_s=8.0), "small", ("small", "middle", "large")),
    "one limit of two is missed": (0.009, Budget(ms_per_frame=60.0, mp_per_s=8.0), None, ("middle", "large")),
    "no one is quick enough": (0.009, Budget(ms_per_frame=10.0), None, ("middle", "large")),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", [1, -1])
def test_the_rule(case: str, order: int) -> None:
    noise, budget, name, as_good = CASES[case]
    found = recommend(rows_of(TABLE)[::order], noise_of(noise), budget)
    assert (found.name, found.best, found.as_good) == (name, "large", as_good)


def test_only_the_noise_against_the_best_counts() -> None:
    noise = noise_of(0.001) | {("middle", "small"): 1.0, ("small", "middle"): 1.0}
    assert recommend(rows_of(TABLE), noise, Budget()).name == "large"


def test_by_how_much_the_nearest_misses() -> None:
    found = recommend(rows_of(TABLE), noise_of(0.009), Budget(ms_per_frame=8.0))
    assert found.within_budget == ()
    assert "No candidate keeps the budget of 8 ms for 95 % of the frames" in found.reason
    assert "nearest is small: 95 % of its frames take at most 20 ms, 2.50 times too slow" in found.reason
    assert "Without the budget it would be middle." in found.reason
    found = recommend(rows_of(TABLE), noise_of(0.009), Budget(mp_per_s=10.0))
    assert "nearest is small: it reaches 8 megapixels per second, 1.25 times too slow" in found.reason


def test_quick_ones_that_are_too_weak_are_named_with_what_they_lack() -> None:
    found = recommend(rows_of(TABLE), noise_of(0.009), Budget(ms_per_frame=20.0))
    assert found.name is None
    assert found.within_budget == ("small",)
    assert "large has the highest image AUROC (0.9600) but does not keep the budget of 20 ms" in found.reason
    assert "small finds defects best: image AUROC 0.9300, lower by 0.0300" in found.reason


def test_reasons_name_the_numbers() -> None:
    reason = recommend(rows_of(TABLE), noise_of(0.009), Budget(ms_per_frame=60.0)).reason
    assert reason.startswith("Take middle: it needs 40 ms per frame on the station (large: 80 ms)")
    assert "0.9520 cannot be told from the highest, 0.9600 of large (lower by 0.0080, the noise of that" in reason
    assert "keeps the budget of 60 ms for 95 % of the frames: 95 % of its frames take at most 50 ms." in reason
    alone = recommend(rows_of(TABLE), noise_of(0.001), Budget()).reason
    assert "No other candidate comes close enough" in alone
    assert "budget" not in alone


def test_of_equals_the_quicker_and_of_equally_quick_the_better() -> None:
    twins = {"a": (0.9, 20.0, 30.0, 1.0), "b": (0.9, 10.0, 30.0, 1.0)}
    assert recommend(rows_of(twins), noise_of(0.0, ("a", "b")), Budget()).name == "b"
    twins = {"a": (0.90, 10.0, 30.0, 1.0), "b": (0.91, 10.0, 30.0, 1.0)}
    assert recommend(rows_of(twins), noise_of(0.05, ("a", "b")), Budget()).name == "b"


def test_one_candidate_is_the_best_one() -> None:
    found = recommend(rows_of({"a": (0.9, 20.0, 30.0, 1.0)}), {}, Budget())
    assert (found.name, found.best, found.as_good) == ("a", "a", ("a",))


def test_without_defective_images_or_finished_runs_nothing_is_recommended() -> None:
    found = recommend(rows_of({"a": (math.nan, 20.0, 30.0, 1.0)}), {}, Budget())
    assert found.name is None
    assert "good and defective test images" in found.reason
    assert "none has finished" in recommend([], {}, Budget()).reason


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["ms_per_frame", "mp_per_s"])
def test_a_budget_is_a_number_above_zero(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"budget\.{name}: expected a number above 0 or null"):
        Budget(**{name: value})
