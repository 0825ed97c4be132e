"""Defects of rolls that somebody knows, in mm: a CSV with the columns roll, x_mm, y_mm, w_mm, h_mm, kind."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import GOOD

COLUMNS = ("roll", "x_mm", "y_mm", "w_mm", "h_mm", "kind")
_DECIMALS = 6
"""A nanometre: what binary fractions leave behind it is no place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDefect:
    """A box on a roll, mm: x0 and x1 from column 0, y0 and y1 from line 0."""

    kind: str
    box_mm: tuple[float, float, float, float]


def read_known_defects(path: Path) -> dict[str, list[KnownDefect]]:
    """Read known defects by roll. x_mm and y_mm are a box's left edge and beginning, from column 0 and line 0.

    Raises:
        InputError: unreadable, other columns, or a line that is no box; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"defects {path}: cannot be read ({error})") from None
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    found: dict[str, list[KnownDefect]] = {}
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        if sorted(names) != sorted(COLUMNS):
            raise InputError(f"defects {path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(names)}")
        for row in reader:
            roll, defect = _parse(row, f"defects {path} line {reader.line_num}")
            found.setdefault(roll, []).append(defect)
    except csv.Error as error:
        # The inner reader counts the line that it failed on, DictReader does not.
        raise InputError(f"defects {path} line {reader.reader.line_num}: expected CSV ({error})") from None
    return found


def _parse(row: Mapping[str, str], where: str) -> tuple[str, KnownDefect]:
    """Give a line's roll and its box."""
    try:
        x, y, w, h = (float(row[name]) for name in ("x_mm", "y_mm", "w_mm", "h_mm"))
        roll, kind = row["roll"].strip(), row["kind"].strip()
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{where}: expected four numbers in mm, a roll and a kind") from None
    if not all(map(math.isfinite, (x, y, w, h))) or not (x >= 0 and y >= 0 and w > 0 and h > 0):
        raise InputError(f"{where}: expected x_mm and y_mm of at least 0, w_mm and h_mm above 0, got {x, y, w, h}")
    if not roll or not kind or kind.lower() == GOOD or ";" in kind:
        raise InputError(f"{where}: expected a roll and the kind of a defect, got {roll!r} and {kind!r}")
    return roll, KnownDefect(kind=kind, box_mm=(x, y, x + w, y + h))


def write_known_defects(path: Path, known: Mapping[str, Iterable[KnownDefect]]) -> None:
    """Write the defects of each roll, by its name, as `read_known_defects` reads them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for roll, defects in known.items():
            for defect in defects:
                x0, y0, x1, y1 = defect.box_mm
                numbers = (round(float(value), _DECIMALS) for value in (x0, y0, x1 - x0, y1 - y0))
                writer.writerow([roll, *numbers, defect.kind])
