from pathlib import Path

import pytest

from zellige.core.errors import InputError
from zellige.core.types import Color, Sample, Splits
from zellige.data.folds import fold_splits


def sample(number: int, kind: str) -> Sample:
    """Two and two share a group."""
    name = f"{kind}{number:02}"
    return Sample(id=name, image_path=Path(name), kind=kind, group_id=f"{kind}-{number // 2}")


def test_each_image_is_test_once_with_its_group_and_kinds_are_alike() -> None:
    defects = [sample(i, kind) for kind, count in (("cut", 20), ("dent", 40)) for i in range(count)]
    good = [sample(i, "good") for i in range(60)]
    whole = Splits(
        train=tuple(good[:20]),
        train_defects=tuple(defects[:10]),
        val=tuple(good[20:]),
        test=tuple(defects[10:]),
        color=Color.GRAY,
        fingerprint="x",
    )
    folds = list(fold_splits(whole, 5, seed=0))
    tested = [one.id for fold in folds for one in fold.test]
    assert sorted(tested) == sorted(one.id for one in (*good, *defects))
    assert len({fold.fingerprint for fold in folds}) == 5
    for fold in folds:  # `Splits` itself refuses a group in two parts
        counts = {kind: sum(one.kind == kind for one in fold.test) for kind in ("good", "cut", "dent")}
        assert counts == {"good": 12, "cut": 4, "dent": 8}
        assert sum(len(part) for part in (fold.train, fold.train_defects, fold.val)) == 96
        assert {one.kind for one in fold.val} == {"good", "cut", "dent"}
    again, other = (list(fold_splits(whole, 5, seed=seed)) for seed in (0, 1))
    assert [fold.test for fold in again] == [fold.test for fold in folds]
    assert [fold.test for fold in other] != [fold.test for fold in folds]
    with pytest.raises(InputError, match="expected at least 11 groups of cut, one per fold, got 10"):
        next(fold_splits(whole, 11, seed=0))
