"""What a format of labels says is in a data set, before any image is decoded; and how its files are found and read."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from zellige.core.errors import InputError
from zellige.core.image_files import IMAGE_SUFFIXES
from zellige.core.types import PixelSize
from zellige.data.annotations import AnnotatedDefect, Canvas, check_kind
from zellige.data.formats import Skipped

MASK_FOLDERS = ("ground_truth", "masks")
_SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where labels lie and what they themselves do not say."""

    root: Path
    kinds: tuple[str, ...] = ()
    """Names of the kinds in their order, for formats that number them; empty: the format's own file says them."""
    voc_boxes: str = "devkit"
    templates: str = "pair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An image and how its defects are read; `where` names the file that labels it."""

    id: str
    image_path: Path
    where: str
    read_defects: Callable[[Canvas], Sequence[AnnotatedDefect]]
    image_kind: str | None = None
    """The kind that the whole image is said to show; it has no place where `read_defects` finds none."""
    group_id: str | None = None
    split: str | None = None
    pixel_size: PixelSize | None = None
    template_path: Path | None = None
    """An image of the same without defects, which is no entry itself."""


@dataclass(slots=True, kw_only=True)
class LabelListing:
    """The entries of a format, and what was left out and why.

    `kinds` are those that the format lists in an order of its own; kinds that are only seen on images follow them.
    """

    entries: list[Entry] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    dropped: list[Skipped] = field(default_factory=list)
    """Images whose labels cannot be used, and labels without an image."""
    unlabelled: dict[str, Path] = field(default_factory=dict)
    """Images that no label names, by id: nobody says that they are good."""
    warnings: list[str] = field(default_factory=list)

    def drop(self, path: str, reason: object) -> None:
        self.dropped.append(Skipped(path=path, reason=str(reason)))


class ImageIndex:
    """All images below a folder, found by the end of their path; hidden ones and masks are left out.

    Where all lie below `images/`, that folder is not part of their ids.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"folder {root}: expected a folder of images and labels, it does not exist")
        self.root = root
        found = files_below(root, IMAGE_SUFFIXES)
        self.paths = [path for path in found if path.relative_to(root).parts[0] not in MASK_FOLDERS]
        in_images = all(path.relative_to(root).parts[0] == "images" for path in self.paths)
        self._base = root / "images" if in_images else root
        self._by_name: dict[str, list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name, []).append(path)
        self._found: set[Path] = set()

    def id_of(self, path: Path) -> str:
        return path.relative_to(self._base).as_posix()

    def find(self, name: str, where: str) -> Path:
        """Find the one image whose path ends as `name` does (separators of both kinds, leading dots ignored).

        Raises:
            InputError: none, or several.
        """
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
        found = [
            path
            for path in self._by_name.get(parts[-1] if parts else "", [])
            if path.parts[-len(parts) :] == tuple(parts)
        ]
        exact = [path for path in found if path in (self.root / Path(*parts), self._base / Path(*parts))]
        found = exact or found
        if len(found) != 1:
            raise InputError(f"{where}: expected one image {name!r} below {self.root}, got {len(found) or 'none'}")
        self._found.add(found[0])
        return found[0]

    def find_stem(self, stem: str, where: str) -> Path:
        """Find the one image of this name without its suffix."""
        names = [name for name in self._by_name if Path(name).stem == stem]
        if len(names) != 1:
            raise InputError(
                f"{where}: expected one image named {stem!r} below {self.root}, got {len(names) or 'none'}"
            )
        return self.find(names[0], where)

    def holds(self, path: Path) -> bool:
        return path in self._by_name.get(path.name, [])

    def take(self, path: Path) -> None:
        """Remember that a label names this image."""
        self._found.add(path)

    def unused(self) -> dict[str, Path]:
        """The images that no label named, by id."""
        return {self.id_of(path): path for path in self.paths if path not in self._found}


def files_below(root: Path, suffixes: Sequence[str] | frozenset[str]) -> list[Path]:
    """Sorted files of these suffixes (small letters) below a folder; hidden files and folders are left out."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [Path(folder) / name for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file())


def read_text(path: Path) -> str:
    """Read a text file of labels, UTF-8 with or without a byte order mark.

    Raises:
        InputError: missing, not permitted, not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"labels {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"labels {path}: expected UTF-8 text, got other bytes at {error.start}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file of labels.

    Raises:
        InputError: see `read_text`; or not JSON, with the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"labels {path} line {error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"labels {path}: not usable JSON (nested too deeply)") from None


def read_kinds(path: Path) -> list[str]:
    """Read one kind a line; empty lines are ignored."""
    lines = read_text(path).splitlines()
    return check_kinds([line.strip() for line in lines if line.strip()], f"labels {path}")


def check_kinds(names: Sequence[object], where: str) -> list[str]:
    """Check the names of all kinds of a set: usable, and each once.

    Raises:
        InputError: see `check_kind`; or a name twice.
    """
    kinds = [check_kind(name, where) for name in names]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise InputError(f"{where}: expected each kind once, got {', '.join(twice)} twice")
    return kinds


def split_in(parts: Sequence[str]) -> str | None:
    """The split that a part of a path names: train, val (valid, validation) or test; None where none or several do."""
    named = {_SPLIT_WORDS[part.lower()] for part in parts if part.lower() in _SPLIT_WORDS}
    return named.pop() if len(named) == 1 else None


def take_number(value: object, where: str, what: str) -> float:
    """Take a number of a label file as float.

    Raises:
        InputError: not a number, or true or false.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: expected a number for {what}, got {str(value)[:40]!r}")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise InputError(f"{where}: expected a number for {what}, got {str(value)[:40]!r}") from None
