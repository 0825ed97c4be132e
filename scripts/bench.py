"""Measure what docs/benchmarks.md states, as ratios within one run, and print it as a table (make bench).

    python scripts/bench.py [--skip-peer] [--peer-fits 3] [--out outputs/bench]

Needs the magnetic-tile set in data/raw/MagneticTile and, for the peer, an environment .venv-peer (make peer); what is
absent is said in the table and left out. The peer's fit is not seeded, so it is fitted several times and means are
compared. Run it on an otherwise idle machine: about 45 minutes with the peer.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_quality import METRICS
from peer_fit import PEER, fit_peer

from zellige.core.bundle import read_bundle

HERE = Path(__file__).parent
TILES = Path("data/raw/MagneticTile")
SUBSET = Path("data/bench/magnetic_tile_200")
Row = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--peer-fits", type=int, default=3, help="the table shows the mean and each (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    rows = [*measure_demo(args.out), *measure_screen(args.out), *measure_line(args.out)]
    if TILES.is_dir():
        ours, fit_rows = measure_fit()
        rows += fit_rows
        if PEER.is_file() and not args.skip_peer:
            rows += measure_peer(ours, args.out, args.peer_fits)
        else:
            rows.append(("peer", "", f"skipped: no {PEER}" if not PEER.is_file() else "skipped as asked"))
        rows += measure_station(args.out)
    else:
        rows.append(("magnetic tile", "", f"skipped: no {TILES}"))
    table = "\n".join(["| number | asked | measured |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])
    (args.out / "table.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}")


def measure_demo(out: Path) -> list[Row]:
    """Time the demo's programs as `make demo` runs them, and their largest memory."""
    started = time.perf_counter()
    bundle = train("demo", out, f"data.root={out / 'data'}")
    station = [sys.executable, "-m", "zellige.station.cli"]
    images = sorted((out / "data").glob("*/images/test"))
    done = subprocess.run(
        [*station, "inspect", str(bundle), *map(str, images), "--out", str(out / "station")], check=False
    )
    if done.returncode not in (0, 1):  # 1: something was rejected
        raise SystemExit(f"bench: the station ended with {done.returncode}")
    seconds = time.perf_counter() - started
    memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    return [
        ("demo, data generation to verdicts", "under 180 s", f"{seconds:.0f} s"),
        ("demo, largest process", "under 4 GB", f"{memory_gb:.1f} GB"),
    ]


def measure_screen(out: Path) -> list[Row]:
    """Train the demo in gray, as line cameras see, and replay a web of 4,096 columns with the screen on."""
    bundle = train("demo", out / "gray", f"data.root={out / 'data'}", "data.color=luma")
    found = run_json([sys.executable, str(HERE / "bench_screen.py"), str(bundle)])
    return [
        (
            f"roll, 4096 columns, screen on, {found['num_screened']} of {found['num_tiles']} tiles screened out",
            "at least 30 MP/s",
            f"{found['megapixels_per_s']} MP/s, {found['lines_per_s']} lines/s",
        ),
        (
            "the same, the net on every tile / bare session.run",
            "at least 0.85",
            f"{found['throughput_ratio']} ({found['all_tiles_megapixels_per_s']} MP/s)",
        ),
    ]


def measure_line(out: Path) -> list[Row]:
    """Measure what a line camera asks for, with the bundle of `measure_screen`."""
    bundle = out / "gray" / "runs" / "demo" / "demo.zellige"
    return [tuple(row) for row in run_json([sys.executable, str(HERE / "bench_line.py"), str(bundle)])["rows"]]


def measure_fit() -> tuple[dict[str, Any], list[Row]]:
    result = run_json([sys.executable, str(HERE / "bench_fit.py")])
    full, subset = result["full_fit"], result["subset"]
    rows = [
        (
            f"fit on {full['num_images']} images of 256 px / backbone pass",
            "at most 2",
            f"{full['ratio']:.2f} ({full['fit_s']:.1f} s / {full['backbone_pass_s']:.1f} s)",
        ),
        ("fit, largest memory", "bounded", f"{result['peak_memory_mb']} MB"),
    ]
    title = f"subset of {result['num_subset'][0]}"
    rows += [(f"{title}, {name}", "not below the peer", with_mean(subset[name], "seeds")) for name in METRICS]
    return subset, rows


def with_mean(values: list[float], each: str) -> str:
    return f"{np.mean(values):.4f} ({each}: {', '.join(f'{value:.4f}' for value in values)})"


def measure_peer(ours: dict[str, Any], out: Path, num_fits: int) -> list[Row]:
    """Fit the peer on the same files, several times, and judge its raw maps with our metrics."""
    fits = [fit_peer(SUBSET, out / f"peer_{number}") for number in range(num_fits)]
    rows = [
        (f"peer on the same images, {name}", "", with_mean([fit[name] for fit in fits], "fits")) for name in METRICS
    ]
    theirs, own = float(np.median([fit["fit_s"] for fit in fits])), float(np.median(ours["fit_s"]))
    rows.append(("fit, peer / ours (medians)", "at least 20", f"{theirs / own:.0f} ({theirs:.0f} s / {own:.1f} s)"))
    rows.append(("peer, largest memory", "", f"{max(fit['peak_memory_mb'] for fit in fits)} MB"))
    return rows


def measure_station(out: Path) -> list[Row]:
    bundle = train("magnetic_tile", out)
    parity = read_bundle(bundle).manifest.parity
    demo = out / "runs" / "demo" / "demo.zellige"
    images = [str(path) for path in sorted((out / "data").glob("*/images/test/*.png"))[::8]]
    found = run_json([sys.executable, str(HERE / "bench_station.py"), str(demo), *images])
    large = out / "large.png"
    frame = cv2.imread(images[0])
    cv2.imwrite(str(large), np.tile(frame, (-(-2000 // frame.shape[0]), -(-8000 // frame.shape[1]), 1))[:2000, :8000])
    wide = run_json([sys.executable, str(HERE / "bench_station.py"), str(demo), str(large), "--repeats", "1"])
    return [
        ("station, whole inspect / bare session.run, 6 tiles", "at least 0.8", f"{found['throughput_ratio']:.2f}"),
        ("the same, one frame of 8000 x 2000 RGB", "at least 0.8", f"{wide['throughput_ratio']:.2f}"),
        ("station, import", "under 1 s", f"{found['import_s']:.2f} s"),
        ("station, resident memory", "under 400 MB", f"{found['peak_memory_mb']} MB"),
        ("the same, 8000 x 2000 RGB", "under 400 MB", f"{wide['peak_memory_mb']} MB"),
        ("station, megapixels per second", "", f"{found['megapixels_per_s']:.2f}"),
        (
            f"torch / ONNX Runtime, {parity.num_images} test images: other verdicts, largest relative score difference",
            "0, below 1e-3",
            f"0, {parity.max_relative_score_difference:.1e}",
        ),
    ]


def train(name: str, out: Path, *more: str) -> Path:
    settings = [
        f"experiment={name}",
        f"run_name={name}",
        *more,
        f"runs_dir={out / 'runs'}",
        f"tracking.store={out / 'mlruns'}",
    ]
    subprocess.run([sys.executable, str(HERE / "train.py"), *settings], check=True)
    return out / "runs" / name / f"{name}.zellige"


def run_json(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
