import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.data.shortcut import MIN_GROUPS, Metadata, check_shortcut


def made(num: int, seed: int, **shift: float) -> list[Metadata]:
    rng = np.random.default_rng(seed)
    return [
        Metadata(
            height=int(rng.integers(200, 400) + shift.get("height", 0)),
            width=300,
            mean=float(rng.normal(100, 10) + shift.get("mean", 0)),
            spread=float(rng.normal(20, 3)),
            file_bytes=int(rng.integers(9000, 20000)),
        )
        for _ in range(num)
    ]


def check(good: list[Metadata], defective: list[Metadata], groups: list[str] | None = None):
    labels = [False] * len(good) + [True] * len(defective)
    return check_shortcut(good + defective, labels, groups or [str(i) for i in range(len(labels))], seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_metadata_gives_no_warning(seed: int) -> None:
    report = check(made(60, seed), made(60, seed + 100))
    assert report.warning == ""
    assert report.low < 0.5 < report.high


@pytest.mark.parametrize(("shift", "feature"), [({"height": 150}, "height"), ({"mean": 25}, "mean")])
def test_a_shift_is_found_and_named(shift: dict[str, float], feature: str) -> None:
    report = check(made(80, 1), made(80, 2, **shift))
    assert report.low > 0.6
    assert "metadata alone predicts the label" in report.warning
    assert f"strongest {feature}" in report.warning
    assert report.by_feature[feature] > 0.8


def test_size_that_tells_the_label_in_no_monotone_way_is_found() -> None:
    rng = np.random.default_rng(0)
    good = [Metadata(height=int(h), width=300, mean=1, spread=1, file_bytes=9) for h in rng.integers(250, 350, 80)]
    sides = rng.choice([210, 390], 80)
    bad = [Metadata(height=int(h), width=300, mean=1, spread=1, file_bytes=9) for h in sides]
    assert check(good, bad).auroc == pytest.approx(1.0, abs=0.01)


def test_group_identity_does_not_count_as_a_shortcut() -> None:
    """Every tile has a size of its own: random folds would recognize the tile, folds by group cannot."""
    rng = np.random.default_rng(0)
    tiles = [Metadata(height=int(h), width=300, mean=1, spread=1, file_bytes=9) for h in rng.integers(200, 900, 60)]
    six_shots = [tile for tile in tiles for _ in range(6)]
    groups = [str(i) for i in range(60) for _ in range(6)]
    report = check(six_shots[:180], six_shots[180:], groups)
    assert report.warning == ""


def test_too_few_groups_say_so() -> None:
    report = check(made(50, 0), made(MIN_GROUPS - 1, 1))
    assert (report.auroc, report.low, report.warning) == (None, None, "")
    assert report.note.startswith("too few to tell: 50 groups with good and 9 with defective")
    shots_of_one = check(made(50, 0), made(50, 1), [str(i) for i in range(50)] + ["one"] * 50)
    assert "1 with defective" in shots_of_one.note


def test_same_seed_same_report_and_lengths_must_agree() -> None:
    assert check(made(30, 0), made(30, 1)) == check(made(30, 0), made(30, 1))
    with pytest.raises(InputError, match="equal lengths, got 1, 0, 0"):
        check_shortcut(made(1, 0), [], [], seed=0)
