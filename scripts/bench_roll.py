"""Measure how a station keeps up with a web: a replayed roll against the bare network, and print one JSON line.

`throughput_ratio` is the time of the bare `session.run` on the same tiles divided by the time of the whole way (reading
the recording, frames, web, net, map, stitching, records). Both in CPU time with one thread unless --threads says more
(then wall time); of the repeats the best counts. The web is the bundle's good golden frame, mirrored on and on, with a
white defect in every frame.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from zellige.core.bundle import read_bundle
from zellige.core.flat_field import FlatField, Reference
from zellige.core.flat_field_file import write_flat_field
from zellige.core.frame_cutter import CutFrame, FrameCutter
from zellige.core.memory import peak_memory_mb
from zellige.core.tiling import lay_out
from zellige.core.types import Decision
from zellige.station.line_places import Places
from zellige.station.roll_loop import BLOCK_LINES, RollLoop
from zellige.station.roll_report import RollReport
from zellige.station.roll_setup import RollOptions, RollSetup, prepare_roll
from zellige.station.runtime import BATCH_SIZE
from zellige.station.sources import Lines, in_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--width", type=int, default=4096, help="columns of the web")
    parser.add_argument("--lines", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    clock = time.process_time if args.threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_roll(args.bundle, folder / "roll.raw", args.width, args.lines)
        profile = {"width_px": args.width, **no_correction(args.bundle, folder / "line.flat.json", args.width)}
        (folder / "profile.json").write_text(json.dumps(profile))
        options = RollOptions(num_threads=args.threads)
        setup = prepare_roll(args.bundle, folder / "roll.raw", folder / "profile.json", options)
        bare_s, whole_s, num_tiles = [], [], 0
        for repeat in range(args.repeats):
            seconds, num_tiles = bare(setup, clock)
            bare_s.append(seconds)
            whole_s.append(whole(setup, folder / f"out{repeat}", clock))
    num_mp = args.width * args.lines / 1e6
    result = {
        "throughput_ratio": round(min(bare_s) / min(whole_s), 4),
        "megapixels_per_s": round(num_mp / min(whole_s), 3),
        "lines_per_s": round(args.lines / min(whole_s), 1),
        "tiles": num_tiles,
        "bare_ms_per_tile": round(1000 * min(bare_s) / num_tiles, 2),
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(result))


def write_roll(bundle: Path, path: Path, width: int, num_lines: int) -> None:
    """Write the web as a raw file, block by block."""
    good = next(f.pixels for entry, f in read_bundle(bundle).golden_frames() if entry.decision is Decision.ACCEPT)
    columns, rows = mirrored(good.shape[1], width), mirrored(good.shape[0], num_lines)
    with path.open("wb") as file:
        for start in range(0, num_lines, BLOCK_LINES):
            lines = good[rows[start : start + BLOCK_LINES]][:, columns]
            lines[100:108, width // 3 : width // 3 + 40] = 255
            file.write(np.ascontiguousarray(lines).tobytes())


def no_correction(bundle: Path, path: Path, width: int) -> dict[str, dict[str, str]]:
    """Write a flat field that changes nothing, for a bundle that wants one: golden frames are corrected already."""
    manifest = read_bundle(bundle).manifest
    if manifest.target_dn is None:
        return {}
    shape = (width,) if manifest.color.num_channels == 1 else (width, 3)
    flat_field = FlatField(
        offset_dn=np.zeros(shape, np.float32),
        gain=np.ones(shape, np.float32),
        target_dn=manifest.target_dn,
        reference=Reference.WHITE,
        num_dark_lines=1,
        num_bright_lines=1,
    )
    write_flat_field(path, flat_field)
    return {"flat_field": {"file": path.name}}


def mirrored(length: int, wanted: int) -> np.ndarray:
    return np.pad(np.arange(length), (0, max(0, wanted - length)), mode="symmetric")[:wanted]


def bare(setup: RollSetup, clock: Callable[[], float]) -> tuple[float, int]:
    """Time the net alone on the tiles that the roll's frames have."""
    session, geometry = setup.runtime.session, setup.runtime.bundle.manifest.geometry
    num_channels = setup.runtime.bundle.manifest.color.num_channels
    cutter = FrameCutter(
        height_px=setup.frame_height,
        context_px=setup.context,
        width_px=setup.source.width_px,
        source_id="roll",
        num_channels=num_channels,
    )
    seconds, num_tiles = 0.0, 0
    for cut in cut_frames(setup, cutter):
        layout = lay_out(cut.frame, geometry)
        num_tiles += len(layout.parts)
        for i in range(0, len(layout.parts), BATCH_SIZE):
            tiles = layout.stack(i, i + BATCH_SIZE)
            start = clock()
            session.run(None, {"images": tiles})
            seconds += clock() - start
    return seconds, num_tiles


def cut_frames(setup: RollSetup, cutter: FrameCutter) -> Iterator[CutFrame]:
    for block in in_blocks(setup.source.blocks(), BLOCK_LINES):
        assert isinstance(block, Lines)
        yield from cutter.add(block.pixels)
    yield from cutter.finish()


def whole(setup: RollSetup, out: Path, clock: Callable[[], float]) -> float:
    loop = RollLoop(setup, Places(setup.pixel_size.down_web_mm, None), RollReport(out, {}, overwrite=False))
    start = clock()
    for block in in_blocks(setup.source.blocks(), BLOCK_LINES):
        loop.add(block)
    loop.finish()
    return clock() - start


if __name__ == "__main__":
    main()
