"""CSV: a line for each defect, `path,kind,x0,y0,x1,y1`; a line without kind and numbers says that an image is good."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from zellige.core.errors import InputError
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas, check_kind
from zellige.data.label_listing import Entry, ImageIndex, LabelListing, Source, read_text, take_number

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "filename", "file_name", "image"),
    "kind": ("kind", "class", "class_name", "label"),
}
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_MANIFEST_ONLY = frozenset({"mask", "group", "split", "boxes", "pixel_size"})

Row = tuple[str, Mapping[str, str]]


def is_box_csv(columns: Sequence[str]) -> bool:
    """Whether these are the columns of a table of boxes, not those of a manifest."""
    names = set(columns)
    return any(set(corners) <= names for corners in _CORNERS) and not names & _MANIFEST_ONLY


def read_header(path: Path) -> list[str]:
    """The names in the first line of a CSV file."""
    lines = read_text(path).splitlines()
    return [name.strip() for name in next(csv.reader(lines[:1], skipinitialspace=True), [])]


def list_csv(source: Source) -> LabelListing:
    """List a CSV file, or the one of a folder, with boxes as edges in px; images lie below the file's folder.

    Columns: path (or filename, image), kind (or class, label) and x0,y0,x1,y1 (or xmin,ymin,xmax,ymax, or
    x1,y1,x2,y2); others are ignored.

    Raises:
        InputError: no file, a column missing, a line with other cells than columns.
    """
    path = _find(source.root)
    images, listing = ImageIndex(path.parent), LabelListing()
    columns = read_header(path)
    names = {meaning: _choose(columns, meaning, path) for meaning in _COLUMNS}
    corners = next((corners for corners in _CORNERS if set(corners) <= set(columns)), None)
    if corners is None:
        raise InputError(f"labels {path}: expected the columns x0,y0,x1,y1, got {', '.join(columns)}")
    rows: dict[str, list[Row]] = {}
    reader = csv.DictReader(read_text(path).splitlines(), fieldnames=columns, skipinitialspace=True)
    next(reader, None)
    for cells in reader:
        where = f"labels {path} line {reader.line_num}"
        if None in cells or None in cells.values():
            raise InputError(f"{where}: expected as many cells as there are columns")
        values = {name: (cell or "").strip() for name, cell in cells.items()}
        row = {"kind": values[names["kind"]]} | {
            axis: values[own] for axis, own in zip(_CORNERS[0], corners, strict=True)
        }
        rows.setdefault(values[names["path"]], []).append((where, row))
    for name, own in rows.items():
        try:
            image_path = images.find(name, own[0][0])
        except InputError as error:
            listing.drop(name, error)
            continue
        read = _Reader(own)
        listing.entries.append(
            Entry(id=images.id_of(image_path), image_path=image_path, where=own[0][0], read_defects=read)
        )
    listing.unlabelled = images.unused()
    return listing


class _Reader:
    """Reads the lines of one image."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, canvas: Canvas) -> list[AnnotatedDefect]:
        if len(self._rows) == 1 and not any(self._rows[0][1].values()):
            return []
        return [self._read(where, row, canvas) for where, row in self._rows]

    @staticmethod
    def _read(where: str, row: Mapping[str, str], canvas: Canvas) -> AnnotatedDefect:
        if not any(row.values()):
            raise InputError(f"{where}: the line says good and another one has a defect: labels contradict")
        kind = check_kind(row["kind"], where)
        return canvas.box(kind, [take_number(row[axis], where, axis) for axis in _CORNERS[0]], where)


def write_csv(images: Sequence[AnnotatedImage], kinds: Sequence[str], out: Path) -> None:
    """Write labels.csv."""
    (out / "labels.csv").write_text(csv_text(images), encoding="utf-8")


def csv_text(images: Sequence[AnnotatedImage]) -> str:
    """Write a line for each defect, and one for each image without any; numbers come back as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "kind", *_CORNERS[0]])
    for image in images:
        writer.writerows([image.id, defect.kind, *(repr(value) for value in defect.box)] for defect in image.defects)
        if not image.defects:
            writer.writerow([image.id, "", "", "", "", ""])
    return text.getvalue()


def _find(root: Path) -> Path:
    if root.is_file():
        return root
    files = sorted(root.glob("*.csv"))
    if len(files) != 1:
        raise InputError(f"labels {root}: expected one CSV file, got {len(files) or 'none'}; name it in labels.root")
    return files[0]


def _choose(columns: Sequence[str], meaning: str, path: Path) -> str:
    found = [name for name in _COLUMNS[meaning] if name in columns]
    if len(found) != 1:
        raise InputError(
            f"labels {path}: expected one column {' or '.join(_COLUMNS[meaning])}, got {', '.join(columns)}"
        )
    return found[0]
