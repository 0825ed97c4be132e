"""Whether light and camera change during a roll: the column profile of its web, stretch by stretch.

All web counts, not only what was accepted: a lamp that fails and dirt on the window make the net reject, and then
nothing would be left to see them by. Defects drop out as the extremes of a stretch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zellige.core.errors import InputError
from zellige.core.flat_field import FlatField, Reference, is_same_level
from zellige.core.flat_field_estimate import ranges_in_words
from zellige.core.profile_drift import DriftKind, Profile, ProfileDrift, ProfileWatch
from zellige.core.types import Pixels
from zellige.core.web import EdgeRule, WebBlock, WebState

STRETCH_LINES = 2048
"""Least lines of web behind one profile."""
_START_STRETCHES = 4
"""Stretches at the start that say how much the material itself differs."""
_EDGE_PX = 4
"""Columns beside an edge that are left out, because optics and wander blur it."""
_TO_AGREE = 2
"""Stretches that must show a drift before it is one."""


@dataclass(slots=True, kw_only=True)
class _Found:
    """One sort of drift: from where to where it was seen, and the stretch that shows most of it."""

    from_mm: float
    to_mm: float
    worst: ProfileDrift


class RollDrift:
    """Compares each stretch with the flat field's reference where that is good material, else with the roll's start.

    A white reference does not say how good material looks. The roll's start says nothing of drift before it. Cameras
    side by side are compared with their flat fields if all have one of good material, of one level.
    """

    def __init__(
        self, flat_fields: Sequence[FlatField | None], width_px: int, edges: EdgeRule, margin_px: float
    ) -> None:
        """Begin a roll; `margin_px` is left out beside each edge of the web."""
        level: Profile | None = None
        self._reference = "the start of the roll"
        known = [field for field in flat_fields if field is not None and field.reference is Reference.GOOD_MATERIAL]
        if len(known) == len(flat_fields) and all(is_same_level(f.target_dn, known[0].target_dn) for f in known):
            level, self._reference = np.full(width_px, known[0].target_dn), "the flat field"
        self._watch: ProfileWatch | None = ProfileWatch(level, window_lines=STRETCH_LINES, num_start=_START_STRETCHES)
        num_needed = _START_STRETCHES + _TO_AGREE
        self._problem = f"the roll has fewer than {num_needed} stretches of {STRETCH_LINES:,} lines of web"
        self._left_px, self._right_px = (
            margin_px + (_EDGE_PX if is_seen else 0) for is_seen in (edges.sees_left_edge, edges.sees_right_edge)
        )
        self._num_compared = 0
        self._begin_mm: list[float] = []
        """Where the stretch before and the present one begin."""
        self._found: dict[DriftKind, _Found] = {}

    def add(self, lines: Pixels, first_line: int, blocks: Sequence[WebBlock], from_mm: float, to_mm: float) -> None:
        """Take the lines of a frame that count, where all of them show web.

        Args:
            lines: uint8 (H, W) or (H, W, 3), flat-field corrected, those of cameras side by side joined.
            first_line: of the roll.
            blocks: where the web lies in the frame.
            from_mm: where the lines that count begin along the web.
            to_mm: where they end.
        """
        stop = first_line + len(lines)
        counted = [b for b in blocks if b.first_line < stop and b.first_line + b.num_lines > first_line]
        if self._watch is None or not counted or any(block.state is not WebState.WEB for block in counted):
            return
        left = math.ceil(max(block.left_px for block in counted) + self._left_px)
        right = math.floor(min(block.right_px for block in counted) - self._right_px)
        if self._watch.num_lines == 0:
            self._begin_mm = [*self._begin_mm[-1:], from_mm]
        try:
            seen = self._watch.add(lines, (left, right))
        except InputError as error:  # web as dark as no light: its columns cannot be compared
            self._watch, self._problem = None, f"the web is too dark in places ({error})"
            return
        if seen is not None:
            self._num_compared += 1
            for kind in seen.kinds:
                self._note(kind, seen, to_mm)

    def to_json(self) -> dict[str, Any]:
        """Give what was seen, as it is in roll.json; `words` says it to people."""
        return {
            "reference": self._reference,
            "num_compared": self._num_compared,
            "limits": self._limits(),
            "found": [
                {
                    "kind": kind.value,
                    "from_mm": one.from_mm,
                    "to_mm": one.to_mm,
                    "level_ratio": one.worst.level_ratio,
                    "worst_shape_ratio": one.worst.worst_shape_ratio,
                    "worst_shape_column": one.worst.worst_shape_column,
                    "dirt_columns": _columns(one.worst),
                }
                for kind, one in self._found.items()
            ],
            "words": self._words(),
        }

    def _note(self, kind: DriftKind, seen: ProfileDrift, to_mm: float) -> None:
        """Remember from where to where a sort of drift is seen; the stretch before showed it too."""
        known = self._found.get(kind)
        if known is None:
            self._found[kind] = _Found(from_mm=self._begin_mm[0], to_mm=to_mm, worst=seen)
            return
        known.to_mm = to_mm
        if _extent(seen, kind) > _extent(known.worst, kind):
            known.worst = seen

    def _words(self) -> str:
        if self._num_compared < _TO_AGREE:
            return f"not compared: {self._problem}"
        if not self._found:
            stretches = f"{self._num_compared} stretches of {STRETCH_LINES:,} lines"
            return f"no drift against {self._reference} in {stretches}; {self._limits_in_words()}"
        found = "; ".join(
            f"{_in_words(kind, one.worst)} ({one.from_mm:,.0f} to {one.to_mm:,.0f} mm)"
            for kind, one in self._found.items()
        )
        return f"{found}; compared with {self._reference}; {self._limits_in_words()}"

    def _limits(self) -> dict[str, float] | None:
        """Give what is no drift on this material; None where nothing was compared."""
        if self._watch is None or self._num_compared == 0:
            return None
        limits = self._watch.limits
        return {"level": limits.level, "shape": limits.shape, "dirt": limits.dirt}

    def _limits_in_words(self) -> str:
        limits = self._limits() or {}
        return "limits: " + ", ".join(f"{name} {100 * limit:.0f} %" for name, limit in limits.items())


def _extent(drift: ProfileDrift, kind: DriftKind) -> float:
    """How far a drift of one sort goes."""
    ratios = {DriftKind.LEVEL: drift.level_ratio, DriftKind.SHAPE: drift.worst_shape_ratio}
    return abs(ratios[kind] - 1) if kind in ratios else len(drift.dirt_columns)


def _columns(drift: ProfileDrift) -> str | None:
    return ranges_in_words(np.array(drift.dirt_columns, np.intp)) if drift.dirt_columns else None


def _in_words(kind: DriftKind, drift: ProfileDrift) -> str:
    if kind is DriftKind.LEVEL:
        return f"light at {100 * drift.level_ratio:.0f} % (lamp, exposure, another material?)"
    if kind is DriftKind.SHAPE:
        share = f"{100 * drift.worst_shape_ratio:.0f} % of the rest"
        return f"light around column {drift.worst_shape_column} at {share} (a segment of the lamp?)"
    return f"columns {_columns(drift)} unlike their neighbors (dirt on the window, or a streak on the web?)"
