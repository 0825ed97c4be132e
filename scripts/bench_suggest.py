"""Measure what scripts/suggest.py is worth: defects found, and how well a head learns, after n labels, against chance.

    python scripts/bench_suggest.py --layout magnetic_tile --root data/raw/MagneticTile --color gray
    python scripts/bench_suggest.py --root DIR [--labels 10 20 40] [--seeds 0 1 2 3 4] [--defect-share 0.1]

Each seed deals the pieces (groups of near-duplicates) anew: of a third, up to --num-test images are TEST. Of the others
some good images are what is labelled so far: a PatchCore is fitted on them and its threshold chosen. The rest is the
unlabelled folder, one image of each piece, with so many defective ones as --defect-share says. The list of suggestions
is made once, as the program makes it. A logistic head on the frozen backbone's pooled features learns from the images
labelled so far and the first n of the list, and is judged on TEST by average precision. "Random" is the mean over ten
draws in each seed. Prints means over the seeds with 95 % t-intervals, and the differences to random seed by seed;
writes all values to OUT.
"""

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zellige.core.types import Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.intervals import mean_interval
from zellige.evaluation.metrics import image_average_precision
from zellige.models.patchcore import PatchCore
from zellige.training.looks import Looks, look
from zellige.training.one_pass import fit
from zellige.training.predict import predict
from zellige.training.usefulness import choose, common_units, doubt_of

NUM_DRAWS = 10
STRATEGIES = {
    "suggest (0.5, 0.5, random share 0.1)": {"weights": (0.5, 0.5), "random_share": 0.1},
    "uncertainty alone": {"weights": (1.0, 0.0), "random_share": 0.0},
    "novelty alone": {"weights": (0.0, 1.0), "random_share": 0.0},
}
HIGHEST, RANDOM = "highest score first", "random"
Values = dict[str, dict[int, list[tuple[float, float]]]]
"""Per strategy and number of labels, for each seed: defective images found, average precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--color", default="as_stored")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--num-good", type=int, default=20, help="labelled at the start, and as many for the threshold")
    parser.add_argument("--num-test", type=int, default=150, help="images at most (default: 150)")
    parser.add_argument("--defect-share", type=float, default=0.1, help="of the unlabelled images (default: 0.1)")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_suggest"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    splits, _ = load_splits(args.root, args.layout, Fractions(), seed=0, color=args.color)
    samples = [sample for part in splits.labelled().values() for sample in part]
    found: Values = {name: {n: [] for n in args.labels} for name in (*STRATEGIES, HIGHEST, RANDOM)}
    for seed in args.seeds:
        start, val, pool, test = deal(samples, args.num_good, args.num_test, args.defect_share, seed)
        counts = [f"{name} {len(part)}" for name, part in (("start", start), ("val", val), ("test", test))]
        print(
            f"seed {seed}: {', '.join(counts)}, folder {len(pool)}, {num_defective(pool)} of them defective", flush=True
        )
        measure(start, val, pool, test, found, seed, args, splits.color)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "values.json").write_text(json.dumps(found, indent=1))
    print(f"\n{table(found)}")


def num_defective(samples: Sequence[Sample]) -> int:
    return sum(sample.is_defective for sample in samples)


def deal(samples: Sequence[Sample], num_good: int, num_test: int, share: float, seed: int) -> tuple[list[Sample], ...]:
    """Deal pieces to the labelled start, VAL, the unlabelled folder and TEST; one image of each piece but in TEST."""
    rng = np.random.default_rng(seed)
    pieces: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        pieces[sample.group_id].append(sample)
    names = [sorted(pieces)[i] for i in rng.permutation(len(pieces))]
    num_ours = 2 * len(names) // 3
    ours = [pieces[name][rng.integers(len(pieces[name]))] for name in names[:num_ours]]
    good, bad = ([sample for sample in ours if sample.is_defective is wanted] for wanted in (False, True))
    start, val, rest = good[:num_good], good[num_good : 2 * num_good], good[2 * num_good :]
    pool = rest + bad[: round(share / (1 - share) * len(rest))]
    others = [sample for name in names[num_ours:] for sample in pieces[name]]
    test = [others[i] for i in rng.permutation(len(others))[:num_test]]
    return start, val, [pool[i] for i in rng.permutation(len(pool))], test


def measure(
    start: list[Sample],
    val: list[Sample],
    pool: list[Sample],
    test: list[Sample],
    found: Values,
    seed: int,
    args: argparse.Namespace,
    color: object,
) -> None:
    geometry = Geometry(mode=GeometryMode.RESIZE, height=args.size, width=args.size)
    on_start, on_val, on_pool, on_test = (
        TileDataset(part, geometry=geometry, color=color) for part in (start, val, pool, test)
    )
    fabric, detector, folder = Fabric(accelerator="cpu"), PatchCore(seed=seed), args.out / str(seed)
    folder.mkdir(parents=True)
    fit(detector, on_start, on_val, fabric=fabric, run_dir=folder, seed=seed)
    of_val = predict(detector, on_val, "val", fabric=fabric, out_dir=folder)
    limits = calibrate(of_val, Target(false_reject_rate=0.05))
    of_val.drop_maps()
    how = {"fabric": fabric, "batch_size": 8, "pixel_threshold": limits.pixel_threshold}
    known, more, seen, judged = (look(detector, data, **how) for data in (on_start, on_val, on_pool, on_test))
    doubt = doubt_of(seen.scores, of_val.scores, accept_score=limits.accept_score, reject_score=limits.reject_score)
    vectors = common_units(seen.features, known.features)
    lists = {
        name: [one.index for one in choose(doubt.uncertainty, *vectors, len(pool), seed=seed, **settings)]
        for name, settings in STRATEGIES.items()
    }
    lists[HIGHEST] = np.argsort(-seen.scores, kind="stable").tolist()
    draws = [np.random.default_rng([seed, k]).permutation(len(pool)).tolist() for k in range(NUM_DRAWS)]
    for number in args.labels:
        for name, order in lists.items():
            found[name][number].append(judge(order[:number], seen, (known, more), judged))
        drawn = [judge(order[:number], seen, (known, more), judged) for order in draws]
        found[RANDOM][number].append(tuple(np.mean(drawn, axis=0).tolist()))


def judge(chosen: list[int], seen: Looks, good: Sequence[Looks], test: Looks) -> tuple[float, float]:
    """Count the defective images among the chosen, and learn from them and the good ones what TEST is judged by."""
    is_bad = np.array([seen.samples[i].is_defective for i in chosen])
    truth = np.array([sample.is_defective for sample in test.samples])
    if not is_bad.any():
        return 0.0, float(truth.mean())  # nothing to learn: any order of TEST, at its share of defects
    start = np.concatenate([joined(look) for look in good])
    features = np.concatenate([start, joined(seen)[chosen]])
    labels = np.concatenate([np.zeros(len(start), bool), is_bad])
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    head.fit(features, labels)
    return float(is_bad.sum()), image_average_precision(head.decision_function(joined(test)), truth)


def joined(looks: Looks) -> np.ndarray:
    return np.concatenate(looks.features, axis=1)


def table(found: Values) -> str:
    """Make a Markdown table: a line for each strategy and number of labels."""
    head = [
        "labels",
        "chosen by",
        "defective found",
        "more than random",
        "average precision on TEST",
        "more than random",
    ]
    lines = [head, ["---"] * len(head)]
    for number in next(iter(found.values())):
        at_random = np.array(found[RANDOM][number])
        for name, by_number in found.items():
            values = np.array(by_number[number])
            cells = [str(number), name]
            for column, digits in ((0, 1), (1, 3)):
                gains = values[:, column] - at_random[:, column]
                cells.append(with_interval(values[:, column], digits))
                cells.append("" if name == RANDOM else with_interval(gains, digits, "+"))
            lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_interval(values: Sequence[float], digits: int, sign: str = "") -> str:
    low, high = mean_interval(values)
    return f"{np.mean(values):{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


if __name__ == "__main__":
    main()
