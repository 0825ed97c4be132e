"""What a roll's defects add up to: records in mm, lanes, defects per m2."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zellige.core.errors import ConfigError, InputError
from zellige.core.open_region import WebDefect


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A strip that the web is slit into, from `from_mm` up to `to_mm` across, counted from the datum."""

    name: str
    from_mm: float
    to_mm: float

    def __post_init__(self) -> None:
        if not self.name or not (math.isfinite(self.from_mm) and math.isfinite(self.to_mm)):
            raise ConfigError(f"lane {self.name!r}: expected a name and finite borders")
        if not self.from_mm < self.to_mm:
            raise ConfigError(f"lane {self.name}: expected from_mm < to_mm, got {self.from_mm} and {self.to_mm}")

    @property
    def width_mm(self) -> float:
        return self.to_mm - self.from_mm


@dataclass(frozen=True, slots=True, kw_only=True)
class RollDefect:
    """One defect of a roll: across from the datum, along from the start of the roll."""

    number: int
    """From 1, in the order in which defects end."""
    x_mm: float
    """Middle of its box across the web."""
    y_mm: float
    """Where it begins along the web."""
    width_mm: float
    """Extent across the web."""
    extent_mm: float
    """Extent along the web."""
    length_mm: float
    """Longer side of the smallest rotated rectangle."""
    area_mm2: float
    kind: str
    score: float
    lanes: tuple[str, ...]
    """Every lane that it touches; empty where it lies in none."""
    is_continuing: bool = False
    is_continuation: bool = False


def to_roll_defect(defect: WebDefect, *, number: int, datum_mm: float, lanes: Sequence[Lane] = ()) -> RollDefect:
    """Turn a stitched defect into a roll's record.

    Args:
        defect: from `core.stitching`, with mm.
        number: its number in the roll.
        datum_mm: where the datum lies across, mm from column 0, where the defect is.
        lanes: the lanes, in mm from the datum.

    Raises:
        InputError: a defect without mm; records of a roll need a pixel size.
    """
    if defect.box_mm is None or defect.area_mm2 is None or defect.length_mm is None:
        raise InputError("roll records: expected defects in mm, got an uncalibrated one; state the pixel size")
    left, start, right, end = defect.box_mm
    left, right = left - datum_mm, right - datum_mm
    return RollDefect(
        number=number,
        x_mm=(left + right) / 2,
        y_mm=start,
        width_mm=right - left,
        extent_mm=end - start,
        length_mm=defect.length_mm,
        area_mm2=defect.area_mm2,
        kind=defect.kind,
        score=defect.peak_score,
        lanes=tuple(lane.name for lane in lanes if left < lane.to_mm and right > lane.from_mm),
        is_continuing=defect.is_continuing,
        is_continuation=defect.is_continuation,
    )


def defects_per_m2(defects: Iterable[RollDefect], *, width_mm: float, length_mm: float) -> float:
    """Count of defects for each square metre of web; a streak in several records counts once.

    Raises:
        InputError: no area.
    """
    if not (width_mm > 0 and length_mm > 0):
        raise InputError(f"defects per m2: expected a width and a length above 0 mm, got {width_mm} and {length_mm}")
    return sum(not d.is_continuation for d in defects) / (width_mm * length_mm * 1e-6)
