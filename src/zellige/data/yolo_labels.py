"""YOLO: a text file for each image, a line for each defect, numbers relative to the image's size.

`kind x y width height` is a box by its center, `kind x1 y1 x2 y2 x3 y3 ...` an outline.

Source: https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/segment/
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from zellige.core.errors import InputError
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas
from zellige.data.formats import SPLIT_NAMES
from zellige.data.label_listing import (
    Entry,
    ImageIndex,
    LabelListing,
    Source,
    check_kinds,
    files_below,
    read_kinds,
    read_text,
    split_in,
)
from zellige.data.shapes import outline_of

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")


def list_yolo(source: Source) -> LabelListing:
    """List images and their text files: below `labels/` where the image is below `images/`, or beside the image.

    An image without a text file is unlabelled; one with an empty text file is good.

    Raises:
        InputError: no names of the kinds, or not a YOLO folder.
    """
    root = source.root
    images = ImageIndex(root)
    kinds = list(source.kinds) or _read_names(root)
    listing = LabelListing(kinds=kinds)
    in_folders = {path: split_in(path.relative_to(root).parts[:-1]) for path in images.paths}
    splits: Mapping[Path, str | None] = in_folders | _listed_splits(root)
    are_declared = all(splits[path] is not None for path in images.paths)
    used = set()
    for path in images.paths:
        labels = label_path(path, root)
        if labels in used:
            listing.drop(images.id_of(path), f"labels {labels}: two images have this label file, expected one")
        elif labels.is_file():
            images.take(path)
            used.add(labels)
            read = partial(read_yolo, labels, kinds)
            split = splits[path] if are_declared else None
            listing.entries.append(
                Entry(id=images.id_of(path), image_path=path, where=f"labels {labels}", read_defects=read, split=split)
            )
    others = {root / name for name in NAME_FILES}
    for path in files_below(root, (".txt",)):
        if path not in used and path not in others and "labels" in path.relative_to(root).parts:
            listing.drop(path.relative_to(root).as_posix(), f"labels {path}: no image belongs to it")
    listing.unlabelled = images.unused()
    return listing


def label_path(image: Path, root: Path) -> Path:
    """Say where the labels of an image are: the last `images` of its path becomes `labels`, the suffix .txt."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            return root / Path(*parts[:at], "labels", *parts[at + 1 :])
    beside = root / Path(*parts)
    return beside if beside.is_file() else root / "labels" / Path(*parts)


def read_yolo(path: Path, kinds: Sequence[str], canvas: Canvas) -> list[AnnotatedDefect]:
    """Read the defects of one image.

    Raises:
        InputError: a number beyond 0 to 1, an unknown kind, another count of numbers; the message names the line.
    """
    defects = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            defects.append(_read_line(line.split(), kinds, canvas, f"labels {path} line {number}"))
    return defects


def _read_line(words: Sequence[str], kinds: Sequence[str], canvas: Canvas, where: str) -> AnnotatedDefect:
    if not words[0].isdecimal() or float(words[0]) >= len(kinds):
        raise InputError(f"{where}: expected a kind from 0 to {len(kinds) - 1}, got {words[0]!r}")
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{where}: expected numbers after the kind, got {' '.join(words[1:])[:60]!r}") from None
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        raise InputError(f"{where}: expected numbers from 0 to 1 (shares of the image's size), got {outside[0]:g}")
    height, width = canvas.size
    kind = kinds[int(words[0])]
    if len(values) == 4:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        return canvas.box(kind, box, where)
    if len(values) < 6 or len(values) % 2:
        raise InputError(f"{where}: expected 4 numbers for a box or 3 points and more, got {len(values)} numbers")
    corners = [(x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True)]
    return canvas.polygons(kind, [corners], where)


def write_yolo(images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path) -> None:
    """Write labels/ID.txt and data.yaml: outlines where every defect of the set has one, else boxes."""
    as_outlines = all(defect.has_outline for image in images for defect in image.defects)
    for image in images:
        path = out / "labels" / Path(image.id).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yolo_text(image, kinds, as_outlines=as_outlines), encoding="utf-8")
    lines = ["path: .", *_split_lines(images, out), "names:"]
    lines += [f"  {number}: {json.dumps(kind, ensure_ascii=False)}" for number, kind in enumerate(kinds)]
    (out / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _listed_splits(root: Path) -> dict[Path, str]:
    """The split of each image that train.txt, val.txt or test.txt names, a path in a line."""
    files = {split: root / f"{split}.txt" for split in SPLIT_NAMES}
    return {
        Path(os.path.normpath(root / line.strip())): split
        for split, path in files.items()
        if path.is_file()
        for line in read_text(path).splitlines()
        if line.strip()
    }


def _split_lines(images: Sequence[AnnotatedImage], out: Path) -> list[str]:
    """Name the images of each split; where none is declared both name all, which is no way to measure anything."""
    if not all(image.split is not None for image in images):
        return ["# No splits were declared: choose them before you train.", "train: images", "val: images"]
    lines = []
    for split in SPLIT_NAMES:
        paths = [f"./images/{image.id}\n" for image in images if image.split == split]
        if paths:
            (out / f"{split}.txt").write_text("".join(paths), encoding="utf-8")
            lines.append(f"{split}: {split}.txt")
    return lines


def yolo_text(image: AnnotatedImage, kinds: Sequence[str], *, as_outlines: bool) -> str:
    """Write the defects of one image, a line each; a position is right to 1e-9 of the image's size."""
    height, width = image.size
    lines = []
    for defect in image.defects:
        x0, y0, x1, y1 = defect.box
        values = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
        if as_outlines:
            values = [value for x, y in outline_of(defect, image.size) for value in (x / width, y / height)]
        lines.append(" ".join([str(kinds.index(defect.kind)), *(f"{value:.10g}" for value in values)]) + "\n")
    return "".join(lines)


def _read_names(root: Path) -> list[str]:
    """The kinds by number: `names` of data.yaml (a list, or a map from 0 on), or a line each of classes.txt."""
    found = [root / name for name in NAME_FILES if (root / name).is_file()]
    if not found:
        raise InputError(f"labels {root}: expected the kinds' names in data.yaml or classes.txt, or labels.kinds=[...]")
    if found[0].suffix not in (".yaml", ".yml"):
        return read_kinds(found[0])
    try:
        document = yaml.safe_load(read_text(found[0]))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"labels {found[0]}: not YAML ({str(error).splitlines()[0]})") from None
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"labels {found[0]} names: expected the numbers 0 to {len(names) - 1}, got {list(names)}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"labels {found[0]}: expected names, a list or a map from numbers, got {names!r}")
    return check_kinds(names, f"labels {found[0]} names")
