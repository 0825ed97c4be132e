"""Turn a set of labelled images into another format: all of it or, after an error, nothing."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from zellige.core.errors import ConfigError
from zellige.core.progress import progress
from zellige.data.annotations import AnnotatedImage
from zellige.data.label_formats import WRITABLE, write_labels
from zellige.data.label_scan import LabelSet
from zellige.data.whole_folder import check_new, whole_folder


def convert_labels(labels: LabelSet, to: str, out: Path, *, fill_boxes: bool = False) -> list[str]:
    """Write images and labels to a new folder.

    Args:
        labels: what is written.
        to: one of `zellige.data.label_formats.FORMATS`.
        out: a folder that does not exist or is empty; the images are copied to out/images, byte by byte.
        fill_boxes: manifest and folder: a box without an outline becomes a mask of its whole area.

    Returns:
        What the format could not hold, in words.

    Raises:
        InputError: `out` is not empty, or see `write_labels`.
        ConfigError: `to` is unknown or only read.
    """
    check_target(to, out)
    with whole_folder(out) as unfinished:
        copy_images(labels.images, unfinished / "images")
        return write_labels(labels.images, labels.kinds, to, unfinished, fill_boxes=fill_boxes)


def check_target(to: str, out: Path) -> None:
    """Refuse what cannot be written, before anything is read.

    Raises:
        InputError: `out` is not empty.
        ConfigError: `to` is unknown or only read.
    """
    if to not in WRITABLE:
        raise ConfigError(f"labels.to: expected one of {', '.join(WRITABLE)}, got {to!r}")
    check_new(out)


def copy_images(images: Sequence[AnnotatedImage], out: Path, *, link: bool = False) -> None:
    """Copy images, byte by byte, to out/ID; or link to where they are."""
    with progress("linking images" if link else "copying images", len(images)) as advance:
        for image in images:
            target = out / image.id
            target.parent.mkdir(parents=True, exist_ok=True)
            if link:
                target.symlink_to(image.image_path.absolute())
            else:
                shutil.copyfile(image.image_path, target)
            advance()
