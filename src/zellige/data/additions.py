"""Let good images join a data set that is split already: read, compared with all of it, dealt to train and val.

The older images keep their places, so TEST stays what it was and unseen. Ids of added images begin with `added-N/`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.image_files import in_color
from zellige.core.types import GOOD, Color, Pixels, PixelSize, Sample
from zellige.data.duplicates import Pair, find_pairs, merge_groups
from zellige.data.formats import Listing, Row, Skipped, image_files, read_folder, read_manifest
from zellige.data.index import Placed, Placement, build_splits, count_samples
from zellige.data.read_set import Rules, read_all
from zellige.data.report import AddedReport, DataReport
from zellige.data.scan import Scanned
from zellige.data.splits import deal_groups


def add_images(known: Placement, root: Path, rules: Rules) -> Placement:
    """Let the good images of a folder or manifest join a data set.

    Images join by group: one whose group, by name or by near-duplicates, is in train or val already goes there, the
    others are dealt to both in the proportion of `rules.fractions`. Left out, and listed in the report: files that the
    set has already, and whatever shows a piece of TEST again.

    Args:
        known: the set; all its images are compared with the new ones.
        root: a folder of good images, one with `good/` in it, or a manifest.
        rules: of the set.

    Raises:
        InputError: nothing new; images that are not good, unreadable, of another color or size than the set's; with
            duplicates=error a near-duplicate of TEST.
    """
    listing = list_good(root, rules.pixel_size)
    report, color = known.report, known.splits.color
    check = partial(_check_pixels, color=color, report=report)
    items, unusable = read_all(listing, check, rules.on_bad)
    prefix = added_prefix(len(report.additions) + 1)
    new = [_renamed(item, prefix) for item in items]
    unusable = [replace(one, path=prefix + one.path) for one in (*listing.skipped, *unusable)]
    placed, dropped = _place_new(known.placed, new, rules, root)
    if not placed:
        raise InputError(
            f"data {root}: expected good images that are new, got none: all {len(dropped)} are left out, first "
            f"{dropped[0].path}: {dropped[0].reason}"
        )
    joined = (*known.placed, *placed)
    splits = build_splits(joined, color)
    counts = Counter(one.split for one in placed)
    added = AddedReport(
        root=str(root),
        extends=report.fingerprint,
        num_listed=len(listing.rows),
        train=counts["train"],
        val=counts["val"],
    )
    report = replace(
        report,
        is_calibrated=report.is_calibrated and all(item.row.sample.pixel_size is not None for item in new),
        fingerprint=splits.fingerprint,
        num_listed=report.num_listed + len(listing.rows),
        splits={name: count_samples(samples) for name, samples in splits.labelled().items()},
        skipped=[*report.skipped, *unusable, *dropped],
        ignored=dict(sorted((Counter(report.ignored) + listing.ignored).items())),
        warnings=[*report.warnings, *_warnings(added, rules, dropped)],
        additions=[*report.additions, added],
    )
    return Placement(placed=joined, splits=splits, report=report)


def added_prefix(number: int) -> str:
    """What the ids of the images begin with that joined a set as its first, second, ... addition."""
    return f"added-{number}/"


def list_good(root: Path, pixel_size: PixelSize | None) -> Listing:
    """List good images: those of a folder itself, of its `good/`, or of a manifest without splits.

    Raises:
        InputError: defective images, declared splits, or images in other folders.
    """
    if root.suffix.lower() == ".csv" or (root / "manifest.csv").is_file():
        listing = read_manifest(root, pixel_size)
    elif (root / GOOD).is_dir() or (root / "train").is_dir():
        listing = read_folder(root, pixel_size)
    else:
        listing = Listing()
        for path in image_files(root, listing):
            if path.parent != root:
                raise InputError(f"data {root}: expected good images in it or in {GOOD}/, got {path}")
            sample = Sample(id=path.name, image_path=path, kind=GOOD, group_id=path.name, pixel_size=pixel_size)
            listing.rows.append(Row(sample=sample))
    bad = [row.sample.id for row in listing.rows if row.sample.is_defective]
    if bad:
        raise InputError(f"data {root}: expected good images only, got {len(bad)} defective, first {bad[0]}")
    if any(row.split is not None for row in listing.rows):
        raise InputError(f"data {root}: expected good images without splits, which the run deals, got declared ones")
    if not listing.rows:
        raise InputError(f"data {root}: expected good images, got none")
    return listing


def _check_pixels(pixels: Pixels, where: str, color: Color, report: DataReport) -> None:
    in_color(pixels, color, where)
    sizes = {"height": report.height_px, "width": report.width_px}
    for (name, (low, high)), length in zip(sizes.items(), pixels.shape[:2], strict=True):
        if not low <= length <= high:
            span = f"{low}" if low == high else f"{low} to {high}"
            raise InputError(f"{where}: expected a {name} of {span} px as in the data so far, got {length}")


def _renamed(item: Scanned, prefix: str) -> Scanned:
    sample = item.row.sample
    group = sample.group_id if sample.group_id != sample.id else prefix + sample.id
    return replace(item, row=Row(sample=replace(sample, id=prefix + sample.id, group_id=group)))


def _place_new(
    known: Sequence[Placed], new: Sequence[Scanned], rules: Rules, root: Path
) -> tuple[list[Placed], list[Skipped]]:
    """Choose the place of each new sample, or the reason why it has none."""
    items = [*(one.item for one in known), *new]
    pairs = find_pairs([item.thumbnail for item in items], [item.content for item in items])
    pairs = [pair for pair in pairs if pair.second >= len(known)]
    again = _same_files(pairs, items, root)
    near = [pair for pair in pairs if not pair.is_exact] if rules.duplicates != "ignore" else []
    groups = merge_groups([*(one.group for one in known), *(item.row.sample.group_id for item in new)], near)
    homes: dict[str, dict[str, str]] = defaultdict(dict)  # of a merged group: the splits it is in, and its name there
    for one, group in zip(known, groups, strict=False):
        homes[group].setdefault(one.split, one.group)
    first_twin = {pair.second: pair.first for pair in reversed(near) if pair.first < len(known)}
    sizes: Counter[str] = Counter()
    decided: list[tuple[Scanned, str, str | None]] = []
    dropped = []
    for index, item in enumerate(new, len(known)):
        home = homes.get(groups[index], {})
        if index in again:
            dropped.append(Skipped(path=item.row.sample.id, reason=again[index]))
        elif "test" in home or len(home) > 1:
            reason = _why_not(item, home, known[first_twin[index]] if index in first_twin else None)
            if rules.duplicates == "error" and index in first_twin:
                raise InputError(f"data {root}: {item.row.sample.id}: {reason}; data.duplicates=error refuses this")
            dropped.append(Skipped(path=item.row.sample.id, reason=reason))
        elif home:
            ((split, name),) = home.items()
            decided.append((item, name, split))
        else:
            sizes[groups[index]] += 1
            decided.append((item, groups[index], None))
    both = rules.fractions.train + rules.fractions.val
    shares = {"train": rules.fractions.train / both, "val": rules.fractions.val / both}
    deal = deal_groups(sizes, shares, rules.seed)
    return [Placed(item=item, group=group, split=split or deal[group]) for item, group, split in decided], dropped


def _same_files(pairs: Sequence[Pair], items: Sequence[Scanned], root: Path) -> Mapping[int, str]:
    """New samples whose bytes an earlier sample has, with the reason.

    Raises:
        InputError: one of them is known as defective.
    """
    found = {}
    for pair in pairs:
        if pair.is_exact:
            sample, twin = items[pair.second].row.sample, items[pair.first].row.sample
            if twin.is_defective:
                raise InputError(f"data {root}: {sample.id} is the same file as {twin.id} ({twin.kind}): not good")
            found[pair.second] = f"the same file as {twin.id}"
    return found


def _why_not(item: Scanned, home: Mapping[str, str], twin: Placed | None) -> str:
    where = " and ".join(sorted(home))
    if twin is not None:
        return f"near-duplicate of {twin.item.row.sample.id} or of its group in {where}, which must stay apart"
    return f"its group, or that of a near-duplicate ({item.row.sample.group_id}), is in {where}, which must stay apart"


def _warnings(added: AddedReport, rules: Rules, dropped: Sequence[Skipped]) -> list[str]:
    warnings = [f"TEST has no image of {added.root}, added later: its rates say nothing about these"]
    if dropped:
        warnings.append(f"{len(dropped)} images of {added.root} were left out, first {dropped[0].reason}")
    if rules.duplicates == "ignore":
        warnings.append(f"near-duplicates of TEST were not looked for in {added.root}: data.duplicates=ignore")
    if added.val == 0:
        warnings.append(f"no image of {added.root} is in VAL: the threshold knows nothing of them")
    return warnings
