"""Defects that somebody drew on rolls, in mm: a CSV with the columns roll, x_mm, y_mm, w_mm, h_mm, kind."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import GOOD, PixelSize

COLUMNS = ("roll", "x_mm", "y_mm", "w_mm", "h_mm", "kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnDefect:
    """A box on a roll, in px: x0, first line, x1, last line + 1."""

    kind: str
    box_px: tuple[float, float, float, float]

    def within(self, left: int, top: int, width: int, height: int) -> tuple[float, float, float, float] | None:
        """Its part of a window, in the window's px; None where there is none."""
        x0, y0, x1, y1 = self.box_px
        x0, x1 = max(0.0, x0 - left), min(float(width), x1 - left)
        y0, y1 = max(0.0, y0 - top), min(float(height), y1 - top)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def read_roll_defects(path: Path, pixel_size: PixelSize) -> dict[str, list[DrawnDefect]]:
    """Read the drawn defects by roll. x_mm and y_mm are a box's left edge and beginning, from column 0 and line 0.

    Raises:
        InputError: unreadable, other columns, or a line that is no box; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"defects {path}: cannot be read ({error})") from None
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    if sorted(names) != sorted(COLUMNS):
        raise InputError(f"defects {path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(names)}")
    found: dict[str, list[DrawnDefect]] = {}
    for row in reader:
        where = f"defects {path} line {reader.line_num}"
        try:
            x, y, w, h = (float(row[name]) for name in ("x_mm", "y_mm", "w_mm", "h_mm"))
            roll, kind = row["roll"].strip(), row["kind"].strip()
        except (TypeError, ValueError, AttributeError):
            raise InputError(f"{where}: expected four numbers in mm, a roll and a kind") from None
        if not all(map(math.isfinite, (x, y, w, h))) or not (x >= 0 and y >= 0 and w > 0 and h > 0):
            raise InputError(f"{where}: expected x_mm and y_mm of at least 0, w_mm and h_mm above 0, got {x, y, w, h}")
        if not roll or not kind or kind.lower() == GOOD or ";" in kind:
            raise InputError(f"{where}: expected a roll and the kind of a defect, got {roll!r} and {kind!r}")
        across, down = pixel_size.cross_web_mm, pixel_size.down_web_mm
        box = (x / across, y / down, (x + w) / across, (y + h) / down)
        found.setdefault(roll, []).append(DrawnDefect(kind=kind, box_px=box))
    return found
