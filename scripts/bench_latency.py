"""Time a bundle from an image file to its verdict, and print one JSON line: the median over the images, ms."""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from zellige.core.bundle import read_bundle
from zellige.core.image_files import read_frame
from zellige.station.runtime import Runtime, inspect

NUM_WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    args = parser.parse_args()
    runtime = Runtime(read_bundle(args.bundle))
    manifest, times = runtime.bundle.manifest, []
    for path in [*args.images[:NUM_WARM_UP], *args.images]:
        started = time.perf_counter()
        inspect(runtime, read_frame(path, color=manifest.color, pixel_size=manifest.pixel_size))
        times.append(time.perf_counter() - started)
    print(json.dumps({"file_to_verdict_p50_ms": 1e3 * float(np.median(times[NUM_WARM_UP:]))}))


if __name__ == "__main__":
    main()
