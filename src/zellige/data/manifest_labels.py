"""zellige's own layouts, which training reads: a manifest with masks and boxes, and folders of kinds with masks."""

import csv
import io
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from zellige.core.errors import InputError
from zellige.core.image_files import Mask, read_mask
from zellige.core.types import GOOD, PixelSize, Sample
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas, check_kind
from zellige.data.box_text import boxes_to_text
from zellige.data.formats import SPLIT_NAMES, Listing, read_folder, read_magnetic_tile, read_manifest
from zellige.data.label_listing import MASK_FOLDERS, Entry, ImageIndex, LabelListing, Source
from zellige.data.shapes import encode, fill_box, mask_of, regions_of, union


def list_manifest(source: Source) -> LabelListing:
    """List a manifest (see `zellige.data.formats.read_manifest`).

    Boxes with a mask give each defect what the mask shows within its box; a mask alone gives a defect for each
    connected region; neither gives a kind that nobody placed.
    """
    return _from_rows(read_manifest(source.root, None))


def list_folders(source: Source) -> LabelListing:
    """List folders of kinds: zellige's folder layout, or any other where the first folder names the kind.

    Only the folder `good` says that its images are good.

    Raises:
        InputError: not a folder of kinds, or one folder around them.
    """
    root = source.root
    if (root / "train").is_dir() or (root / GOOD).is_dir():
        return _from_rows(read_folder(root, None))
    images, listing = ImageIndex(root), LabelListing()
    parents = {path.parent.relative_to(root).parts for path in images.paths}
    if len({parts[0] for parts in parents if parts}) == 1 and any(len(parts) > 1 for parts in parents):
        raise InputError(
            f"folder {root}: expected the folders of the kinds, got one folder {max(parents)[0]} with "
            "folders in it; set labels.root to the folder whose folders are the kinds"
        )
    for path in images.paths:
        parts = path.relative_to(root).parts
        if len(parts) < 2:
            listing.drop(parts[0], f"image {path}: expected it in the folder of its kind")
            continue
        kind = check_kind(parts[0], f"folder {root / parts[0]}")
        name = path.relative_to(root).as_posix()
        listing.entries.append(
            Entry(id=name, image_path=path, where=f"image {path}", read_defects=_nothing_placed, image_kind=kind)
        )
    return listing


def list_magnetic_tile(source: Source) -> LabelListing:
    """List the magnetic-tile set as published (see `zellige.data.formats.read_magnetic_tile`)."""
    return _from_rows(read_magnetic_tile(source.root, None))


def write_manifest(
    images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path, *, fill_boxes: bool = False
) -> list[str]:
    """Write manifest.csv and masks/ID.png, white on the defects, and copy templates to templates/.

    An image gets a mask where every defect of it has an outline: half a mask would say that the other defects are
    good. With `fill_boxes` a box without an outline counts as one, all of its area.

    Returns:
        A warning where images have boxes but no mask.
    """
    is_calibrated = any(image.pixel_size is not None for image in images)
    templates = _copy_templates(images, out)
    columns = ["path", "kind", "mask", "boxes", "group", "split", *(["pixel_size"] if is_calibrated else [])]
    columns += ["template"] if templates else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    num_without = 0
    for image in images:
        mask, name = image_mask(image, fill_boxes=fill_boxes), ""
        num_without += mask is None and bool(image.defects)
        if mask is not None:
            name = f"masks/{Path(image.id).with_suffix('.png').as_posix()}"
            _save_mask(out / name, mask)
        boxes = boxes_to_text(defect.as_box() for defect in image.defects)
        cells = [f"images/{image.id}", image.kind, name, boxes, image.group_id or "", image.split or ""]
        cells += [_size_text(image.pixel_size)] if is_calibrated else []
        cells += ["" if image.template_path is None else templates[image.template_path]] if templates else []
        writer.writerow(cells)
    (out / "manifest.csv").write_text(text.getvalue(), encoding="utf-8")
    return [f"{num_without} images have boxes but no mask (labels.fill_boxes=true fills them)"] if num_without else []


def _copy_templates(images: Sequence[AnnotatedImage], out: Path) -> dict[Path, str]:
    """Copy each template once, byte by byte; returns where to, relative to `out`, by its path."""
    places: dict[Path, str] = {}
    for image in images:
        path = image.template_path
        if path is None or path in places:
            continue
        name = own = Path("templates") / Path(image.id).parent / path.name
        number = 1
        while name.as_posix() in places.values():
            number += 1
            name = own.with_stem(f"{own.stem}_{number}")
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)
        places[path] = name.as_posix()
    return places


def write_folders(
    images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path, *, fill_boxes: bool = False
) -> list[str]:
    """Move images/ID to KIND/ID (SPLIT/KIND/ID where all have a split), with ground_truth/KIND/ID_mask.png.

    Raises:
        InputError: a kind that is named like a folder of the layout.
    """
    reserved = {*SPLIT_NAMES, *MASK_FOLDERS, "images"} & set(kinds)
    if reserved:
        raise InputError(
            f"folder: expected kinds that are not named {', '.join(sorted(reserved))} like its own folders"
        )
    has_splits = all(image.split is not None for image in images)
    num_without = 0
    for image in images:
        folder = out / (image.split or "") / image.kind if has_splits else out / image.kind
        (folder / image.id).parent.mkdir(parents=True, exist_ok=True)
        (out / "images" / image.id).rename(folder / image.id)
        mask = image_mask(image, fill_boxes=fill_boxes)
        num_without += mask is None and bool(image.defects)
        if mask is not None:
            stem = Path(image.id).with_suffix("")
            _save_mask(out / "ground_truth" / image.kind / stem.with_name(f"{stem.name}_mask.png"), mask)
    _remove_empty(out / "images")
    return [f"{num_without} images have boxes but no mask (labels.fill_boxes=true fills them)"] if num_without else []


def image_mask(image: AnnotatedImage, *, fill_boxes: bool) -> Mask | None:
    """All defective pixels of an image, (H, W) bool; None where it is good or not all of them are known."""
    if not image.defects or image.unplaced:
        return None
    drawn = [mask_of(defect, image.size) for defect in image.defects]
    if fill_boxes:
        pairs = zip(drawn, image.defects, strict=True)
        drawn = [fill_box(defect.box, image.size) if mask is None else mask for mask, defect in pairs]
    known = [mask for mask in drawn if mask is not None]
    return union(known, image.size) if len(known) == len(drawn) else None


def _from_rows(found: Listing) -> LabelListing:
    listing = LabelListing(warnings=list(found.warnings))
    if found.skipped:
        first = found.skipped[0]
        others = f"{len(found.skipped)} images are no part of the layout, first {first.path} ({first.reason})"
        listing.warnings.append(others)
    for row in found.rows:
        sample = row.sample
        kind = check_kind(sample.kind, f"image {sample.image_path}") if sample.is_defective else None
        listing.entries.append(
            Entry(
                id=_id_of(sample.id),
                image_path=sample.image_path,
                where=f"image {sample.image_path}",
                read_defects=partial(_read_sample, sample),
                image_kind=kind,
                group_id=sample.group_id if sample.group_id != sample.id else None,
                split=row.split,
                pixel_size=sample.pixel_size,
                template_path=sample.template_path,
            )
        )
    return listing


def _id_of(path: str) -> str:
    """The id of an image of a manifest, which may lie outside its folder; a conversion must not write there."""
    parts = [part for part in Path(path).parts if part not in ("..", "/")]
    return Path(*parts).as_posix().removeprefix("images/")


def _read_sample(sample: Sample, canvas: Canvas) -> list[AnnotatedDefect]:
    if not sample.boxes:
        if sample.mask_path is None:
            return []
        return regions_of(read_mask(sample.mask_path, canvas.size), check_kind(sample.kind, f"mask {sample.mask_path}"))
    where = f"image {sample.image_path} boxes"
    boxes = [canvas.box(check_kind(box.kind, where), box.box_px, where) for box in sample.boxes]
    if sample.mask_path is None:
        return boxes
    mask, defects = read_mask(sample.mask_path, canvas.size), []
    for defect in boxes:
        own = np.asarray(mask & fill_box(defect.box, canvas.size))
        defects.append(canvas.mask(defect.kind, encode(own), where, defect.box) if own.any() else defect)
    return defects


def _nothing_placed(canvas: Canvas) -> Sequence[AnnotatedDefect]:
    return ()


def _save_mask(path: Path, mask: Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())


def _size_text(size: PixelSize | None) -> str:
    return "" if size is None else f"{size.cross_web_mm!r}x{size.down_web_mm!r}"


def _remove_empty(folder: Path) -> None:
    for inner in sorted(folder.rglob("*"), reverse=True):
        inner.rmdir()
    folder.rmdir()
