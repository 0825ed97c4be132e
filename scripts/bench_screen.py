"""Measure how fast a station is on a web with the screen on, and what the way costs without it; print one JSON line.

`megapixels_per_s` is the whole way with the screen: reading the recording, frames, web, screen, net on the tiles that
are passed, map, regions, stitching, records. `throughput_ratio` is bench_roll's, with the net on every tile of a part
of the web: the time of the bare `session.run` divided by that of the whole way, both in turns and summed over the
repeats, as the speed of a machine drifts. With the screen the best of the repeats counts. All is wall time on --threads
threads: run it on an idle machine. The web is the bundle's good golden frame,
mirrored on and on, with a white defect in every --every lines. A bundle without a screen gets limits from that frame,
which is enough for a speed.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_roll import bare, mirrored, whole

from zellige.core.bundle import read_bundle
from zellige.core.errors import ConfigError
from zellige.core.memory import peak_memory_mb
from zellige.core.screen import Screen, cell_statistics
from zellige.core.types import Decision, Pixels
from zellige.station.line_places import Places
from zellige.station.roll_loop import BLOCK_LINES, RollLoop
from zellige.station.roll_report import RollReport
from zellige.station.roll_setup import RollOptions, RollSetup, prepare_roll
from zellige.station.screened_run import screen_of
from zellige.station.sources import in_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--width", type=int, default=4096, help="columns of the web")
    parser.add_argument("--lines", type=int, default=65536, help="of the web with the screen on")
    parser.add_argument("--all-lines", type=int, default=2048, help="of the part where the net sees every tile")
    parser.add_argument("--every", type=int, default=8192, help="lines between two defects")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    good = next(f.pixels for e, f in read_bundle(args.bundle).golden_frames() if e.decision is Decision.ACCEPT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_web(good, folder / "roll.raw", args.width, args.lines, args.every)
        write_web(good, folder / "part.raw", args.width, args.all_lines, args.every)
        (folder / "profile.json").write_text(json.dumps({"width_px": args.width}))
        options = RollOptions(num_threads=args.threads)
        part = prepare_roll(args.bundle, folder / "part.raw", folder / "profile.json", options)
        setup = with_screen(prepare_roll(args.bundle, folder / "roll.raw", folder / "profile.json", options), good)
        clock = time.perf_counter
        turns = [(bare(part, clock)[0], whole(part, folder / f"all{k}", clock)) for k in range(args.repeats)]
        bare_s, all_s = (sum(column) for column in zip(*turns, strict=True))
        found = [screened(setup, folder / f"screened{k}") for k in range(args.repeats)]
    seconds, loop = min(found, key=lambda item: item[0])
    summary = loop.summary()
    result = {
        "megapixels_per_s": round(args.width * args.lines / seconds / 1e6, 2),
        "lines_per_s": round(args.lines / seconds),
        "throughput_ratio": round(bare_s / all_s, 3),
        "all_tiles_megapixels_per_s": round(args.width * args.all_lines * args.repeats / all_s / 1e6, 3),
        "channels": 1 if good.ndim == 2 else 3,
        "threads": args.threads,
        "defects": summary["num_defects"],
        **summary["screen"],
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(result))


def write_web(good: Pixels, path: Path, width: int, num_lines: int, every: int) -> None:
    """Write the web as a raw file, block by block."""
    columns, rows = mirrored(good.shape[1], width), mirrored(good.shape[0], num_lines)
    with path.open("wb") as file:
        for start in range(0, num_lines, BLOCK_LINES):
            lines = good[rows[start : start + BLOCK_LINES]][:, columns]
            if start % every < BLOCK_LINES:
                lines[100:108, width // 3 : width // 3 + 40] = 255
            file.write(np.ascontiguousarray(lines).tobytes())


def with_screen(setup: RollSetup, good: Pixels) -> RollSetup:
    try:
        screen = screen_of(setup.runtime.bundle, is_wanted=True, where="bench")
    except ConfigError:
        web = good[mirrored(len(good), 2 * len(good))][:, mirrored(good.shape[1], 2 * good.shape[1])]
        cells = statistics(web)
        low, high = cells.min(axis=1, keepdims=True), cells.max(axis=1, keepdims=True)
        room = (high - low) / 4
        screen = Screen(cell_px=16, low=low - room, high=high + room)
    return replace(setup, screen=screen)


def statistics(web: Pixels) -> np.ndarray:
    """Of the cells of a web at every phase along it: frames do not begin where the golden frame did."""
    phases = [cell_statistics(web[shift:], 16) for shift in range(16)]
    return np.concatenate([found.reshape(len(found), -1) for found in phases], axis=1)


def screened(setup: RollSetup, out: Path) -> tuple[float, RollLoop]:
    loop = RollLoop(setup, Places(setup.pixel_size.down_web_mm, None), RollReport(out, {}, overwrite=False))
    start = time.perf_counter()
    for block in in_blocks(setup.source.blocks(), BLOCK_LINES):
        loop.add(block)
    loop.finish()
    return time.perf_counter() - start, loop


if __name__ == "__main__":
    main()
