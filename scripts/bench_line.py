"""Measure what a line camera above a web asks for, as rows of docs/benchmarks.md; print them and one JSON line.

    python scripts/bench_line.py BUNDLE

BUNDLE sees gray lines and has a pixel size, as `scripts/train.py experiment=demo data.color=luma` makes it. Run it on
an otherwise idle machine: about ten minutes. The rows of the camera need libaravis-0.8-0 and aravis-tools.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FAKE = "arv-fake-gv-camera-0.8"
Row = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    args = parser.parse_args()
    rows = [*measure_lines(), *measure_repeats(), *measure_memory(args.bundle)]
    rows += measure_camera(args.bundle) if shutil.which(FAKE) else [("camera", "", f"skipped: no {FAKE}")]
    for row in rows:
        print("| {} | {} | {} |".format(*row))
    print(json.dumps({"rows": rows}))


def measure_lines() -> list[Row]:
    flat = run("bench_flat_field.py")[-1]
    found = run("bench_stitching.py")[-1]
    return [
        (
            "flat field, 4096 columns, one core (of copying the same bytes)",
            "at least 500 MP/s",
            f"{flat['median_megapixels_per_s']} MP/s ({flat['copy_ratio']})",
        ),
        (
            f"{found['crossings']} crossings of frame borders: lost, doubled, of a wrong size, invented",
            "0, 0",
            ", ".join(str(found[name]) for name in ("lost", "doubled", "wrong_size", "invented")),
        ),
        (
            "the same at 50 to 150 % of the speed, largest position error (rows x pitch)",
            "1 px and 0.1 %",
            f"{found['largest_position_error_px']} px ({found['rows_x_pitch_px']} px)",
        ),
    ]


def measure_repeats() -> list[Row]:
    found = run("bench_repeats.py")
    asked = "near-linear"
    return [
        (
            f"search for repeats among {one['defects']} defects",
            asked,
            f"{one['seconds']} s, {one['us_per_defect']} us each",
        )
        for one in found
    ]


def measure_memory(bundle: Path) -> list[Row]:
    wide = run("bench_memory.py", str(bundle), "--screen")[-1]
    narrow = run("bench_memory.py", str(bundle), "--width", "256", "--every", "1024")[-1]
    named = [(wide, "4096 columns, screen on"), (narrow, "256 columns, the net on every tile")]
    return [
        (
            f"memory after {found['lines'][0]} and {found['lines'][1]} lines, {name}, {found['defects']} defects",
            "flat",
            f"{found['peak_mb'][0]} and {found['peak_mb'][1]} MB, ratio {found['ratio']}",
        )
        for found, name in named
    ]


def measure_camera(bundle: Path) -> list[Row]:
    """Stream for a minute: as it should be; with losses and a camera that is killed; and through the whole station."""
    good = run("bench_gige.py", "--seconds", "60")[-1]
    broken = ("--lost-per-thousand", "2", "--restart-at", "30")
    bad = run("bench_gige.py", "--seconds", "60", *broken)[-1]
    rolls = [run("bench_gige_roll.py", str(bundle), "--seconds", "60", *how)[-1] for how in ((), broken)]
    rows = [
        (
            f"camera, 2048 x 1024 at 30 frames/s for 60 s{how}: complete, incomplete, missing, lost; gaps",
            asked,
            ", ".join(str(found[name]) for name in ("complete", "incomplete", "missing", "lost"))
            + f"; {found['num_gaps']}",
        )
        for found, how, asked in (
            (good, "", "every frame in the record"),
            (bad, ", 0.2 % of the packets lost, killed and restarted", "no gap"),
        )
    ]
    rows += [
        (
            f"the {which} through `roll --camera`, no tile passed to the net: lines judged, undecided, of all; gaps",
            "no gap",
            f"{roll['num_lines_judged']}, {roll['num_lines_undecided']}, {roll['num_lines']}; {roll['num_gaps']}",
        )
        for roll, which in zip(rolls, ("first", "second"), strict=True)
    ]
    return rows


def run(script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a measurement; return the JSON lines that it printed."""
    command = [sys.executable, str(HERE / script), *arguments]
    print(" ".join(command[1:]), file=sys.stderr)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    main()
