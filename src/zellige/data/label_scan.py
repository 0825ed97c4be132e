"""Read every image of a listing of labels once, and draw its labels on it: what fits, what does not and why."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import decode_pixels, read_bytes, read_template
from zellige.core.progress import progress
from zellige.core.types import PixelSize
from zellige.data.annotations import AnnotatedImage, Canvas
from zellige.data.duplicates import Thumbnail, thumbnail_of
from zellige.data.formats import Skipped
from zellige.data.label_listing import Entry, LabelListing

ON_BAD = ("error", "drop")
UNLABELLED = ("leave_out", "good")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledItem:
    """An annotated image whose file was read."""

    image: AnnotatedImage
    where: str
    num_clipped: int
    is_gray: bool
    content: str
    """sha256 of the file's bytes."""
    thumbnail: Thumbnail


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """What can be used of a data set, in the order of the ids, and what cannot."""

    kinds: tuple[str, ...]
    items: tuple[LabelledItem, ...]
    dropped: tuple[Skipped, ...]
    unlabelled: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def images(self) -> tuple[AnnotatedImage, ...]:
        return tuple(item.image for item in self.items)

    def without_unplaced(self) -> "LabelSet":
        """The set without images that show a kind of which nobody said where; they are listed as dropped."""
        reason = "it shows {}, nobody said where, and the format to write needs places"
        bad = {image.id: reason.format(", ".join(image.unplaced)) for image in self.images if image.unplaced}
        return replace(
            self,
            items=tuple(item for item in self.items if item.image.id not in bad),
            dropped=(
                *self.dropped,
                *(Skipped(path=name, reason=f"image {name}: {text}") for name, text in bad.items()),
            ),
        )


def scan_labels(
    listing: LabelListing,
    *,
    on_bad: str = "error",
    unlabelled: str = "leave_out",
    pixel_size: PixelSize | None = None,
) -> LabelSet:
    """Read the images and their labels in parallel; shows a progress bar on a terminal.

    A label that cannot be used costs its whole image, never a single defect: an image that lost a defect would teach
    that its place is good.

    Args:
        listing: from a reader of `zellige.data.label_formats`.
        on_bad: error refuses a set with any unusable label or image, drop leaves those images out and lists them.
        unlabelled: images that no label names: leave_out lists them, good takes them as good.
        pixel_size: on the object, for images without one of their own; None is uncalibrated.

    Raises:
        InputError: see `on_bad`; nothing usable; an image that is labelled twice in two ways.
        ConfigError: an unknown setting.
    """
    for name, value, known in (("on_bad", on_bad, ON_BAD), ("unlabelled", unlabelled, UNLABELLED)):
        if value not in known:
            raise ConfigError(f"labels.{name}: expected one of {', '.join(known)}, got {value!r}")
    entries, left_out = list(listing.entries), listing.unlabelled
    if unlabelled == "good":
        entries += [_good(name, path) for name, path in left_out.items()]
        left_out = {}
    items, dropped = _read_all([replace(e, pixel_size=e.pixel_size or pixel_size) for e in entries])
    dropped = [*listing.dropped, *dropped]
    items, again = _once_each(items)
    items, contradicting = _without_contradictions(items)
    dropped += contradicting
    if dropped and on_bad == "error":
        raise InputError(
            f"{len(dropped)} labels or images cannot be used (labels.on_bad=drop leaves them out), "
            f"first: {dropped[0].reason}"
        )
    if not items:
        reason = dropped[0].reason if dropped else f"{len(left_out)} images without labels"
        raise InputError(f"expected labelled images, got none; first: {reason}")
    seen = {kind for item in items for kind in item.image.kinds}
    return LabelSet(
        kinds=(*listing.kinds, *sorted(seen - set(listing.kinds))),
        items=tuple(items),
        dropped=tuple(dropped),
        unlabelled=tuple(sorted(left_out)),
        warnings=(*listing.warnings, *again),
    )


def _good(name: str, path: Path) -> Entry:
    return Entry(id=name, image_path=path, where=f"image {path}", read_defects=lambda canvas: ())


def _read_all(entries: Sequence[Entry]) -> tuple[list[LabelledItem], list[Skipped]]:
    items: list[LabelledItem] = []
    dropped: list[Skipped] = []
    with progress("reading images and labels", len(entries)) as advance:
        pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
        try:
            for result in pool.map(_try_read, sorted(entries, key=lambda entry: entry.id)):
                if isinstance(result, Skipped):
                    dropped.append(result)
                else:
                    items.append(result)
                advance()
        finally:
            pool.shutdown(cancel_futures=True)
    return items, dropped


def _try_read(entry: Entry) -> LabelledItem | Skipped:
    try:
        return _read(entry)
    except InputError as error:
        return Skipped(path=entry.id, reason=str(error))


def _read(entry: Entry) -> LabelledItem:
    data = read_bytes(entry.image_path)
    pixels = decode_pixels(data, f"image {entry.image_path}")
    canvas = Canvas((pixels.shape[0], pixels.shape[1]))
    if entry.template_path is not None:
        read_template(entry.template_path, pixels)
    defects = tuple(entry.read_defects(canvas))
    image = AnnotatedImage(
        id=entry.id,
        image_path=entry.image_path,
        size=canvas.size,
        defects=defects,
        unplaced=() if entry.image_kind is None or defects else (entry.image_kind,),
        group_id=entry.group_id,
        split=entry.split,
        pixel_size=entry.pixel_size,
        template_path=entry.template_path,
    )
    return LabelledItem(
        image=image,
        where=entry.where,
        num_clipped=canvas.num_clipped,
        is_gray=pixels.ndim == 2,
        content=hashlib.sha256(data).hexdigest(),
        thumbnail=thumbnail_of(pixels),
    )


def _once_each(items: Sequence[LabelledItem]) -> tuple[list[LabelledItem], list[str]]:
    """Keep one of several entries for a file where they say the same; where not, nobody knows which is right."""
    first: dict[str, LabelledItem] = {}
    num_again = 0
    for item in items:
        other = first.setdefault(item.image.id, item)
        if other is item:
            continue
        num_again += 1
        if replace(item.image, group_id=None) != replace(other.image, group_id=None):
            raise InputError(f"image {item.image.id} is labelled twice in two ways: {other.where} and {item.where}")
    return list(first.values()), [f"{num_again} images are labelled twice in the same way"] if num_again else []


def _without_contradictions(items: Sequence[LabelledItem]) -> tuple[list[LabelledItem], list[Skipped]]:
    """Take out images of equal bytes with other kinds of defects: one of them is wrong."""
    by_content: dict[str, list[LabelledItem]] = {}
    for item in items:
        by_content.setdefault(item.content, []).append(item)
    bad = {key for key, same in by_content.items() if len({item.image.kinds for item in same}) > 1}
    dropped = []
    for item in items:
        if item.content in bad:
            named = ", ".join(f"{same.image.id} ({same.image.kind})" for same in by_content[item.content])
            dropped.append(Skipped(path=item.image.id, reason=f"the same file is labelled in two ways: {named}"))
    return [item for item in items if item.content not in bad], dropped
