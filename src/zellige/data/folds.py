"""Cross-validation: each image of a set is TEST once; near-duplicates and other groups stay together."""

import hashlib
from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from zellige.core.errors import InputError
from zellige.core.types import Sample, Splits


def fold_splits(splits: Splits, num_folds: int, *, seed: int) -> Iterator[Splits]:
    """Deal all samples of a set to folds, alike by kind, and yield one split per fold with it as TEST.

    A fifth of the groups of what is not TEST becomes VAL, again alike by kind. The splits that the set had do not
    matter.

    Args:
        splits: of the set.
        num_folds: 2 or more.
        seed: of the deal.

    Raises:
        InputError: a kind with fewer groups than there are folds, so that a fold would lack it.
    """
    samples = [sample for part in splits.labelled().values() for sample in part]
    samples.sort(key=lambda sample: sample.id)
    for kind in sorted({sample.kind for sample in samples}):
        count = len({sample.group_id for sample in samples if sample.kind == kind})
        if count < num_folds:
            raise InputError(f"folds: expected at least {num_folds} groups of {kind}, one per fold, got {count}")
    for number, (rest, test) in enumerate(_dealt(samples, num_folds, seed)):
        others = [samples[index] for index in rest]
        train, val = next(_dealt(others, 5, seed))
        digest = hashlib.sha256(f"{splits.fingerprint} fold {number} of {num_folds}, seed {seed}".encode())
        learned = [others[index] for index in train]
        yield Splits(
            train=tuple(sample for sample in learned if not sample.is_defective),
            train_defects=tuple(sample for sample in learned if sample.is_defective),
            val=tuple(others[index] for index in val),
            test=tuple(samples[index] for index in test),
            color=splits.color,
            fingerprint=digest.hexdigest(),
        )


def _dealt(samples: list[Sample], num_folds: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Numbers of the samples outside and inside of each fold."""
    kinds, groups = ([getattr(sample, name) for sample in samples] for name in ("kind", "group_id"))
    folds = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    for rest, inside in folds.split(np.zeros(len(samples)), kinds, groups):
        yield rest.tolist(), inside.tolist()
