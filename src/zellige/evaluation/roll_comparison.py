"""What a station found on a roll against a list of what is on it: hits, escapes, false alarms, positions in mm."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.roll_records import RollDefect

COLUMNS = ("kind", "x0_mm", "y0_mm", "x1_mm", "y1_mm")
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in mm: across from the datum, along from the start of the roll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDefect:
    """A defect that is on the roll."""

    kind: str
    box_mm: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class RollHit:
    """A listed defect that was found."""

    listed: ListedDefect
    numbers: tuple[int, ...]
    """Of the records that touch it: more than one where a defect was found in parts."""
    off_across_mm: float
    """Middle of what was found less the middle of what is listed."""
    off_along_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RollComparison:
    """Every listed defect is a hit or an escape; a record that touches no listed one is a false alarm."""

    hits: tuple[RollHit, ...]
    escapes: tuple[ListedDefect, ...]
    false_alarms: tuple[RollDefect, ...]


def read_listed(path: Path) -> tuple[ListedDefect, ...]:
    """Read a list of defects: CSV with the columns kind, x0_mm, y0_mm, x1_mm, y1_mm, as scripts/make_roll.py writes it.

    Raises:
        InputError: unreadable, other columns, or a line that is no box; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list {path}: cannot be read ({error})") from None
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    header = next(reader, [])
    if [name.strip() for name in header] != list(COLUMNS):
        raise InputError(f"list {path}: expected the columns {','.join(COLUMNS)}, got {','.join(header)[:200]!r}")
    listed = []
    for row in reader:
        where = f"list {path} line {reader.line_num}"
        if len(row) != len(COLUMNS):
            raise InputError(f"{where}: expected {len(COLUMNS)} values, got {len(row)}")
        try:
            x0, y0, x1, y1 = (float(text) for text in row[1:])
        except ValueError:
            raise InputError(f"{where}: expected four numbers in mm, got {', '.join(row[1:])[:80]!r}") from None
        if not (all(map(math.isfinite, (x0, y0, x1, y1))) and x0 < x1 and y0 < y1):
            raise InputError(f"{where}: expected x0_mm < x1_mm and y0_mm < y1_mm, got {x0, y0, x1, y1}")
        listed.append(ListedDefect(kind=row[0].strip(), box_mm=(x0, y0, x1, y1)))
    return tuple(listed)


def compare_roll(
    found: Sequence[RollDefect], listed: Sequence[ListedDefect], *, within_mm: float = 2.0
) -> RollComparison:
    """Compare what was found with what is listed.

    Args:
        found: the roll's records, positions from the datum that the list has too.
        listed: all that is on the roll.
        within_mm: a record belongs to a listed defect when their boxes overlap or lie no further apart than this. A map
            is coarser than the image it was made of.

    Example:
        >>> one = ListedDefect(kind="hole", box_mm=(10.0, 100.0, 14.0, 104.0))
        >>> comparison = compare_roll([], [one])
        >>> len(comparison.hits), comparison.escapes == (one,)
        (0, True)
    """
    boxes = [(d, _box(d)) for d in found]
    touched: set[int] = set()
    hits, escapes = [], []
    for one in listed:
        near = [(d, box) for d, box in boxes if _is_near(box, one.box_mm, within_mm)]
        touched.update(d.number for d, _ in near)
        if near:
            hits.append(_to_hit(one, [d for d, _ in near], [box for _, box in near]))
        else:
            escapes.append(one)
    alarms = tuple(d for d in found if d.number not in touched)
    return RollComparison(hits=tuple(hits), escapes=tuple(escapes), false_alarms=alarms)


def _box(defect: RollDefect) -> Box:
    half = defect.width_mm / 2
    return defect.x_mm - half, defect.y_mm, defect.x_mm + half, defect.y_mm + defect.extent_mm


def _is_near(first: Box, second: Box, within_mm: float) -> bool:
    return all(first[i] <= second[i + 2] + within_mm and second[i] <= first[i + 2] + within_mm for i in (0, 1))


def _to_hit(listed: ListedDefect, records: Sequence[RollDefect], boxes: Sequence[Box]) -> RollHit:
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[2] for b in boxes), max(b[3] for b in boxes)
    x0, y0, x1, y1 = listed.box_mm
    return RollHit(
        listed=listed,
        numbers=tuple(d.number for d in records),
        off_across_mm=(left + right - x0 - x1) / 2,
        off_along_mm=(top + bottom - y0 - y1) / 2,
    )
