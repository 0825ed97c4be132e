"""Judge one frame of a roll: which of its lines may be judged, its map inside the web, and its decision.

A roll has no score of its own. Each frame has: the highest of those tiles that show web to be judged (beside the web
the net is shown the web mirrored, so that the background does not decide), of all cameras, and
`core.decision.decide` decides on it as on any image (ADR 0009: the score decides, regions explain). A region of the map
becomes a record when a frame that shows it is REJECT; the minimum area is left to the stitching, which knows the whole
defect. What is UNDECIDED, or REJECT without a region to show for it, is an undecided stretch of the roll.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.camera_row import CameraRow, join_cameras, join_kinds, join_lines, split_views
from zellige.core.decision import decide, min_area_in_px
from zellige.core.frame_cutter import CutFrame
from zellige.core.screen import Screen
from zellige.core.tiling import KindNumbers
from zellige.core.types import AnomalyMap, Decision, Frame, Pixels, PixelSize
from zellige.core.web import EdgeRule, WebBlock, alike_table, edge_lines, find_web, mask_outside, web_mask
from zellige.station.roll_view import Absence, Edges, Mask, Reasons, ViewJudge, runs
from zellige.station.runtime import Runtime, undecided

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Lines that are UNDECIDED, from `first_line` up to `stop_line`, exclusive."""

    first_line: int
    stop_line: int
    reason: str
    camera: str | None = None
    """Of several cameras the one whose part it is; None: the whole width."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedFrame:
    """What a frame says of the web."""

    first_line: int
    """First line that it shows."""
    stop_line: int
    decision: Decision
    parts: tuple[tuple[int, AnomalyMap, KindNumbers | None], ...]
    """First line, map (h, W) and, where the model names, kinds (h, W) of the lines that count and can be judged."""
    stretches: tuple[Stretch, ...]
    """Lines among those that count which are UNDECIDED."""
    blocks: tuple[WebBlock, ...]
    """Where the web lies."""

    def without_maps(self) -> "JudgedFrame":
        """Return what is worth remembering of it."""
        return replace(self, parts=())


class FrameJudge:
    """Judges frames with one bundle and a row of cameras, often of one."""

    def __init__(
        self,
        runtime: Runtime,
        pixel_size: PixelSize,
        edges: EdgeRule,
        *,
        row: CameraRow,
        edge_rules: Sequence[EdgeRule],
        margin_px: float,
        context: int,
        screen: Screen | None = None,
    ) -> None:
        """Say how the row sees the web's edges, and how each camera by itself does.

        Args:
            runtime: the net.
            pixel_size: of all cameras.
            edges: of the row.
            row: where the cameras' columns lie.
            edge_rules: for each camera; those of `edges` for most.
            margin_px: what is left out at each edge.
            context: that of the frames.
            screen: picks the tiles for the net.
        """
        self._runtime, self._row, self._edges, self._margin_px = runtime, row, edges, margin_px
        self._views = [
            ViewJudge(runtime, row, number, rule, margin_px=margin_px, context=context, screen=screen)
            for number, rule in enumerate(edge_rules)
        ]
        self._tables = [None if rule == edges else alike_table(rule, edges) for rule in edge_rules]
        calibration = runtime.bundle.manifest.calibration
        self._has_min_area = min_area_in_px(calibration, pixel_size) > 0
        self._pixel_threshold = calibration.pixel_threshold
        # Regions are the stitching's: here none is looked for, and none is too small.
        none = float(np.finfo(np.float32).max)
        self._calibration = replace(calibration, pixel_threshold=none, min_area_mm2=None, min_area_px=None)

    @property
    def screen_counts(self) -> dict[str, int] | None:
        """Tiles that show web, and those that the net did not see; None without a screen."""
        counts = [view.screen.to_json() for view in self._views if view.screen is not None]
        return {name: sum(count[name] for count in counts) for name in counts[0]} if counts else None

    def judge(self, cut: CutFrame, absences: Sequence[Absence] = ()) -> JudgedFrame:
        """Judge a frame. Whatever goes wrong makes its lines UNDECIDED with the reason, never ACCEPT.

        Args:
            cut: lines of the row's `num_columns`.
            absences: lines that a camera did not give; what is in its columns there is not looked at.
        """
        frame = cut.frame
        kept = np.zeros(frame.size[0], bool)
        kept[cut.keep_start : cut.keep_stop] = True
        blocks: tuple[WebBlock, ...] = ()
        decision, masked, numbers, stretches = Decision.UNDECIDED, None, None, []
        try:
            views = split_views(frame.pixels, self._row)
            blocks = find_web(self._measured(views), self._edges, first_line=frame.first_line)
            reasons = np.stack(
                [
                    judge.line_reasons(pixels, frame.first_line, blocks, absences)
                    for judge, pixels in zip(self._views, views, strict=True)
                ]
            )
            is_judged = kept & (reasons == "").any(axis=0)
            stretches = self._stretches(np.where(kept, reasons, ""), frame.first_line)
            if is_judged.any():
                decision, masked, numbers, reason = self._decide(frame, views, blocks, reasons == "")
                if masked is not None:
                    for view in self._views:
                        view.remember(masked[cut.keep_stop - 1], frame.first_line + cut.keep_stop)
                if reason:
                    stretches += _stretches(np.where(is_judged, reason, ""), frame.first_line)
        except Exception as error:
            # As in `inspect`: whatever goes wrong with a frame, the line goes on and these lines are UNDECIDED.
            logger.debug("frame %s is UNDECIDED", frame.source_id, exc_info=True)
            words = undecided(self._runtime.bundle, frame.source_id, error, 0.0).reason
            stretches, masked = _stretches(np.where(kept, words, ""), frame.first_line), None
        judged = [] if masked is None else runs(is_judged)
        return JudgedFrame(
            first_line=frame.first_line,
            stop_line=frame.first_line + frame.size[0],
            decision=decision,
            parts=()
            if masked is None
            else tuple(
                (frame.first_line + a, masked[a:b], None if numbers is None else numbers[a:b]) for a, b in judged
            ),
            stretches=tuple(sorted(stretches, key=lambda s: s.first_line)),
            blocks=blocks,
        )

    def _measured(self, views: Sequence[Pixels]) -> Pixels:
        """Put the cameras' lines side by side for `find_web`, with gray levels as `edges` wants them."""
        alike = zip(views, self._tables, strict=True)
        return join_lines([v if t is None else np.asarray(cv2.LUT(v, t), np.uint8) for v, t in alike], self._row)

    def _decide(
        self, frame: Frame, views: Sequence[Pixels], blocks: tuple[WebBlock, ...], is_judged: Mask
    ) -> tuple[Decision, AnomalyMap | None, KindNumbers | None, str]:
        """Run the net; return the decision, the map inside the web, its kinds, and why lines are UNDECIDED ("").

        Args:
            frame: of the row.
            views: each camera's pixels.
            blocks: where the web lies.
            is_judged: (cameras, H) the lines that each camera can be judged by.
        """
        edges: Edges = edge_lines(blocks)
        mask = web_mask(blocks, self._row.width_px, margin_px=self._margin_px)
        for view, lines in zip(self._views, is_judged, strict=True):
            mask[:, slice(*view.side)] &= lines[:, None]
        if not mask.any():
            return Decision.UNDECIDED, None, None, "no column of the web is inside the margins"
        seen = [
            view.run(frame, pixels, edges, lines, mask)
            for view, pixels, lines in zip(self._views, views, is_judged, strict=True)
        ]
        scores, maps = [score for view in seen for score in view.scores], [view.anomaly_map for view in seen]
        anomaly_map = join_cameras(maps, self._row)
        named = [view.numbers for view in seen if view.numbers is not None]
        numbers = join_kinds(named, maps, self._row) if named else None
        if not scores:
            return Decision.ACCEPT, anomaly_map, numbers, ""
        if not np.isfinite(anomaly_map).all():
            return Decision.UNDECIDED, None, None, "the anomaly map holds values that are not finite"
        masked = mask_outside(anomaly_map, mask)
        # Not max(): it passes over a NaN that is not the first.
        decision, _, reason = decide(
            float(np.max(scores)), masked, self._calibration, pixel_size=frame.pixel_size, first_line=frame.first_line
        )
        if decision is Decision.REJECT:
            is_shown = self._has_min_area or bool((masked > self._pixel_threshold).any())
            return decision, masked, numbers, "" if is_shown else f"{reason}, but no pixel is above the pixel threshold"
        return decision, masked, numbers, reason if decision is Decision.UNDECIDED else ""

    def _stretches(self, reasons: Reasons, first_line: int) -> list[Stretch]:
        """Join lines of one reason, (cameras, H): what all cameras have in common is of the whole width."""
        is_common = (reasons == reasons[0]).all(axis=0)
        found = _stretches(np.where(is_common, reasons[0], ""), first_line)
        for view, own in zip(self._views, reasons, strict=True):
            found += [
                replace(stretch, camera=view.name, reason=f"camera {view.name}: {stretch.reason}")
                for stretch in _stretches(np.where(is_common, "", own), first_line)
            ]
        return found


def num_lines_in(stretches: Iterable[Stretch]) -> int:
    """Count the lines of stretches that may lie beside each other: each line once."""
    count, until = 0, -1
    for stretch in sorted(stretches, key=lambda s: s.first_line):
        count += max(0, stretch.stop_line - max(until, stretch.first_line))
        until = max(until, stretch.stop_line)
    return count


def _stretches(reasons: NDArray[np.object_] | NDArray[np.str_], first_line: int) -> list[Stretch]:
    """Join neighboring lines of one reason."""
    found: list[Stretch] = []
    for start, stop in runs(reasons != ""):
        for line in range(start, stop):
            reason = str(reasons[line])
            if found and found[-1].stop_line == first_line + line and found[-1].reason == reason:
                found[-1] = replace(found[-1], stop_line=first_line + line + 1)
            else:
                found.append(Stretch(first_line=first_line + line, stop_line=first_line + line + 1, reason=reason))
    return found
