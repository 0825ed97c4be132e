"""Deal samples to train, val and test by group. A group never straddles two splits.

The train split holds good samples; defective ones only where their labels are asked for (`train_defects`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.data.formats import SPLIT_NAMES, Row, Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """Shares of the good samples, dealt by group.

    A layout with declared splits uses `val` and `val_defects` alone: those shares of its good and defective training
    samples become val where it declares no val.
    """

    train: float = 0.6
    val: float = 0.2
    test: float = 0.2
    val_defects: float = 0.0
    """Share of the defective samples that goes to val, for a calibration on labels."""
    train_defects: float = 0.0
    """Share of the defective samples that goes to train, for detectors that learn from labels; the rest is for test."""

    def __post_init__(self) -> None:
        shares = (self.train, self.val, self.test)
        if min(shares) < 0 or self.train <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(f"fractions: expected train > 0, val and test >= 0, with sum 1, got {shares}")
        for name in ("val_defects", "train_defects"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"fractions {name}: expected 0 to below 1, got {getattr(self, name)}")
        if self.val_defects + self.train_defects >= 1:
            raise ConfigError(
                "fractions: expected val_defects + train_defects below 1, so that some are left for test, got "
                f"{self.val_defects} + {self.train_defects}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A split for each row, None where the row is left out; `dropped` names those rows with the reason."""

    splits: list[str | None]
    dropped: list[Skipped]


def assign(
    rows: Sequence[Row], groups: Sequence[str], fractions: Fractions, seed: int, *, needs_good: bool = True
) -> Assignment:
    """Choose the split of each row. The choice depends on the seed and on the ids, not on the order of the rows.

    Args:
        rows: samples with the splits that their layout declares (all of them or none).
        groups: the group of each row after near-duplicates were merged.
        fractions: see `Fractions`.
        seed: of the shuffle.
        needs_good: whether the training split must hold good samples; else defective ones will do.

    Raises:
        InputError: a group named by the user straddles declared splits, or nothing is left for train.
    """
    is_declared = any(row.split is not None for row in rows)
    if is_declared:
        _refuse_straddling(rows)
        result = _assign_declared(rows, groups, fractions, seed)
    else:
        result = Assignment(splits=_assign_undeclared(rows, groups, fractions, seed), dropped=[])
    of_train = [row.sample for split, row in zip(result.splits, rows, strict=True) if split == "train"]
    if needs_good and not any(not sample.is_defective for sample in of_train):
        raise InputError("no good images left to train on: every good group holds defects or is in another split")
    if not of_train:
        raise InputError(
            "no images left to train on: expected good ones, or defective ones by data.fractions.train_defects"
        )
    return result


def _refuse_straddling(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.sample.group_id, row)
        if other.split != row.split:
            raise InputError(
                f"group {row.sample.group_id}: expected one split, got {other.split} ({other.sample.id}) "
                f"and {row.split} ({row.sample.id})"
            )


def _assign_declared(rows: Sequence[Row], groups: Sequence[str], fractions: Fractions, seed: int) -> Assignment:
    """Keep the declared splits; test wins over val and val over train where near-duplicates linked them."""
    winner: dict[str, Row] = {}
    for row, group in zip(rows, groups, strict=True):
        best = winner.setdefault(group, row)
        if _rank(row) > _rank(best):
            winner[group] = row
    splits: list[str | None] = []
    dropped = []
    for row, group in zip(rows, groups, strict=True):
        best = winner[group]
        splits.append(row.split if row.split == best.split else None)
        if row.split != best.split:
            reason = f"near-duplicate of {best.sample.id} or of its group in {best.split}, left out of {row.split}"
            dropped.append(Skipped(path=row.sample.id, reason=reason))
    if not any(row.split == "val" for row in rows):
        dealt = list(zip(groups, splits, rows, strict=True))
        with_defect = {group for group, split, row in dealt if split == "train" and row.sample.is_defective}
        deal: dict[str, str] = {}
        for has_defect, share in ((False, fractions.val), (True, fractions.val_defects)):
            in_train = (group for group, split, _ in dealt if split == "train" and (group in with_defect) is has_defect)
            deal |= deal_groups(Counter(in_train), {"train": 1 - share, "val": share}, seed)
        splits = [deal.get(g, "train") if s == "train" else s for g, s in zip(groups, splits, strict=True)]
    return Assignment(splits=splits, dropped=dropped)


def _rank(row: Row) -> int:
    return SPLIT_NAMES.index(row.split or "train")


def _assign_undeclared(rows: Sequence[Row], groups: Sequence[str], fractions: Fractions, seed: int) -> list[str | None]:
    with_defect = {group for row, group in zip(rows, groups, strict=True) if row.sample.is_defective}
    good = Counter(group for group in groups if group not in with_defect)
    defective = Counter(group for group in groups if group in with_defect)
    deal = deal_groups(good, {"train": fractions.train, "val": fractions.val, "test": fractions.test}, seed)
    shares = {
        "test": 1 - fractions.val_defects - fractions.train_defects,
        "val": fractions.val_defects,
        "train": fractions.train_defects,
    }
    deal |= deal_groups(defective, shares, seed)
    return [deal[group] for group in groups]


def deal_groups(sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Deal shuffled groups: first one to each split with a share, then each to the split that lacks most samples."""
    names = [name for name, share in shares.items() if share > 0]
    total, held = sum(sizes.values()), dict.fromkeys(names, 0)
    ordered = sorted(sizes)
    deal = {}
    for turn, index in enumerate(np.random.default_rng(seed).permutation(len(ordered))):
        group = ordered[index]
        name = names[turn] if turn < len(names) else max(names, key=lambda n: shares[n] * total - held[n])
        deal[group] = name
        held[name] += sizes[group]
    return deal
