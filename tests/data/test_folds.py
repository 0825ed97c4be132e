import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Sample
from zellige.data.folds import Fold, assign_fold
from zellige.data.formats import Row


def rows_of(counts: dict[str, int], **more: Any) -> tuple[list[Row], list[str]]:
    """Rows and their groups; two and two share a group."""
    names = [(f"{kind}{number:02}", kind, f"{kind}-{number // 2}") for kind, n in counts.items() for number in range(n)]
    rows = [Row(sample=Sample(id=i, image_path=Path(i), kind=kind, group_id=i), **more) for i, kind, _ in names]
    return rows, [group for *_, group in names]


def splits_of(rows: list[Row], groups: list[str], number: int, of: int, seed: int = 0) -> dict[str, str]:
    deal = assign_fold(rows, groups, Fold(number=number, of=of), seed)
    return dict(zip([row.sample.id for row in rows], [str(split) for split in deal.splits], strict=True))


def test_each_image_is_test_once_with_its_group_and_kinds_are_alike() -> None:
    rows, groups = rows_of({"cut": 20, "dent": 40, "good": 60})
    folds = [splits_of(rows, groups, number, 5) for number in range(1, 6)]
    tested = [name for fold in folds for name, split in fold.items() if split == "test"]
    assert sorted(tested) == sorted(row.sample.id for row in rows)
    for fold in folds:
        assert len({(group, fold[row.sample.id]) for row, group in zip(rows, groups, strict=True)}) == 60
        for split, expected in (("test", {"good": 12, "cut": 4, "dent": 8}), ("val", None)):
            kinds = [row.sample.kind for row in rows if fold[row.sample.id] == split]
            assert expected is None or {kind: kinds.count(kind) for kind in set(kinds)} == expected
            assert set(kinds) == {"good", "cut", "dent"}
    turned = splits_of(rows[::-1], groups[::-1], 1, 5)
    assert turned == folds[0]
    assert splits_of(rows, groups, 1, 5, seed=1) != folds[0]


def grouped(sizes: dict[str, dict[str, int]]) -> tuple[list[Row], list[str]]:
    """Rows of groups with so many images of each kind, and their groups."""
    found = [
        (f"{g}-{kind}{n}", kind, g) for g, kinds in sizes.items() for kind, count in kinds.items() for n in range(count)
    ]
    rows = [Row(sample=Sample(id=i, image_path=Path(i), kind=kind, group_id=g)) for i, kind, g in found]
    return rows, [group for *_, group in found]


def test_few_rolls_are_dealt_whole() -> None:
    """Five rolls, each with all kinds: outside of a fold four are left."""
    rows, groups = grouped({f"roll{n}": {"good": 10, "cut": 4} for n in range(5)})
    for number in range(1, 6):
        splits = splits_of(rows, groups, number, 5)
        rolls = {
            split: {i.split("-")[0] for i, s in splits.items() if s == split} for split in ("train", "val", "test")
        }
        assert {split: len(found) for split, found in rolls.items()} == {"train": 3, "val": 1, "test": 1}


def test_a_large_group_is_no_val() -> None:
    """Half of the images are in one group: outside of TEST it is learned from, and VAL is about a fifth of the rest."""
    rows, groups = grouped({"many": {"good": 100}} | {f"g{n:03}": {"good": 1} for n in range(100)})
    for number in range(1, 6):
        splits = splits_of(rows, groups, number, 5)
        if splits["many-good0"] != "test":
            assert splits["many-good0"] == "train"
            num_val = sum(split == "val" for split in splits.values())
            assert 10 <= num_val <= 32


def test_a_fold_that_leaves_nothing_to_train_on_is_refused() -> None:
    """Of three rolls one fold takes two: the third cannot be both VAL and training."""
    rows, groups = grouped({f"roll{n}": {"good": 10, "cut": 10} for n in range(3)})
    sizes, refusals = [], []
    for number in (1, 2):
        try:
            sizes.append(Counter(splits_of(rows, groups, number, 2).values()))
        except InputError as error:
            refusals.append(str(error))
    assert sizes == [{"train": 20, "val": 20, "test": 20}]
    assert len(refusals) == 1
    assert re.search("fold [12] of 2: expected cut in training too, got no group of it left", refusals[0])


@pytest.mark.parametrize(
    ("counts", "of", "message"),
    [
        ({"cut": 20, "good": 60}, 11, "expected at least 11 groups of cut, one per fold, got 10"),
        ({"cut": 4, "good": 60}, 2, "expected at least 3 groups of cut, for TEST, VAL and training, got 2"),
        ({"cut": 6}, 2, "expected at least 5 images of one kind outside of each fold, a part of them for VAL, got"),
    ],
)
def test_too_few_images_for_the_folds(counts: dict[str, int], of: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        splits_of(*rows_of(counts), 1, of)


def test_declared_splits_and_folds_that_are_none() -> None:
    with pytest.raises(InputError, match="got declared splits"):
        splits_of(*rows_of({"good": 20}, split="train"), 1, 2)
    for number, of in ((1, 1), (0, 5), (6, 5)):
        with pytest.raises(ConfigError, match="fold"):
            Fold(number=number, of=of)
