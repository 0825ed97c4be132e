"""Judge one frame of a roll: which of its lines may be judged, its map inside the web, and its decision.

A roll has no score of its own. Each frame has: the highest of those tiles that show web to be judged (beside the web
the net is shown the web mirrored, so that the background does not decide), and
`core.decision.decide` decides on it as on any image (ADR 0009: the score decides, regions explain). A region of the map
becomes a record when a frame that shows it is REJECT; the minimum area is left to the stitching, which knows the whole
defect. What is UNDECIDED, or REJECT without a region to show for it, is an undecided stretch of the roll.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zellige.core.decision import decide, min_area_in_px
from zellige.core.frame_cutter import CutFrame
from zellige.core.named import KindMap, Named
from zellige.core.screen import Screen
from zellige.core.tiling import KindNumbers, Layout
from zellige.core.types import AnomalyMap, Decision, Frame, Pixels, PixelSize
from zellige.core.web import Background, EdgeRule, WebBlock, WebState, edge_lines, find_web, mask_outside, web_mask
from zellige.station.roll_screen import RollScreen
from zellige.station.runtime import Runtime, undecided
from zellige.station.web_fill import fill_outside

logger = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
Edges = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Left and right edge at each line, (N,) px."""
_EVERY_COLUMN = 4
"""One column in so many is looked at first: light comes and goes over the whole line."""
_BESIDE = "beside lines that cannot be judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Lines that are UNDECIDED, from `first_line` up to `stop_line`, exclusive."""

    first_line: int
    stop_line: int
    reason: str


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
    """Judges frames with one bundle, one camera."""

    def __init__(
        self,
        runtime: Runtime,
        pixel_size: PixelSize,
        edges: EdgeRule,
        *,
        margin_px: float,
        context: int,
        screen: Screen | None = None,
    ) -> None:
        """Say how the camera sees the web; `context` is that of the frames, `screen` picks the tiles for the net."""
        self.screen = None if screen is None else RollScreen(runtime, screen)
        self._runtime, self._edges, self._margin_px, self._context = runtime, edges, margin_px, context
        calibration = runtime.bundle.manifest.calibration
        self._has_min_area = min_area_in_px(calibration, pixel_size) > 0
        self._pixel_threshold = calibration.pixel_threshold
        # Regions are the stitching's: here none is looked for, and none is too small.
        none = float(np.finfo(np.float32).max)
        self._calibration = replace(calibration, pixel_threshold=none, min_area_mm2=None, min_area_px=None)

    def judge(self, cut: CutFrame) -> JudgedFrame:
        """Judge a frame. Whatever goes wrong makes its lines UNDECIDED with the reason, never ACCEPT."""
        frame = cut.frame
        kept = np.zeros(frame.size[0], bool)
        kept[cut.keep_start : cut.keep_stop] = True
        blocks: tuple[WebBlock, ...] = ()
        decision, masked, numbers, stretches = Decision.UNDECIDED, None, None, []
        try:
            blocks = find_web(frame.pixels, self._edges, first_line=frame.first_line)
            edges = edge_lines(blocks)
            reasons = self._line_reasons(frame, blocks, edges)
            is_judged = kept & (reasons == "")
            stretches = _stretches(np.where(kept, reasons, ""), frame.first_line)
            if is_judged.any():
                decision, masked, named, reason = self._decide(frame, blocks, edges, reasons == "")
                numbers = named.numbers if isinstance(named, KindMap) else None
                if self.screen is not None and masked is not None:
                    self.screen.remember(masked[cut.keep_stop - 1], frame.first_line + cut.keep_stop)
                if reason:
                    stretches += _stretches(np.where(is_judged, reason, ""), frame.first_line)
        except Exception as error:
            # As in `inspect`: whatever goes wrong with a frame, the line goes on and these lines are UNDECIDED.
            logger.debug("frame %s is UNDECIDED", frame.source_id, exc_info=True)
            words = undecided(self._runtime.bundle, frame.source_id, error, 0.0).reason
            stretches, masked = _stretches(np.where(kept, words, ""), frame.first_line), None
        runs = [] if masked is None else _runs(is_judged)
        return JudgedFrame(
            first_line=frame.first_line,
            stop_line=frame.first_line + frame.size[0],
            decision=decision,
            parts=()
            if masked is None
            else tuple((frame.first_line + a, masked[a:b], None if numbers is None else numbers[a:b]) for a, b in runs),
            stretches=tuple(sorted(stretches, key=lambda s: s.first_line)),
            blocks=blocks,
        )

    def _decide(
        self, frame: Frame, blocks: tuple[WebBlock, ...], edges: Edges, is_web_line: Mask
    ) -> tuple[Decision, AnomalyMap | None, Named | None, str]:
        """Run the net; return the decision, the map inside the web, what is named, and why lines are UNDECIDED ("")."""
        filled = fill_outside(frame.pixels, *edges, is_web_line, margin_px=self._margin_px)
        layout = self._runtime.lay_out(replace(frame, pixels=filled))
        mask = web_mask(blocks, frame.size[1], margin_px=self._margin_px) & is_web_line[:, None]
        shown = _shows(layout, mask)
        if not any(shown):
            return Decision.UNDECIDED, None, None, "no column of the web is inside the margins"
        if self.screen is None:
            scores, anomaly_map, named = self._runtime.run_tiles(layout)
            seen = [score for score, is_shown in zip(scores, shown, strict=True) if is_shown]
        else:
            seen, anomaly_map, named = self.screen.run(filled, layout, shown, frame.first_line)
            if not seen:
                return Decision.ACCEPT, anomaly_map, named, ""
        if not np.isfinite(anomaly_map).all():
            return Decision.UNDECIDED, None, None, "the anomaly map holds values that are not finite"
        masked = mask_outside(anomaly_map, mask)
        # Not max(): it passes over a NaN that is not the first.
        decision, _, reason = decide(
            float(np.max(seen)), masked, self._calibration, pixel_size=frame.pixel_size, first_line=frame.first_line
        )
        if decision is Decision.REJECT:
            is_shown = self._has_min_area or bool((masked > self._pixel_threshold).any())
            return decision, masked, named, "" if is_shown else f"{reason}, but no pixel is above the pixel threshold"
        return decision, masked, named, reason if decision is Decision.UNDECIDED else ""

    def _line_reasons(self, frame: Frame, blocks: tuple[WebBlock, ...], edges: Edges) -> NDArray[np.object_]:
        """Why each line cannot be judged, (H,) str, "" where it can.

        A net sees the neighbors of a line, so the context on both sides of bad lines cannot be judged either.
        """
        reasons = np.empty(frame.size[0], object)
        reasons[:] = ""
        for block in blocks:
            start = block.first_line - frame.first_line
            lines = slice(start, start + block.num_lines)
            if block.state is not WebState.WEB:
                reasons[lines] = f"web: {block.state.value}"
                continue
            # A block is judged by its mean: what begins within it shows line by line.
            columns = slice(max(0, int(block.left_px)), max(1, int(np.ceil(block.right_px))))
            reasons[lines] = self._lines_of_web(frame.pixels[lines, columns])
        for start, stop in _runs(reasons != ""):
            for beside in (slice(max(0, start - self._context), start), slice(stop, stop + self._context)):
                reasons[beside] = np.where(reasons[beside] == "", _BESIDE, reasons[beside])
        return reasons

    def _lines_of_web(self, pixels: Pixels) -> NDArray[np.object_]:
        """Why lines (N, w) or (N, w, 3) between the web's edges show no web, (N,) str, "" where they do."""
        reasons = self._reasons_by_line(pixels[:, ::_EVERY_COLUMN])
        suspect = np.flatnonzero(reasons != "")
        if len(suspect):  # a weave may agree with the columns that were looked at
            reasons[suspect] = self._reasons_by_line(pixels[suspect])
        return reasons

    def _reasons_by_line(self, pixels: Pixels) -> NDArray[np.object_]:
        edges, rows = self._edges, np.ascontiguousarray(pixels).reshape(len(pixels), -1)
        level = rows.mean(axis=1)
        is_dark = edges.background is Background.DARK
        is_away = level <= edges.threshold_dn if is_dark else level >= edges.threshold_dn
        is_black = rows.max(axis=1) <= edges.black_dn
        is_saturated = (rows == 255).mean(axis=1) > edges.max_saturated_share
        states = (is_black, WebState.BLACK), (is_saturated, WebState.SATURATED), (is_away, WebState.NO_WEB)
        return np.select([m for m, _ in states], [f"web: {state.value}" for _, state in states], "").astype(object)


def _shows(layout: Layout, mask: Mask) -> list[bool]:
    """Tell of each tile whether it shows something of the mask."""
    height, width = layout.geometry.height, layout.geometry.width
    return [bool(mask[y : y + height, x : x + width].any()) for y, x in layout.corners]


def _runs(is_true: Mask) -> list[tuple[int, int]]:
    """Start and stop of each run of true values."""
    steps = np.flatnonzero(np.diff(np.asarray(is_true, bool), prepend=False, append=False)).tolist()
    return list(zip(steps[::2], steps[1::2], strict=True))


def _stretches(reasons: NDArray[np.object_] | NDArray[np.str_], first_line: int) -> list[Stretch]:
    """Join neighboring lines of one reason."""
    found: list[Stretch] = []
    for start, stop in _runs(reasons != ""):
        for line in range(start, stop):
            reason = str(reasons[line])
            if found and found[-1].stop_line == first_line + line and found[-1].reason == reason:
                found[-1] = replace(found[-1], stop_line=first_line + line + 1)
            else:
                found.append(Stretch(first_line=first_line + line, stop_line=first_line + line + 1, reason=reason))
    return found
