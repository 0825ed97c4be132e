"""Compare our models with a peer's on several sets, three seeds each, and write docs/leaderboard.md.

    python scripts/leaderboard.py [--sets SET ...] [--models MODEL ...] [--skip-peer] [--costs] [--page-only]

Both sides get the same files (scripts/bench_sets.py), weights and input size, and are judged by the same metrics. What
is finished is kept in OUT: call it again to go on after an interruption, or remove a folder there to measure it anew.
With --costs the times of fits and inspections are measured first, on a machine that must be otherwise idle; with
--costs-only nothing else is. The rest may run in several calls at a time, each with sets of its own. What fails is
named, left out of the page, and tried again by the next call; the exit status is then 1. It takes hours on two cores.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_sets import SETS, make_set
from leaderboard_page import write_page
from leaderboard_plan import (
    COSTS_SET,
    COUNTERPARTS,
    FULL_INPUT,
    PEER_FITS,
    PROTOCOLS,
    SEEDS,
    SMALLER_INPUTS,
    SQUASHED_MODELS,
    models_for,
    seeds_for,
)
from leaderboard_rows import marker_path
from peer_fit import PEER, PeerError, fit_peer, last_line
from peer_results import command_options, fingerprint, fit_path, identity, read_fits

from zellige.run_folder import git_commit

HERE = Path(__file__).resolve().parent
RAW, BENCH = Path("data/raw"), Path("data/bench")


def squashed(side: int) -> tuple[str, ...]:
    """Settings of an image squashed to a square of `side` px."""
    return ("geometry=resize", f"geometry.height={side}", f"geometry.width={side}")


GEOMETRY = {
    "squashed": squashed(FULL_INPUT),
    "real": (
        "geometry=tiles",
        "geometry.height=224",
        "geometry.width=224",
        "geometry.overlap_px=56",
        "geometry.pad_small=true",
    ),
}


class StepError(RuntimeError):
    """A program that measures something ended with an error; the message is its last line."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--models", nargs="+", choices=SQUASHED_MODELS, default=list(SQUASHED_MODELS))
    parser.add_argument("--skip-peer", action="store_true", help="fit only our models")
    parser.add_argument("--skip-ours", action="store_true", help="fit only the peer's models")
    parser.add_argument("--costs", action="store_true", help="measure times first (on an idle machine)")
    parser.add_argument("--costs-only", action="store_true", help="measure times and nothing else")
    parser.add_argument("--page-only", action="store_true", help="write the page from what is there")
    parser.add_argument("--out", type=Path, default=Path("outputs/leaderboard"))
    parser.add_argument("--page", type=Path, default=Path("docs/leaderboard.md"))
    args = parser.parse_args()
    if not (args.skip_peer or args.page_only or PEER.is_file()):
        parser.error(f"no {PEER}: make it with `make peer`, or give --skip-peer")
    failed = [] if args.page_only else run_all(args)
    write_page(args.out, args.page, BENCH)
    print(f"written: {args.page}")
    if failed:
        sys.exit(f"error: {len(failed)} failed, and the page leaves them out: {', '.join(failed)}")


def run_all(args: argparse.Namespace) -> list[str]:
    """Measure what is not measured yet: costs, ours set by set, then each of the peer's models; return what failed."""
    failed: list[str] = []
    if args.costs or args.costs_only:
        measure_costs(args.models, args.out, has_peer=not args.skip_peer, failed=failed)
    if args.costs_only:
        return failed
    sets = {name: data for name in args.sets if (data := find_set(name)) is not None}
    for name, data in sets.items():
        for protocol in () if args.skip_ours else PROTOCOLS:
            for model in (model for model in models_for(name, protocol) if model in args.models):
                compare_ours(name, protocol, data, model, args.out, failed, seeds=seeds_for(model))
    for model in () if args.skip_peer else PEER_FITS:
        for name, data in sets.items():
            fit_peer_on(name, data, model, args.out, failed)
    return failed


def find_set(name: str) -> Path | None:
    data = make_set(name, raw=RAW, out=BENCH)
    if data is None:
        print(f"{name}: skipped, its files are not in {RAW}", flush=True)
    return data


@contextmanager
def step(name: str, out: Path, failed: list[str]) -> Iterator[None]:
    """Mark what `name` stored as unfinished until the block ends well; a failure is named and does not go further."""
    marker = marker_path(out, name)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text("begun, and not ended\n", encoding="utf-8")
    try:
        yield
    except (StepError, PeerError) as error:
        marker.write_text(f"{error}\n", encoding="utf-8")
        print(f"{name} FAILED: {error}", flush=True)
        failed.append(name)
    else:
        marker.unlink()


def compare_ours(
    name: str, protocol: str, data: Path, model: str, out: Path, failed: list[str], *, seeds: Sequence[int]
) -> None:
    """Run `scripts/compare.py` for one model, which can then be measured anew alone; it keeps the runs there are."""
    print(f"{name}, {protocol}: {model}", flush=True)
    settings = [f"seeds={list(seeds)}", f"runs_dir={out / 'runs'}", "tracking.enabled=false", *GEOMETRY[protocol]]
    reads = ["data=manifest", f"data.root={data}", f"data.name={name}", "data.duplicates=ignore"]
    own = [f"name={name}-{protocol}-{model}", f"models=[{model}]"]
    with step(f"{name}-{protocol}-{model}", out, failed):
        run_program("compare.py", *own, *reads, *settings)


def fit_peer_on(name: str, data: Path, model: str, out: Path, failed: list[str]) -> None:
    """Make the fits of a set that are not stored, or that are stored of other files or options."""
    stored = {fit.number: fit.refused for fit in read_fits(out, name, data) if fit.model == model}
    for number in range(PEER_FITS[model]):
        path = fit_path(out, name, model, number)
        if stored.get(number) == "" and not marker_path(out, path.stem).exists():
            continue
        if stored.get(number):
            print(f"{path.stem}: {stored[number]}, measured anew", flush=True)
        with step(path.stem, out, failed):
            store_peer_fit(path, data, model)


def store_peer_fit(path: Path, data: Path, model: str, *options: str) -> dict[str, Any]:
    """Fit one of the peer's models, store the result with what it is made of, and return it.

    Raises:
        PeerError: the fit failed.
    """
    started = time.monotonic()
    work = path.with_name(f"work-{path.stem}")  # of its own: another call may fit another set at the same time
    found = fit_peer(data, work, *command_options(model), *options)
    found["identity"] = {**identity(data, model), "commit": git_commit()}
    write_json(path, found)
    took = time.monotonic() - started
    print(f"{path.stem}: {took:.0f} s, image AUROC {found['image_auroc']:.4f}", flush=True)
    return found


def measure_costs(models: Sequence[str], out: Path, *, has_peer: bool, failed: list[str]) -> None:
    """Fit and inspect on one set, ours and the peer's in turn, what is not measured: the ratios of one run."""
    data = find_set(COSTS_SET)
    if data is None:
        failed.append("costs")
        return
    for model in models:
        path = out / "costs" / f"{model}.json"
        other = COUNTERPARTS.get(model) if has_peer else None
        if is_measured(path, data, other) and not marker_path(out, f"costs-{model}").exists():
            continue
        with step(f"costs-{model}", out, failed):
            cost = measure_ours(model, data, out)
            cost["smaller"] = [measure_smaller(model, side, data, out) for side in SMALLER_INPUTS.get(model, ())]
            if other is not None:
                cost["peer"] = {key: value for key, value in measure_peer(other, data, out).items() if key != "scores"}
            write_json(path, {**cost, "data": fingerprint(data), "commit": git_commit()})
            print(f"costs: {model}: {cost}", flush=True)


def is_measured(path: Path, data: Path, other: str | None) -> bool:
    if not path.is_file():
        return False
    stored: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    sides = tuple(one["side"] for one in stored.get("smaller", ()))
    if stored["data"] != fingerprint(data) or sides != SMALLER_INPUTS.get(path.stem, ()):
        return False
    return (
        other is None or stored.get("peer", {}).get("identity", {}).get("options") == identity(data, other)["options"]
    )


def measure_ours(model: str, data: Path, out: Path) -> dict[str, Any]:
    """Fit and inspect; the fit is the set's first one where that is not made yet.

    Raises:
        StepError: a program failed.
    """
    folder = out / "runs" / f"{COSTS_SET}-squashed-{model}-{model}-s{SEEDS[0]}"
    if folder.exists():  # made by another call, perhaps beside other work
        return measure_costs_run(model, FULL_INPUT, data, out)
    failed: list[str] = []
    compare_ours(COSTS_SET, "squashed", data, model, out, failed, seeds=SEEDS[:1])
    if failed:
        raise StepError(f"{failed[0]} failed")
    return read_costs_of(folder, data)


def measure_smaller(model: str, side: int, data: Path, out: Path) -> dict[str, Any]:
    """Fit and inspect at an input of `side` px.

    Raises:
        StepError: a program failed.
    """
    return {"side": side, **measure_costs_run(model, side, data, out)}


def measure_costs_run(model: str, side: int, data: Path, out: Path) -> dict[str, Any]:
    """Fit in a run of its own, which is no row of the set, and inspect.

    Raises:
        StepError: a program failed.
    """
    folder = out / "runs" / f"costs-{model}-{side}-{int(time.time())}"
    settings = [f"model={model}", f"run_name={folder.name}", f"runs_dir={folder.parent}", "tracking.enabled=false"]
    reads = ["data=manifest", f"data.root={data}", "data.duplicates=ignore", *squashed(side)]
    run_program("train.py", *reads, *settings)
    return read_costs_of(folder, data)


def read_costs_of(folder: Path, data: Path) -> dict[str, Any]:
    """What a run's report says of its fit, and the time of its bundle's inspections.

    Raises:
        StepError: a program failed.
    """
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    images = [str(path) for path in sorted((data / "test").glob("*/*.png"))[::5]]
    timed = run_program("bench_latency.py", str(folder / f"{folder.name}.zellige"), *images, has_answer=True)
    kept = {key: report[key] for key in ("fit_seconds", "peak_memory_mb", "image_auroc", "aupro")}
    return {**kept, "num_images": report["data"]["splits"]["train"]["good"], **json.loads(timed)}


def measure_peer(model: str, data: Path, out: Path) -> dict[str, Any]:
    """Fit and time the peer's model; the fit is one of the set's where one is missing.

    Raises:
        PeerError: the fit failed.
    """
    stored = {fit.number for fit in read_fits(out, COSTS_SET, data) if fit.model == model and not fit.refused}
    missing = [number for number in range(PEER_FITS[model]) if number not in stored]
    path = fit_path(out, COSTS_SET, model, missing[0]) if missing else out / "costs" / f"peer-{model}.json"
    found = store_peer_fit(path, data, model, "--openvino")
    marker_path(out, path.stem).unlink(missing_ok=True)  # of an earlier call that failed to make this fit
    return found


def run_program(script: str, *arguments: str, has_answer: bool = False) -> str:
    """Run one of `scripts/` and return what it prints, or let it print.

    Raises:
        StepError: it ended with an error.
    """
    command = [sys.executable, str(HERE / script), *arguments]
    stdout = subprocess.PIPE if has_answer else None
    done = subprocess.run(command, check=False, stdout=stdout, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise StepError(last_line(done.stderr, done.returncode))
    return done.stdout or ""


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.rename(path)


if __name__ == "__main__":
    main()
