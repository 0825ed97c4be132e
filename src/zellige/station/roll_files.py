"""Read what a judged roll left in its folder: roll.json, defects.csv and the pictures of its defects."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from zellige.core.errors import InputError
from zellige.core.roll_records import RollDefect

COLUMNS = tuple(field.name for field in fields(RollDefect))
_NUMBERS = {"x_mm", "y_mm", "width_mm", "extent_mm", "length_mm", "area_mm2", "score"}
_SIZES = {"width_mm", "extent_mm", "length_mm", "area_mm2"}
_FLAGS = {"true": True, "false": False}
_ALWAYS = frozenset(("schema", "source", "bundle_id", "complete", "reason"))
_MAX_BYTES = 64 << 20

Size = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class RollLane(_Part):
    """A lane, mm from the datum."""

    name: str
    from_mm: float
    to_mm: float


class RollCamera(_Part):
    """The part of the web that one of several cameras answers for, mm from the datum."""

    name: str
    from_mm: float
    to_mm: float


class RollRepeat(_Part):
    """Defects that come back with a roller's turn."""

    period_mm: Size
    rollers: tuple[str, ...]
    numbers: tuple[int, ...]
    x_mm: float | None = None


class RollGrade(_Part):
    """A lane's grade; `points` per 100 square yards, None where the rules have none."""

    lane: str
    grade: str
    points: float | None
    reasons: tuple[str, ...]


class RollStretch(_Part):
    """A stretch along the roll that was not judged."""

    from_mm: float
    to_mm: float
    reason: str
    camera: str | None = None
    """Of several cameras the one whose part it is; None: the whole width."""


class RollSpeed(_Part):
    """How fast it was inspected."""

    mp_per_s: float | None
    lines_per_s: float | None


class RollLight(_Part):
    """Whether light and camera changed during the roll; `found` has an entry for each sort of drift."""

    words: str
    found: tuple[dict[str, Any], ...]


class RollSummary(_Part):
    """The content of roll.json; what only a finished roll has is None or empty in one that is not complete."""

    schema_: Annotated[int, Field(alias="schema", ge=1, le=1)]
    source: str
    bundle_id: str
    complete: StrictBool
    reason: str | None
    width_mm: Size | None = None
    length_mm: Size | None = None
    num_lines: Annotated[int, Field(ge=0)] | None = None
    lanes: tuple[RollLane, ...] = ()
    cameras: tuple[RollCamera, ...] = ()
    defects_per_m2: Size | None = None
    repeats: tuple[RollRepeat, ...] = ()
    grades: tuple[RollGrade, ...] = ()
    undecided: tuple[RollStretch, ...] = ()
    speed: RollSpeed | None = None
    notes: tuple[str, ...] = ()
    drift: RollLight | None = None
    """None where the roll was judged before this was looked at."""


_COMPLETE_HAS = frozenset(RollSummary.model_fields) - {"schema_", "notes", "cameras", "drift"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRoll:
    """A roll as it is shown; lengths in mm, above 0, also where roll.json does not know them."""

    summary: RollSummary
    defects: tuple[RollDefect, ...]
    length_mm: float
    left_mm: float
    """Where the picture begins across, from the datum."""
    width_mm: float

    def across(self, stretch: RollStretch) -> tuple[float, float]:
        """Give the part of the picture that a stretch takes across, mm from the picture's corner."""
        low, high = (min(max(place - self.left_mm, 0.0), self.width_mm) for place in self._side(stretch))
        return low, high

    def undecided_boxes(self, *, datum_mm: float) -> list[tuple[float, float, float, float]]:
        """Give what was not judged as boxes: x0, y0, x1, y1 in mm from column 0 and line 0, a whole width infinite.

        Args:
            datum_mm: where the datum lies, mm from column 0.
        """
        sides = [self._side(stretch) for stretch in self.summary.undecided]
        return [
            (low + datum_mm, stretch.from_mm, high + datum_mm, stretch.to_mm)
            for (low, high), stretch in zip(sides, self.summary.undecided, strict=True)
        ]

    def _side(self, stretch: RollStretch) -> tuple[float, float]:
        """What a stretch takes across, mm from the datum; infinite where it is the whole width."""
        for camera in self.summary.cameras:
            if camera.name == stretch.camera:
                return camera.from_mm, camera.to_mm
        return -math.inf, math.inf

    @property
    def seams_mm(self) -> tuple[float, ...]:
        """Where the parts of two cameras meet, mm from the picture's corner."""
        places = (camera.from_mm - self.left_mm for camera in self.summary.cameras[1:])
        return tuple(place for place in places if 0 < place < self.width_mm)

    @property
    def undecided_mm(self) -> float:
        """Length of the roll that was not judged, or not over its whole width."""
        total, until = 0.0, 0.0
        for stretch in sorted(self.summary.undecided, key=lambda s: s.from_mm):
            total += max(0.0, stretch.to_mm - max(until, stretch.from_mm))
            until = max(until, stretch.to_mm)
        return total


def read_roll(folder: Path) -> JudgedRoll:
    """Read a judged roll.

    Raises:
        InputError: roll.json or defects.csv is missing, unreadable, or not what the inspection of a roll writes.
    """
    summary = _read_summary(folder / "roll.json")
    defects = _read_defects(folder / "defects.csv")
    ends = [d.y_mm + d.extent_mm for d in defects] + [stretch.to_mm for stretch in summary.undecided]
    left, right = _span(summary, defects)
    return JudgedRoll(
        summary=summary,
        defects=defects,
        length_mm=max(summary.length_mm or max(ends, default=0.0), 1.0),
        left_mm=left,
        width_mm=max(right - left, 1.0),
    )


def _span(summary: RollSummary, defects: Sequence[RollDefect]) -> tuple[float, float]:
    """Find what the picture shows across: the lanes, all defects, and the web's width beside its datum."""
    lows = [lane.from_mm for lane in summary.lanes] + [d.x_mm - d.width_mm / 2 for d in defects]
    highs = [lane.to_mm for lane in summary.lanes] + [d.x_mm + d.width_mm / 2 for d in defects]
    if not lows:
        return 0.0, summary.width_mm or 0.0
    low, high = min(lows), max(highs)
    missing = (summary.width_mm or 0.0) - (high - low)
    if missing <= 0:
        return low, high
    # From the left edge all places are positive, from the right edge all are negative; else nobody knows.
    if low >= 0:
        below = min(low, missing)
    elif high <= 0:
        below = missing - min(-high, missing)
    else:
        below = missing / 2
    return low - below, high + missing - below


def _read_text(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: expected {what} of at most {_MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: expected {what}, cannot be read ({reason})") from None


def _read_summary(path: Path) -> RollSummary:
    try:
        content: Any = json.loads(_read_text(path, "the summary of a judged roll"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected JSON ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}")
    missing = sorted((_ALWAYS | _COMPLETE_HAS if content.get("complete") is True else _ALWAYS) - content.keys())
    if missing:
        raise InputError(f"{path}: expected the keys of a judged roll, without {', '.join(missing)}")
    try:
        summary = RollSummary.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {field}: {' '.join(first['msg'].split())}") from None
    borders = [(lane.from_mm, lane.to_mm) for lane in summary.lanes]
    borders += [(camera.from_mm, camera.to_mm) for camera in summary.cameras]
    for start, stop in borders + [(stretch.from_mm, stretch.to_mm) for stretch in summary.undecided]:
        if start > stop:
            raise InputError(f"{path}: expected from_mm up to to_mm, got {start} and {stop}")
    return summary


def _read_defects(path: Path) -> tuple[RollDefect, ...]:
    defects: dict[int, RollDefect] = {}
    text = _read_text(path, "the table of a roll's defects")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if (header := next(rows, [])) != list(COLUMNS):
            raise InputError(f"{path}: expected the columns {','.join(COLUMNS)}, got {','.join(header)[:200]!r}")
        for row in rows:
            defect = _parse(row, f"{path} line {rows.line_num}")
            if defect.number in defects:
                raise InputError(f"{path} line {rows.line_num}: expected each number once, got {defect.number} again")
            defects[defect.number] = defect
    except csv.Error as error:
        raise InputError(f"{path} line {rows.line_num}: expected CSV ({error})") from None
    return tuple(defects.values())


def _parse(row: Sequence[str], where: str) -> RollDefect:
    if len(row) != len(COLUMNS):
        raise InputError(f"{where}: expected {len(COLUMNS)} values, got {len(row)}")
    values: dict[str, Any] = {name: _value(name, text, where) for name, text in zip(COLUMNS, row, strict=True)}
    return RollDefect(**values)


def _value(name: str, text: str, where: str) -> object:
    if name in _NUMBERS:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (name in _SIZES and number < 0):
            raise InputError(f"{where}: {name}: expected a number{' from 0' * (name in _SIZES)}, got {text[:40]!r}")
        return number
    if name == "number":
        if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
            raise InputError(f"{where}: number: expected a whole number, got {text[:40]!r}")
        return int(text)
    if name.startswith("is_"):
        if text.lower() not in _FLAGS:
            raise InputError(f"{where}: {name}: expected true or false, got {text[:40]!r}")
        return _FLAGS[text.lower()]
    return tuple(part for part in text.split(";") if part) if name == "lanes" else text
