"""Cross-validation: each image of a set is TEST once; near-duplicates and other groups stay together."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from zellige.core.errors import ConfigError, InputError
from zellige.data.formats import Row
from zellige.data.splits import Assignment

_VAL_PARTS = 5
"""One of so many parts of what is not TEST becomes VAL."""
_FEWEST_GROUPS = 3
"""Of each kind, so that TEST, VAL and training can each have one."""
_MOST_FOLDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold of a cross-validation; `number` counts from 1 to `of`."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 2 <= self.of <= _MOST_FOLDS:
            raise ConfigError(f"folds: expected 2 to {_MOST_FOLDS}, got {self.of}")
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"data.fold: expected a number from 1 to {self.of}, got {self.number}")


def assign_fold(rows: Sequence[Row], groups: Sequence[str], fold: Fold, seed: int) -> Assignment:
    """Choose the split of each row: TEST is the fold, alike by kind in all folds; about a fifth of the rest is VAL.

    The deal depends on the seed, the ids, the kinds and the groups, not on the order of the rows.

    Args:
        rows: samples of a set that declares no splits.
        groups: the group of each row after near-duplicates were merged.
        fold: which one is TEST.
        seed: of the deal.

    Raises:
        InputError: declared splits, a kind with fewer groups than folds (or than three), too few images, or a kind
            that no deal leaves in training.
    """
    if any(row.split is not None for row in rows):
        raise InputError("folds: expected images without splits, which the folds deal, got declared splits")
    order = sorted(range(len(rows)), key=lambda index: rows[index].sample.id)
    kinds = [row.sample.kind for row in rows]
    _check_enough(kinds, groups, fold)
    rest, test = list(_dealt(order, kinds, groups, fold.of, seed))[fold.number - 1]
    commonest = max(Counter(kinds[index] for index in rest).values())
    if commonest < _VAL_PARTS:
        raise InputError(
            f"folds: expected at least {_VAL_PARTS} images of one kind outside of each fold, a part of them for VAL, "
            f"got {commonest}"
        )
    train, val = _deal_val(rest, kinds, groups, fold, seed)
    split = dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return Assignment(splits=[split[index] for index in range(len(rows))], dropped=[])


def _deal_val(
    rest: Sequence[int], kinds: Sequence[str], groups: Sequence[str], fold: Fold, seed: int
) -> tuple[list[int], list[int]]:
    """Part what is not TEST into TRAIN and VAL: of the parts that leave every kind in TRAIN the one nearest to a fifth.

    A large group of near-duplicates lies in one part as a whole; it had better not be VAL.
    """
    num_parts = min(_VAL_PARTS, len({groups[index] for index in rest}))
    parts = list(_dealt(rest, kinds, groups, num_parts, seed)) if num_parts > 1 else []
    wanted = set(kinds)
    usable = [(train, val) for train, val in parts if {kinds[index] for index in train} == wanted]
    if not usable:
        left = {kinds[index] for train, _ in parts for index in train}
        lost = min(wanted - left) if wanted - left else min(wanted)
        raise InputError(
            f"folds: fold {fold.number} of {fold.of}: expected {lost} in training too, got no group of it left; give "
            "more images or other data.split_seed"
        )
    return min(usable, key=lambda part: abs(len(part[1]) - len(rest) / _VAL_PARTS))


def _check_enough(kinds: Sequence[str], groups: Sequence[str], fold: Fold) -> None:
    for kind in sorted(set(kinds)):
        count = len({group for group, other in zip(groups, kinds, strict=True) if other == kind})
        if count < fold.of:
            raise InputError(f"folds: expected at least {fold.of} groups of {kind}, one per fold, got {count}")
        if count < _FEWEST_GROUPS:
            raise InputError(
                f"folds: expected at least {_FEWEST_GROUPS} groups of {kind}, for TEST, VAL and training, got {count}"
            )


def _dealt(
    members: Sequence[int], kinds: Sequence[str], groups: Sequence[str], num_folds: int, seed: int
) -> Iterator[tuple[list[int], list[int]]]:
    """The members outside and inside of each fold."""
    folds = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    own_kinds, own_groups = ([values[index] for index in members] for values in (kinds, groups))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a kind with few images, which is allowed inside of a fold
        dealt = list(folds.split(np.zeros(len(members)), own_kinds, own_groups))
    for rest, inside in dealt:
        yield [members[place] for place in rest], [members[place] for place in inside]
