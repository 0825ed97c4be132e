"""From `geometry.ignore`, `ignore_mask` and `foreground` as they are written to the types of core."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zellige.core.errors import ConfigError
from zellige.core.ignore import Foreground, IgnoredMask, IgnoredShape, LengthUnit
from zellige.core.image_files import read_mask

_SHAPES = ("box", "polygon", "columns")


def to_ignore(entries: Any) -> tuple[IgnoredShape, ...]:
    """Turn a list such as `[{box: [0, 0, 40, 20]}, {columns: [0, 3.5], unit: mm}]` into shapes.

    Raises:
        ConfigError: anything else.

    Example:
        >>> [str(shape) for shape in to_ignore([{"polygon": [[0, 0], [9, 0], [0, 9]], "unit": "px"}])]
        ['polygon [[0, 0], [9, 0], [0, 9]] px']
    """
    if not isinstance(entries, list | tuple):
        raise ConfigError(f"geometry.ignore: expected a list such as [{{columns: [0, 40]}}], got {entries!r}")
    return tuple(_to_shape(entry, f"geometry.ignore[{number}]") for number, entry in enumerate(entries))


def read_ignore_mask(path: str | None) -> IgnoredMask | None:
    """Read a drawn mask, white where pixels are ignored (as `core.image_files.read_mask`); None for none.

    Raises:
        InputError: the file cannot be read.
        ConfigError: nothing is drawn in it, or everything.
    """
    if path is None:
        return None
    mask = read_mask(Path(path), None)
    if mask.all() or not mask.any():
        found = "the whole frame" if mask.all() else "nothing"
        raise ConfigError(f"geometry.ignore_mask {path}: expected a part of the frame drawn in white, got {found}")
    return IgnoredMask.of(mask)


def to_foreground(value: str) -> Foreground:
    """Turn `geometry.foreground` into its type.

    Raises:
        ConfigError: an unknown word.
    """
    words = [word.value for word in Foreground]
    if value not in words:
        raise ConfigError(f"geometry.foreground: expected one of {', '.join(words)}, got {value!r}")
    return Foreground(value)


def _to_shape(entry: Any, where: str) -> IgnoredShape:
    if not isinstance(entry, dict) or not set(entry) <= {*_SHAPES, "unit"}:
        raise ConfigError(f"{where}: expected box, polygon or columns, and perhaps unit, got {entry!r}")
    unit = entry.get("unit", LengthUnit.PX.value)
    if unit not in [u.value for u in LengthUnit]:
        raise ConfigError(f"{where}.unit: expected px or mm, got {unit!r}")
    given: dict[str, Any] = {}
    for name, count in (("box", 4), ("columns", 2)):
        if name in entry:
            given[name] = _numbers(entry[name], count, f"{where}.{name}")
    if "polygon" in entry:
        corners = entry["polygon"]
        if not isinstance(corners, list | tuple):
            raise ConfigError(f"{where}.polygon: expected a list of corners [x, y], got {corners!r}")
        given["polygon"] = tuple(_numbers(c, 2, f"{where}.polygon[{i}]") for i, c in enumerate(corners))
    return IgnoredShape(**given, unit=LengthUnit(unit))


def _numbers(value: Any, count: int, where: str) -> tuple[float, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or len(value) != count or not all(type(n) in (int, float) for n in value):
        raise ConfigError(f"{where}: expected {count} numbers, got {value!r}")
    return tuple(float(n) for n in value)
