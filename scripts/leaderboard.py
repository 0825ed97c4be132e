"""Compare our models with a peer's on several sets, three seeds each, and write docs/leaderboard.md.

    python scripts/leaderboard.py [--sets SET ...] [--models MODEL ...] [--skip-peer] [--costs] [--page-only]

Both sides get the same files (scripts/bench_sets.py), weights and input size, and are judged by the same metrics. What
is finished is kept in OUT: call it again to go on after an interruption, or remove a folder there to measure it anew.
With --costs the times of fits and inspections are measured too, on a machine that must be otherwise idle; without it
they are left as they are. Everything takes about three hours on two cores.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_sets import SETS, make_set
from leaderboard_page import PROTOCOLS, write_page
from peer_fit import PEER, fit_peer

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
SQUASHED_MODELS = ("patchcore", "subspace", "padim", "super_simple_net", "efficient_ad")
REAL_MODELS = ("patchcore", "subspace")
"""At real scale only what needs no fixed place and is quick; each image is several tiles there."""
GEOMETRY = {
    "squashed": ("geometry=resize", "geometry.height=256", "geometry.width=256"),
    "real": (
        "geometry=tiles",
        "geometry.height=224",
        "geometry.width=224",
        "geometry.overlap_px=56",
        "geometry.pad_small=true",
    ),
}
SQUASHED_ONLY = ("x_sdd",)
"""Smaller than a tile: there is nothing to gain."""
PEER_EPOCHS = 60
"""Of the peer's supersimplenet, whose schedule follows it; its 300 would take half an hour per set."""
PEER_FITS = {"padim": (2, ()), "patchcore": (2, ()), "supersimplenet": (1, ("--epochs", str(PEER_EPOCHS)))}
COUNTERPARTS = {"patchcore": "patchcore", "padim": "padim", "super_simple_net": "supersimplenet"}
COSTS_SET = "magnetic_tile"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--models", nargs="+", choices=SQUASHED_MODELS, default=list(SQUASHED_MODELS))
    parser.add_argument("--skip-peer", action="store_true", help="fit only our models")
    parser.add_argument("--skip-ours", action="store_true", help="fit only the peer's models")
    parser.add_argument("--costs", action="store_true", help="measure times (on an idle machine)")
    parser.add_argument("--page-only", action="store_true", help="write the page from what is there")
    parser.add_argument("--out", type=Path, default=Path("outputs/leaderboard"))
    parser.add_argument("--page", type=Path, default=Path("docs/leaderboard.md"))
    args = parser.parse_args()
    if not (args.skip_peer or args.page_only or PEER.is_file()):
        parser.error(f"no {PEER}: make it with `make peer`, or give --skip-peer")
    if not args.page_only:
        run_all(args)
    write_page(args.out, args.page)
    print(f"written: {args.page}")


def run_all(args: argparse.Namespace) -> None:
    """Measure what is not measured yet: ours set by set, then each of the peer's models on all sets."""
    sets = {name: make_set(name, raw=Path("data/raw"), out=Path("data/bench")) for name in args.sets}
    for name in [name for name, data in sets.items() if data is None]:
        print(f"{name}: skipped, its files are not in data/raw", flush=True)
        del sets[name]
    if not args.skip_ours:
        for name, data in sets.items():
            for protocol in PROTOCOLS[: 1 if name in SQUASHED_ONLY else None]:
                compare_ours(name, protocol, data, args.models, args.out)
    if not args.skip_peer:
        for model in PEER_FITS:
            for name, data in sets.items():
                fit_peer_on(name, data, model, args.out)
    if args.costs:
        measure_costs(args.models, args.out)


def compare_ours(name: str, protocol: str, data: Path, models: Sequence[str], out: Path) -> None:
    """Run `scripts/compare.py` for one set and protocol; it keeps the runs that are finished."""
    wanted = [model for model in models if model in (SQUASHED_MODELS if protocol == "squashed" else REAL_MODELS)]
    if not wanted:
        return
    settings = [f"seeds={list(SEEDS)}", f"runs_dir={out / 'runs'}", "tracking.enabled=false", *GEOMETRY[protocol]]
    reads = ["data=manifest", f"data.root={data}", f"data.name={name}", "data.duplicates=ignore"]
    for model in wanted:  # a comparison for each, so that a model can be added or measured anew alone
        print(f"{name}, {protocol}: {model}", flush=True)
        own = [f"name={name}-{protocol}-{model}", f"models=[{model}]"]
        run = [sys.executable, str(HERE / "compare.py"), *own, *reads, *settings]
        if subprocess.run(run, check=False).returncode:
            print(f"{name}, {protocol}: {model} FAILED", flush=True)


def fit_peer_on(name: str, data: Path, model: str, out: Path) -> None:
    num_fits, options = PEER_FITS[model]
    for number in range(num_fits):
        target = out / "peer" / f"{name}-{model}-{number}.json"
        if target.is_file():
            continue
        started = time.monotonic()
        found = fit_peer(data, out / "peer" / "work", "--model", model, *options)
        write_json(target, found)
        took = time.monotonic() - started
        print(f"{name}, peer: {model} {number}: {took:.0f} s, image AUROC {found['image_auroc']:.4f}", flush=True)


def measure_costs(models: Sequence[str], out: Path) -> None:
    """Fit and inspect on one set, ours and the peer's in turn: the ratios of one run."""
    data, costs = Path("data/bench") / COSTS_SET, dict[str, dict[str, Any]]()
    images = sorted(map(str, (data / "test").glob("*/*.png")))[::5]
    for model in models:
        name = f"costs-{model}-{int(time.time())}"
        settings = [f"model={model}", f"run_name={name}", f"runs_dir={out / 'runs'}", "tracking.enabled=false"]
        reads = ["data=manifest", f"data.root={data}", "data.duplicates=ignore", *GEOMETRY["squashed"]]
        subprocess.run([sys.executable, str(HERE / "train.py"), *reads, *settings], check=True)
        folder = out / "runs" / name
        report = json.loads((folder / "report.json").read_text())
        answer = [sys.executable, str(HERE / "bench_latency.py"), str(folder / f"{name}.zellige"), *images]
        timed = subprocess.run(answer, check=True, stdout=subprocess.PIPE, text=True)
        costs[model] = {key: report[key] for key in ("fit_seconds", "peak_memory_mb")} | json.loads(timed.stdout)
        if model in COUNTERPARTS and PEER.is_file():
            other = COUNTERPARTS[model]
            options = ("--model", other, "--openvino", *PEER_FITS[other][1])
            found = fit_peer(data, out / "peer" / "work", *options)
            costs[model]["peer"] = {key: value for key, value in found.items() if key != "scores"}
        print(f"costs: {model}: {costs[model]}", flush=True)
    write_json(out / "costs.json", costs)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.rename(path)


if __name__ == "__main__":
    main()
