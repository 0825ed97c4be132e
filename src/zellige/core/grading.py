"""Grades of a roll's lanes by declared rules, and points by length as in the four-point system of ASTM D5430.

Rules are data (YAML or JSON), checked in full when they are read. A lane has the first grade whose limits it keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zellige.core.errors import ConfigError, InputError
from zellige.core.mapping_file import read_mapping
from zellige.core.roll_records import RollDefect

MM_PER_YARD = 914.4
_MM2_PER_100_YD2 = 100 * MM_PER_YARD**2

Length = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PointStep(_Strict):
    """Defects up to this length, inclusive, have these points."""

    up_to_mm: Length
    points: Annotated[int, Field(ge=0)]


class PointScheme(_Strict):
    """Penalty points by a defect's length, limited for each piece of the roll's length."""

    steps: Annotated[tuple[PointStep, ...], Field(min_length=1)]
    longer_points: Annotated[int, Field(ge=0)]
    section_mm: Length
    """The length of web that has at most `max_section_points`."""
    max_section_points: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _grows(self) -> Self:
        lengths = [step.up_to_mm for step in self.steps]
        if lengths != sorted(set(lengths)):
            raise ValueError("expected steps of growing length")
        return self


FOUR_POINT = PointScheme(
    steps=(
        PointStep(up_to_mm=76.2, points=1),
        PointStep(up_to_mm=152.4, points=2),
        PointStep(up_to_mm=228.6, points=3),
    ),
    longer_points=4,
    section_mm=MM_PER_YARD,
    max_section_points=4,
)
"""Points by length (3, 6, 9 inches), at most 4 for each linear yard.

Source: ASTM D5430, four-point system.
"""


class Limit(_Strict):
    """One condition on a lane. The filters say which defects it looks at, the `max_` fields how many there may be."""

    kinds: tuple[Name, ...] | None = None
    """None: all kinds."""
    min_length_mm: float = 0.0
    """Only defects at least this long."""
    max_count: Annotated[int, Field(ge=0)] | None = None
    """0 makes a defect critical: one is too many."""
    max_per_m2: Annotated[float, Field(ge=0)] | None = None
    max_length_mm: Length | None = None
    """Longest defect; the records of one streak are added up."""
    max_in_window: Annotated[int, Field(ge=0)] | None = None
    """Most defects that begin within any `window_mm` along the web."""
    window_mm: Length | None = None
    max_points_per_100_yd2: Annotated[float, Field(ge=0)] | None = None
    """Needs the rules' `points`."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        limits = (self.max_count, self.max_per_m2, self.max_length_mm, self.max_in_window, self.max_points_per_100_yd2)
        if all(limit is None for limit in limits):
            raise ValueError("expected at least one max_ field")
        if (self.max_in_window is None) != (self.window_mm is None):
            raise ValueError("expected max_in_window and window_mm together")
        return self


class Grade(_Strict):
    """A grade and all that a lane must keep to have it."""

    grade: Name
    limits: Annotated[tuple[Limit, ...], Field(min_length=1)]


class GradingRules(_Strict):
    """The grades from the best to the worst; a lane that keeps none of them is `otherwise`."""

    name: Name
    grades: Annotated[tuple[Grade, ...], Field(min_length=1)]
    otherwise: Name
    points: PointScheme | None = None
    """A scheme, or the name `astm_d5430` for `FOUR_POINT`."""

    @field_validator("points", mode="before")
    @classmethod
    def _preset(cls, points: Any) -> Any:
        return FOUR_POINT if points == "astm_d5430" else points

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [grade.grade for grade in self.grades] + [self.otherwise]
        if len(set(names)) != len(names):
            raise ValueError(f"expected every grade once, got {', '.join(names)}")
        wants_points = any(limit.max_points_per_100_yd2 is not None for g in self.grades for limit in g.limits)
        if wants_points and self.points is None:
            raise ValueError("max_points_per_100_yd2 needs points")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneGrade:
    """A lane's grade, and for each better grade the first limit that it does not keep, in words."""

    lane: str
    grade: str
    reasons: tuple[str, ...]
    num_defects: int
    points_per_100_yd2: float | None


def parse_rules(content: Mapping[str, Any], where: str) -> GradingRules:
    """Check rules that were read from YAML or JSON.

    Raises:
        ConfigError: an unknown, missing or ill-typed field, or rules that contradict each other.

    Example:
        >>> rules = parse_rules({"name": "house", "otherwise": "B",
        ...                      "grades": [{"grade": "A", "limits": [{"max_count": 0}]}]}, "rules")
        >>> rules.grades[0].grade
        'A'
    """
    try:
        return GradingRules.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"grading rules {where}: {field}: {' '.join(first['msg'].split())}") from None


def read_rules(path: Path) -> GradingRules:
    """Read rules from a .json file, or from a .yaml file where PyYAML is there (training brings it, a station may not).

    Raises:
        ConfigError: unreadable, not YAML or JSON, or see `parse_rules`.
    """
    return parse_rules(read_mapping(path, "grading rules"), str(path))


def roll_points(defects: Sequence[RollDefect], scheme: PointScheme, *, length_mm: float) -> int:
    """Add up a roll's penalty points: by length, at most so many for each section.

    A defect longer than a section is continuous: it has the full points in every section that it lies in. Every other
    defect counts where it begins.

    Raises:
        InputError: a defect that begins beyond the roll's end.

    Source: ASTM D5430, four-point system (docs/guide/web.md says which of its rules are here).

    Example:
        >>> roll_points([], FOUR_POINT, length_mm=1000.0)
        0
    """
    sections: dict[int, int] = {}
    for d in defects:
        if not 0 <= d.y_mm <= length_mm:
            raise InputError(f"points: expected defects within 0 to {length_mm} mm along the roll, got {d.y_mm} mm")
        first = int(d.y_mm // scheme.section_mm)
        if d.extent_mm > scheme.section_mm or d.is_continuing or d.is_continuation:
            last = max(first, -int(-(d.y_mm + d.extent_mm) // scheme.section_mm) - 1)
            sections.update(dict.fromkeys(range(first, last + 1), scheme.max_section_points))
            continue
        points = next((s.points for s in scheme.steps if d.length_mm <= s.up_to_mm + 1e-9), scheme.longer_points)
        sections[first] = min(sections.get(first, 0) + points, scheme.max_section_points)
    return sum(sections.values())


def points_per_100_yd2(points: int, *, width_mm: float, length_mm: float) -> float:
    """Relate points to 100 square yards: points x 3600 / (width in inches x length in yards).

    Raises:
        InputError: no area.

    Example:
        >>> round(points_per_100_yd2(24, width_mm=60 * 25.4, length_mm=120 * 914.4), 6)
        12.0
    """
    if not (width_mm > 0 and length_mm > 0):
        raise InputError(f"points: expected a width and a length above 0 mm, got {width_mm} and {length_mm}")
    return points * _MM2_PER_100_YD2 / (width_mm * length_mm)
