"""Measure the flat field on one core and print one JSON line: MP/s, and its share of what copying the bytes allows.

`copy_ratio` is the time of copying the frame once (the same bytes read and written) divided by that of correcting it.
Both are taken in turns on the same frames and counted in CPU time of the one thread, so that other programs on the
machine take nothing away. Best and middle of the repeats.
"""

import argparse
import json
import time

import cv2
import numpy as np

from zellige.core.flat_field import FlatField, Reference, apply_flat_field, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    frames = [rng.integers(20, 220, (args.height, args.width), dtype=np.uint8) for _ in range(4)]
    out = np.empty_like(frames[0])
    flat_field = FlatField(
        offset_dn=rng.uniform(2, 6, args.width).astype(np.float32),
        gain=rng.uniform(1.0, 1.4, args.width).astype(np.float32),
        target_dn=180,
        reference=Reference.WHITE,
        num_dark_lines=64,
        num_bright_lines=64,
        bad_columns=(args.width // 2,),
    )
    corrector = prepare(flat_field)
    copy_s, correct_s = [], []
    for repeat in range(args.repeats):
        frame = frames[repeat % len(frames)]
        start = time.thread_time()
        np.copyto(out, frame)
        copy_s.append(time.thread_time() - start)
        start = time.thread_time()
        apply_flat_field(frame, corrector, out)
        correct_s.append(time.thread_time() - start)
    megapixels = args.width * args.height / 1e6
    result = {
        "megapixels_per_s": round(megapixels / min(correct_s)),
        "median_megapixels_per_s": round(megapixels / float(np.median(correct_s))),
        "copy_megapixels_per_s": round(megapixels / min(copy_s)),
        "copy_ratio": round(min(copy_s) / min(correct_s), 3),
        "frame": [args.height, args.width],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
