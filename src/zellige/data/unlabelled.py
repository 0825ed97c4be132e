"""Images that nobody has labelled: a folder of any layout, compared with a data set and with itself."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import Pixels, PixelSize, Sample
from zellige.data.duplicates import find_pairs, merge_groups
from zellige.data.formats import Listing, Row, Skipped, image_files
from zellige.data.scan import Scanned, scan

UNLABELLED = "unlabelled"
"""The kind of a sample of which nobody said whether it is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlabelled:
    """What of a folder can be labelled, in the order of the paths, and what was left out and why."""

    samples: tuple[Sample, ...]
    unusable: tuple[Skipped, ...]
    known: tuple[Skipped, ...]
    """Images that the data set has already, or of a piece that it has."""
    known_in: Mapping[str, int]
    """How many of them each split has."""
    repeated: tuple[Skipped, ...]
    """Images of which the folder has the like, which is among the samples."""
    num_ignored: int
    """Files that are no images, links and hidden ones."""


def read_unlabelled(
    root: Path,
    labelled: Mapping[str, Sequence[Sample]],
    check: Callable[[Pixels, str], object],
    *,
    pixel_size: PixelSize | None = None,
    is_near_enough: bool = True,
) -> Unlabelled:
    """Read the images of a folder and leave out what is damaged or known.

    Args:
        root: folder; ids are paths relative to it.
        labelled: samples of each split of the data set.
        check: raises an InputError for pixels that are not like the data set's.
        pixel_size: of the new images.
        is_near_enough: whether an image that shows the same as another one is left out; false: only the same bytes.

    Raises:
        InputError: no folder, no images, or none that can be used and is new.
    """
    listing = Listing()
    rows, unusable = _rows_of(image_files(root, listing), root, pixel_size)
    old = [replace(sample, mask_path=None, boxes=()) for samples in labelled.values() for sample in samples]
    split_of = {sample.id: split for split, samples in labelled.items() for sample in samples}
    scanned = scan([Row(sample=sample) for sample in old], {}, lambda pixels, where: None)
    known = [result for result in scanned if isinstance(result, Scanned)]
    new = []
    for result in scan(rows, {}, check):
        if isinstance(result, Scanned):
            new.append(result)
        else:
            unusable.append(Skipped(path=result.row.sample.id, reason=result.reason))
    firsts = _firsts([*known, *new], is_near_enough)
    samples, again, repeated, known_in = [], [], [], Counter[str]()
    for index, item in enumerate(new, len(known)):
        sample, first = item.row.sample, firsts[index]
        if first == index:
            samples.append(sample)
            continue
        twin = [*known, *new][first]
        shown = "the same file as" if twin.content == item.content else "shows the same as"
        if first < len(known):
            name = twin.row.sample.id
            known_in[split_of[name]] += 1
            again.append(Skipped(path=sample.id, reason=f"{shown} {name} in {split_of[name]}"))
        else:
            repeated.append(Skipped(path=sample.id, reason=f"{shown} {twin.row.sample.id}"))
    if not samples:
        first_out = [*again, *unusable][0]
        raise InputError(
            f"images {root}: expected images that can be used and are new to the run, got none: {len(again)} are known "
            f"and {len(unusable)} cannot be used, first {first_out.path}: {first_out.reason}"
        )
    return Unlabelled(
        samples=tuple(samples),
        unusable=tuple(unusable),
        known=tuple(again),
        known_in=known_in,
        repeated=tuple(repeated),
        num_ignored=sum(listing.ignored.values()),
    )


def _rows_of(paths: Sequence[Path], root: Path, pixel_size: PixelSize | None) -> tuple[list[Row], list[Skipped]]:
    rows, odd = [], []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if not name.isprintable():
            odd.append(Skipped(path=ascii(name), reason="expected a name that can be printed"))
            continue
        sample = Sample(id=name, image_path=path, kind=UNLABELLED, group_id=name, pixel_size=pixel_size)
        rows.append(Row(sample=sample))
    return rows, odd


def _firsts(items: Sequence[Scanned], is_near_enough: bool) -> list[int]:
    """For each image the number of the first one that shows the same, by pairs and pairs of pairs."""
    pairs = find_pairs([item.thumbnail for item in items], [item.content for item in items])
    names = [f"{index:09}" for index in range(len(items))]
    return [int(name) for name in merge_groups(names, [pair for pair in pairs if pair.is_exact or is_near_enough])]
