"""Measure names for what a one-class model finds (docs/guide/kinds.md), on a labelled set with masks.

    python scripts/bench_names.py --layout magnetic_tile --root data/raw/MagneticTile --color gray --seeds 0 1 2 3 4

PatchCore learns from good images and takes its threshold from others, as scripts/train.py does. For each seed half of
the defects, by group of near-duplicates, teach the head, and the other half are named: the regions that the model finds
on a drawn defect, and whole images. Then each kind is left out once, and what is said of it is counted. What is done is
kept in OUT, so that the same command goes on after a break. Prints each seed and all of them pooled, with intervals of
95 % from 1000 draws of groups; a group is one group in all seeds.
"""

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zellige.core.image_files import read_mask
from zellige.core.named import KindMap
from zellige.core.regions import find_defects
from zellige.core.types import Geometry, GeometryMode, Sample, Splits
from zellige.data.dataset import TileDataset
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.data.supervised_tiles import kinds_of
from zellige.evaluation.bootstrap import GroupBootstrap
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.found import named_kind
from zellige.evaluation.kind_metrics import measure_kinds
from zellige.models.detector import DetectorOutput, Features
from zellige.models.named_detector import NamedDetector
from zellige.models.patchcore import PatchCore
from zellige.training.checkpoint import load_checkpoint, save_checkpoint
from zellige.training.frame_output import TileOutputs
from zellige.training.learn_names import learn_names
from zellige.training.one_pass import fit
from zellige.training.predict import predict

Row = tuple[str, str, str]
"""Group, true kind, said kind."""
FABRIC = Fabric(accelerator="cpu", devices=1)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A fitted detector with the features of all defects, its pixel threshold, and how it sees."""

    detector: "Remembering"
    threshold: float
    defects: tuple[Sample, ...]
    look: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--color", default="as_stored")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shots", type=int, default=200, help="good images to learn from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--examples", type=int, help="most images of a kind to learn from; default: half of them")
    parser.add_argument("--least-confidence", type=float, default=0.3)
    parser.add_argument("--known-share", type=float, default=0.95)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_names"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    prepared: Found | None = None
    rows: list[dict[str, list[Row]]] = []
    tag = f"least{args.least_confidence:g}_known{args.known_share:g}_of{args.examples or 'all'}"
    for seed in args.seeds:
        done = args.out / f"{tag}_{seed}.json"
        if not done.is_file():
            prepared = prepared or prepare(args)
            done.write_text(json.dumps(judge(prepared, seed, args), indent=1))
        rows.append(json.loads(done.read_text()))
        print_all(f"seed {seed}", rows[-1])
    if len(rows) > 1:
        print_all("all seeds", {what: [row for one in rows for row in one[what]] for what in rows[0]})


def prepare(args: argparse.Namespace) -> Found:
    """Fit the detector, take its threshold, and embed all defects; or read what an earlier call kept."""
    splits, _ = load_splits(args.root, args.layout, Fractions(train=0.8, val=0.1, test=0.1), seed=0, color=args.color)
    geometry = Geometry(mode=GeometryMode.RESIZE, height=args.size, width=args.size)
    look = {"geometry": geometry, "color": splits.color}
    detector, threshold = fitted(splits, look, args)
    finder = Remembering(detector, args.out / "features.safetensors")
    defects = tuple(sample for sample in splits.test if sample.is_defective and sample.mask_path is not None)
    data = TileDataset(defects, **look)
    with torch.inference_mode():
        for index in range(len(data)):
            finder.embed(torch.from_numpy(data[index].pixels))
    finder.keep()
    return Found(detector=finder, threshold=threshold, defects=defects, look=look)


def fitted(splits: Splits, look: dict[str, Any], args: argparse.Namespace) -> tuple[nn.Module, float]:
    detector, weights, told = PatchCore(), args.out / "detector.safetensors", args.out / "threshold.json"
    if told.is_file():
        load_checkpoint(detector, weights)
        return detector, float(json.loads(told.read_text()))
    train, val = TileDataset(splits.train, **look), TileDataset(splits.val, **look)
    fit(detector, train, val, fabric=FABRIC, run_dir=args.out, num_shots=args.shots)
    save_checkpoint(detector, weights)
    on_val = predict(detector, val, "val", fabric=FABRIC, out_dir=args.out)
    threshold = calibrate(on_val, Target()).pixel_threshold
    on_val.drop_maps()
    told.write_text(json.dumps(threshold))
    return detector, threshold


def halves(defects: Sequence[Sample], seed: int, most: int | None) -> tuple[list[Sample], list[Sample]]:
    """Half of the groups of each kind, at most so many images, and the images of the others."""
    kind_of: dict[str, str] = {}
    for sample in defects:
        kind_of.setdefault(sample.group_id, sample.kind)
    groups = np.random.default_rng(seed).permutation(sorted(kind_of)).tolist()
    place: Counter[str] = Counter()
    learned: set[str] = set()
    for group in groups:
        place[kind_of[group]] += 1
        if place[kind_of[group]] % 2:
            learned.add(group)
    order = {group: number for number, group in enumerate(groups)}
    train = sorted((s for s in defects if s.group_id in learned), key=lambda s: (order[s.group_id], s.id))
    counts: defaultdict[str, int] = defaultdict(int)
    kept = []
    for sample in train:
        counts[sample.kind] += 1
        if most is None or counts[sample.kind] <= most:
            kept.append(sample)
    return kept, [s for s in defects if s.group_id not in learned]


def judge(found: Found, seed: int, args: argparse.Namespace) -> dict[str, list[Row]]:
    """Name the held-out half of the defects, then those of each kind by a head that was never shown it."""
    train, test = halves(found.defects, seed, args.examples)
    kinds = kinds_of(train)
    regions, images = name(found, train, test, kinds, args)
    rows = {"regions": regions, "images": images, "strange regions": [], "strange images": []}
    for strange in kinds:
        others = [kind for kind in kinds if kind != strange]
        regions, images = name(
            found, [s for s in train if s.kind != strange], [s for s in test if s.kind == strange], others, args
        )
        rows["strange regions"] += regions
        rows["strange images"] += images
    return rows


def name(
    found: Found, train: Sequence[Sample], test: Sequence[Sample], kinds: Sequence[str], args: argparse.Namespace
) -> tuple[list[Row], list[Row]]:
    """Learn some kinds and name other defects: regions on a drawn defect, and images."""
    detector = NamedDetector(detector=found.detector, kinds=kinds, least_confidence=args.least_confidence)
    learned = learn_names(
        detector,
        TileDataset(train, **found.look),
        fabric=FABRIC,
        pixel_threshold=found.threshold,
        known_share=args.known_share,
        batch_size=1,
    )
    print(f"  {dict(learned.counts)}: shrinkage {learned.shrinkage}, temperature {learned.temperature:.3g}", flush=True)
    regions: list[Row] = []
    images: list[Row] = []
    data = TileDataset(test, **found.look)
    for index, sample in enumerate(data.samples):
        tiles = data[index]
        with torch.inference_mode():
            outputs = [detector(torch.from_numpy(tiles.pixels))]
        _, anomaly_map, named = TileOutputs.gather(outputs, detector.kinds).of_frame(0, tiles)
        assert isinstance(named, KindMap)
        assert sample.mask_path is not None
        images.append((sample.group_id, sample.kind, named_kind(anomaly_map, named, pixel_threshold=found.threshold)))
        mask = read_mask(sample.mask_path, tiles.frame_size)
        for one in find_defects(anomaly_map, pixel_threshold=found.threshold, kind_map=named):
            x0, y0, x1, y1 = one.box_px
            if (mask[y0:y1, x0:x1] & (anomaly_map[y0:y1, x0:x1] > found.threshold)).any():
                regions.append((sample.group_id, sample.kind, one.kind))
    return regions, images


class Remembering(nn.Module):
    """A detector that looks at each image once: heads are learned many times from the same ones."""

    def __init__(self, detector: nn.Module, file: Path) -> None:
        super().__init__()
        self.detector: Any = detector.eval()
        self._file = file
        self._known: dict[str, Tensor] = load_file(file) if file.is_file() else {}
        self._found: dict[int, DetectorOutput] = {}

    @property
    def patch_widths(self) -> tuple[int, ...]:
        widths: tuple[int, ...] = self.detector.patch_widths
        return widths

    def embed(self, images: Tensor) -> Features:
        key = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        stages = range(len(self.patch_widths))
        if f"{key}/0" not in self._known:
            self._known |= {f"{key}/{stage}": one for stage, one in enumerate(self.detector.embed(images))}
        return tuple(self._known[f"{key}/{stage}"] for stage in stages)

    def keep(self) -> None:
        """Write what was embedded."""
        if not self._file.is_file():
            save_file({key: value.contiguous() for key, value in self._known.items()}, self._file)

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        place = features[0].data_ptr()
        if place not in self._found:
            self._found[place] = self.detector.score_features(features, size)
        return self._found[place]

    def forward(self, images: Tensor) -> DetectorOutput:
        return self.score_features(self.embed(images), images.shape[-2:])


def print_all(title: str, rows: dict[str, list[Row]]) -> None:
    print(f"{title}:")
    for what in ("regions", "images"):
        known = rows[what]
        boot = GroupBootstrap([group for group, _, _ in known])
        found = measure_kinds([(true, said) for _, true, said in known], boot)
        right, f1 = shares(known, lambda row: row[1] == row[2]), found.macro_f1
        unknown = shares(known, lambda row: row[2] == "unknown")
        print(f"  {what}: {len(known)}; right {right}; unknown {unknown}")
        print(f"    macro F1 {100 * f1.value:.1f} % [{100 * f1.low:.1f}, {100 * f1.high:.1f}]")
        print("    F1 by kind " + ", ".join(f"{row.kind} {100 * row.f1.value:.1f}" for row in found.by_kind))
        print("    columns", ", ".join(found.confusion.said_names))
        for name, counts in zip(found.confusion.true_names, found.confusion.counts.tolist(), strict=True):
            print(f"    {name:10}", *(f"{count:4}" for count in counts))
        strange = rows[f"strange {what}"]
        print(f"  {what} of a kind never shown: unknown {shares(strange, lambda row: row[2] == 'unknown')}")
        for kind, count in sorted(Counter(true for _, true, _ in strange).items()):
            said = Counter(said for _, true, said in strange if true == kind)
            print(f"    {kind:10} {count:4}: " + ", ".join(f"{name} {n}" for name, n in said.most_common()))


def shares(rows: Sequence[Row], is_counted: Callable[[Row], bool]) -> str:
    """Share of the rows that are counted, with its interval over groups."""
    hits = np.array([is_counted(row) for row in rows], np.float64)
    boot = GroupBootstrap([group for group, _, _ in rows])
    (share,) = boot.estimate(lambda weights: np.array([weights @ hits / weights.sum()]))
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


if __name__ == "__main__":
    main()
