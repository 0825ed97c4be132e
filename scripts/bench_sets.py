"""Lay out the data sets of the measurements: the same files for us and for a peer, in the MVTec folder form.

    python scripts/bench_sets.py [--raw data/raw] [--out data/bench] [SET ...]

Each set is data/bench/SET: train/good, val/good, test/KIND, ground_truth/KIND/STEM_mask.png, and a manifest.csv with
the groups (near-duplicates, rolls), which the folders cannot say. No piece of a group is in two splits. The real sets
are taken from data/raw as published; the synthetic ones are generated.
"""

import argparse
import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from zellige.core.errors import InputError
from zellige.core.image_files import read_mask, read_pixels
from zellige.core.types import GOOD, Sample, Splits
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.data.synthetic import SyntheticWeb, make_synthetic_set
from zellige.data.synthetic_materials import Material

MOST_TRAIN, MOST_VAL, MOST_GOOD, MOST_DEFECTIVE = 100, 60, 80, 120
"""Of each split; a peer must be able to finish its fit on them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"some of {', '.join(SETS)} (default: all)")
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--out", type=Path, default=Path("data/bench"))
    args = parser.parse_args()
    for name in args.sets or SETS:
        folder = make_set(name, raw=args.raw, out=args.out)
        print(folder or f"{name}: skipped, not in {args.raw}")


def make_set(name: str, *, raw: Path, out: Path) -> Path | None:
    """Write a set, or find it written, and return its folder; None where its raw files are absent."""
    folder = out / name
    if not (folder / "manifest.csv").is_file():
        try:
            splits = SETS[name](raw, out / "sources" / name)
        except InputError:
            if any(raw.glob(RAW_FOLDERS.get(name, "*"))):
                raise
            return None
        write_set(_pick(splits), folder)
    return folder


def magnetic_tile(raw: Path, work: Path) -> Splits:
    del work
    fractions = Fractions(train=0.8, val=0.1, test=0.1)
    return load_splits(raw / "MagneticTile", "magnetic_tile", fractions, seed=0, color="gray")[0]


def cookies(raw: Path, work: Path) -> Splits:
    """Half of the few good cookies are for the fit; masks are published as palette and RGBA PNGs."""
    masks = {path.stem: path for path in raw.glob("AWS-cookies/**/mask-images/*.png")}
    for path in sorted(raw.glob("AWS-cookies/**/training-images/*.jpg")):
        kind = "cracked" if path.stem in masks else GOOD
        _copy_file(path, work / kind / path.name)
        if path.stem in masks:
            _copy_file(masks[path.stem], work / "ground_truth" / kind / f"{path.stem}_mask.png")
    return load_splits(work, "folder", Fractions(train=0.5, val=0.2, test=0.3), seed=0)[0]


def x_sdd(raw: Path, work: Path) -> Splits:
    """Hot-rolled strip turned one-class: the commonest kind counts as good. There are no masks."""
    folders = sorted(path for path in raw.glob("X-SDD/X-SDD/datas/*") if path.is_dir())
    commonest = max(folders, key=lambda folder: len(list(folder.iterdir())), default=None)
    for folder in folders:
        kind = GOOD if folder == commonest else folder.name.replace(" ", "_")
        for path in sorted(folder.iterdir()):
            _copy_file(path, work / kind / path.name)
    return load_splits(work, "folder", Fractions(train=0.5, val=0.2, test=0.3), seed=0, color="luma")[0]


def synthetic(material: Material) -> Callable[[Path, Path], Splits]:
    def make(raw: Path, work: Path) -> Splits:
        del raw
        root = make_synthetic_set(work, SyntheticWeb(material=material, num_rolls=32))
        # A web repeats its pattern: frames in phase look alike and are not the same piece.
        return load_splits(root, "manifest", Fractions(), seed=0, duplicates="ignore")[0]

    return make


SETS: Mapping[str, Callable[[Path, Path], Splits]] = {
    "magnetic_tile": magnetic_tile,
    "cookies": cookies,
    "x_sdd": x_sdd,
    "mosaic": synthetic(Material.ZELLIGE),
    "steel": synthetic(Material.STEEL),
    "fabric": synthetic(Material.FABRIC),
}
RAW_FOLDERS = {"magnetic_tile": "MagneticTile/*", "cookies": "AWS-cookies/*", "x_sdd": "X-SDD/*"}


def write_set(splits: Splits, root: Path) -> None:
    """Write PNGs, masks and the manifest of some splits; nothing is there until all is."""
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "kind", "mask", "group", "split"])
        for split in ("train", "val", "test"):
            writer.writerows(_write(sample, partial, split) for sample in getattr(splits, split))
    partial.rename(root)


def _write(sample: Sample, root: Path, split: str) -> tuple[str, str, str, str, str]:
    pixels = read_pixels(sample.image_path)
    stem = "-".join(Path(sample.id).with_suffix("").parts).replace(" ", "_")
    image, mask = Path(split, sample.kind, f"{stem}.png"), Path("ground_truth", sample.kind, f"{stem}_mask.png")
    _write_png(root / image, pixels if pixels.ndim == 2 else pixels[..., ::-1])
    if sample.mask_path is None:
        return str(image), sample.kind, "", sample.group_id, split
    _write_png(root / mask, read_mask(sample.mask_path, pixels.shape[:2]).astype(np.uint8) * 255)
    return str(image), sample.kind, str(mask), sample.group_id, split


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise SystemExit(f"bench_sets: {path} cannot be written")


def _pick(splits: Splits) -> Splits:
    """Draw at most so many samples of each split, the same ones every time."""
    good = [s for s in splits.test if not s.is_defective]
    defective = [s for s in splits.test if s.is_defective]
    return Splits(
        train=_some(splits.train, MOST_TRAIN),
        val=_some([s for s in splits.val if not s.is_defective], MOST_VAL),
        test=(*_some(good, MOST_GOOD), *_some(defective, MOST_DEFECTIVE)),
        color=splits.color,
        fingerprint=splits.fingerprint,
    )


def _some(samples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[:most])
    return tuple(samples[i] for i in chosen)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
