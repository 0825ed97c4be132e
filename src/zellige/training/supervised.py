"""Fit a detector that says which kind a defect is, all of it, from labelled images; see `loop`."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from zellige.core.errors import ConfigError, InputError
from zellige.core.progress import progress
from zellige.data.dataset import TileDataset
from zellige.data.supervised_tiles import SupervisedTiles
from zellige.models.backbones import FrozenBackbone
from zellige.models.detector import KindSettlingDetector, SupervisedDetector
from zellige.training.allocator import keep_freed_memory
from zellige.training.kind_batches import Batch, drawn_batches, tiles_in_order
from zellige.training.loop import Lessons, learn, plain_settings
from zellige.training.supervised_recipe import SupervisedRecipe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedFitReport:
    """What a fit cost and how it went; the numbers of images are those of all processes."""

    kinds: tuple[str, ...]
    num_good: int
    num_defects: int
    num_left_out: int
    """Training images that nothing could be learned from."""
    num_val: int
    fit_seconds: float
    read_seconds: float
    """The first look at every image."""
    num_epochs: int
    best_epoch: int
    best_val_loss: float


def fit(
    detector: SupervisedDetector,
    train: TileDataset,
    val: TileDataset,
    *,
    fabric: Fabric,
    run_dir: Path,
    **settings: Any,
) -> SupervisedFitReport:
    """Make the detector's objective small on labelled tiles; keep the weights that were best on VAL.

    "Best" is the objective's loss on all tiles of VAL, good and defective, as evaluation cuts them. Writes `fit.json`,
    `learning_curve.json` and, after every epoch, `resume.safetensors` into the run folder; a fit that finds the latter
    there, of the same data and settings, goes on from it.

    Args:
        detector: see `SupervisedDetector`.
        train: good images in its samples, labelled defective ones in its defects.
        val: good and defective images.
        fabric: where to run; several processes share the tiles of an epoch and end with equal weights.
        run_dir: folder of the run.
        settings: see `SupervisedRecipe`.

    Raises:
        ConfigError: a setting out of range, a detector that does not learn from labels, or one without kinds.
        InputError: no labelled defects to train on, nothing in VAL, an unreadable image, or a loss that is not finite.
    """
    recipe = SupervisedRecipe(**settings)
    kinds = _check(detector, train, recipe)
    assert isinstance(detector, nn.Module)
    keep_freed_memory()
    detector.to(fabric.device).eval()
    started = time.perf_counter()
    tiles, held_out = (SupervisedTiles(part, kinds, cache_mb=recipe.cache_mb // 2) for part in (train, val))
    _scan(tiles, held_out, recipe, fabric)
    _check_places(detector, tiles, held_out, recipe)
    read_seconds = time.perf_counter() - started
    done = learn(
        detector.objective(), _lessons(detector, tiles, held_out, recipe, fabric), recipe.steps(), fabric, run_dir
    )
    _settle(detector, held_out, recipe, fabric)
    is_defective = [tiles.samples[index].is_defective for index in tiles.usable]
    report = SupervisedFitReport(
        kinds=kinds,
        num_good=len(is_defective) - sum(is_defective),
        num_defects=sum(is_defective),
        num_left_out=tiles.num_left_out,
        num_val=len(held_out.usable),
        fit_seconds=time.perf_counter() - started,
        read_seconds=read_seconds,
        num_epochs=done.epoch,
        best_epoch=done.best_epoch,
        best_val_loss=done.best_loss,
    )
    if fabric.is_global_zero:
        (run_dir / "fit.json").write_text(json.dumps(asdict(report), indent=2))
        (run_dir / "learning_curve.json").write_text(json.dumps(done.curve, indent=2))
    log.info(
        "fit: %d images, %d epochs, best %d, %.1f s", len(is_defective), done.epoch, done.best_epoch, report.fit_seconds
    )
    return report


def _check(detector: object, train: TileDataset, recipe: SupervisedRecipe) -> tuple[str, ...]:
    if not isinstance(detector, SupervisedDetector):
        name = type(detector).__name__
        raise ConfigError(
            f"trainer: {name} does not learn from labels, expected another trainer, got trainer=supervised"
        )
    if not detector.kinds:
        raise ConfigError("model.kinds: expected the kinds of the training split, got none")
    tile = (train.geometry.height, train.geometry.width)
    named = {
        "opposites": {*recipe.opposites, *recipe.opposites.values()},
        "marks": {kind for kinds in recipe.marks.values() for kind in kinds},
    }
    for setting, kinds in named.items():
        if unknown := kinds - {*detector.kinds}:
            expected = ", ".join(detector.kinds)
            raise ConfigError(
                f"trainer.{setting}: expected kinds of the training split, {expected}, got {min(unknown)!r}"
            )
    if recipe.crop_px is not None and recipe.crop_px > min(tile):
        raise ConfigError(f"trainer.crop_px: expected at most the tile's {min(tile)} px, got {recipe.crop_px}")
    if not train.defects:
        raise InputError(
            "fit: expected labelled defective images in train, got none; set data.fractions.train_defects and "
            "data.fractions.val_defects, or declare the splits"
        )
    return tuple(detector.kinds)


def _scan(tiles: SupervisedTiles, held_out: SupervisedTiles, recipe: SupervisedRecipe, fabric: Fabric) -> None:
    """Read every image once; each process does, as each may draw any of them."""
    with progress("read", len(tiles.samples) + len(held_out.samples)) as advance:
        tiles.scan("train", advance, with_marks=bool(recipe.marks))
        held_out.scan("val", advance)
    for name, part in (("train", tiles), ("VAL", held_out)):
        if len(part.usable) < fabric.world_size:
            raise InputError(
                f"fit: expected at least {fabric.world_size} images in {name} that can be learned from, got "
                f"{len(part.usable)} of {len(part.samples)}"
            )


def _check_places(
    detector: nn.Module, tiles: SupervisedTiles, held_out: SupervisedTiles, recipe: SupervisedRecipe
) -> None:
    if getattr(detector, "needs_places", False) and not (tiles.num_placed and held_out.num_placed):
        raise InputError(
            "fit: expected boxes or masks of defects in train and in VAL, which this model learns from, got "
            f"{tiles.num_placed} and {held_out.num_placed} images with them"
        )
    if recipe.marks and not tiles.num_marks:
        raise InputError(
            "trainer.marks: expected labelled defects on products of two tones beside their templates in train, got "
            "none that differ from the template within their boxes"
        )
    num_boxed = tiles.num_placed - tiles.num_masked
    if getattr(detector, "learns_outlines", False) and num_boxed:
        log.warning(
            "train: %d defective images have boxes and no mask, which teach no outlines; where defects fill their "
            "boxes well, scripts/prepare_data.py with labels.fill_boxes=true makes masks of them",
            num_boxed,
        )
    num_unplaced = sum(tiles.samples[index].is_defective for index in tiles.usable) - tiles.num_placed
    if recipe.crop_px is not None and num_unplaced:
        raise InputError(
            "trainer.crop_px: expected boxes or masks of every defect in train, as a crop may miss the others, got "
            f"{num_unplaced} defective images without"
        )


def _lessons(
    detector: nn.Module, tiles: SupervisedTiles, held_out: SupervisedTiles, recipe: SupervisedRecipe, fabric: Fabric
) -> Lessons:
    """Say what is learned from: the tiles of each epoch are dealt to the processes one by one."""
    rank, world, device = fabric.global_rank, fabric.world_size, fabric.device
    num_draws, how = recipe.draws_per_image * len(tiles.usable), recipe.drawing()

    def epoch(number: int, steps: int) -> Iterator[Batch]:
        order = tiles.order(seed=recipe.seed, epoch=number, balance=recipe.balance, num_draws=num_draws)
        own = list(enumerate(order.tolist()))[rank::world][: steps * recipe.batch_size]
        return drawn_batches(
            tiles,
            own,
            seed=(recipe.seed, number),
            how=how,
            batch_size=recipe.batch_size,
            num_workers=recipe.num_workers,
            device=device,
        )

    def held_out_batches() -> Iterator[Batch]:
        return tiles_in_order(
            held_out, held_out.usable[rank::world].tolist(), batch_size=recipe.batch_size, device=device
        )

    choices = {
        "balance": recipe.balance,
        **asdict(how),
        "num_draws": num_draws,
        "slow": recipe.backbone_rate,
    }
    about = [type(detector).__name__, plain_settings(detector), choices]
    return Lessons(
        steps=-(-len(range(rank, num_draws, world)) // recipe.batch_size),
        epoch=epoch,
        held_out=held_out_batches,
        about=[*about, tiles.fingerprint(), held_out.fingerprint()],
        slow=frozenset(id(value) for body in _backbones(detector) for value in body.parameters()),
        slow_rate=recipe.backbone_rate,
    )


def _backbones(detector: nn.Module) -> list[nn.Module]:
    return [module for module in detector.modules() if isinstance(module, FrozenBackbone)]


def _settle(detector: nn.Module, held_out: SupervisedTiles, recipe: SupervisedRecipe, fabric: Fabric) -> None:
    """Let a `KindSettlingDetector` look at the tiles of VAL; every process does the same with all of them."""
    if not isinstance(detector, KindSettlingDetector):
        return
    detector.eval()
    with torch.no_grad():
        images = held_out.usable.tolist()
        detector.settle(tiles_in_order(held_out, images, batch_size=recipe.batch_size, device=fabric.device))
        for buffer in detector.buffers():
            buffer.copy_(fabric.broadcast(buffer))
