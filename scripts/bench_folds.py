"""Measure the classifier by cross-validation on a folder of kinds, such as X-SDD (docs/guide/supervised.md).

    python scripts/bench_folds.py --root data/raw/X-SDD/X-SDD/datas --color luma

Each fold is fitted on its own: a fifth of the groups is TEST, a fifth of the rest VAL, which decides when to stop. Each
fold that is done is kept in OUT, so that the same command goes on after a break. Prints accuracy and macro-averaged F1
over all images, each judged by the fold that did not see it, with 95 % intervals from 2000 draws of groups.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from zellige.core.types import Geometry, GeometryMode, Splits
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.data.folds import fold_splits
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.data.supervised_tiles import kinds_of
from zellige.models.classifier import Classifier
from zellige.training.supervised import fit

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--color", default="as_stored")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--policy", default="labelled_turns")
    parser.add_argument("--frozen-stages", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_folds"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shares = Fractions(train_defects=0.6, val_defects=0.2)
    splits, data = load_splits(
        args.root, args.layout, shares, seed=args.seed, color=args.color, on_bad="skip", needs_good=False
    )
    print(f"{data.duplicates.exact_pairs} exact, {data.duplicates.near_pairs} near-duplicate pairs, kept together")
    rows: list[Row] = []
    for number, fold in enumerate(fold_splits(splits, args.folds, seed=args.seed)):
        folder = args.out / str(number)
        done = folder / "predictions.json"
        if not done.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            done.write_text(json.dumps(judge(fold, folder, args), indent=1))
        rows += json.loads(done.read_text())
        print(f"fold {number}: {summary(rows[-len(fold.test) :])}", flush=True)
    print(f"all {len(rows)} images: {summary(rows)}")
    truth, named = [row["kind"] for row in rows], [row["named"] for row in rows]
    print(classification_report(truth, named, digits=4, zero_division=0))
    labels = sorted(set(truth) | set(named))
    print("rows are the truth:", *labels, sep="\n  ")
    print(confusion_matrix(truth, named, labels=labels))
    (args.out / "summary.json").write_text(json.dumps({"folds": args.folds, "text": summary(rows), "rows": rows}))


def judge(fold: Splits, folder: Path, args: argparse.Namespace) -> list[Row]:
    """Fit on one fold and name the kind of each of its test images."""
    geometry = Geometry(mode=GeometryMode.RESIZE, height=args.size, width=args.size)
    look = {"geometry": geometry, "color": fold.color}
    augment = Augment(args.policy, seed=args.seed)
    train = TileDataset(fold.train, augment=augment, defects=fold.train_defects, **look)
    kinds = kinds_of(fold.train_defects)
    detector = Classifier(
        kinds=kinds,
        has_good=bool(fold.train),
        frozen_stages=args.frozen_stages,
        least_confidence=0.0,
        seed=args.seed,
    )
    settings = {"epochs": args.epochs, "batch_size": args.batch_size, "patience": None, "seed": args.seed}
    fabric = Fabric(accelerator="cpu", devices=1)
    report = fit(detector, train, TileDataset(fold.val, **look), fabric=fabric, run_dir=folder, **settings)
    print(f"  {report.num_defects} images, best epoch {report.best_epoch}, {report.fit_seconds:.0f} s", flush=True)
    detector.eval()
    test, rows = TileDataset(fold.test, **look), []
    for index, sample in enumerate(fold.test):
        with torch.inference_mode():
            output = detector(torch.from_numpy(test[index].pixels))
        number = int(output.kind_map[0, 0, 0, 0])
        named = kinds[number - 1] if number else "good"
        rows.append({"id": sample.id, "group": sample.group_id, "kind": sample.kind, "named": named})
    return rows


def summary(rows: Sequence[Row]) -> str:
    """Accuracy and macro F1 in words, in percent, with bootstrap intervals over the groups."""
    truth, named = (np.array([row[key] for row in rows]) for key in ("kind", "named"))
    _, group = np.unique([row["group"] for row in rows], return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(2000)]
    parts = []
    for name, score in (("accuracy", accuracy_score), ("macro F1", macro_f1)):
        low, high = np.quantile([score(truth[part], named[part]) for part in drawn], [0.025, 0.975])
        parts.append(f"{name} {100 * score(truth, named):.2f} [{100 * low:.2f}, {100 * high:.2f}]")
    return ", ".join(parts)


def macro_f1(truth: np.ndarray, named: np.ndarray) -> float:
    return float(f1_score(truth, named, average="macro", zero_division=0))


if __name__ == "__main__":
    main()
