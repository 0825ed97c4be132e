"""From a folder or a manifest to three splits: list, read, find duplicates, deal by group, report."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import in_color
from zellige.core.types import Color, Pixels, PixelSize, Sample, Splits
from zellige.data.box_text import boxes_to_text
from zellige.data.duplicates import Pair, find_pairs, merge_groups
from zellige.data.formats import LAYOUTS, SPLIT_NAMES, Listing, Skipped
from zellige.data.report import DataReport, DuplicatesReport, SplitCounts
from zellige.data.scan import Scanned, Unusable, scan
from zellige.data.shortcut import check_shortcut
from zellige.data.splits import Assignment, Fractions, assign

AS_STORED = "as_stored"
COLORS = (AS_STORED, *(color.value for color in Color))
DUPLICATES = ("group", "error", "ignore")
ON_BAD = ("error", "skip")

_NUM_EXAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a set is read and split; see `load_splits`."""

    fractions: Fractions
    seed: int
    pixel_size: PixelSize | None
    duplicates: str
    on_bad: str
    needs_good: bool = True
    """Whether a set without good images is refused; detectors that learn from labels can do without."""


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
    duplicates, on_bad, seed = rules.duplicates, rules.on_bad, rules.seed
    _check_settings(layout=layout, color=color, duplicates=duplicates, on_bad=on_bad)
    listing = LAYOUTS[layout](root, rules.pixel_size)
    if rules.needs_good and not any(not row.sample.is_defective for row in listing.rows):
        kinds = ", ".join(sorted({row.sample.kind for row in listing.rows})[:5])
        raise InputError(f"data {root}: expected good images, got none among {len(listing.rows)} images of {kinds}")
    check = partial(_check_color, color)
    scanned, unusable = read_all(listing, check, on_bad, needs_good=rules.needs_good)
    mode = _resolve_color(scanned, color, root)
    contents = [item.content for item in scanned]
    _refuse_contradictions(scanned)
    pairs = find_pairs([item.thumbnail for item in scanned], contents)
    own_groups = [item.row.sample.group_id for item in scanned]
    groups = merge_groups(own_groups, pairs) if duplicates == "group" else own_groups
    assignment = assign([item.row for item in scanned], groups, rules.fractions, seed, needs_good=rules.needs_good)
    straddling = _straddling(pairs, assignment)
    if duplicates == "error" and straddling:
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
    splits = build_splits(placed, mode)
    report = DataReport(
        root=str(root),
        layout=layout,
        color=mode.value,
        is_calibrated=all(item.row.sample.pixel_size is not None for item in scanned),
        seed=seed,
        fingerprint=splits.fingerprint,
        num_listed=len(listing.rows),
        splits={name: count_samples(samples) for name, samples in splits.labelled().items()},
        height_px=_range([item.metadata.height for item in scanned]),
        width_px=_range([item.metadata.width for item in scanned]),
        skipped=[*listing.skipped, *unusable, *assignment.dropped],
        ignored=dict(sorted(listing.ignored.items())),
        empty_masks=[item.row.sample.id for item in scanned if item.is_mask_empty and item.row.sample.is_defective],
        warnings=_warnings(listing, splits, groups, straddling, rules.fractions),
        duplicates=_duplicates_report(duplicates, scanned, pairs, groups, straddling),
        shortcut=check_shortcut(
            [item.metadata for item in scanned],
            [item.row.sample.is_defective for item in scanned],
            merge_groups(own_groups, pairs),
            seed=seed,
        ),
    )
    return Placement(placed=placed, splits=splits, report=report)


def _check_settings(**settings: str) -> None:
    known = {"layout": tuple(LAYOUTS), "color": COLORS, "duplicates": DUPLICATES, "on_bad": ON_BAD}
    for name, value in settings.items():
        if value not in known[name]:
            raise ConfigError(f"data {name}: expected one of {', '.join(known[name])}, got {value!r}")


def read_all(
    listing: Listing, check: Callable[[Pixels, str], object], on_bad: str, *, needs_good: bool = True
) -> tuple[list[Scanned], list[Skipped]]:
    """Read every image of a listing, in the order of the ids, and list those that cannot be used.

    Raises:
        InputError: an unusable image where `on_bad` is error, or no usable one, a good one where `needs_good`.
    """
    rows = sorted(listing.rows, key=lambda row: row.sample.id)
    results = scan(rows, listing.good_masks, check)
    bad = [result for result in results if isinstance(result, Unusable)]
    if bad and on_bad == "error":
        raise InputError(
            f"{len(bad)} of {len(rows)} images cannot be used (on_bad=skip leaves them out), first: {bad[0].reason}"
        )
    usable = [result for result in results if isinstance(result, Scanned)]
    if not any(not needs_good or not item.row.sample.is_defective for item in usable):
        wanted = "readable good images" if needs_good else "readable images"
        raise InputError(f"expected {wanted}, got none; first: {bad[0].reason}")
    return usable, [Skipped(path=item.row.sample.id, reason=item.reason) for item in bad]


def _check_color(color: str, pixels: Pixels, where: str) -> None:
    if color != AS_STORED:
        in_color(pixels, Color(color), where)


def _resolve_color(scanned: Sequence[Scanned], color: str, root: Path) -> Color:
    if color != AS_STORED:
        return Color(color)
    num_gray = sum(item.is_gray for item in scanned)
    if num_gray not in (0, len(scanned)):
        odd = next(item for item in scanned if item.is_gray == (2 * num_gray < len(scanned)))
        raise InputError(
            f"data {root}: expected all gray or all color, got {num_gray} gray and {len(scanned) - num_gray} color "
            f"(such as {odd.row.sample.id}); color=luma turns all into luminance"
        )
    other = next((item for item in scanned if item.is_template_gray not in (None, bool(num_gray))), None)
    if other is not None:
        words = ("gray", "color") if num_gray else ("color", "gray")
        raise InputError(
            f"template {other.row.sample.template_path}: expected {words[0]} as the images, got {words[1]}; "
            "color=luma turns all into luminance"
        )
    return Color.GRAY if num_gray else Color.RGB


def _refuse_contradictions(scanned: Sequence[Scanned]) -> None:
    first: dict[str, Sample] = {}
    for item in scanned:
        other = first.setdefault(item.content, item.row.sample)
        if other.is_defective != item.row.sample.is_defective:
            raise InputError(
                f"{other.id} ({other.kind}) and {item.row.sample.id} ({item.row.sample.kind}) are the same file: "
                "labels contradict"
            )


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
    listing: Listing, splits: Splits, groups: Sequence[str], straddling: Sequence[Pair], fractions: Fractions
) -> list[str]:
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
    if shared and not is_declared:
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
