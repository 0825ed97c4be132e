"""Measure PatchCore on magnetic tile: what a fit costs, and its quality on a subset that a peer can finish too.

    python scripts/bench_fit.py [--root data/raw/MagneticTile] [--subset data/bench/magnetic_tile_200]

Writes the subset in the MVTec layout (200 good images of the training split, the whole test split) and prints one
JSON line. Quality is measured with the peer's protocol: the crops squashed to 256 x 256.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_quality import SQUASHED, quality
from bench_sets import write_set
from lightning_fabric import Fabric

from zellige.core.memory import peak_memory_mb
from zellige.core.types import Color, Sample
from zellige.data.dataset import TileDataset
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.models.patchcore import PatchCore
from zellige.training.allocator import keep_freed_memory
from zellige.training.one_pass import fit
from zellige.training.predict import predict

NUM_TRAIN = 200
SEEDS = (0, 1, 2)
NUM_REPEATS = 5
"""Of the timed fit and pass: what disturbs a machine for seconds must not decide the ratio of the best ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/raw/MagneticTile"))
    parser.add_argument("--subset", type=Path, default=Path("data/bench/magnetic_tile_200"))
    args = parser.parse_args()
    keep_freed_memory()  # before the first pass of the plain backbone, which has the same right to it
    splits, _ = load_splits(
        args.root, "magnetic_tile", Fractions(train=0.8, val=0.1, test=0.1), seed=0, color=Color.GRAY.value
    )
    chosen = np.sort(np.random.default_rng(0).permutation(len(splits.train))[:NUM_TRAIN])
    train = tuple(splits.train[i] for i in chosen)
    write_set(replace(splits, train=train, train_defects=(), val=()), args.subset)

    full = fit_and_backbone_pass(splits.train, args.subset)
    runs = [fit_and_predict(train, splits.test, seed, args.subset / "ours" / str(seed)) for seed in SEEDS]
    result = {
        "full_fit": full,
        "subset": {name: [run[name] for run in runs] for name in runs[0]},
        "num_subset": [len(train), len(splits.test)],
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(result))


def fit_and_backbone_pass(train: Sequence[Sample], out: Path) -> dict[str, float]:
    """Time the fit on all training images, and the plain backbone over the same images, in turn; the best of each."""
    dataset = TileDataset(train, geometry=SQUASHED, color=Color.GRAY)
    fits, passes = [], []
    for _ in range(NUM_REPEATS):
        detector = PatchCore()
        started = time.perf_counter()
        with torch.inference_mode():
            for batch in dataset.shuffled_batches(8, seed=0, advance=lambda: None):
                detector.embed_patches.backbone(batch)
        passes.append(time.perf_counter() - started)
        fits.append(fit(detector, dataset, dataset, fabric=Fabric(accelerator="cpu"), run_dir=out).fit_seconds)
    return {
        "num_images": len(train),
        "fit_s": min(fits),
        "backbone_pass_s": min(passes),
        "ratio": min(fits) / min(passes),
    }


def fit_and_predict(train: Sequence[Sample], test: Sequence[Sample], seed: int, out: Path) -> dict[str, float]:
    """Fit on the subset with one seed and judge it on its test split."""
    out.mkdir(parents=True)
    fabric, detector = Fabric(accelerator="cpu"), PatchCore(seed=seed)
    data = [TileDataset(part, geometry=SQUASHED, color=Color.GRAY) for part in (train, test)]
    fitted = fit(detector, data[0], data[1], fabric=fabric, run_dir=out, seed=seed)
    predictions = predict(detector, data[1], "test", fabric=fabric, out_dir=out)
    judged = quality(predictions)
    predictions.drop_maps()
    return {"fit_s": fitted.fit_seconds, **judged}


if __name__ == "__main__":
    main()
