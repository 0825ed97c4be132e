"""Labelled images of defects that come after a run, to learn names from: none of a piece that VAL or TEST shows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.image_files import in_color
from zellige.core.types import Pixels, PixelSize, Sample, Splits
from zellige.data.duplicates import find_pairs, merge_groups
from zellige.data.formats import Listing, Row, read_folder, read_manifest
from zellige.data.read_set import read_all
from zellige.data.scan import Scanned, scan


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDefects:
    """Defective samples, images of one piece in one group, and how many were left out for which reason."""

    samples: tuple[Sample, ...]
    left_out: Mapping[str, int]


def read_named_defects(root: Path, splits: Splits, *, pixel_size: PixelSize | None, on_bad: str) -> NamedDefects:
    """Read a folder of kinds, or a manifest without splits, and leave out pieces that VAL or TEST shows.

    A piece is a group that the set names, or near-duplicates.

    Good images in it are left out: they say nothing of kinds.

    Args:
        root: folder of kinds with masks in ground_truth/, or a manifest.
        splits: of the run.
        pixel_size: of samples without one of their own.
        on_bad: error refuses a set with an unusable image, skip leaves such images out.

    Raises:
        InputError: no defective images, declared splits, unusable images or another color, all known to VAL or TEST, or
            an image that the run has as a good one.
    """
    is_manifest = root.suffix.lower() == ".csv" or (root / "manifest.csv").is_file()
    listing = (read_manifest if is_manifest else read_folder)(root, pixel_size)
    if any(row.split is not None for row in listing.rows):
        raise InputError(f"defects {root}: expected images without splits, all are learned from, got declared ones")
    rows = [row for row in listing.rows if row.sample.is_defective]
    if not rows:
        raise InputError(f"defects {root}: expected labelled defects, got none among {len(listing.rows)} images")
    reasons = Counter({"good": len(listing.rows) - len(rows)})
    check: Callable[[Pixels, str], object] = partial(_check_color, splits)
    scanned, unusable = read_all(Listing(rows=rows), check, on_bad, needs_good=False)
    reasons["cannot be used"] += len(unusable)
    kept = _unseen([_without_empty_mask(item) for item in scanned], splits, root, reasons)
    return NamedDefects(samples=tuple(kept), left_out={why: count for why, count in reasons.items() if count})


def _check_color(splits: Splits, pixels: Pixels, where: str) -> None:
    in_color(pixels, splits.color, where)


def _without_empty_mask(item: Scanned) -> Scanned:
    sample = item.row.sample
    return replace(item, row=Row(sample=replace(sample, mask_path=None))) if item.is_mask_empty else item


def _unseen(items: Sequence[Scanned], splits: Splits, root: Path, reasons: Counter[str]) -> list[Sample]:
    """The samples that show no piece of VAL or TEST, in groups of one piece; the others are counted."""
    old = {sample.id: split for split, samples in splits.labelled().items() for sample in samples}
    rows = [Row(sample=replace(s, mask_path=None, boxes=())) for samples in splits.labelled().values() for s in samples]
    known = [one for one in scan(rows, {}, lambda pixels, where: None) if isinstance(one, Scanned)]
    pairs = find_pairs([one.thumbnail for one in (*known, *items)], [one.content for one in (*known, *items)])
    split_of = {sample.group_id: old[sample.id] for samples in splits.labelled().values() for sample in samples}
    homes: dict[int, str] = {}
    for index, item in enumerate(items):
        own = item.row.sample.group_id
        if own != item.row.sample.id and split_of.get(own, "train") != "train":  # a group that the set names
            homes[index] = split_of[own]
    for pair in pairs:
        if pair.first < len(known) <= pair.second:
            twin, new = known[pair.first].row.sample, items[pair.second - len(known)].row.sample
            if pair.is_exact and not twin.is_defective:
                raise InputError(f"defects {root}: {new.id} ({new.kind}) is the same file as {twin.id}, which is good")
            if old[twin.id] != "train":
                homes[pair.second - len(known)] = old[twin.id]
    new_pairs = [
        replace(pair, first=pair.first - len(known), second=pair.second - len(known))
        for pair in pairs
        if pair.first >= len(known)
    ]
    groups = merge_groups([item.row.sample.group_id for item in items], new_pairs)
    barred = {groups[index]: split for index, split in homes.items()}
    for group in groups:
        if group in barred:
            reasons[f"of a piece that {barred[group]} shows"] += 1
    kept = [
        replace(item.row.sample, group_id=group)
        for item, group in zip(items, groups, strict=True)
        if group not in barred
    ]
    if not kept:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        raise InputError(f"defects {root}: expected images that are new to VAL and TEST, got none: {why}")
    return kept
