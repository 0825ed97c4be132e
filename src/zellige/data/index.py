"""From a folder or a manifest to three splits: list, read, find duplicates, deal by group, report."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import Color, PixelSize, Sample, Splits
from zellige.data.box_text import boxes_to_text
from zellige.data.duplicates import Pair, merge_groups
from zellige.data.folds import assign_fold
from zellige.data.formats import SPLIT_NAMES
from zellige.data.read_set import AS_STORED, ReadSet, Rules, read_set
from zellige.data.report import DataReport, DuplicatesReport, SplitCounts
from zellige.data.scan import Scanned
from zellige.data.splits import Assignment, Fractions, assign

_NUM_EXAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """A readable sample with its group, near-duplicates merged, and its split."""

    item: Scanned
    group: str
    split: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """A data set that was read: every sample in its place, the splits that they make, the report."""

    placed: tuple[Placed, ...]
    splits: Splits
    report: DataReport


def load_splits(
    root: Path,
    layout: str,
    fractions: Fractions,
    *,
    seed: int,
    color: str = AS_STORED,
    pixel_size: PixelSize | None = None,
    duplicates: str = "group",
    on_bad: str = "error",
    needs_good: bool = True,
) -> tuple[Splits, DataReport]:
    """Read a data set and split it by group. The result depends on the files and the settings alone.

    Args:
        root: folder of the set (or the CSV file of a manifest).
        layout: folder, manifest or magnetic_tile; see `zellige.data.formats`.
        fractions: shares of the splits where the layout declares none.
        seed: of the shuffle.
        color: as_stored (all images must agree), gray, rgb, or luma (color is turned into luminance).
        pixel_size: on the object, for samples without one of their own; None is uncalibrated.
        duplicates: what to do with near-duplicates. group: they form one group, so they share a split; where splits
            are declared the copy in train (or val) is left out and test is never touched. error: refuse the set when
            a pair lies in two splits. ignore: report only.
        on_bad: error refuses a set with an unusable image, skip leaves such images out and lists them.
        needs_good: whether a set without good images is refused.

    Raises:
        InputError: no images, no good images, unusable images, mixed color, contradicting labels, duplicates.
        ConfigError: an unknown setting.
    """
    rules = Rules(
        fractions=fractions,
        seed=seed,
        pixel_size=pixel_size,
        duplicates=duplicates,
        on_bad=on_bad,
        needs_good=needs_good,
    )
    placement = place(root, layout, rules, color=color)
    return placement.splits, placement.report


def place(root: Path, layout: str, rules: Rules, *, color: str) -> Placement:
    """Do what `load_splits` does, and keep what it has seen of each sample."""
    return deal(read_set(root, layout, rules, color=color), rules)


def deal(whole: ReadSet, rules: Rules) -> Placement:
    """Deal a data set that was read to three splits, by the fractions or as a fold of a cross-validation.

    Raises:
        InputError: nothing is left to train on, duplicates in two splits, or too few images for the folds.
    """
    scanned, own_groups, root = whole.items, whole.own_groups, whole.root
    groups = merge_groups(own_groups, whole.pairs) if rules.duplicates == "group" else own_groups
    assignment = _assign(whole, groups, rules)
    straddling = _straddling(whole.pairs, assignment)
    if rules.duplicates == "error" and straddling:
        first = straddling[0]
        names = " and ".join(
            f"{scanned[i].row.sample.id} ({assignment.splits[i]})" for i in (first.first, first.second)
        )
        raise InputError(f"data {root}: {len(straddling)} near-duplicate pairs lie in two splits, first {names}")
    placed = tuple(
        Placed(item=item, group=group, split=split)
        for item, group, split in zip(scanned, groups, assignment.splits, strict=True)
        if split is not None
    )
    splits = build_splits(placed, whole.color)
    report = DataReport(
        root=str(root),
        layout=whole.layout,
        color=whole.color.value,
        is_calibrated=all(item.row.sample.pixel_size is not None for item in scanned),
        seed=rules.seed,
        fingerprint=splits.fingerprint,
        num_listed=len(whole.listing.rows),
        splits={name: count_samples(samples) for name, samples in splits.labelled().items()},
        height_px=_range([item.metadata.height for item in scanned]),
        width_px=_range([item.metadata.width for item in scanned]),
        skipped=[*whole.listing.skipped, *whole.unusable, *assignment.dropped],
        ignored=dict(sorted(whole.listing.ignored.items())),
        empty_masks=[item.row.sample.id for item in scanned if item.is_mask_empty and item.row.sample.is_defective],
        warnings=_warnings(whole, splits, groups, straddling, rules),
        duplicates=_duplicates_report(rules.duplicates, scanned, whole.pairs, groups, straddling),
        shortcut=whole.shortcut,
    )
    return Placement(placed=placed, splits=splits, report=report)


def _assign(whole: ReadSet, groups: Sequence[str], rules: Rules) -> Assignment:
    rows = [item.row for item in whole.items]
    if rules.fold is not None:
        return assign_fold(rows, groups, rules.fold, rules.seed)
    return assign(rows, groups, rules.fractions, rules.seed, needs_good=rules.needs_good)


def _straddling(pairs: Sequence[Pair], assignment: Assignment) -> list[Pair]:
    found = []
    for pair in pairs:
        splits = {assignment.splits[pair.first], assignment.splits[pair.second]}
        if None not in splits and len(splits) == 2:
            found.append(pair)
    return found


def build_splits(placed: Sequence[Placed], color: Color) -> Splits:
    """Join samples in their places to splits with a fingerprint."""
    members: dict[str, list[Sample]] = {name: [] for name in SPLIT_NAMES}
    lines = []
    for one in placed:
        sample, item = one.item.row.sample, one.item
        # Only where there are some: other sets keep their fingerprint.
        more = [boxes_to_text(sample.boxes)] if sample.boxes else []
        more += [f"template {item.template_content}"] if item.template_content else []
        lines.append(json.dumps([sample.id, item.content, item.mask_content, sample.kind, one.split, *more]))
        mask_path = None if item.is_mask_empty else sample.mask_path
        members[one.split].append(replace(sample, group_id=one.group, mask_path=mask_path))
    fingerprint = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return Splits(
        train=tuple(sample for sample in members["train"] if not sample.is_defective),
        train_defects=tuple(sample for sample in members["train"] if sample.is_defective),
        val=tuple(members["val"]),
        test=tuple(members["test"]),
        color=color,
        fingerprint=fingerprint,
    )


def count_samples(samples: Sequence[Sample]) -> SplitCounts:
    """Count the samples of a split for the report."""
    kinds = Counter(sample.kind for sample in samples if sample.is_defective)
    return SplitCounts(
        good=sum(not sample.is_defective for sample in samples),
        defective=kinds.total(),
        kinds=dict(sorted(kinds.items())),
        groups=len({sample.group_id for sample in samples}),
        with_mask=sum(sample.mask_path is not None for sample in samples),
        with_template=sum(sample.template_path is not None for sample in samples),
    )


def _range(values: Sequence[int]) -> tuple[int, int]:
    return min(values), max(values)


def _warnings(
    whole: ReadSet, splits: Splits, groups: Sequence[str], straddling: Sequence[Pair], rules: Rules
) -> list[str]:
    listing, fractions = whole.listing, rules.fractions
    warnings = list(listing.warnings)
    without_good = [name for name in ("val", "test") if all(s.is_defective for s in getattr(splits, name))]
    warnings += [f"no good images in {name}" for name in without_good]
    if not any(sample.is_defective for sample in splits.test):
        warnings.append("no defective images in test: the escape rate cannot be measured")
    is_declared = any(row.split is not None for row in listing.rows)
    has_val = any(row.split == "val" for row in listing.rows)
    for split in ("val", "train") if has_val else ("train",):
        name = f"{split}_defects"
        if is_declared and getattr(fractions, name) > 0:
            warnings.append(f"fractions.{name} is not used: the layout declares its splits; put defects under {split}")
    mixed = {sample.group_id for sample in splits.test if sample.is_defective}
    shared = sum(sample.group_id in mixed for sample in splits.test if not sample.is_defective)
    if shared and not is_declared and rules.fold is None:
        warnings.append(
            f"{shared} good test images come from groups that also hold defective ones; no such group is in val, so a "
            "threshold from val says less about them"
        )
    largest, size = Counter(groups).most_common(1)[0]
    if not is_declared and size > max(10, len(groups) // 4):
        warnings.append(f"one group ({largest}) holds {size} of {len(groups)} images: the shares of the splits suffer")
    if straddling:
        warnings.append(f"{len(straddling)} near-duplicate pairs lie in two splits: the results will look too good")
    return warnings


def _duplicates_report(
    setting: str, scanned: Sequence[Scanned], pairs: Sequence[Pair], groups: Sequence[str], straddling: Sequence[Pair]
) -> DuplicatesReport:
    near = sorted((pair for pair in pairs if not pair.is_exact), key=lambda pair: pair.correlation)
    sizes = Counter(groups)
    return DuplicatesReport(
        setting=setting,
        exact_pairs=len(pairs) - len(near),
        near_pairs=len(near),
        straddling_pairs=len(straddling),
        merged_groups=sum(size > 1 for size in sizes.values()),
        largest_group=max(sizes.values()),
        examples=[
            (scanned[pair.first].row.sample.id, scanned[pair.second].row.sample.id, round(pair.correlation, 3))
            for pair in near[:_NUM_EXAMPLES]
        ],
    )
