"""Inspect a recorded roll: lines in; defects in mm, undecided stretches, repeats and grades out.

source (flat field, several cameras as one) -> places of the lines -> frames -> web and net (`roll_frames`) -> stitching
-> `roll_report`.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zellige.core.errors import USER_ERRORS, InputError, StationError
from zellige.core.progress import progress
from zellige.station.line_places import Places, place_lines
from zellige.station.roll_cameras import Roll
from zellige.station.roll_loop import BLOCK_LINES, RollLoop
from zellige.station.roll_page import write_roll_page
from zellige.station.roll_report import DEFECTS, ROLL, RollReport
from zellige.station.roll_setup import RollOptions, RollSetup, prepare_roll
from zellige.station.roll_summary import Speed
from zellige.station.sources import Block, in_blocks, paced


def inspect_roll(bundle: Path, roll: Roll, profile: Path | None, out_dir: Path, options: RollOptions) -> bool:
    """Inspect a roll, recorded or live; return whether it has lines, and neither a defect nor an undecided stretch.

    Nothing is written before bundle, profile and recording are verified. Whatever ends it early, what was judged is in
    `out_dir`, and its roll.json says that it is not complete.

    Raises:
        BundleError, ConfigError, InputError: see `roll_setup.prepare_roll`; a recording that cannot be read further.
        StationError: the results cannot be written.
    """
    setup = prepare_roll(bundle, roll, profile, options)
    places = Places(setup.pixel_size.down_web_mm, None if setup.counts is None else 2 * _lines_held(setup))
    report = RollReport(out_dir, _header(setup, profile), overwrite=options.overwrite, with_crops=options.crops)
    report.notes.extend(setup.source.notes)
    loop, clock = RollLoop(setup, places, report), _Clock()
    try:
        total = setup.source.num_blocks
        with progress("inspecting the roll", total) if total else contextlib.nullcontext(lambda: None) as advance:
            for block in _blocks(setup, places, options, clock, advance):
                loop.add(block)
        loop.finish()
        report.notes.extend(setup.source.final_notes())
    except (KeyboardInterrupt, *USER_ERRORS, OSError) as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        loop.give_up(reason)
        report.notes.extend(setup.source.final_notes())
        # Where roll.json cannot be written either, the one of before says that the roll is not complete.
        with contextlib.suppress(StationError, InputError, OSError):
            report.finish(_content(loop, clock, setup, reason))
            write_roll_page(out_dir)
        raise
    content = _content(loop, clock, setup, None)
    report.finish(content)
    try:
        page = f"page: {write_roll_page(out_dir)}"
    except (InputError, StationError) as error:  # the roll is judged all the same
        page = f"no page: {error}"
    sys.stdout.write(_in_words(content, out_dir, page))
    return loop.num_seen > 0 and report.num_defects == 0 and not report.undecided


class _Clock:
    """The time of a run, and how much of it was spent waiting: for the line's pace, or for a camera."""

    def __init__(self) -> None:
        self._start_s, self._waited_s = time.perf_counter(), 0.0

    def sleep(self, seconds: float) -> None:
        before = time.perf_counter()
        time.sleep(seconds)
        self._waited_s += time.perf_counter() - before

    def waiting(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Give blocks that come when they come."""
        while True:
            before = time.perf_counter()
            block = next(blocks, None)
            self._waited_s += time.perf_counter() - before
            if block is None:
                return
            yield block

    def speed(self, num_lines: int, width_px: int) -> Speed:
        wall_s = time.perf_counter() - self._start_s
        return Speed(num_lines=num_lines, width_px=width_px, wall_s=wall_s, busy_s=wall_s - self._waited_s)


def _blocks(setup: RollSetup, places: Places, options: RollOptions, clock: _Clock, advance: Any) -> Iterator[Block]:
    """Give the roll's lines in small blocks, at their places and in their time."""

    def read() -> Iterator[Block]:
        for block in clock.waiting(setup.source.blocks()) if setup.source.is_live else setup.source.blocks():
            yield block
            advance()

    blocks = in_blocks(read(), BLOCK_LINES)
    if options.real_time and setup.profile.line_rate_hz is not None:
        blocks = paced(blocks, setup.profile.line_rate_hz, sleep=clock.sleep)
    if setup.counts is None or setup.profile.encoder is None:
        return blocks
    return place_lines(blocks, setup.counts, setup.profile.encoder, places)


def _lines_held(setup: RollSetup) -> int:
    return setup.frame_height + BLOCK_LINES


def _header(setup: RollSetup, profile: Path | None) -> dict[str, Any]:
    return {
        "schema": 1,
        "source": setup.source.name,
        "bundle_id": setup.runtime.bundle.id,
        "profile": None if profile is None else str(profile),
        "flat_field_id": None if setup.profile.cameras else setup.cameras.flat_field_ids[0],
    }


def _content(loop: RollLoop, clock: _Clock, setup: RollSetup, reason: str | None) -> dict[str, Any]:
    speed = clock.speed(loop.num_seen, setup.source.width_px).to_json(setup.profile.line_rate_hz)
    return {**loop.summary(), "speed": speed, "complete": reason is None, "reason": reason}


def _in_words(content: dict[str, Any], out_dir: Path, page: str) -> str:
    judged = content["num_lines_judged"] / max(1, content["num_lines"])
    density, speed = content["defects_per_m2"], content["speed"]
    screen = content["screen"]

    def pace(which: str) -> str:
        return f"{speed[which + 'mp_per_s']:.2f} MP/s, {speed[which + 'lines_per_s']:.0f} lines/s"

    rows = [
        f"{content['length_mm'] / 1000:.3f} m of {content['width_mm']:.1f} mm: {content['num_defects']} defects"
        + ("" if density is None else f", {density:.4g} per m2"),
        f"judged: {100 * judged:.1f} % of the lines, {len(content['undecided'])} undecided stretches",
        *(
            f"repeat: every {r['period_mm']:g} mm, {len(r['numbers'])} times ({', '.join(r['rollers']) or 'no roller'})"
            for r in content["repeats"]
        ),
        *(f"lane {g['lane']}: grade {g['grade']}" for g in content["grades"]),
        *([] if screen is None else [f"screen: {screen['num_screened']} of {screen['num_tiles']} tiles screened out"]),
        f"light: {content['drift']['words']}",
        f"speed: {pace('')}; ceiling of this machine: {pace('ceiling_')}",
        *(f"note: {note}" for note in content["notes"]),
        f"records: {out_dir / DEFECTS}, {out_dir / ROLL}",
        page,
    ]
    if speed["keeps_up"] is False:
        rows.insert(-2, f"TOO SLOW for the line's {speed['line_rate_hz']:g} lines/s")
    return "".join(row + "\n" for row in rows)
