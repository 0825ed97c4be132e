"""What a finished roll adds up to: defects per m2, repeats, grades, speed; the content of roll.json."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zellige.core.grading import GradingRules
from zellige.core.lane_grades import grade_lanes
from zellige.core.repeats import find_repeats, fitting_rollers
from zellige.core.roll_records import Lane, RollDefect, defects_per_m2
from zellige.core.web import Datum
from zellige.station.profile import RollProfile

_MARKS_PER_PLACE, _MAX_MARKS = 500, 20_000
"""Defects among which repeats are searched: the first of each place across, and in all. So the end of a roll that is
full of defects is a matter of seconds."""
WEB_LANE = "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The lanes that are graded, and those that a defect is put into."""

    graded: tuple[Lane, ...]
    recorded: tuple[Lane, ...]


def make_lanes(profile: RollProfile, *, width_px: int, cross_web_mm: float) -> Lanes:
    """Take the profile's lanes; without any, the whole web is one, wherever its edges wander."""
    if profile.lanes:
        return Lanes(graded=profile.lanes, recorded=profile.lanes)
    nominal_px = width_px if profile.edges is None or profile.edges.width_px is None else profile.edges.width_px
    width_mm = nominal_px * cross_web_mm
    start_mm = {Datum.LEFT_EDGE: 0.0, Datum.RIGHT_EDGE: -width_mm, Datum.CAMERA: profile.column_0_mm}[profile.datum]
    if profile.datum is Datum.CAMERA:
        width_mm = width_px * cross_web_mm
    web = Lane(name=WEB_LANE, from_mm=start_mm, to_mm=start_mm + width_mm)
    return Lanes(graded=(web,), recorded=(Lane(name=WEB_LANE, from_mm=-1e9, to_mm=1e9),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long a roll took. `busy_s` is without the time that was waited for the line's pace."""

    num_lines: int
    width_px: int
    wall_s: float
    busy_s: float

    def to_json(self, line_rate_hz: float | None) -> dict[str, Any]:
        """Throughput as it was, the ceiling (what it would have been without waiting), and whether that is enough."""
        lines_per_s, ceiling = (self.num_lines / max(s, 1e-9) for s in (self.wall_s, self.busy_s))
        return {
            "mp_per_s": lines_per_s * self.width_px / 1e6,
            "lines_per_s": lines_per_s,
            "ceiling_mp_per_s": ceiling * self.width_px / 1e6,
            "ceiling_lines_per_s": ceiling,
            "line_rate_hz": line_rate_hz,
            "keeps_up": None if line_rate_hz is None else ceiling >= line_rate_hz,
        }


def summarize(
    defects: Sequence[RollDefect],
    profile: RollProfile,
    lanes: Lanes,
    rules: GradingRules | None,
    *,
    width_mm: float,
    length_mm: float,
) -> dict[str, Any]:
    """Add up the defects of a roll; nothing but empty lists where it has no length."""
    content: dict[str, Any] = {
        "lanes": [{"name": x.name, "from_mm": x.from_mm, "to_mm": x.to_mm} for x in lanes.graded],
        "defects_per_m2": None,
        "repeats": [],
        "grades": [],
    }
    if length_mm <= 0:
        return content
    if width_mm > 0:
        content["defects_per_m2"] = defects_per_m2(defects, width_mm=width_mm, length_mm=length_mm)
    content["repeats"] = _repeats(defects, profile, profile.diameters_mm)
    if rules is not None:
        content["grading"] = rules.name
        content["grades"] = [
            {
                "lane": grade.lane,
                "grade": grade.grade,
                "points": grade.points_per_100_yd2,
                "reasons": list(grade.reasons),
                "num_defects": grade.num_defects,
            }
            for grade in grade_lanes(defects, lanes.graded, rules, length_mm=length_mm)
        ]
    return content


def _repeats(
    defects: Sequence[RollDefect], profile: RollProfile, diameters_mm: Mapping[str, float]
) -> list[dict[str, Any]]:
    settings = profile.repeats
    marks: list[RollDefect] = []
    places: Counter[float] = Counter()
    for defect in defects:
        place = defect.x_mm // settings.across_mm
        if defect.is_continuing or defect.is_continuation or places[place] >= _MARKS_PER_PLACE:
            continue
        places[place] += 1
        marks.append(defect)
        if len(marks) == _MAX_MARKS:
            break
    found = find_repeats(
        marks,
        across_mm=settings.across_mm,
        along_mm=settings.along_mm,
        min_period_mm=settings.min_period_mm,
        max_period_mm=settings.max_period_mm,
        min_count=settings.min_count,
    )
    return [
        {
            "x_mm": repeat.x_mm,
            "period_mm": repeat.period_mm,
            "rollers": list(fitting_rollers(repeat, diameters_mm)),
            "numbers": list(repeat.numbers),
            "num_missing": repeat.num_missing,
        }
        for repeat in found
    ]


def streak_lines(profile: RollProfile, down_web_mm: float) -> int:
    """Length in lines at which an endless defect is closed."""
    return max(1, math.ceil(profile.max_streak_mm / down_web_mm))
