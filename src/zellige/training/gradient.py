"""Fit a detector that learns by gradient: a plain loop that stops early, resumes to the bit and refuses NaN."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.core.progress import progress
from zellige.data.dataset import TileDataset
from zellige.data.labelled_dataset import LabelledDataset
from zellige.models.detector import GradientDetector
from zellige.training.allocator import keep_freed_memory
from zellige.training.feature_tiles import Batch, FeatureTiles
from zellige.training.recipe import Recipe
from zellige.training.resume import RESUME_FILE, Progress, load_progress, save_progress
from zellige.training.schedules import SCHEDULES
from zellige.training.settle import settle

log = logging.getLogger(__name__)

_TRAIN, _VAL = 0, 1
"""What a seed is for."""


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
    num_epochs: int
    best_epoch: int
    best_val_loss: float


def fit(
    detector: GradientDetector, train: TileDataset, val: TileDataset, *, fabric: Fabric, run_dir: Path, **settings: Any
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
        settings: see `Recipe`.

    Raises:
        ConfigError: a setting out of range, or a detector that does not learn by gradient.
        InputError: no good images to train on or in VAL, an unreadable one, or a loss that is not finite.
    """
    recipe = Recipe(**settings)
    if not isinstance(detector, GradientDetector):
        name = type(detector).__name__
        raise ConfigError(
            f"trainer: {name} does not learn by gradient, expected trainer=one_pass, got trainer=gradient"
        )
    assert isinstance(detector, nn.Module)
    keep_freed_memory()
    detector.to(fabric.device).eval()
    started = time.perf_counter()
    with _opened(detector, train, val, recipe, fabric, run_dir) as (tiles, held_out):
        embed_seconds = _first_pass(detector, tiles, held_out)
        train.warn("fit")
        done = _learn(detector, tiles, held_out, recipe, fabric, run_dir)
        settle(detector, held_out, fabric)
    report = GradientFitReport(
        num_images=tiles.num_images,
        num_tiles=tiles.num_tiles,
        num_defects=tiles.num_defects,
        num_defects_left_out=tiles.num_left_out,
        fit_seconds=time.perf_counter() - started,
        embed_seconds=embed_seconds,
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


def _first_pass(detector: GradientDetector, tiles: FeatureTiles, held_out: FeatureTiles) -> float:
    started = time.perf_counter()
    with torch.no_grad(), progress("embed", tiles.num_images + held_out.num_images) as advance:
        detector.measure(tiles.first_pass(advance))
        for _ in held_out.first_pass(advance):
            pass
    if tiles.num_left_out:
        log.warning(
            "%d labelled defective images have no mask and are cut into several tiles: nobody knows which tile shows "
            "the defect, so they are left out; draw masks or use geometry=resize",
            tiles.num_left_out,
        )
    return time.perf_counter() - started


def _learn(
    detector: GradientDetector,
    tiles: FeatureTiles,
    held_out: FeatureTiles,
    recipe: Recipe,
    fabric: Fabric,
    run_dir: Path,
) -> Progress:
    """Run the epochs that are left and give the detector its best weights."""
    objective = detector.objective().to(fabric.device).train()
    learning = {name: value for name, value in objective.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(learning.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    wrapped, optimizer = fabric.setup(objective, optimizer)
    steps = _common_steps(tiles, recipe, fabric)
    identity = _identity(detector, recipe, fabric, learning, tiles, held_out)
    resume = run_dir / RESUME_FILE
    done = load_progress(resume, identity, learning, optimizer) or Progress()
    if done.epoch:
        log.info("fit: going on after epoch %d of a fit that was cut short", done.epoch)

    with progress("fit", recipe.epochs) as advance:
        for _ in range(done.epoch):
            advance()
        while done.epoch < recipe.epochs and (recipe.patience is None or done.num_stale < recipe.patience):
            rate = recipe.learning_rate * SCHEDULES[recipe.schedule](done.epoch / recipe.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batches = tiles.epoch(done.epoch, seed=recipe.seed, defect_share=recipe.defect_share, steps=steps)
            entry = {"epoch": done.epoch + 1, "learning_rate": rate}
            try:
                entry["train_loss"] = _epoch(wrapped, optimizer, batches, steps, done.epoch, recipe, fabric)
                if not all(bool(value.isfinite().all()) for value in learning.values()):
                    raise _NotFiniteError(f"a weight is not finite after epoch {done.epoch + 1}")
                done.epoch += 1
                if done.epoch % recipe.evaluate_every == 0 or done.epoch == recipe.epochs:
                    entry["val_loss"] = _evaluate(objective, held_out, done.epoch, recipe, fabric)
                    _compare(done, entry["val_loss"], learning)
            except _NotFiniteError as error:
                kept = f"; the weights of epoch {len(done.curve)} are in {resume}" if done.curve else ""
                raise InputError(f"fit: {error}; try a lower trainer.learning_rate{kept}") from None
            done.curve.append(entry)
            if fabric.is_global_zero:
                save_progress(resume, identity, done, learning, optimizer)
            advance()
    with torch.no_grad():
        for name, value in learning.items():
            value.copy_(done.best[name])
    return done


def _epoch(
    wrapped: Any,
    optimizer: Any,
    batches: Iterator[Batch],
    steps: int,
    epoch: int,
    recipe: Recipe,
    fabric: Fabric,
) -> float:
    """Learn from the batches of one epoch and return its mean loss."""
    total = 0.0
    for step, (features, targets) in enumerate(batches):
        first = step - step % recipe.accumulate
        num_parts = min(recipe.accumulate, steps - first)
        is_last = step + 1 == first + num_parts
        with fabric.no_backward_sync(wrapped, enabled=not is_last):
            loss = wrapped(features, targets, seed_of(recipe.seed, _TRAIN, epoch, step, fabric.global_rank))
            mean_loss = float(_reduced(loss.detach().clone(), "mean", fabric))
            if not math.isfinite(mean_loss):
                raise _NotFiniteError(f"the loss is {mean_loss} in epoch {epoch + 1}, step {step + 1} of {steps}")
            fabric.backward(loss / num_parts)
        if is_last:
            optimizer.step()
            optimizer.zero_grad()
        total += mean_loss
    return total / steps


def _evaluate(objective: nn.Module, held_out: FeatureTiles, epoch: int, recipe: Recipe, fabric: Fabric) -> float:
    """Mean loss over the good tiles of VAL, each counted once, with the same synthetic anomalies at every look."""
    objective.eval()
    sums = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for step, (features, targets) in enumerate(held_out.in_order()):
            loss = objective(features, targets, seed_of(recipe.seed, _VAL, step, fabric.global_rank))
            sums += torch.tensor([float(loss), 1.0], dtype=torch.float64) * len(targets.has_mask)
    objective.train()
    total, count = _reduced(sums.to(fabric.device), "sum", fabric).tolist()
    if not math.isfinite(total):
        raise _NotFiniteError(f"the loss on VAL is {total} after epoch {epoch}")
    return float(total / count)


def _compare(done: Progress, val_loss: float, learning: Mapping[str, Tensor]) -> None:
    """Keep the weights where the loss on VAL is the lowest so far."""
    if val_loss < done.best_loss:
        done.best = {name: value.detach().clone() for name, value in learning.items()}
        done.best_loss, done.best_epoch, done.num_stale = val_loss, done.epoch, 0
    else:
        done.num_stale += 1


def seed_of(*numbers: int) -> int:
    """Make one seed of several numbers; other numbers, or another order, give another seed.

    So every step has a seed of its own, and a fit that resumes needs no state of any random generator.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _common_steps(tiles: FeatureTiles, recipe: Recipe, fabric: Fabric) -> int:
    """Steps of an epoch: a step needs every process, so the one with the fewest batches decides."""
    own = torch.tensor(-float(tiles.num_steps(recipe.defect_share)), device=fabric.device)
    return -int(_reduced(own, "max", fabric))


def _identity(
    detector: GradientDetector,
    recipe: Recipe,
    fabric: Fabric,
    learning: Mapping[str, Tensor],
    tiles: FeatureTiles,
    held_out: FeatureTiles,
) -> str:
    """Hash of all that decides how a fit goes: settings, first weights, images and labels, in every process."""
    plain = {name: value for name, value in sorted(vars(detector).items()) if isinstance(value, int | float | str)}
    words = [
        type(detector).__name__,
        plain,
        asdict(recipe),
        fabric.world_size,
        str(fabric.strategy.precision.precision),
        tiles.is_kept,
    ]
    digest = hashlib.sha256(json.dumps(words).encode())
    for name, value in learning.items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    digest.update(tiles.fingerprint().encode() + held_out.fingerprint().encode())
    everyone = torch.zeros(fabric.world_size, digest.digest_size, dtype=torch.int64)
    everyone[fabric.global_rank] = torch.tensor(list(digest.digest()))
    return bytes(_reduced(everyone.to(fabric.device), "sum", fabric).flatten().tolist()).hex()


def _reduced(value: Tensor, operation: str, fabric: Fabric) -> Tensor:
    """Join a tensor of all processes by "sum", "mean" or "max"."""
    joined = fabric.all_reduce(value, reduce_op=operation)
    assert isinstance(joined, Tensor)
    return joined


class _NotFiniteError(Exception):
    """A loss that is no number."""
