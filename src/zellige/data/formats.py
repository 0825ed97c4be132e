"""One function per layout on disk: files in, rows out (a sample and, where the layout declares one, its split).

Nothing is decoded here. What is not used is counted or listed with its reason; ids are paths relative to the root.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import IMAGE_SUFFIXES
from zellige.core.types import GOOD, PixelSize, Sample
from zellige.data.box_text import boxes_from_text

SPLIT_NAMES = ("train", "val", "test")
_MASK_FOLDERS = ("ground_truth", "masks")
_MANIFEST_COLUMNS = ("path", "label", "kind", "mask", "boxes", "group", "pixel_size", "split")
_LABELS: Mapping[str, bool] = {"good": False, "0": False, "defective": True, "1": True}
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is not part of the set, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A sample and the split that its layout declares for it, None where it declares none."""

    sample: Sample
    split: str | None = None


@dataclass(slots=True, kw_only=True)
class Listing:
    """What a layout holds, before any image is decoded."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by reason: hidden, link, system file, other suffix."""
    warnings: list[str] = field(default_factory=list)
    good_masks: dict[str, Path] = field(default_factory=dict)
    """Masks found for good images, by sample id: they must turn out empty."""

    def add(self, sample: Sample, mask: Path | None, split: str | None) -> None:
        """Append a row; a mask of a good image is kept aside to be checked."""
        if mask is not None and not sample.is_defective:
            self.good_masks[sample.id] = mask
        self.rows.append(Row(sample=sample, split=split))


def read_folder(root: Path, pixel_size: PixelSize | None) -> Listing:
    """List a folder layout.

    With declared splits: train/good, optional train/KIND (defects to learn from), val/good and val/KIND, test/good,
    test/KIND. Without: a folder for each kind, good/ among them where there are good images. Masks are optional:
    ground_truth/KIND/STEM_mask.* or STEM.* (or masks/).

    Raises:
        InputError: missing or empty folder.
    """
    listing = Listing()
    files = image_files(root, listing)
    has_splits = (root / "train").is_dir()
    masks = _MaskFiles(root, files)
    for path in files:
        parts = path.relative_to(root).parts
        if parts[0] in _MASK_FOLDERS:
            continue
        depth = 2 if has_splits else 1
        if (has_splits and parts[0] not in SPLIT_NAMES) or len(parts) <= depth:
            expected = "SPLIT/KIND/" if has_splits else "KIND/"
            listing.skipped.append(Skipped(path=path.relative_to(root).as_posix(), reason=f"not under {expected}"))
            continue
        split, kind = (parts[0] if has_splits else None), parts[depth - 1]
        mask = None if (split, kind) == ("train", GOOD) else masks.take(kind, Path(*parts[depth:]))
        listing.add(_sample(root, path, kind, mask, pixel_size), mask, split)
    listing.warnings += masks.unused()
    return listing


def read_magnetic_tile(root: Path, pixel_size: PixelSize | None) -> Listing:
    """List the magnetic-tile set as published: MT_KIND/Imgs/NAME.jpg with its mask NAME.png; MT_Free is good.

    `root` holds the MT_ folders or is a parent of the folder that does.

    Raises:
        InputError: no MT_Free folder, or several.

    Source: Huang, Qiu, Yuan, "Surface defect saliency of magnetic tile", The Visual Computer 2020.
    """
    if not root.is_dir():
        raise InputError(f"folder {root}: expected a folder of images, it does not exist")
    found = [root / "MT_Free"] if (root / "MT_Free").is_dir() else sorted(root.rglob("MT_Free"))
    if len(found) != 1:
        raise InputError(f"folder {root}: expected one MT_Free folder in it, got {len(found)}")
    base, listing = found[0].parent, Listing()
    files = image_files(base, listing)
    known = set(files)
    for path in files:
        parts = path.relative_to(base).parts
        if not parts[0].startswith("MT_") or len(parts) < 2:
            listing.skipped.append(Skipped(path=path.relative_to(base).as_posix(), reason="not under MT_KIND/"))
        elif path.suffix.lower() in (".jpg", ".jpeg"):
            kind = parts[0].removeprefix("MT_").lower()
            kind = GOOD if kind == "free" else kind
            mask = path.with_suffix(".png") if path.with_suffix(".png") in known else None
            listing.add(_sample(base, path, kind, mask, pixel_size), mask, None)
        elif path.with_suffix(".jpg") not in known:
            listing.warnings.append(f"mask without image: {path.relative_to(base).as_posix()}")
    return listing


def read_manifest(root: Path, pixel_size: PixelSize | None) -> Listing:
    """List a CSV manifest: `root` is the file, or a folder that holds manifest.csv; paths are relative to the file.

    Columns: path, and label (good or defective, 0 or 1) or kind or both; optional mask, boxes (x0 y0 x1 y1 kind; ...),
    group, pixel_size (mm, one number or "cross-web x down-web", as 0.05x0.1) and split (train, val, test; for all lines
    or for none).

    Raises:
        InputError: missing file, missing or unknown column, a bad or repeated line; the message names the line.
    """
    path = root / "manifest.csv" if root.is_dir() else root
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"manifest {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"manifest {path}: expected UTF-8 text") from None
    if "\0" in text:
        raise InputError(f"manifest {path}: expected text, got a null byte")
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    _check_columns(list(reader.fieldnames), path)
    listing, lines = Listing(), dict[str, int]()
    for cells in reader:
        line = reader.line_num
        try:
            row, mask = _manifest_row(cells, path.parent, pixel_size)
        except (InputError, ConfigError) as error:
            raise InputError(f"manifest {path} line {line}: {error}") from None
        if row.sample.id in lines:
            raise InputError(f"manifest {path} line {line}: {row.sample.id} is already on line {lines[row.sample.id]}")
        lines[row.sample.id] = line
        listing.add(row.sample, mask, row.split)
    num_declared = sum(row.split is not None for row in listing.rows)
    if num_declared not in (0, len(listing.rows)):
        raise InputError(
            f"manifest {path}: expected a split on every line or on none, got {num_declared} of {len(lines)}"
        )
    return listing


LAYOUTS: Mapping[str, Callable[[Path, PixelSize | None], Listing]] = {
    "folder": read_folder,
    "manifest": read_manifest,
    "magnetic_tile": read_magnetic_tile,
}


class _MaskFiles:
    """The masks of a folder layout; remembers which were used."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self._root = root
        self._left = {path for path in files if path.relative_to(root).parts[0] in _MASK_FOLDERS}
        self._by_stem: dict[tuple[str, ...], Path] = {}
        for path in sorted(self._left):
            parts = path.relative_to(root).with_suffix("").parts[1:]
            key = (*parts[:-1], parts[-1].removesuffix("_mask"))
            if key in self._by_stem:
                raise InputError(f"mask {path}: a second mask for the same image, the first is {self._by_stem[key]}")
            self._by_stem[key] = path

    def take(self, kind: str, inside: Path) -> Path | None:
        path = self._by_stem.get((kind, *inside.with_suffix("").parts))
        if path is None:
            return None
        if path not in self._left:
            raise InputError(f"mask {path}: belongs to two images of kind {kind} named {inside.stem}, expected one")
        self._left.discard(path)
        return path

    def unused(self) -> list[str]:
        return [f"mask without image: {path.relative_to(self._root).as_posix()}" for path in sorted(self._left)]


def image_files(root: Path, listing: Listing) -> list[Path]:
    """Sorted image files below root; what is no image is counted in `listing.ignored`."""
    if not root.is_dir():
        raise InputError(f"folder {root}: expected a folder of images, it does not exist")
    images = []
    for path in _walk(root, listing):
        if path.name.lower() in _SYSTEM_FILES:
            listing.ignored["system file"] += 1
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            listing.ignored[f"suffix {path.suffix.lower() or 'none'}"] += 1
        else:
            images.append(path)
    if not images:
        ignored = "".join(f", {count} with {reason}" for reason, count in sorted(listing.ignored.items()))
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"folder {root}: expected images, got none{ignored} (known: {known})")
    return sorted(images)


def _walk(root: Path, listing: Listing) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        for is_file, name in [*((False, name) for name in names), *((True, name) for name in files)]:
            reason = "hidden" if name.startswith(".") else "link" if (Path(folder) / name).is_symlink() else None
            if reason is not None:
                listing.ignored[reason] += 1
            elif is_file:
                yield Path(folder) / name
        names[:] = [name for name in names if not name.startswith(".")]


def _sample(root: Path, path: Path, kind: str, mask: Path | None, pixel_size: PixelSize | None) -> Sample:
    sample_id = path.relative_to(root).as_posix()
    _refuse_almost_good(kind, f"image {path}")
    own_mask = mask if kind != GOOD else None
    return Sample(
        id=sample_id, image_path=path, kind=kind, group_id=sample_id, mask_path=own_mask, pixel_size=pixel_size
    )


def _check_columns(columns: list[str], path: Path) -> None:
    unknown = [name for name in columns if name not in _MANIFEST_COLUMNS]
    if "path" not in columns or not {"label", "kind"} & set(columns):
        raise InputError(f"manifest {path}: expected the columns path and label or kind, got {', '.join(columns)}")
    if unknown or len(set(columns)) != len(columns):
        known = ", ".join(_MANIFEST_COLUMNS)
        raise InputError(f"manifest {path}: expected columns among {known}, once each, got {', '.join(columns)}")


def _manifest_row(
    cells: Mapping[str | None, str | None], base: Path, pixel_size: PixelSize | None
) -> tuple[Row, Path | None]:
    if None in cells or None in cells.values():
        raise InputError("expected as many cells as there are columns")
    value = {str(name): (cell or "").strip() for name, cell in cells.items()}
    if not value["path"]:
        raise InputError("path is empty")
    split = value.get("split") or None
    if split not in (None, *SPLIT_NAMES):
        raise InputError(f"expected the split train, val or test, got {split!r}")
    sample_id = Path(os.path.normpath(value["path"])).as_posix()
    kind = _kind_of(value.get("label", ""), value.get("kind", ""))
    mask = base / value["mask"] if value.get("mask") else None
    size = _pixel_size_of(value["pixel_size"]) if value.get("pixel_size") else pixel_size
    sample = Sample(
        id=sample_id,
        image_path=base / sample_id,
        kind=kind,
        group_id=value.get("group") or sample_id,
        mask_path=mask if kind != GOOD else None,
        pixel_size=size,
        boxes=boxes_from_text(value.get("boxes", "")),
    )
    return Row(sample=sample, split=split), mask


def _refuse_almost_good(kind: str, where: str) -> None:
    """Refuse a kind that only differs from "good" in its letters' case: it would be a kind of defect."""
    if kind != GOOD and kind.lower() == GOOD:
        raise InputError(f"{where}: expected the kind {GOOD} in small letters for good pieces, got {kind!r}")


def _kind_of(label: str, kind: str) -> str:
    _refuse_almost_good(kind, "column kind")
    if label and label.lower() not in _LABELS:
        raise InputError(f"expected the label good or defective (or 0, 1), got {label!r}")
    if not label:
        if not kind:
            raise InputError("label and kind are empty, expected one of them")
        return kind
    if not _LABELS[label.lower()]:
        if kind not in ("", GOOD):
            raise InputError(f"label says good and kind says {kind}: labels contradict")
        return GOOD
    if kind == GOOD:
        raise InputError("label says defective and kind says good: labels contradict")
    return kind or "defective"


def _pixel_size_of(text: str) -> PixelSize:
    try:
        numbers = [float(part) for part in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise InputError(f"expected a pixel size in mm such as 0.05 or 0.05x0.1, got {text!r}")
    return PixelSize(cross_web_mm=numbers[0], down_web_mm=numbers[-1])
