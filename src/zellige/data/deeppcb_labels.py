"""DeepPCB: boxes in a text file for each tested board, beside a template without defects.

Each line of trainval.txt and test.txt names an image and its labels, `g/n/ID.jpg g/n_not/ID.txt`; on disk the image is
`ID_test.jpg` and the template `ID_temp.jpg`. A line of labels is `x1 y1 x2 y2 type`, separated by spaces or commas.

Source: https://github.com/tangsanli5201/DeepPCB
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from zellige.core.errors import InputError
from zellige.data.annotations import AnnotatedDefect, Canvas
from zellige.data.label_listing import Entry, ImageIndex, LabelListing, Source, files_below, read_text

KINDS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
LISTS = {"trainval.txt": "train", "test.txt": "test"}
TEMPLATES = ("pair", "good")
"""What the templates are: each the template of its tested image and no image of the set, or good images of it."""


def list_deeppcb(source: Source) -> LabelListing:
    """List the pairs that trainval.txt and test.txt name: a tested image with the defects, and its template.

    The template is what the image is compared with and no image of the set; with `source.templates` "good" it is a good
    image instead, and the two are one group. Lines whose files are missing are dropped with their reason.

    Raises:
        InputError: neither list is there, or a line names no two files.
    """
    root, listing = source.root, LabelListing(kinds=list(KINDS))
    texts = frozenset(files_below(root, (".txt",)))
    lists = sorted(path for path in texts if path.name in LISTS)
    if not lists:
        raise InputError(f"labels {root}: expected {' and '.join(LISTS)}, got neither")
    images = ImageIndex(root)
    for path in lists:
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                _list_pair(path, number, line, texts, images, listing, is_pair=source.templates == "pair")
    listing.unlabelled = images.unused()
    return listing


def _list_pair(
    path: Path,
    number: int,
    line: str,
    texts: frozenset[Path],
    images: ImageIndex,
    listing: LabelListing,
    *,
    is_pair: bool,
) -> None:
    where, words = f"labels {path} line {number}", line.split()
    if len(words) != 2 or any(part in ("..", "/") for word in words for part in PurePosixPath(word).parts):
        raise InputError(f"{where}: expected an image and its labels, got {line.strip()[:80]!r}")
    image, labels = (path.parent / word for word in words)
    stem = image.with_suffix("")
    tested, template = (stem.with_name(f"{stem.name}_{role}{image.suffix}") for role in ("test", "temp"))
    missing = [file for file in (tested, labels) if not (images.holds(file) or file in texts)]
    if missing:
        listing.drop(words[0], f"{where}: expected the file {missing[0]}, it does not exist")
        return
    has_template = images.holds(template)
    if has_template:
        images.take(template)
    else:
        reason = f"{where}: expected the template {template}, it does not exist; the tested image is used"
        listing.drop(words[0], reason)
    images.take(tested)
    entry = Entry(
        id=images.id_of(tested),
        image_path=tested,
        where=where,
        read_defects=partial(read_boxes, labels),
        group_id=words[0],
        split=LISTS[path.name],
        template_path=template if has_template and is_pair else None,
    )
    listing.entries.append(entry)
    if has_template and not is_pair:
        good = replace(entry, id=images.id_of(template), image_path=template, read_defects=_no_defects)
        listing.entries.append(good)


def read_boxes(path: Path, canvas: Canvas) -> list[AnnotatedDefect]:
    """Read the boxes of one tested image.

    Raises:
        InputError: no five whole numbers, a type beyond 1 to 6, a box that is none; the message names the line.
    """
    defects = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where, words = f"labels {path} line {number}", line.replace(",", " ").split()
        if len(words) != 5 or not all(word.isdecimal() for word in words):
            raise InputError(f"{where}: expected five whole numbers x1 y1 x2 y2 type, got {line.strip()[:60]!r}")
        kind = float(words[4])
        if not 1 <= kind <= len(KINDS):
            raise InputError(f"{where}: expected a type from 1 to {len(KINDS)}, got {words[4][:20]}")
        defects.append(canvas.box(KINDS[int(kind) - 1], [float(word) for word in words[:4]], where))
    return defects


def _no_defects(canvas: Canvas) -> Sequence[AnnotatedDefect]:
    return ()
