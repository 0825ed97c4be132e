"""Pascal VOC: an XML file for each image, with boxes in whole px.

The devkit counts px from 1 and includes the last one: xmin 1, xmax 10 are the first ten px, here 0 to 10. Many tools
write edges instead (0 to 10 for the same px): then say so (`labels.voc_boxes=edges`).

Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

from zellige.core.errors import ConfigError, InputError
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas, check_kind
from zellige.data.label_listing import Entry, ImageIndex, LabelListing, Source, files_below, split_in, take_number

VOC_BOXES = ("devkit", "edges")


def list_voc(source: Source) -> LabelListing:
    """List the XML files below a folder; each names its image, or has its image's name.

    Raises:
        ConfigError: an unknown meaning of boxes.
        InputError: no XML file.
    """
    root = source.root
    if source.voc_boxes not in VOC_BOXES:
        raise ConfigError(f"labels.voc_boxes: expected one of {', '.join(VOC_BOXES)}, got {source.voc_boxes!r}")
    images, listing = ImageIndex(root), LabelListing()
    files = files_below(root, (".xml",))
    if not files:
        raise InputError(f"labels {root}: expected XML files, got none")
    splits = [split_in(path.relative_to(root).parts[:-1]) for path in files]
    are_declared = all(split is not None for split in splits)
    for path, split in zip(files, splits, strict=True):
        where = f"labels {path}"
        try:
            tree = read_xml(path)
            image_path = _find_image(tree, path, images)
        except InputError as error:
            listing.drop(path.relative_to(root).as_posix(), error)
            continue
        listing.entries.append(
            Entry(
                id=images.id_of(image_path),
                image_path=image_path,
                where=where,
                read_defects=partial(read_objects, tree, where, source.voc_boxes),
                split=split if are_declared else None,
            )
        )
    listing.unlabelled = images.unused()
    return listing


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document type: it could declare entities that grow without end or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError(f"expected XML without a document type, got <!DOCTYPE {name}>")


def read_xml(path: Path) -> ET.Element:
    """Read an annotation file.

    Raises:
        InputError: unreadable, not XML, another root, or a document type.
    """
    try:
        tree = ET.fromstring(path.read_bytes(), ET.XMLParser(target=_NoDoctype()))  # noqa: S314  entities are refused
    except OSError as error:
        raise InputError(f"labels {path}: cannot be read ({error.strerror})") from None
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"labels {path}: not usable XML ({error})") from None
    if tree.tag != "annotation":
        raise InputError(f"labels {path}: expected the root <annotation>, got <{tree.tag}>")
    return tree


def read_objects(tree: ET.Element, where: str, voc_boxes: str, canvas: Canvas) -> list[AnnotatedDefect]:
    """Read the objects of one annotation.

    Raises:
        InputError: another size than the image's, no name, no box, a box that is none; the message names the object.
    """
    height, width = (take_number(tree.findtext(f"size/{axis}") or "0", where, axis) for axis in ("height", "width"))
    if (height, width) != (0, 0):  # some tools write nothing, some write 0
        canvas.check_size(int(height), int(width), where)
    first = 1 if voc_boxes == "devkit" else 0
    defects = []
    for number, item in enumerate(tree.iterfind("object"), start=1):
        name = f"{where} object {number}"
        kind = check_kind((item.findtext("name") or "").strip(), name)
        x0, y0, x1, y1 = (
            take_number(item.findtext(f"bndbox/{side}") or "", name, side) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        if min(x0, y0) < first:
            raise InputError(
                f"{name}: expected xmin and ymin from {first} on, got {min(x0, y0):g}; "
                "where the tool writes edges from 0 on set labels.voc_boxes=edges"
            )
        defects.append(canvas.box(kind, (x0 - first, y0 - first, x1, y1), name))
    return defects


def write_voc(images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path) -> None:
    """Write Annotations/ID.xml in the devkit's px."""
    for image in images:
        path = out / "Annotations" / Path(image.id).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(voc_text(image), encoding="utf-8")


def voc_text(image: AnnotatedImage) -> str:
    """Write one annotation; boxes grow to whole px, by less than one on each side."""
    tree = ET.Element("annotation")
    path = Path(image.id)
    size = {"width": image.size[1], "height": image.size[0]}
    _add(tree, "folder", path.parent.as_posix())
    _add(tree, "filename", path.as_posix())
    element = ET.SubElement(tree, "size")
    for name, value in size.items():
        _add(element, name, str(value))
    for defect in image.defects:
        x0, y0, x1, y1 = defect.box
        item = ET.SubElement(tree, "object")
        _add(item, "name", defect.kind)
        _add(item, "difficult", "0")
        box = ET.SubElement(item, "bndbox")
        sides = {"xmin": math.floor(x0) + 1, "ymin": math.floor(y0) + 1, "xmax": math.ceil(x1), "ymax": math.ceil(y1)}
        for name, value in sides.items():
            _add(box, name, str(value))
    ET.indent(tree)
    return ET.tostring(tree, encoding="unicode") + "\n"


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text


def _find_image(tree: ET.Element, path: Path, images: ImageIndex) -> Path:
    """The image that the file names; where the name has no suffix of an image, the one named like the file."""
    where, name = f"labels {path}", (tree.findtext("filename") or "").strip()
    return images.find(name, where) if Path(name).suffix else images.find_stem(path.stem, where)
