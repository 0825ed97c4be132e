"""The loop over a roll's lines: correct, cut into frames, judge, stitch, record.

Memory does not grow with the roll: it holds two frames, the last lines for pictures, what is open, and the records.
"""

import contextlib
from collections import deque
from typing import Any

from zellige.core.decision import min_area_in_px
from zellige.core.errors import StationError
from zellige.core.flat_field import apply_flat_field, prepare
from zellige.core.frame_cutter import CutFrame, FrameCutter
from zellige.core.open_region import WebDefect
from zellige.core.regions import MAX_DEFECTS
from zellige.core.roll_records import to_roll_defect
from zellige.core.stitching import Stitcher, StitchRule
from zellige.core.types import Decision
from zellige.core.web import Datum, WebState
from zellige.station.line_places import Places
from zellige.station.recent_lines import RecentLines
from zellige.station.roll_frames import FrameJudge, JudgedFrame
from zellige.station.roll_report import MAX_DEFECTS_HELD, RollReport
from zellige.station.roll_setup import RollSetup
from zellige.station.roll_summary import streak_lines, summarize
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
        num_channels = setup.runtime.bundle.manifest.color.num_channels
        width = setup.source.width_px
        self._corrector = None if setup.flat_field is None else prepare(setup.flat_field)
        self._judge = FrameJudge(
            setup.runtime,
            size,
            setup.profile.edge_rule,
            margin_px=setup.profile.edge_margin_px,
            context=setup.context,
            screen=setup.screen,
        )
        self._stitcher = Stitcher(
            StitchRule(
                width_px=width,
                pixel_threshold=calibration.pixel_threshold,
                min_area_px=min_area_in_px(calibration, size),
                max_length_lines=streak_lines(setup.profile, size.down_web_mm),
                pixel_size=size,
                kinds=setup.runtime.bundle.manifest.kinds,
            )
        )
        shape = (width,) if num_channels == 1 else (width, num_channels)
        self._recent = RecentLines(2 * setup.frame_height + _CROP_SIDE_PX, shape)
        self._cutter: FrameCutter | None = None
        self._frames: deque[JudgedFrame] = deque()
        """The frames that show what may still be open, without their maps."""
        self._waiting: list[WebDefect] = []
        """Defects that have ended, that no frame rejects so far, and that the next frame shows too."""
        self._judged_to = 0
        self._web_px = (0.0, 0)
        """Sum of the web's widths and in how many blocks."""
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
            self._add_stretch(block.first_line, self.num_lines, block.reason, block.along_mm)
            self._judged_to = self.num_lines
            return
        setup = self._setup
        pixels = block.pixels if self._corrector is None else apply_flat_field(block.pixels, self._corrector)
        self.num_seen += len(pixels)
        self._recent.add(block.first_line, pixels)
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
        for defect in self._stitcher.finish():
            self._record(defect, is_last=True)

    def give_up(self, reason: str) -> None:
        """End early: what was not judged is UNDECIDED, what is open is recorded if it still can be."""
        with contextlib.suppress(StationError):
            for defect in (*self._waiting, *self._stitcher.finish()):
                self._record(defect, is_last=True)
        if self._judged_to < self.num_lines:
            self._add_stretch(self._judged_to, self.num_lines, f"not judged: {reason}")

    def summary(self) -> dict[str, Any]:
        """Add up what was found so far: the content of roll.json, without speed."""
        size, report = self._setup.pixel_size, self._report
        total_px, num_blocks = self._web_px
        width_mm = (total_px / num_blocks if num_blocks else self._setup.source.width_px) * size.cross_web_mm
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
            "screen": None if self._judge.screen is None else self._judge.screen.to_json(),
            "undecided": report.undecided,
            "notes": report.notes,
        }

    def _end_run(self) -> None:
        """Judge the lines that wait for more, because none follow them."""
        if self._cutter is not None:
            for cut in self._cutter.finish():
                self._inspect(cut)
            self._cutter = None
        self._record_waiting()

    def _inspect(self, cut: CutFrame) -> None:
        judged = self._judge.judge(cut)
        self._remember(judged)
        self._record_waiting()
        dropped = self._stitcher.num_dropped
        has_places = self._setup.profile.encoder is not None
        for first_line, part, numbers in judged.parts:
            borders = self._places.borders_mm(first_line, first_line + len(part)) if has_places else None
            for defect in self._stitcher.add(part, first_line, borders_mm=borders, kind_numbers=numbers):
                self._record(defect)
        stretches = [(s.first_line, s.stop_line, s.reason) for s in judged.stretches]
        reason = ""
        if self._stitcher.num_dropped > dropped:
            reason = f"noise: more than {MAX_DEFECTS} regions in a frame; only the largest are listed"
        elif self._report.num_defects > MAX_DEFECTS_HELD:
            reason = f"more than {MAX_DEFECTS_HELD} defects: those from here on are in no grade"
        if reason and judged.decision is not Decision.UNDECIDED:
            stretches += [(first, first + len(part), reason) for first, part, _ in judged.parts]
        for stretch in sorted(stretches):
            self._add_stretch(*stretch)
        self._judged_to = cut.first_kept_line + cut.keep_stop - cut.keep_start

    def _remember(self, judged: JudgedFrame) -> None:
        for block in judged.blocks:
            if block.state is WebState.WEB:
                self._web_px = (self._web_px[0] + block.right_px - block.left_px, self._web_px[1] + 1)
        self._frames.append(judged.without_maps())
        oldest = judged.first_line - self._stitcher.rule.max_length_lines - self._setup.frame_height
        while self._frames[0].stop_line < oldest:
            self._frames.popleft()

    def _record_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for defect in waiting:
            self._record(defect, is_last=True)

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
        profile = self._setup.profile
        if profile.datum is Datum.CAMERA:
            return -profile.camera_mm
        blocks = [block for frame in frames for block in frame.blocks if block.state is WebState.WEB]
        nearest = min(blocks, key=lambda block: abs(block.center_line - line))
        edge_px = nearest.left_px if profile.datum is Datum.LEFT_EDGE else nearest.right_px
        return edge_px * self._setup.pixel_size.cross_web_mm

    def _add_stretch(
        self, first_line: int, stop_line: int, reason: str, along_mm: tuple[float, float] | None = None
    ) -> None:
        self._num_undecided += stop_line - first_line
        start_mm, stop_mm = along_mm or (self._places.start_mm(first_line), self._places.start_mm(stop_line))
        self._report.add_stretch(start_mm, stop_mm, reason)
