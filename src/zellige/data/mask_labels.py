"""Masks: an image file for each image that marks the defects' pixels, binary, transparent, gray levels or a palette."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from zellige.core.errors import InputError
from zellige.core.image_files import IMAGE_SUFFIXES, read_mask
from zellige.core.types import Pixels
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas
from zellige.data.label_listing import (
    MASK_FOLDERS,
    Entry,
    ImageIndex,
    LabelListing,
    Source,
    files_below,
    read_kinds,
)
from zellige.data.shapes import fill_box, mask_of, regions_of

KINDS_FILE = "kinds.txt"
DEFECT = "defect"
"""The kind where a mask says only that a pixel is defective."""


def list_masks(source: Source) -> LabelListing:
    """List images and their masks: masks/ID.png or masks/ID_mask.png (or ground_truth/), ID without its suffix.

    With names of kinds (`labels.kinds`, or a line each in kinds.txt) a mask's level or palette index 1 is the first of
    them, 0 is good. Without, everything marked is a "defect", by the rules of `zellige.core.image_files.read_mask`.
    Each connected region of a kind is one defect. An image without a mask is unlabelled, one with an empty mask good.

    Raises:
        InputError: no folder of masks; two masks for an image.
    """
    root = source.root
    folders = [root / name for name in MASK_FOLDERS if (root / name).is_dir()]
    if len(folders) != 1:
        raise InputError(f"labels {root}: expected one of the folders {', '.join(MASK_FOLDERS)}, got {len(folders)}")
    own_file = root / KINDS_FILE
    kinds = list(source.kinds) or (read_kinds(own_file) if own_file.is_file() else [])
    listing, images = LabelListing(kinds=kinds or [DEFECT]), ImageIndex(root)
    masks: dict[str, Path] = {}
    for path in files_below(folders[0], IMAGE_SUFFIXES):
        stem = path.relative_to(folders[0]).with_suffix("").as_posix().removesuffix("_mask")
        if stem in masks:
            raise InputError(f"mask {path}: a second mask for the same image, the first is {masks[stem]}")
        masks[stem] = path
    for path in images.paths:
        mask = masks.pop(Path(images.id_of(path)).with_suffix("").as_posix(), None)
        if mask is None:
            continue
        images.take(path)
        read = partial(read_kinds_of_mask, mask, kinds) if kinds else partial(read_binary, mask)
        listing.entries.append(Entry(id=images.id_of(path), image_path=path, where=f"mask {mask}", read_defects=read))
    for path in masks.values():
        listing.drop(path.relative_to(root).as_posix(), f"mask {path}: no image belongs to it")
    listing.unlabelled = images.unused()
    return listing


def read_binary(path: Path, canvas: Canvas) -> list[AnnotatedDefect]:
    """Read the regions of a mask that knows one kind.

    Raises:
        InputError: see `read_mask`.
    """
    return regions_of(read_mask(path, canvas.size), DEFECT)


def read_kinds_of_mask(path: Path, kinds: Sequence[str], canvas: Canvas) -> list[AnnotatedDefect]:
    """Read the regions of a mask whose levels or palette indices number the kinds from 1 on.

    Raises:
        InputError: unreadable, another size, colors, or a level without a kind.
    """
    levels = _read_levels(path)
    canvas.check_size(levels.shape[0], levels.shape[1], f"mask {path}")
    highest = int(levels.max())
    if highest > len(kinds):
        raise InputError(f"mask {path}: expected levels from 0 to {len(kinds)} (the number of kinds), got {highest}")
    return [defect for number, kind in enumerate(kinds, start=1) for defect in regions_of(levels == number, kind)]


def write_masks(images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path) -> list[str]:
    """Write masks/ID.png, a palette image whose index numbers the kinds from 1 on, and kinds.txt.

    Returns:
        A warning where defects of two kinds overlap: the later one was drawn over.

    Raises:
        InputError: more than 255 kinds.
    """
    if len(kinds) > 255:
        raise InputError(f"masks: expected at most 255 kinds, got {len(kinds)}")
    num_overlaps = 0
    for image in images:
        levels = np.zeros(image.size, np.uint8)
        for defect in image.defects:
            drawn = mask_of(defect, image.size)
            mask = fill_box(defect.box, image.size) if drawn is None else drawn
            number = kinds.index(defect.kind) + 1
            num_overlaps += bool(((levels != 0) & (levels != number) & mask).any())
            levels[mask] = number
        picture = PIL.Image.fromarray(levels, "P")
        picture.putpalette(palette(len(kinds)).tobytes())
        path = out / "masks" / Path(image.id).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    (out / KINDS_FILE).write_text("".join(f"{kind}\n" for kind in kinds), encoding="utf-8")
    return [f"{num_overlaps} defects lie over one of another kind: the later one was drawn"] if num_overlaps else []


def palette(num_kinds: int) -> Pixels:
    """Colors (num_kinds + 1, 3) uint8 RGB: black for good, then as different hues as there are kinds."""
    hues = np.arange(num_kinds) * 180.0 / max(num_kinds, 1)
    hsv = np.stack([hues, np.full(num_kinds, 190), np.full(num_kinds, 240)], axis=-1).astype(np.uint8)[None]
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] if num_kinds else np.zeros((0, 3), np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), np.asarray(colors, np.uint8)])


def _read_levels(path: Path) -> Pixels:
    """Gray levels or palette indices as they are stored, (H, W) uint8."""
    try:
        with PIL.Image.open(path) as picture:
            if picture.mode not in ("P", "L", "1"):
                raise InputError(
                    f"mask {path}: expected gray levels or a palette that number the kinds, got {picture.mode}"
                )
            levels = np.asarray(picture)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"mask {path}: not a readable image ({str(error).splitlines()[0]})") from None
    return np.asarray(levels, np.uint8)
