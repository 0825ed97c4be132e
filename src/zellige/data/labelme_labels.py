"""LabelMe: a JSON file beside each image, with polygons, rectangles and circles.

Source: https://github.com/wkentaro/labelme, labelme/_label_file.py
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from zellige.core.errors import InputError
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas, check_kind
from zellige.data.label_listing import (
    Entry,
    ImageIndex,
    LabelListing,
    Source,
    files_below,
    read_json,
    split_in,
    take_number,
)
from zellige.data.shapes import outline_of

CIRCLE_CORNERS = 64
_SHAPES = ("polygon", "rectangle", "circle")
Json = Mapping[str, Any]


def is_labelme(document: object) -> bool:
    """Whether a parsed JSON file is one of LabelMe."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list) and "imagePath" in document


def list_labelme(source: Source) -> LabelListing:
    """List the JSON files below a folder; each names its image by `imagePath`. A file without shapes says good.

    Raises:
        InputError: no JSON file.
    """
    root = source.root
    images, listing = ImageIndex(root), LabelListing()
    files = files_below(root, (".json",))
    if not files:
        raise InputError(f"labels {root}: expected LabelMe's JSON files, got none")
    splits = [split_in(path.relative_to(root).parts[:-1]) for path in files]
    are_declared = all(split is not None for split in splits)
    for path, split in zip(files, splits, strict=True):
        where = f"labels {path}"
        try:
            document = read_json(path)
            if not is_labelme(document):
                raise InputError(f"{where}: expected LabelMe's shapes and imagePath")
            image_path = _find_image(str(document["imagePath"]), path, images)
        except InputError as error:
            listing.drop(path.relative_to(root).as_posix(), error)
            continue
        listing.entries.append(
            Entry(
                id=images.id_of(image_path),
                image_path=image_path,
                where=where,
                read_defects=partial(read_shapes, document, where),
                split=split if are_declared else None,
            )
        )
    listing.unlabelled = images.unused()
    return listing


def read_shapes(document: Json, where: str, canvas: Canvas) -> list[AnnotatedDefect]:
    """Read the shapes of one file; polygons with the same label and group_id are parts of one defect.

    Raises:
        InputError: another size than the image's, a shape of another type, a shape that is no area.
    """
    if document.get("imageHeight") is not None:
        canvas.check_size(document["imageHeight"], document.get("imageWidth"), where)
    groups: dict[object, list[tuple[str, str, str, list[tuple[float, float]]]]] = {}
    for number, shape in enumerate(document["shapes"]):
        item = f"{where} shapes[{number}]"
        kind = check_kind(_get(shape, "label"), item)
        group = _get(shape, "group_id")
        key = (kind, str(group)) if group is not None else number
        groups.setdefault(key, []).append((kind, item, *_points_of(shape, item)))
    defects = []
    for parts in groups.values():
        kind, item, form, points = parts[0]
        if form == "rectangle" and len(parts) == 1:
            (x0, y0), (x1, y1) = points
            defects.append(canvas.box(kind, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), item))
        else:
            polygons = [_as_polygon(form, points) for _, _, form, points in parts]
            defects.append(canvas.polygons(kind, polygons, item))
    return defects


def write_labelme(images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path) -> None:
    """Write a JSON file beside each image of images/, as LabelMe opens them."""
    for image in images:
        path = out / "images" / Path(image.id).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(labelme_text(image), encoding="utf-8")


def labelme_text(image: AnnotatedImage) -> str:
    """Write one file: outlines as polygons, masks traced along their pixels' edges, boxes as rectangles."""
    shapes: list[dict[str, Any]] = []
    for number, defect in enumerate(image.defects, start=1):
        x0, y0, x1, y1 = defect.box
        group = number if len(defect.polygons) > 1 else None
        if len(defect.polygons) > 1:
            forms = [("polygon", polygon) for polygon in defect.polygons]
        elif defect.has_outline:
            forms = [("polygon", outline_of(defect, image.size))]
        else:
            forms = [("rectangle", ((x0, y0), (x1, y1)))]
        shapes += [
            {
                "label": defect.kind,
                "points": [list(point) for point in points],
                "group_id": group,
                "description": "",
                "shape_type": form,
                "flags": {},
            }
            for form, points in forms
        ]
    document: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(image.id).name,
        "imageData": None,
        "imageHeight": image.size[0],
        "imageWidth": image.size[1],
    }
    return json.dumps(document, ensure_ascii=False, indent=1)


def _find_image(name: str, path: Path, images: ImageIndex) -> Path:
    """The image of that name beside the file, where LabelMe puts it, else the one below the folder of the set."""
    beside = path.parent / PurePosixPath(name.replace("\\", "/")).name
    if images.holds(beside):
        images.take(beside)
        return beside
    return images.find(name, f"labels {path}")


def _get(shape: object, name: str) -> Any:
    return shape.get(name) if isinstance(shape, dict) else None


def _points_of(shape: Json, where: str) -> tuple[str, list[tuple[float, float]]]:
    form, points = shape.get("shape_type") or "polygon", shape.get("points")
    if form not in _SHAPES:
        raise InputError(f"{where}: expected one of {', '.join(_SHAPES)}, which have an area, got {form!r}")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise InputError(f"{where}: expected points of two numbers, got {str(points)[:60]}")
    found = [(take_number(x, where, "a point"), take_number(y, where, "a point")) for x, y in points]
    if form != "polygon" and len(found) != 2:
        raise InputError(f"{where}: expected a {form} of 2 points, got {len(found)}")
    return form, found


def _as_polygon(form: str, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if form == "polygon":
        return list(points)
    (x0, y0), (x1, y1) = points
    if form == "rectangle":
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    radius = math.hypot(x1 - x0, y1 - y0)
    angles = [2 * math.pi * step / CIRCLE_CORNERS for step in range(CIRCLE_CORNERS)]
    return [(x0 + radius * math.cos(angle), y0 + radius * math.sin(angle)) for angle in angles]
