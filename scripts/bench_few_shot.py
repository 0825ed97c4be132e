"""Measure PatchCore fitted on few good images, as they are and with changed copies of them (docs/models/patchcore.md).

    python scripts/bench_few_shot.py --layout magnetic_tile --root data/raw/MagneticTile --color gray
    python scripts/bench_few_shot.py --root DIR [--policy jitter_turns] [--copies 8] [--neighbors 0 9]

Every seed draws other training images; all fits judge the same test images, resized to --size. Prints a table with the
mean over the seeds and its 95 % t-interval, and the gain of the copies seed by seed; writes all values to OUT.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench_fit import quality
from lightning_fabric import Fabric

from zellige.core.types import Geometry, GeometryMode, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.evaluation.intervals import mean_interval
from zellige.models.patchcore import PatchCore
from zellige.training.one_pass import fit
from zellige.training.predict import predict

METRICS = {"image_auroc": "image AUROC", "aupro": "AUPRO"}
Case = tuple[int, int, int]
"""Shots (0: all), copies, neighbors of the re-weighting."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--color", default="as_stored")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8], help="0: all training images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--copies", type=int, nargs="+", default=[0, 8], help="changed copies per image")
    parser.add_argument("--policy", default="jitter")
    parser.add_argument("--neighbors", type=int, nargs="+", default=[0], help="model.reweight_neighbors")
    parser.add_argument("--num-test", type=int, default=100, help="at most, half of them good (default: 100)")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_few_shot"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    splits, _ = load_splits(args.root, args.layout, Fractions(train=0.8, val=0.1, test=0.1), seed=0, color=args.color)
    geometry = Geometry(mode=GeometryMode.RESIZE, height=args.size, width=args.size)
    chosen = evenly(splits.test, args.num_test)
    test = TileDataset(chosen, geometry=geometry, color=splits.color)
    found: dict[Case, list[dict[str, float]]] = {}
    for shots in args.shots:
        for copies in args.copies:
            for seed in args.seeds:
                augment = Augment(args.policy, seed=seed)
                train = TileDataset(splits.train, geometry=geometry, color=splits.color, augment=augment)
                if not copies:
                    train.augment = None
                for neighbors, judged in measure(train, test, shots or None, copies, seed, args).items():
                    found.setdefault((shots, copies, neighbors), []).append(judged)
                    print(json.dumps([shots, copies, seed, neighbors, judged]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    values = [{"case": case, "values": judged} for case, judged in found.items()]
    (args.out / "values.json").write_text(json.dumps(values, indent=1))
    good = sum(not sample.is_defective for sample in chosen)
    print(f"\n{len(splits.train)} training images; test: {good} good, {len(chosen) - good} defective\n{table(found)}")


def evenly(test: Sequence[Sample], most: int) -> list[Sample]:
    """Pick at most so many test images at random, half of them good where there are as many."""
    rng = np.random.default_rng(0)
    parts = [[sample for sample in test if sample.is_defective is wanted] for wanted in (False, True)]
    num_good = min(len(parts[0]), max(most // 2, most - len(parts[1])))
    return [part[i] for part, n in zip(parts, (num_good, most - num_good), strict=True) for i in picked(rng, part, n)]


def picked(rng: np.random.Generator, part: Sequence[Sample], number: int) -> list[int]:
    return sorted(int(i) for i in rng.permutation(len(part))[:number])


def measure(
    train: TileDataset, test: TileDataset, shots: int | None, copies: int, seed: int, args: argparse.Namespace
) -> dict[int, dict[str, float]]:
    """Fit once and judge the test images with each re-weighting, which needs no other fit."""
    fabric, detector = Fabric(accelerator="cpu"), PatchCore(seed=seed)
    folder: Path = args.out / f"{shots}-{copies}-{seed}"
    folder.mkdir(parents=True)
    fit(detector, train, test, fabric=fabric, run_dir=folder, num_shots=shots, augmented_copies=copies, seed=seed)
    judged = {}
    for neighbors in args.neighbors:
        detector.reweight_neighbors = neighbors
        predictions = predict(detector, test, "test", fabric=fabric, out_dir=folder / str(neighbors))
        judged[neighbors] = quality(predictions)
        predictions.drop_maps()
    return judged


def table(found: dict[Case, list[dict[str, float]]]) -> str:
    """Make a Markdown table: a line for each case."""
    head = [
        "shots",
        "copies",
        "re-weighting",
        *METRICS.values(),
        *(f"gain of the copies, {n}" for n in METRICS.values()),
    ]
    lines = [head, ["---"] * len(head)]
    for (shots, copies, neighbors), runs in found.items():
        cells = [str(shots or "all"), str(copies), str(neighbors or "off")]
        cells += [with_interval([run[name] for run in runs]) for name in METRICS]
        plain = found.get((shots, 0, neighbors))
        for name in METRICS:
            gains = [run[name] - other[name] for run, other in zip(runs, plain or [], strict=bool(plain))]
            cells.append(with_interval(gains, sign="+") if copies and plain else "")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_interval(values: Sequence[float], sign: str = "") -> str:
    low, high = mean_interval(values)
    return f"{np.mean(values):{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    main()
