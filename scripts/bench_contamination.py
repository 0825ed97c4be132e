"""Measure what unlabelled defects among the training images cost on magnetic tile, and whether the ranking finds them.

    python scripts/bench_contamination.py [--root data/raw/MagneticTile] [--seeds 0 1 2] [--size 256]

Of 100 training images 5 are replaced by defective ones, whose groups are then in no test set; 60 good and 60 defective
images are the test. Prints one JSON line per model and seed.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from zellige.core.types import GOOD, Color, Geometry, GeometryMode, Sample, Splits
from zellige.data.dataset import TileDataset
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.evaluation.metrics import image_auroc
from zellige.models.padim import Padim
from zellige.models.patchcore import PatchCore
from zellige.models.subspace import Subspace
from zellige.training.one_pass import fit
from zellige.training.suspicion_report import LIST_FILE

MODELS = {"patchcore": PatchCore, "subspace": Subspace, "padim": Padim}
NUM_TRAIN, NUM_SPOILT, NUM_TEST = 100, 5, 60
DROPPED = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/raw/MagneticTile"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=256, help="the crops are squashed to a square of so many px")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    args = parser.parse_args()
    fractions = Fractions(train=0.8, val=0.1, test=0.1)
    geometry = Geometry(mode=GeometryMode.RESIZE, height=args.size, width=args.size)
    splits, _ = load_splits(args.root, "magnetic_tile", fractions, seed=0, color=Color.GRAY.value)
    for seed in args.seeds:
        clean, spoilt, test = draw(splits, np.random.default_rng(seed))
        for model in args.models:
            result = {"model": model, "seed": seed, **measure(model, geometry, clean, spoilt, test)}
            print(json.dumps(result), flush=True)


def draw(splits: Splits, rng: np.random.Generator) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Choose a clean and a spoilt training set of equal size, and a test set that shares no group with either."""
    good = [splits.train[i] for i in rng.permutation(len(splits.train))[:NUM_TRAIN]]
    defects = [sample for sample in splits.test if sample.is_defective]
    unlabelled = [defects[i] for i in rng.permutation(len(defects))[:NUM_SPOILT]]
    known = {sample.group_id for sample in unlabelled}
    rest = [sample for sample in splits.test if sample.group_id not in known]
    test = []
    for is_defective in (False, True):
        kind = [sample for sample in rest if sample.is_defective == is_defective]
        test += [kind[i] for i in rng.permutation(len(kind))[:NUM_TEST]]
    taken_for_good = [replace(sample, kind=GOOD, mask_path=None) for sample in unlabelled]
    return good, good[NUM_SPOILT:] + taken_for_good, test


def measure(
    model: str, geometry: Geometry, clean: Sequence[Sample], spoilt: Sequence[Sample], test: Sequence[Sample]
) -> dict[str, Any]:
    """Image AUROC after a fit on each set and on the spoilt one without the most suspicious, and how they rank."""
    hidden = {sample.id for sample in spoilt} - {sample.id for sample in clean}
    found: dict[str, Any] = {}
    for name, train, drop in (("clean", clean, 0.0), ("spoilt", spoilt, 0.0), ("dropped", spoilt, DROPPED)):
        data, detector = TileDataset(train, geometry=geometry, color=Color.GRAY), MODELS[model]()
        with tempfile.TemporaryDirectory() as folder:
            cost = fit(
                detector,
                data,
                data,
                fabric=Fabric(accelerator="cpu"),
                run_dir=Path(folder),
                rank_suspicious=name == "spoilt",
                drop_suspicious=drop,
            )
            listed = Path(folder) / LIST_FILE
            ranked = [row["id"] for row in json.loads(listed.read_text())["images"]] if listed.exists() else []
        found[f"auroc_{name}"] = round(auroc(detector, geometry, test), 4)
        if name == "spoilt":
            found |= {f"found_in_first_{k}": len(hidden & set(ranked[:k])) for k in (NUM_SPOILT, 2 * NUM_SPOILT, 20)}
            found["ranks"] = sorted(ranked.index(name) + 1 for name in hidden)
            found["ranking_share_of_fit"] = round(cost.rank_seconds / cost.fit_seconds, 3)
    return found


def auroc(detector: torch.nn.Module, geometry: Geometry, test: Sequence[Sample]) -> float:
    data = TileDataset(test, geometry=geometry, color=Color.GRAY)
    with torch.inference_mode():
        scores = [float(detector(torch.from_numpy(data[i].pixels)).score.max()) for i in range(len(data))]
    return image_auroc(np.array(scores), np.array([sample.is_defective for sample in test]))


if __name__ == "__main__":
    main()
