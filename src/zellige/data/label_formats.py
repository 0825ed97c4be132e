"""All formats of labels by name: how each is read, how it is written, what it can hold; and which one a folder has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import IMAGE_SUFFIXES
from zellige.data.annotations import AnnotatedImage
from zellige.data.coco_labels import is_coco, list_coco, write_coco
from zellige.data.csv_labels import is_box_csv, list_csv, read_header, write_csv
from zellige.data.deeppcb_labels import LISTS, TEMPLATES, list_deeppcb
from zellige.data.label_listing import MASK_FOLDERS, LabelListing, Source, check_kinds, files_below, read_json
from zellige.data.labelme_labels import is_labelme, list_labelme, write_labelme
from zellige.data.manifest_labels import list_folders, list_magnetic_tile, list_manifest, write_folders, write_manifest
from zellige.data.mask_labels import list_masks, write_masks
from zellige.data.voc_labels import list_voc, write_voc
from zellige.data.yolo_labels import NAME_FILES, list_yolo, write_yolo

AUTO = "auto"
Writer = Callable[[Sequence[AnnotatedImage], Sequence[str], Path], Sequence[str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFormat:
    """`write` puts labels beside `images/ID`, which is there already; None where nothing is written in this format."""

    read: Callable[[Source], LabelListing]
    write: Writer | None
    holds_outlines: bool
    holds_unplaced: bool = False
    holds_templates: bool = False


FORMATS: Mapping[str, LabelFormat] = {
    "coco": LabelFormat(read=list_coco, write=write_coco, holds_outlines=True),
    "yolo": LabelFormat(read=list_yolo, write=write_yolo, holds_outlines=True),
    "voc": LabelFormat(read=list_voc, write=write_voc, holds_outlines=False),
    "labelme": LabelFormat(read=list_labelme, write=write_labelme, holds_outlines=True),
    "masks": LabelFormat(read=list_masks, write=write_masks, holds_outlines=True),
    "csv": LabelFormat(read=list_csv, write=write_csv, holds_outlines=False),
    "deeppcb": LabelFormat(read=list_deeppcb, write=None, holds_outlines=False),
    "magnetic_tile": LabelFormat(read=list_magnetic_tile, write=None, holds_outlines=True),
    "manifest": LabelFormat(
        read=list_manifest, write=write_manifest, holds_outlines=True, holds_unplaced=True, holds_templates=True
    ),
    "folder": LabelFormat(read=list_folders, write=write_folders, holds_outlines=True, holds_unplaced=True),
}

_FILLING: Mapping[str, Callable[..., Sequence[str]]] = {"manifest": write_manifest, "folder": write_folders}
WRITABLE = tuple(name for name, form in FORMATS.items() if form.write is not None)


def read_labels(name: str, source: Source) -> tuple[str, LabelListing]:
    """List a data set in a format, or in the one that it is found to have (auto); returns the format too.

    Raises:
        ConfigError: an unknown format, or auto and several are there.
        InputError: not readable in this format.
    """
    if name not in (AUTO, *FORMATS):
        raise ConfigError(f"labels.format: expected auto or one of {', '.join(FORMATS)}, got {name!r}")
    check_kinds(source.kinds, "labels.kinds")
    if source.templates not in TEMPLATES:
        raise ConfigError(f"labels.templates: expected one of {', '.join(TEMPLATES)}, got {source.templates!r}")
    found = detect_format(source.root) if name == AUTO else name
    return found, FORMATS[found].read(source)


def detect_format(root: Path) -> str:
    """Say which format a folder or file of labels has.

    Raises:
        InputError: missing, or none is recognized.
        ConfigError: several are; the user must say which.
    """
    if not root.exists():
        raise InputError(f"labels {root}: expected a folder or a file, it does not exist")
    found = [name for name, is_here in _SIGNS.items() if is_here(root)]
    if not found:
        raise InputError(
            f"labels {root}: no known format of labels found; set labels.format to one of {', '.join(FORMATS)}"
        )
    for name in _WEAK_SIGNS:
        if len(found) > 1 and name in found:
            found.remove(name)
    if len(found) > 1:
        raise ConfigError(f"labels.format: {root} could be {' or '.join(found)}; say which")
    return found[0]


def write_labels(
    images: Sequence[AnnotatedImage], kinds: Sequence[str], to: str, out: Path, *, fill_boxes: bool
) -> list[str]:
    """Write labels beside the images in out/images; returns what the format could not hold.

    Raises:
        InputError: images that it cannot tell apart, or labels without a place where it needs one.
    """
    target = FORMATS[to]
    assert target.write is not None, "the target was checked before"
    unplaced = [image.id for image in images if image.unplaced]
    if unplaced and not target.holds_unplaced:
        raise InputError(
            f"{len(unplaced)} images have a kind and no place, first {unplaced[0]}: {to} needs places, "
            "expected labels.to=manifest or folder, or labels.on_bad=drop"
        )
    _refuse_equal_stems(images)
    write: Writer = partial(_FILLING[to], fill_boxes=fill_boxes) if to in _FILLING else target.write
    warnings = list(write(images, kinds, out) or [])
    num_outlines = sum(defect.has_outline for image in images for defect in image.defects)
    num_defects = sum(len(image.defects) for image in images)
    num_templates = sum(image.template_path is not None for image in images)
    if num_templates and not target.holds_templates:
        warnings.append(f"{num_templates} images lose their template: {to} holds none")
    if num_outlines and not target.holds_outlines:
        warnings.append(f"{num_outlines} outlines are left out: {to} holds boxes only")
    if to == "yolo" and 0 < num_outlines < num_defects:
        warnings.append(f"{num_outlines} outlines are left out: {num_defects - num_outlines} defects have a box only")
    if to == "masks" and num_outlines < num_defects:
        warnings.append(f"{num_defects - num_outlines} boxes without an outline were filled")
    return warnings


def _refuse_equal_stems(images: Sequence[AnnotatedImage]) -> None:
    """Two images that differ in their suffix alone would share one file of labels."""
    stems: dict[Path, str] = {}
    for image in images:
        other = stems.setdefault(Path(image.id).with_suffix(""), image.id)
        if other != image.id:
            raise InputError(f"images {other} and {image.id}: expected names that differ in more than the suffix")


def _json_is(check: Callable[[object], bool], root: Path) -> bool:
    """Whether a JSON file is of a form; of many the first few are looked at."""
    files = [root] if root.is_file() else files_below(root, (".json",))[:20]
    return any(check(_try_json(path)) for path in files if path.suffix.lower() == ".json")


def _try_json(path: Path) -> object:
    try:
        return read_json(path)
    except InputError:
        return None


def _csv_is(is_box: bool, root: Path) -> bool:
    files = [root] if root.is_file() else sorted(root.glob("*.csv"))
    headers = [read_header(path) for path in files if path.suffix.lower() == ".csv"]
    return any(is_box_csv(columns) == is_box and ("path" in columns or is_box) for columns in headers)


def _has_yolo(root: Path) -> bool:
    return root.is_dir() and (
        any((root / name).is_file() for name in NAME_FILES)
        or any("labels" in path.relative_to(root).parts[:-1] for path in files_below(root, (".txt",)))
    )


def _has_masks(root: Path) -> bool:
    by_kind = any((root / name).exists() for name in ("train", "good", "manifest.csv"))
    has_images = (root / "images").is_dir() or any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.iterdir())
    return any((root / name).is_dir() for name in MASK_FOLDERS) and has_images and not by_kind


def _has_deeppcb(root: Path) -> bool:
    texts = files_below(root, (".txt",))
    return any(path.name in LISTS for path in texts) and any(path.parent.name.endswith("_not") for path in texts)


_WEAK_SIGNS = ("folder", "magnetic_tile")
"""Names of folders, which the images of another format may have kept."""
_SIGNS: Mapping[str, Callable[[Path], bool]] = {
    "coco": partial(_json_is, is_coco),
    "labelme": partial(_json_is, is_labelme),
    "yolo": _has_yolo,
    "voc": lambda root: root.is_dir() and bool(files_below(root, (".xml",))),
    "manifest": partial(_csv_is, False),
    "csv": partial(_csv_is, True),
    "deeppcb": lambda root: root.is_dir() and _has_deeppcb(root),
    "magnetic_tile": lambda root: root.is_dir() and any(path.is_dir() for path in root.rglob("MT_Free")),
    "masks": lambda root: root.is_dir() and _has_masks(root),
    "folder": lambda root: (
        root.is_dir() and any(path.is_dir() and path.name not in MASK_FOLDERS for path in root.iterdir())
    ),
}
