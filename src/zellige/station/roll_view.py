"""One camera's part of a frame: which of its lines may be judged, and what the net says of them.

The net sees each camera's own lines over their whole width: beyond a seam they are context, for which another camera
answers. So there is no seam in what the net sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zellige.core.camera_row import CameraRow
from zellige.core.named import KindMap
from zellige.core.screen import Screen
from zellige.core.screened_map import SCREENED
from zellige.core.tiling import KindNumbers, Layout
from zellige.core.types import AnomalyMap, Frame, Pixels
from zellige.core.web import Background, EdgeRule, WebBlock, WebState
from zellige.station.roll_screen import RollScreen
from zellige.station.runtime import Runtime
from zellige.station.web_fill import fill_outside

Mask = NDArray[np.bool_]
Reasons = NDArray[np.object_]
Edges = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Left and right edge at each line, (N,) px of the row."""
_EVERY_COLUMN = 4
"""One column in so many is looked at first: light comes and goes over the whole line."""
_BESIDE = "beside lines that cannot be judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Lines that one camera did not give, from `first_line` up to `stop_line`, exclusive."""

    camera: int
    """Its number from the left."""
    first_line: int
    stop_line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenView:
    """What the net says of one camera's part: scores of tiles, its map (H, w), and kinds (H, w) where it names any."""

    scores: list[float]
    anomaly_map: AnomalyMap
    numbers: KindNumbers | None


class ViewJudge:
    """Judges the part of a frame that one camera of a row sees."""

    def __init__(
        self,
        runtime: Runtime,
        row: CameraRow,
        number: int,
        rule: EdgeRule,
        *,
        margin_px: float,
        context: int,
        screen: Screen | None = None,
    ) -> None:
        """Say which camera of the row it is, counted from the left, and how it sees the web's edges."""
        self.name, self.side = row.views[number].name, row.sides_px[number]
        self.screen = None if screen is None else RollScreen(runtime, screen)
        self._runtime, self._view, self._number, self._rule = runtime, row.views[number], number, rule
        self._has_kinds = bool(runtime.bundle.manifest.kinds)
        self._reach, self._margin_px, self._context = row.reach_px(number), margin_px, context

    def line_reasons(
        self, pixels: Pixels, first_line: int, blocks: Sequence[WebBlock], absences: Sequence[Absence]
    ) -> Reasons:
        """Why each line cannot be judged, (H,) str, "" where it can.

        A net sees the neighbors of a line, so the context on both sides of bad lines cannot be judged either.

        Args:
            pixels: (H, w) or (H, w, 3), the camera's own.
            first_line: absolute number of the first of them.
            blocks: where the web lies in the row.
            absences: of any camera.
        """
        reasons = np.empty(len(pixels), object)
        reasons[:] = ""
        for block in blocks:
            start = block.first_line - first_line
            lines = slice(start, start + block.num_lines)
            if block.state is not WebState.WEB:
                reasons[lines] = f"web: {block.state.value}"
                continue
            # A block is judged by its mean: what begins within it shows line by line.
            first = max(self.side[0], int(block.left_px)) - self._view.first_column_px
            stop = min(self.side[1], max(1, int(np.ceil(block.right_px)))) - self._view.first_column_px
            if first < stop:
                reasons[lines] = self._lines_of_web(pixels[lines, first:stop])
        for absence in absences:
            if absence.camera == self._number:
                reasons[max(0, absence.first_line - first_line) : max(0, absence.stop_line - first_line)] = (
                    absence.reason
                )
        for start, stop in runs(reasons != ""):
            for beside in (slice(max(0, start - self._context), start), slice(stop, stop + self._context)):
                reasons[beside] = np.where(reasons[beside] == "", _BESIDE, reasons[beside])
        return reasons

    def run(self, frame: Frame, pixels: Pixels, edges: Edges, is_judged: Mask, mask: Mask) -> SeenView:
        """Say what the net sees in the tiles that show judged web; the map is `SCREENED` where there is none.

        Args:
            frame: of the row; its number and pixel size count.
            pixels: (H, w) or (H, w, 3), the camera's own.
            edges: of the web in the row.
            is_judged: (H,) lines that this camera can be judged by.
            mask: (H, W) what is judged of the row.
        """
        shift, width = self._view.first_column_px, self._view.width_px
        first, stop = self._reach
        own = np.zeros(pixels.shape[:2], bool)
        own[:, first - shift : stop - shift] = mask[:, first:stop] & is_judged[:, None]
        if not own.any():
            numbers = np.zeros(own.shape, np.uint8) if self._has_kinds else None
            return SeenView(scores=[], anomaly_map=np.full(own.shape, SCREENED), numbers=numbers)
        left = np.maximum(edges[0] + self._margin_px - shift, 0)
        right = np.minimum(edges[1] - self._margin_px - shift, width)
        filled = fill_outside(pixels, left, right, is_judged, margin_px=0)
        layout = self._runtime.lay_out(replace(frame, pixels=filled))
        shown = _shows(layout, own)
        if self.screen is None:
            scores, anomaly_map, named = self._runtime.run_tiles(layout)
            scores = [score for score, is_shown in zip(scores, shown, strict=True) if is_shown]
        else:
            scores, anomaly_map, named = self.screen.run(filled, layout, shown, frame.first_line)
        if not is_judged.all():
            anomaly_map = np.where(is_judged[:, None], anomaly_map, SCREENED)
        numbers = named.numbers if isinstance(named, KindMap) else None
        return SeenView(scores=list(scores), anomaly_map=anomaly_map, numbers=numbers)

    def remember(self, last_kept: AnomalyMap, next_line: int) -> None:
        """Take the last line (W,) of the row's map that counts, for the screen of the next frame."""
        if self.screen is not None:
            self.screen.remember(last_kept[self._view.first_column_px : self._view.stop_px], next_line)

    def _lines_of_web(self, pixels: Pixels) -> Reasons:
        """Why lines (N, w) or (N, w, 3) between the web's edges show no web, (N,) str, "" where they do."""
        reasons = self._reasons_by_line(pixels[:, ::_EVERY_COLUMN])
        suspect = np.flatnonzero(reasons != "")
        if len(suspect):  # a weave may agree with the columns that were looked at
            reasons[suspect] = self._reasons_by_line(pixels[suspect])
        return reasons

    def _reasons_by_line(self, pixels: Pixels) -> Reasons:
        rule, rows = self._rule, np.ascontiguousarray(pixels).reshape(len(pixels), -1)
        level = rows.mean(axis=1)
        is_dark = rule.background is Background.DARK
        is_away = level <= rule.threshold_dn if is_dark else level >= rule.threshold_dn
        is_black = rows.max(axis=1) <= rule.black_dn
        is_saturated = (rows == 255).mean(axis=1) > rule.max_saturated_share
        states = (is_black, WebState.BLACK), (is_saturated, WebState.SATURATED), (is_away, WebState.NO_WEB)
        return np.select([m for m, _ in states], [f"web: {state.value}" for _, state in states], "").astype(object)


def _shows(layout: Layout, mask: Mask) -> list[bool]:
    """Tell of each tile whether it shows something of the mask."""
    height, width = layout.geometry.height, layout.geometry.width
    return [bool(mask[y : y + height, x : x + width].any()) for y, x in layout.corners]


def runs(is_true: Mask) -> list[tuple[int, int]]:
    """Start and stop of each run of true values."""
    steps = np.flatnonzero(np.diff(np.asarray(is_true, bool), prepend=False, append=False)).tolist()
    return list(zip(steps[::2], steps[1::2], strict=True))
