"""The loop over a roll's lines: cut into frames, judge, stitch, record.

Memory does not grow with the roll: it holds two frames, the last lines for pictures, what is open, and the records.
"""

import contextlib
from collections import deque
from typing import Any

import numpy as np

from zellige.core.camera_row import join_lines, split_views
from zellige.core.decision import min_area_in_px
from zellige.core.errors import StationError
from zellige.core.frame_cutter import CutFrame, FrameCutter
from zellige.core.open_region import WebDefect
from zellige.core.regions import MAX_DEFECTS
from zellige.core.roll_records import to_roll_defect
from zellige.core.stitching import Stitcher, StitchRule
from zellige.core.types import Decision
from zellige.core.web import Datum, WebState
from zellige.station.line_places import Places
from zellige.station.recent_lines import RecentLines
from zellige.station.roll_drift import RollDrift
from zellige.station.roll_frames import FrameJudge, JudgedFrame, Stretch, num_lines_in
from zellige.station.roll_report import MAX_DEFECTS_HELD, RollReport
from zellige.station.roll_setup import RollSetup
from zellige.station.roll_summary import streak_lines, summarize
from zellige.station.roll_view import Absence
from zellige.station.sources import Hole, Lines

BLOCK_LINES = 256
"""Most lines that are given at a time."""
_CROP_MARGIN_PX, _CROP_SIDE_PX = 32, 512


class RollLoop:
    """Takes the blocks of a roll in order and writes what it finds into a report at once."""

    def __init__(self, setup: RollSetup, places: Places, report: RollReport) -> None:
        """Begin at line 0."""
        self._setup, self._places, self._report = setup, places, report
        calibration, size = setup.runtime.bundle.manifest.calibration, setup.pixel_size
        num_channels, row = setup.runtime.bundle.manifest.color.num_channels, setup.cameras.row
        self._judge = FrameJudge(
            setup.runtime,
            size,
            setup.profile.edge_rule,
            row=row,
            edge_rules=setup.cameras.edge_rules,
            margin_px=setup.profile.edge_margin_px,
            context=setup.context,
            screen=setup.screen,
        )
        self._drift = RollDrift(
            setup.cameras.flat_fields, row.width_px, setup.profile.edge_rule, setup.profile.edge_margin_px
        )
        self._stitcher = Stitcher(
            StitchRule(
                width_px=row.width_px,
                pixel_threshold=calibration.pixel_threshold,
                min_area_px=min_area_in_px(calibration, size),
                max_length_lines=streak_lines(setup.profile, size.down_web_mm),
                pixel_size=size,
                seams_px=row.seams_px,
                seam_tolerance_px=row.tolerance_px,
                kinds=setup.runtime.bundle.manifest.kinds,
            )
        )
        shape = (row.width_px,) if num_channels == 1 else (row.width_px, num_channels)
        self._recent = RecentLines(2 * setup.frame_height + _CROP_SIDE_PX, shape)
        self._cutter: FrameCutter | None = None
        self._frames: deque[JudgedFrame] = deque()
        """The frames that show what may still be open, without their maps."""
        self._waiting: list[WebDefect] = []
        """Defects that have ended, that no frame rejects so far, and that the next frame shows too."""
        self._absences: list[Absence] = []
        """Of the lines that frames may still show."""
        self._judged_to = 0
        self._edges_px = (0.0, 0.0, 0)
        """Sums of the web's left and right edges, and in how many blocks."""
        self._num_undecided = 0
        self.num_lines = 0
        """Lines of the roll so far, holes included."""
        self.num_seen = 0
        """Lines that were there to be judged."""

    def add(self, block: Lines | Hole) -> None:
        """Take the next lines, at most `BLOCK_LINES` of them, or a hole.

        Raises:
            StationError: the results cannot be stored.
        """
        self.num_lines = block.first_line + block.num_lines
        if isinstance(block, Hole):
            self._end_run()
            self._num_undecided += block.num_lines
            self._add_stretch(block.first_line, self.num_lines, block.reason, along_mm=block.along_mm)
            self._judged_to = self.num_lines
            return
        setup, pixels = self._setup, block.pixels
        self.num_seen += len(pixels)
        self._show(block)
        if self._cutter is None:
            self._cutter = FrameCutter(
                height_px=setup.frame_height,
                context_px=setup.context,
                width_px=setup.source.width_px,
                source_id=setup.source.name,
                num_channels=1 if pixels.ndim == 2 else 3,
                pixel_size=setup.pixel_size,
                first_line=block.first_line,
            )
        for cut in self._cutter.add(pixels):
            self._inspect(cut)
        self._report.checkpoint(self._judged_to)

    def finish(self) -> None:
        """Judge the last lines and close what is open: the roll has ended."""
        self._end_run()
        self._waiting += self._stitcher.finish()
        self._record_waiting()

    def give_up(self, reason: str) -> None:
        """End early: what was not judged is UNDECIDED, what is open is recorded if it still can be."""
        with contextlib.suppress(StationError):
            self._waiting += self._stitcher.finish()
            self._record_waiting()
        if self._judged_to < self.num_lines:
            self._num_undecided += self.num_lines - self._judged_to
            self._add_stretch(self._judged_to, self.num_lines, f"not judged: {reason}")

    def summary(self) -> dict[str, Any]:
        """Add up what was found so far: the content of roll.json, without speed."""
        size, report = self._setup.pixel_size, self._report
        left_px, right_px = self._mean_edges_px()
        width_mm = (right_px - left_px) * size.cross_web_mm
        length_mm = self._places.start_mm(self.num_lines)
        sums = summarize(
            report.defects,
            self._setup.profile,
            self._setup.lanes,
            self._setup.rules,
            width_mm=width_mm,
            length_mm=length_mm,
        )
        return {
            "width_mm": width_mm,
            "length_mm": length_mm,
            "num_lines": self.num_lines,
            "num_lines_judged": self.num_lines - self._num_undecided,
            "num_defects": report.num_defects,
            "num_crops": report.num_crops,
            **sums,
            "screen": self._judge.screen_counts,
            "cameras": self._cameras(),
            "drift": self._drift.to_json(),
            "undecided": report.undecided,
            "notes": report.notes,
        }

    def _show(self, block: Lines) -> None:
        """Keep lines for pictures, black where a camera gave none, and note who did not give them."""
        row = self._setup.cameras.row
        views = split_views(block.pixels, row)
        for number, reason in block.absent:
            views[number] = np.zeros_like(views[number])
            stop_line = block.first_line + block.num_lines
            absence = Absence(camera=number, first_line=block.first_line, stop_line=stop_line, reason=reason)
            self._absences.append(absence)
        self._recent.add(block.first_line, join_lines(views, row))

    def _mean_edges_px(self) -> tuple[float, float]:
        """Where the web's edges lay on average; the row's borders as long as nobody knows."""
        left, right, count = self._edges_px
        return (left / count, right / count) if count else (0.0, float(self._setup.cameras.row.width_px))

    def _cameras(self) -> list[dict[str, Any]]:
        """Say which part of the web each of several cameras answers for, mm from the datum, and what corrected it."""
        profile, cameras, across_mm = self._setup.profile, self._setup.cameras, self._setup.pixel_size.cross_web_mm
        if not profile.cameras:
            return []
        datum_mm = self._datum_between(*self._mean_edges_px())
        return [
            {
                "name": view.name,
                "from_mm": start * across_mm - datum_mm,
                "to_mm": stop * across_mm - datum_mm,
                "flat_field_id": flat_field_id,
            }
            for view, (start, stop), flat_field_id in zip(
                cameras.row.views, cameras.row.sides_px, cameras.flat_field_ids, strict=True
            )
        ]

    def _end_run(self) -> None:
        """Judge the lines that wait for more, because none follow them."""
        if self._cutter is not None:
            for cut in self._cutter.finish():
                self._inspect(cut)
            self._cutter = None
        self._record_waiting()

    def _inspect(self, cut: CutFrame) -> None:
        judged = self._judge.judge(cut, self._absences)
        judged_to = cut.first_kept_line + cut.keep_stop - cut.keep_start
        self._watch_drift(cut, judged, judged_to)
        self._absences = [a for a in self._absences if a.stop_line > judged.first_line]
        self._remember(judged)
        self._record_waiting()
        dropped = self._stitcher.num_dropped
        has_places = self._setup.profile.encoder is not None
        for first_line, part, numbers in judged.parts:
            borders = self._places.borders_mm(first_line, first_line + len(part)) if has_places else None
            for defect in self._stitcher.add(part, first_line, borders_mm=borders, kind_numbers=numbers):
                self._record(defect)
        stretches = list(judged.stretches)
        reason = ""
        if self._stitcher.num_dropped > dropped:
            reason = f"noise: more than {MAX_DEFECTS} regions in a frame; only the largest are listed"
        elif self._report.num_defects > MAX_DEFECTS_HELD:
            reason = f"more than {MAX_DEFECTS_HELD} defects: those from here on are in no grade"
        if reason and judged.decision is not Decision.UNDECIDED:
            stretches += [
                Stretch(first_line=first, stop_line=first + len(part), reason=reason) for first, part, _ in judged.parts
            ]
        self._num_undecided += num_lines_in(stretches)
        for stretch in sorted(stretches, key=lambda s: (s.first_line, s.stop_line)):
            self._add_stretch(stretch.first_line, stretch.stop_line, stretch.reason, camera=stretch.camera)
        self._judged_to = judged_to

    def _watch_drift(self, cut: CutFrame, judged: JudgedFrame, judged_to: int) -> None:
        """Look at the lines of a frame that count, where all cameras gave theirs."""
        first_line = cut.first_kept_line
        if any(a.first_line < judged_to and a.stop_line > first_line for a in self._absences):
            return
        row = self._setup.cameras.row
        lines = join_lines(split_views(cut.frame.pixels[cut.keep_start : cut.keep_stop], row), row)
        along_mm = self._places.start_mm(first_line), self._places.start_mm(judged_to)
        self._drift.add(lines, first_line, judged.blocks, *along_mm)

    def _remember(self, judged: JudgedFrame) -> None:
        for block in judged.blocks:
            if block.state is WebState.WEB:
                left, right, count = self._edges_px
                self._edges_px = (left + block.left_px, right + block.right_px, count + 1)
        self._frames.append(judged.without_maps())
        oldest = judged.first_line - self._stitcher.rule.max_length_lines - self._setup.frame_height
        while self._frames[0].stop_line < oldest:
            self._frames.popleft()

    def _record_waiting(self) -> None:
        """Record what waits; a defect leaves the list after it was recorded, so that a break loses none."""
        while self._waiting:
            self._record(self._waiting[0], is_last=True)
            self._waiting.pop(0)

    def _record(self, defect: WebDefect, *, is_last: bool = False) -> None:
        """Store a defect, if a frame that shows it is REJECT; wait once where the next frame shows it too."""
        _, first_line, _, stop_line = defect.box_px
        frames = [f for f in self._frames if f.first_line < stop_line and f.stop_line > first_line]
        if not any(frame.decision is Decision.REJECT for frame in frames):
            if not is_last and stop_line > self._frames[-1].stop_line - 2 * self._setup.context:
                self._waiting.append(defect)
            return
        record = to_roll_defect(
            defect,
            number=self._report.num_defects + 1,
            datum_mm=self._datum_mm(frames, (first_line + stop_line) / 2),
            lanes=self._setup.lanes.recorded,
        )
        crop = self._recent.crop(defect.box_px, margin_px=_CROP_MARGIN_PX, max_side_px=_CROP_SIDE_PX)
        self._report.add_defect(record, crop)

    def _datum_mm(self, frames: list[JudgedFrame], line: float) -> float:
        """Where the datum lies, mm from column 0, in the block of lines nearest to a defect's middle."""
        blocks = [block for frame in frames for block in frame.blocks if block.state is WebState.WEB]
        nearest = min(blocks, key=lambda block: abs(block.center_line - line))
        return self._datum_between(nearest.left_px, nearest.right_px)

    def _datum_between(self, left_px: float, right_px: float) -> float:
        """Where the datum lies, mm from column 0, where the web has these edges."""
        profile = self._setup.profile
        if profile.datum is Datum.CAMERA:
            return -profile.column_0_mm
        edge_px = left_px if profile.datum is Datum.LEFT_EDGE else right_px
        return edge_px * self._setup.pixel_size.cross_web_mm

    def _add_stretch(
        self,
        first_line: int,
        stop_line: int,
        reason: str,
        *,
        along_mm: tuple[float, float] | None = None,
        camera: str | None = None,
    ) -> None:
        start_mm, stop_mm = along_mm or (self._places.start_mm(first_line), self._places.start_mm(stop_line))
        self._report.add_stretch(start_mm, stop_mm, reason, camera)
