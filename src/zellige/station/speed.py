"""Measure how quickly a bundle inspects images on this machine: python -m zellige.station.speed BUNDLE IMAGE...

Prints one JSON line. A frame's time is that of the whole inspection (cut, run, join, regions, decide); reading and
decoding the image are not in it. One frame is inspected before the measurement, which does not count.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from zellige.core.bundle import read_bundle
from zellige.core.errors import USER_ERRORS, StationError
from zellige.core.image_files import read_frame
from zellige.core.memory import peak_memory_mb
from zellige.station.runtime import Runtime, inspect
from zellige.station.templates import find_templates

EXIT_ERROR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Measured times. `peak_memory_mb` is the largest resident memory of the process."""

    frame_ms: tuple[float, ...]
    frame_mp: tuple[float, ...]
    """Megapixels of the same frames."""
    num_threads: int
    peak_memory_mb: float


def measure_speed(
    bundle_path: Path, images: Sequence[Path], *, num_threads: int | None = None, template: Path | None = None
) -> Speed:
    """Inspect each image once, in order, after a first one that does not count.

    Args:
        bundle_path: the bundle.
        images: at least one; read with the bundle's colors and pixel size, one at a time.
        num_threads: threads that compute; None takes the CPUs that this process may use.
        template: what the images are compared with (`templates.find_templates`), for a bundle that compares; another
            one does not look at it.

    Raises:
        BundleError: the bundle is not usable on this machine.
        InputError: an image or its template cannot be read.
        StationError: an image cannot be inspected; its time would say nothing.
    """
    threads = num_threads or len(os.sched_getaffinity(0))
    runtime = Runtime(read_bundle(bundle_path), num_threads=threads)
    manifest = runtime.bundle.manifest
    templates = find_templates(runtime.bundle, template, images) if manifest.is_pair else None
    times, sizes = [], []
    for position, path in enumerate([images[0], *images]):
        frame = read_frame(path, color=manifest.color, pixel_size=manifest.pixel_size)
        if templates is not None:
            frame = replace(frame, template=templates.of(path, frame.pixels))
        verdict = inspect(runtime, frame)
        if math.isnan(verdict.score):
            raise StationError(f"speed of {bundle_path}: {path} cannot be inspected: {verdict.reason}")
        if position:
            times.append(verdict.elapsed_ms)
            sizes.append(frame.size[0] * frame.size[1] / 1e6)
    return Speed(
        frame_ms=tuple(times), frame_mp=tuple(sizes), num_threads=threads, peak_memory_mb=round(peak_memory_mb(), 1)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says, print the JSON line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m zellige.station.speed", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, help="threads that compute (default: all CPUs)")
    parser.add_argument("--template", type=Path, help="as of zellige-station inspect; not used by other bundles")
    parsed = parser.parse_args(arguments)
    try:
        speed = measure_speed(parsed.bundle, parsed.images, num_threads=parsed.threads, template=parsed.template)
    except (*USER_ERRORS, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_ERROR
    sys.stdout.write(json.dumps(asdict(speed)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
