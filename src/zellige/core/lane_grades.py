"""Apply grading rules to the lanes of a roll."""

from collections.abc import Sequence

from zellige.core.grading import GradingRules, LaneGrade, Limit, PointScheme, points_per_100_yd2, roll_points
from zellige.core.roll_records import Lane, RollDefect, defects_per_m2

_JOINT_MM = 1.0
"""Records of a streak meet at one line; the encoder may place its two sides a little apart."""


def grade_lanes(
    defects: Sequence[RollDefect], lanes: Sequence[Lane], rules: GradingRules, *, length_mm: float
) -> tuple[LaneGrade, ...]:
    """Grade each lane by the defects that touch it; one that touches two lanes counts in both.

    Args:
        defects: all of the roll.
        lanes: with the names that the defects carry.
        rules: the grades.
        length_mm: length of the roll, above 0.

    Raises:
        InputError: a roll without length, or a defect beyond its end.
    """
    return tuple(_grade(lane, [d for d in defects if lane.name in d.lanes], rules, length_mm) for lane in lanes)


def _grade(lane: Lane, defects: list[RollDefect], rules: GradingRules, length_mm: float) -> LaneGrade:
    reasons: list[str] = []
    name = rules.otherwise
    for grade in rules.grades:
        broken = [
            f"{grade.grade}: {words}"
            for limit in grade.limits
            for words in _broken(limit, defects, rules.points, lane, length_mm)
        ]
        if not broken:
            name = grade.grade
            break
        reasons.append(broken[0])
    points = None
    if rules.points is not None:
        points = points_per_100_yd2(
            roll_points(defects, rules.points, length_mm=length_mm), width_mm=lane.width_mm, length_mm=length_mm
        )
    return LaneGrade(
        lane=lane.name,
        grade=name,
        reasons=tuple(reasons),
        num_defects=sum(not d.is_continuation for d in defects),
        points_per_100_yd2=points,
    )


def _broken(
    limit: Limit, defects: Sequence[RollDefect], scheme: PointScheme | None, lane: Lane, length_mm: float
) -> list[str]:
    """Say in words what a lane does not keep of a limit."""
    lengths = streak_lengths_mm(defects)
    seen = [
        d
        for d in defects
        if (limit.kinds is None or d.kind in limit.kinds) and lengths[d.number] >= limit.min_length_mm
    ]
    starts = [d for d in seen if not d.is_continuation]
    which = "defects" if limit.kinds is None else " or ".join(limit.kinds)
    found = []
    if limit.max_count is not None and len(starts) > limit.max_count:
        found.append(f"{len(starts)} {which}, at most {limit.max_count}")
    if limit.max_per_m2 is not None:
        density = defects_per_m2(seen, width_mm=lane.width_mm, length_mm=length_mm)
        if density > limit.max_per_m2:
            found.append(f"{density:.4g} {which} per m2, at most {limit.max_per_m2:g}")
    longest = max((lengths[d.number] for d in seen), default=0.0)
    if limit.max_length_mm is not None and longest > limit.max_length_mm:
        found.append(f"{which} of {longest:.4g} mm, at most {limit.max_length_mm:g} mm")
    if limit.max_in_window is not None and limit.window_mm is not None:
        most = most_in_window([d.y_mm for d in starts], limit.window_mm)
        if most > limit.max_in_window:
            found.append(f"{most} {which} within {limit.window_mm:g} mm, at most {limit.max_in_window}")
    if limit.max_points_per_100_yd2 is not None and scheme is not None:
        points = points_per_100_yd2(
            roll_points(seen, scheme, length_mm=length_mm), width_mm=lane.width_mm, length_mm=length_mm
        )
        if points > limit.max_points_per_100_yd2:
            found.append(f"{points:.4g} points per 100 yd2, at most {limit.max_points_per_100_yd2:g}")
    return found


def most_in_window(positions_mm: Sequence[float], window_mm: float) -> int:
    """Most positions within any window of this length.

    Example:
        >>> most_in_window([0, 40, 90, 100, 500], 60)
        3
    """
    ordered = sorted(positions_mm)
    most, start = 0, 0
    for stop, position in enumerate(ordered):
        while position - ordered[start] > window_mm:
            start += 1
        most = max(most, stop - start + 1)
    return most


def streak_lengths_mm(defects: Sequence[RollDefect]) -> dict[int, float]:
    """Length of the whole defect for each record, by number: the records of one streak have the sum of theirs.

    A continuation belongs to the record that ends where it begins and lies nearest across.
    """
    chains: list[list[RollDefect]] = []
    growing: list[list[RollDefect]] = []
    for d in sorted(defects, key=lambda d: d.y_mm):
        near = [c for c in growing if abs(_end(c[-1]) - d.y_mm) < _JOINT_MM] if d.is_continuation else []
        if near:
            chain = min(near, key=lambda c: abs(c[-1].x_mm - d.x_mm))
        else:
            chain = []
            chains.append(chain)
            growing.append(chain)
        chain.append(d)
        if not d.is_continuing:
            growing = [c for c in growing if c is not chain]
    return {d.number: sum(part.length_mm for part in chain) for chain in chains for d in chain}


def _end(defect: RollDefect) -> float:
    return defect.y_mm + defect.extent_mm
