"""Measure how far the templates of a manifest lie from their images, and what finding that costs.

    python scripts/bench_registration.py data/deeppcb --color luma [--every 4] [--search-px 8]

Prints one JSON line: pairs, those that do not fit, flat templates, quantiles of the shift in px, shares below 0.5 and
1 px, and CPU time per pair.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from zellige.core.errors import InputError
from zellige.core.image_files import read_sample
from zellige.core.progress import progress
from zellige.core.registration import find_shift
from zellige.core.types import Color
from zellige.data.formats import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a manifest with the column template, or the folder that holds it")
    parser.add_argument("--color", choices=[color.value for color in Color], default=Color.GRAY.value)
    parser.add_argument("--every", type=int, default=1, help="measure every so manieth pair")
    parser.add_argument("--search-px", type=int, default=8)
    args = parser.parse_args()
    samples = [row.sample for row in read_manifest(args.root, None).rows if row.sample.template_path is not None]
    samples = samples[:: args.every]
    if not samples:
        parser.error(f"{args.root}: expected images with a template, got none")
    shifts, seconds, num_refused, num_flat = [], 0.0, 0, 0
    with progress("register", len(samples)) as advance:
        for sample in samples:
            frame = read_sample(sample, color=Color(args.color))
            assert frame.template is not None
            started = time.process_time()
            try:
                shift = find_shift(frame.template, frame.pixels, search_px=args.search_px, where=sample.id)
            except InputError:
                num_refused += 1
            else:
                is_flat = bool((frame.template == frame.template.flat[0]).all())
                num_flat += is_flat
                shifts += [] if is_flat else [float(np.hypot(shift.dy_px, shift.dx_px))]
            seconds += time.process_time() - started
            advance()
    found = {
        "num_pairs": len(samples),
        "num_refused": num_refused,
        "num_flat": num_flat,
        "shift_px": {f"p{q}": round(float(np.percentile(shifts, q)), 2) for q in (50, 90, 95)} if shifts else None,
        "share_below_px": {limit: round(float(np.mean(np.array(shifts) < limit)), 3) for limit in (0.5, 1.0)},
        "cpu_s_per_pair": round(seconds / len(samples), 3),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
