"""Fit a detector of which a part is frozen by gradient, from features of that part; see `loop`."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from zellige.core.errors import ConfigError, InputError
from zellige.core.progress import progress
from zellige.data.dataset import TileDataset
from zellige.data.labelled_dataset import LabelledDataset
from zellige.models.detector import GradientDetector, SupervisedDetector
from zellige.training.allocator import keep_freed_memory
from zellige.training.feature_tiles import Batch, FeatureTiles
from zellige.training.first_pass_ranking import FirstPassRanking, first_pass_ranking
from zellige.training.loop import Lessons, learn, plain_settings
from zellige.training.recipe import Recipe
from zellige.training.settle import settle

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientFitReport:
    """What a fit cost and how it went. The numbers of images, tiles and defects are this process's share."""

    num_images: int
    num_tiles: int
    num_defects: int
    """Labelled defective images that were learned from."""
    num_defects_left_out: int
    """Labelled defective images without a mask, cut into several tiles: nobody knows which tile shows the defect."""
    fit_seconds: float
    embed_seconds: float
    """The first pass: every tile through the frozen part once, reading of images included."""
    rank_seconds: float
    """Ranking the images by how suspicious they look; in neither of the two above."""
    num_epochs: int
    best_epoch: int
    best_val_loss: float


def fit(
    detector: GradientDetector,
    train: TileDataset,
    val: TileDataset,
    *,
    fabric: Fabric,
    run_dir: Path,
    rank_suspicious: bool = False,
    **settings: Any,
) -> GradientFitReport:
    """Make the detector's objective small on the training tiles; keep the weights that were best on VAL.

    "Best" needs no defects: it is the objective's loss on the good images of VAL with synthetic anomalies that are the
    same at every look. Writes `fit.json`, `learning_curve.json` and, after every epoch, `resume.safetensors` into the
    run folder; a fit that finds the latter there, of the same data and settings, goes on from it.

    Args:
        detector: see `GradientDetector`.
        train: good tiles, and labelled defects in `train.defects`.
        val: its good images are looked at.
        fabric: where to run; several processes share the training images and end with equal weights.
        run_dir: folder of the run.
        rank_suspicious: also write which good training images look least like the others, before the first step; see
            `write_suspicious`. Several processes do not.
        settings: see `Recipe`.

    Raises:
        ConfigError: a setting out of range, or a detector that does not learn by gradient.
        InputError: no good images to train on or in VAL, an unreadable one, or a loss that is not finite.
    """
    recipe = Recipe(**settings)
    if not isinstance(detector, GradientDetector):
        name = type(detector).__name__
        raise ConfigError(
            f"trainer: {name} does not learn by gradient, expected trainer={_other(detector)}, got trainer=gradient"
        )
    assert isinstance(detector, nn.Module)
    keep_freed_memory()
    detector.to(fabric.device).eval()
    started = time.perf_counter()
    ranking = first_pass_ranking(detector, train, seed=recipe.seed, fabric=fabric) if rank_suspicious else None
    with _opened(detector, train, val, recipe, fabric, run_dir) as (tiles, held_out):
        embed_seconds = _first_pass(detector, tiles, held_out, ranking, recipe.seed)
        train.warn("fit")
        if ranking is not None:
            ranking.write(run_dir, device=fabric.device, batch_size=recipe.batch_size)
        lessons = _lessons(detector, tiles, held_out, recipe)
        done = learn(detector.objective(), lessons, recipe, fabric, run_dir)
        settle(detector, held_out, fabric)
    rank_seconds = 0.0 if ranking is None else ranking.seconds
    report = GradientFitReport(
        num_images=tiles.num_images,
        num_tiles=tiles.num_tiles,
        num_defects=tiles.num_defects,
        num_defects_left_out=tiles.num_left_out,
        fit_seconds=time.perf_counter() - started - rank_seconds,
        embed_seconds=embed_seconds,
        rank_seconds=rank_seconds,
        num_epochs=done.epoch,
        best_epoch=done.best_epoch,
        best_val_loss=done.best_loss,
    )
    if fabric.is_global_zero:
        (run_dir / "fit.json").write_text(json.dumps(asdict(report), indent=2))
        (run_dir / "learning_curve.json").write_text(json.dumps(done.curve, indent=2))
    log.info("fit: %d tiles, %d epochs, best %d, %.1f s", *_summary(report))
    return report


def _summary(report: GradientFitReport) -> tuple[int, int, int, float]:
    return report.num_tiles, report.num_epochs, report.best_epoch, report.fit_seconds


@contextmanager
def _opened(
    detector: GradientDetector, train: TileDataset, val: TileDataset, recipe: Recipe, fabric: Fabric, run_dir: Path
) -> Iterator[tuple[FeatureTiles, FeatureTiles]]:
    """Open this process's share of the training tiles and of VAL's good ones; their features are removed at the end."""
    good = TileDataset([s for s in val.samples if not s.is_defective], geometry=val.geometry, color=val.color)
    for name, dataset in (("training image", train), ("image in VAL", good)):
        if len(dataset) < fabric.world_size:
            raise InputError(
                f"fit: expected at least one good {name} per process, got {len(dataset) or 'none'}"
                if fabric.world_size > 1
                else f"fit: expected at least one good {name}, got none"
            )
    # Good images are dealt from the first process on and defective ones from the last, so that shares are even.
    parts = []
    for name, dataset in (("train", train), ("val", good)):
        labelled = LabelledDataset(dataset)
        num_good, rank, world = len(dataset), fabric.global_rank, fabric.world_size
        parts.append(
            FeatureTiles(
                labelled,
                [*range(rank, num_good, world), *range(num_good + world - 1 - rank, len(labelled), world)],
                detector.embed,
                device=fabric.device,
                batch_size=recipe.batch_size,
                cache=run_dir / f"features_{name}_{rank}.partial",
                most_bytes=recipe.cache_mb * 500_000,
            )
        )
    try:
        yield parts[0], parts[1]
    finally:
        for part in parts:
            part.close()


def _first_pass(
    detector: GradientDetector, tiles: FeatureTiles, held_out: FeatureTiles, ranking: FirstPassRanking | None, seed: int
) -> float:
    """Embed and measure, and let the ranking see the good images; the time without the ranking's."""
    started = time.perf_counter()
    with torch.no_grad(), progress("embed", tiles.num_images + held_out.num_images) as advance:
        batches = tiles.first_pass(advance, seed=seed)
        detector.measure((features for features, _ in batches) if ranking is None else ranking.watch(batches))
        for _ in held_out.first_pass(advance, seed=seed):
            pass
    if tiles.num_left_out:
        log.warning(
            "%d labelled defective images have no mask and are cut into several tiles: nobody knows which tile shows "
            "the defect, so they are left out; draw masks or use geometry=resize",
            tiles.num_left_out,
        )
    return time.perf_counter() - started - (0.0 if ranking is None else ranking.seconds)


def _lessons(detector: nn.Module, tiles: FeatureTiles, held_out: FeatureTiles, recipe: Recipe) -> Lessons:
    """Say what is learned from: features of the training tiles, in an order that seed and epoch decide."""
    share = recipe.defect_share

    def epoch(number: int, steps: int) -> Iterator[Batch]:
        return tiles.epoch(number, seed=recipe.seed, defect_share=share, steps=steps)

    about = [type(detector).__name__, plain_settings(detector), tiles.is_kept]
    return Lessons(
        steps=tiles.num_steps(share),
        epoch=epoch,
        held_out=held_out.in_order,
        about=[*about, tiles.fingerprint(), held_out.fingerprint()],
    )


def _other(detector: object) -> str:
    """The trainer of a detector that is not fitted here."""
    return "supervised" if isinstance(detector, SupervisedDetector) else "one_pass"
