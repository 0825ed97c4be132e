"""Measure whether a station's memory grows with the roll: its peak after a tenth of the lines and after all, as JSON.

One roll, its lines made as they are asked for: the bundle's good golden frame, mirrored on and on, with a white defect
in every --every lines. With --screen the bundle's screen picks the tiles (a bundle without one gets limits from that
frame), else the net sees every tile. The peak is of the whole process, the net and its library included.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_roll import mirrored
from bench_screen import with_screen

from zellige.core.bundle import read_bundle
from zellige.core.memory import peak_memory_mb
from zellige.core.types import Decision, Pixels
from zellige.station.line_places import Places
from zellige.station.roll_loop import BLOCK_LINES, RollLoop
from zellige.station.roll_report import RollReport
from zellige.station.roll_setup import RollOptions, prepare_roll
from zellige.station.sources import Lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--width", type=int, default=4096, help="columns of the web")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=8192, help="lines between two defects")
    parser.add_argument("--screen", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    good = next(f.pixels for e, f in read_bundle(args.bundle).golden_frames() if e.decision is Decision.ACCEPT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Any roll of this width: the setup wants one, and the lines are then made here.
        (folder / "roll.raw").write_bytes(bytes(args.width * 256 * (1 if good.ndim == 2 else 3)))
        (folder / "profile.json").write_text(json.dumps({"width_px": args.width}))
        options = RollOptions(num_threads=args.threads)
        setup = prepare_roll(args.bundle, folder / "roll.raw", folder / "profile.json", options)
        setup = with_screen(setup, good) if args.screen else setup
        loop = RollLoop(
            setup, Places(setup.pixel_size.down_web_mm, None), RollReport(folder / "out", {}, overwrite=False)
        )
        start, peaks = time.perf_counter(), []
        for first_line, pixels in web(good, args.width, args.lines, args.every):
            loop.add(Lines(first_line=first_line, pixels=pixels))
            if len(peaks) == 0 and loop.num_lines >= args.lines // 10:
                peaks.append(peak_memory_mb())
        loop.finish()
        seconds = time.perf_counter() - start
        summary = loop.summary()
    peaks.append(peak_memory_mb())
    result = {
        "lines": [args.lines // 10, loop.num_lines],
        "width": args.width,
        "peak_mb": [round(peak, 1) for peak in peaks],
        "ratio": round(peaks[1] / peaks[0], 4),
        "defects": summary["num_defects"],
        "lines_judged": summary["num_lines_judged"],
        "screen": summary["screen"],
        "seconds": round(seconds),
        "megapixels_per_s": round(args.width * args.lines / seconds / 1e6, 2),
    }
    print(json.dumps(result))


def web(good: Pixels, width: int, num_lines: int, every: int) -> Iterator[tuple[int, Pixels]]:
    """Give the web block by block; what it is made of is one period of it, however long it is."""
    period = good[mirrored(len(good), 2 * len(good))][:, mirrored(good.shape[1], width)]
    for first_line in range(0, num_lines, BLOCK_LINES):
        numbers = np.arange(first_line, min(first_line + BLOCK_LINES, num_lines)) % len(period)
        pixels = period[numbers]
        if first_line % every < BLOCK_LINES:
            pixels[100:108, width // 3 : width // 3 + 40] = 255
        yield first_line, pixels


if __name__ == "__main__":
    main()
