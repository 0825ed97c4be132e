"""COCO: one JSON file of images, annotations (boxes, polygons, run lengths) and categories.

Source: https://cocodataset.org/#format-data
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zellige.core.errors import InputError
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas, Rle
from zellige.data.formats import SPLIT_NAMES
from zellige.data.label_listing import (
    Entry,
    ImageIndex,
    LabelListing,
    Source,
    check_kinds,
    files_below,
    read_json,
    split_in,
    take_number,
)
from zellige.data.shapes import box_around, mask_of, read_rle

_LISTS = ("images", "annotations", "categories")
Json = Mapping[str, Any]


def is_coco(document: object) -> bool:
    """Whether a parsed JSON file has COCO's lists."""
    return isinstance(document, dict) and all(isinstance(document.get(name), list) for name in _LISTS)


def list_coco(source: Source) -> LabelListing:
    """List a COCO file, or a folder with one file or with one for each split (train, val, test in its name).

    Raises:
        InputError: no such file, broken JSON, ids or names twice.
    """
    root, listing = source.root, LabelListing()
    files = [root] if root.is_file() else [path for path in files_below(root, (".json",)) if is_coco(read_json(path))]
    if not files:
        raise InputError(f"labels {root}: expected a JSON file with the lists {', '.join(_LISTS)}, got none")
    folder = root if root.is_dir() else root.parent.parent if root.parent.name == "annotations" else root.parent
    images = ImageIndex(folder)
    for path in files:
        split = split_in(path.stem.replace("-", "_").split("_")) if len(files) > 1 else None
        _list_file(path, images, split, listing)
    listing.unlabelled = images.unused()
    return listing


def _list_file(path: Path, images: ImageIndex, split: str | None, listing: LabelListing) -> None:
    document, where = read_json(path), f"labels {path}"
    if not is_coco(document):
        raise InputError(f"{where}: expected COCO's lists {', '.join(_LISTS)}")
    kinds = _kinds_by_id(document["categories"], where)
    listing.kinds += [kind for kind in kinds.values() if kind not in listing.kinds]
    by_image: dict[object, list[tuple[str, Json]]] = {}
    for number, record in enumerate(document["images"]):
        image_id = _id_of(record, "id", f"{where} images[{number}]")
        if image_id in by_image:
            raise InputError(f"{where} images[{number}]: expected each id once, got {image_id!r} again")
        by_image[image_id] = []
    for number, record in enumerate(document["annotations"]):
        item = f"{where} annotations[{number}]"
        image_id = _id_of(record, "image_id", item)
        if image_id in by_image:
            by_image[image_id].append((item, record))
        else:
            listing.drop(item, f"{item}: expected the id of an image of this file, got {image_id!r}")
    for number, record in enumerate(document["images"]):
        item = f"{where} images[{number}]"
        name = record.get("file_name")
        try:
            image_path = images.find(name if isinstance(name, str) else "", item)
        except InputError as error:
            listing.drop(str(name), error)
            continue
        read = _Reader(record, by_image[record["id"]], kinds, item)
        entry = Entry(id=images.id_of(image_path), image_path=image_path, where=item, read_defects=read, split=split)
        listing.entries.append(entry)


class _Reader:
    """Reads the annotations of one image."""

    def __init__(
        self, record: Json, annotations: list[tuple[str, Json]], kinds: Mapping[object, str], where: str
    ) -> None:
        self._record, self._annotations, self._kinds, self._where = record, annotations, kinds, where

    def __call__(self, canvas: Canvas) -> list[AnnotatedDefect]:
        if self._record.get("height") is not None:
            canvas.check_size(self._record["height"], self._record.get("width"), self._where)
        return [self._read(record, item, canvas) for item, record in self._annotations]

    def _read(self, record: Json, where: str, canvas: Canvas) -> AnnotatedDefect:
        category = record.get("category_id")
        kind = self._kinds.get(category) if isinstance(category, int | str) else None
        if kind is None:
            raise InputError(f"{where}: expected the id of a category of this file, got {category!r}")
        box, drawn = _box_of(record, where), record.get("segmentation")
        if isinstance(drawn, dict):
            mask = read_rle(drawn, canvas.size, where)
            return canvas.mask(kind, mask, where, box_around(mask) if box is None else box)
        if drawn:
            return canvas.polygons(kind, _polygons_of(drawn, where), where, box)
        if box is None:
            raise InputError(f"{where}: expected a bbox or a segmentation, got neither")
        return canvas.box(kind, box, where)


def write_coco(images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path) -> None:
    """Write annotations.json, or annotations/SPLIT.json for each split where all images have one.

    Outlines stay outlines, masks become run lengths; nothing is lost but the whole-image labels, which COCO cannot say.
    """
    if all(image.split is not None for image in images):
        (out / "annotations").mkdir()
        for split in SPLIT_NAMES:
            part = [image for image in images if image.split == split]
            if part:
                (out / "annotations" / f"{split}.json").write_text(coco_text(part, kinds), encoding="utf-8")
    else:
        (out / "annotations.json").write_text(coco_text(images, kinds), encoding="utf-8")


def coco_text(images: Sequence[AnnotatedImage], kinds: Sequence[str]) -> str:
    """Write images and their defects as COCO's JSON; ids count from 1 in the given order."""
    numbers = {kind: number for number, kind in enumerate(kinds, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for defect in image.defects:
            x0, y0, x1, y1 = defect.box
            mask = mask_of(defect, image.size)
            area = (x1 - x0) * (y1 - y0) if mask is None else int(mask.sum())
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[defect.kind],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": _segmentation(defect),
                }
            )
    document = {
        "images": [
            {"id": number, "file_name": image.id, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": kind} for kind, number in numbers.items()],
    }
    return json.dumps(document, ensure_ascii=False)


def _segmentation(defect: AnnotatedDefect) -> list[list[float]] | dict[str, Any]:
    mask: Rle | None = defect.mask
    if mask is not None:
        return {"size": list(mask.size), "counts": mask.counts}
    return [[value for corner in polygon for value in corner] for polygon in defect.polygons]


def _kinds_by_id(categories: Sequence[object], where: str) -> dict[object, str]:
    ids = [_id_of(record, "id", f"{where} categories[{number}]") for number, record in enumerate(categories)]
    names = [record.get("name") for record in categories if isinstance(record, dict)]
    kinds = check_kinds(names, f"{where} categories")
    if len(set(ids)) != len(ids):
        raise InputError(f"{where} categories: expected each id once, got {ids}")
    return dict(zip(ids, kinds, strict=True))


def _id_of(record: object, name: str, where: str) -> object:
    value = record.get(name) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where}: expected a number or text for {name}, got {value!r}")
    return value


def _box_of(record: Json, where: str) -> tuple[float, float, float, float] | None:
    box = record.get("bbox")
    if box is None or box == []:
        return None
    if not isinstance(box, list) or len(box) != 4:
        raise InputError(f"{where}: expected a bbox of 4 numbers (x, y, width, height), got {str(box)[:60]}")
    x, y, width, height = (take_number(value, where, "bbox") for value in box)
    return x, y, x + width, y + height


def _polygons_of(drawn: object, where: str) -> list[list[tuple[float, float]]]:
    if not isinstance(drawn, list) or not all(isinstance(polygon, list) for polygon in drawn):
        raise InputError(f"{where}: expected a segmentation of lists of numbers, got {str(drawn)[:60]}")
    polygons = []
    for polygon in drawn:
        if len(polygon) % 2:
            raise InputError(f"{where}: expected a segmentation of x, y pairs, got {len(polygon)} numbers")
        values = [take_number(value, where, "segmentation") for value in polygon]
        polygons.append(list(zip(values[::2], values[1::2], strict=True)))
    return polygons
