"""Measure the station on one bundle and some images, and print one JSON line.

`throughput_ratio` is the time of the bare `session.run` on the same tiles divided by the time of the whole inspection
(cut, run, join, regions, decide), image decoding apart; for each image the best of the repeats counts.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from zellige.core.bundle import read_bundle
from zellige.core.image_files import read_frame
from zellige.core.memory import peak_memory_mb
from zellige.core.tiling import lay_out
from zellige.core.types import Frame
from zellige.station.runtime import BATCH_SIZE, Runtime, inspect

IMPORT = "import time; t = time.perf_counter(); import zellige.station.cli; print(time.perf_counter() - t)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    runtime = Runtime(read_bundle(args.bundle), num_threads=args.threads)
    manifest = runtime.bundle.manifest
    bare_s = whole_s = num_mp = 0.0
    for path in args.images:
        frame = read_frame(path, color=manifest.color, pixel_size=manifest.pixel_size)
        bare, whole = zip(*(measure(runtime, frame) for _ in range(args.repeats)), strict=True)
        bare_s, whole_s, num_mp = bare_s + min(bare), whole_s + min(whole), num_mp + frame.size[0] * frame.size[1] / 1e6
    imports = [subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True) for _ in range(3)]
    result = {
        "throughput_ratio": round(bare_s / whole_s, 4),
        "inspect_ms_per_image": round(1000 * whole_s / len(args.images), 2),
        "megapixels_per_s": round(num_mp / whole_s, 3),
        "import_s": round(min(float(done.stdout) for done in imports), 3),
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(result))


def measure(runtime: Runtime, frame: Frame) -> tuple[float, float]:
    layout = lay_out(frame, runtime.bundle.manifest.geometry)
    bare = 0.0
    for i in range(0, len(layout.parts), BATCH_SIZE):
        tiles = layout.stack(i, i + BATCH_SIZE)  # a few at a time: all of them would count as the station's memory
        start = time.perf_counter()
        runtime.session.run(None, {"images": tiles})
        bare += time.perf_counter() - start
    start = time.perf_counter()
    inspect(runtime, frame)
    return bare, time.perf_counter() - start


if __name__ == "__main__":
    main()
