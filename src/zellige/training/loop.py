"""The loop of every fit by gradient: epochs of steps that stop early, resume to the bit and refuse NaN."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from zellige.core.errors import InputError
from zellige.core.progress import progress
from zellige.training.recipe import Recipe
from zellige.training.resume import RESUME_FILE, Progress, load_progress, save_progress
from zellige.training.schedules import SCHEDULES

log = logging.getLogger(__name__)

_TRAIN, _VAL = 0, 1
"""What a seed is for."""

Batches = Iterator[tuple[Any, Any]]
"""Inputs of an objective and its targets, a named tuple with `has_mask` (B,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What an objective learns from and is judged on: this process's share."""

    steps: int
    """Batches of an epoch that this process has."""
    epoch: Callable[[int, int], Batches]
    """The first so many batches (second number) of an epoch (first number)."""
    held_out: Callable[[], Batches]
    about: Sequence[Any]
    """All that decides how the fit goes besides the recipe and the first weights, in values that JSON holds."""
    slow: frozenset[int] = frozenset()
    """The `id` of each parameter that learns at another rate,"""
    slow_rate: float = 1.0
    """which is this, as a factor of the recipe's."""


def learn(objective: nn.Module, lessons: Lessons, recipe: Recipe, fabric: Fabric, run_dir: Path) -> Progress:
    """Make an objective small on the training batches and give it the weights that were best on those of VAL.

    Writes `resume.safetensors` into the run folder after every epoch, and goes on from one of the same fit.

    Args:
        objective: `forward(inputs, targets, seed) -> scalar loss`; its parameters that require a gradient learn.
        lessons: what it learns from.
        recipe: how.
        fabric: where; several processes end with equal weights.
        run_dir: folder of the run.

    Raises:
        InputError: a loss or a weight that is not finite.
    """
    objective.to(fabric.device).train()
    learning = {name: value for name, value in objective.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(_groups(learning, lessons), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    wrapped, optimizer = fabric.setup(objective, optimizer)
    steps = _common_steps(lessons.steps, fabric)
    identity = _identity(lessons.about, recipe, fabric, learning)
    resume = run_dir / RESUME_FILE
    done = load_progress(resume, identity, learning, optimizer) or Progress()
    done.mean = {name: value.to(fabric.device) for name, value in done.mean.items()}
    if done.epoch:
        log.info("fit: going on after epoch %d of a fit that was cut short", done.epoch)

    with progress("fit", recipe.epochs, done.epoch) as advance:
        while done.epoch < recipe.epochs and (recipe.patience is None or done.num_stale < recipe.patience):
            rate = recipe.learning_rate * _factor(recipe, done.epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            batches = lessons.epoch(done.epoch, steps)
            entry = {"epoch": done.epoch + 1, "learning_rate": rate}
            try:
                entry["train_loss"] = _epoch(wrapped, optimizer, batches, steps, done, learning, recipe, fabric)
                if not all(bool(value.isfinite().all()) for value in learning.values()):
                    raise _NotFiniteError(f"a weight is not finite after epoch {done.epoch + 1}")
                done.epoch += 1
                if done.epoch % recipe.evaluate_every == 0 or done.epoch == recipe.epochs:
                    with _averaged(learning, done.mean):
                        entry["val_loss"] = _evaluate(objective, lessons.held_out(), done.epoch, recipe, fabric)
                        _compare(done, entry["val_loss"], learning)
            except _NotFiniteError as error:
                kept = f"; the weights of epoch {len(done.curve)} are in {resume}" if done.curve else ""
                raise InputError(f"fit: {error}; try a lower trainer.learning_rate{kept}") from None
            done.curve.append(entry)
            if fabric.is_global_zero:
                save_progress(resume, identity, done, learning, optimizer)
            seen = f", VAL {entry['val_loss']:.3g}" if "val_loss" in entry else ""
            advance(f"loss {entry['train_loss']:.3g}{seen}, rate {rate:.2g}")
    _put(done.best, learning)
    return done


def seed_of(*numbers: int) -> int:
    """Make one seed of several numbers; other numbers, or another order, give another seed.

    So every step has a seed of its own, and a fit that resumes needs no state of any random generator.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _groups(learning: Mapping[str, Tensor], lessons: Lessons) -> list[dict[str, Any]]:
    """Group the parameters by the factor of their learning rate."""
    factors = {name: lessons.slow_rate if id(value) in lessons.slow else 1.0 for name, value in learning.items()}
    return [
        {"params": [learning[name] for name in learning if factors[name] == factor], "factor": factor}
        for factor in sorted(set(factors.values()))
    ]


def _factor(recipe: Recipe, epoch: int) -> float:
    """The learning rate of an epoch as a factor: a line up during the warm-up, then the schedule."""
    if epoch < recipe.warmup_epochs:
        return (epoch + 1) / (recipe.warmup_epochs + 1)
    return SCHEDULES[recipe.schedule]((epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs))


def _epoch(
    wrapped: Any,
    optimizer: Any,
    batches: Batches,
    steps: int,
    done: Progress,
    learning: Mapping[str, Tensor],
    recipe: Recipe,
    fabric: Fabric,
) -> float:
    """Learn from the batches of one epoch and return its mean loss."""
    total = 0.0
    for step, (inputs, targets) in enumerate(batches):
        first = step - step % recipe.accumulate
        num_parts = min(recipe.accumulate, steps - first)
        is_last = step + 1 == first + num_parts
        with fabric.no_backward_sync(wrapped, enabled=not is_last):
            loss = wrapped(inputs, targets, seed_of(recipe.seed, _TRAIN, done.epoch, step, fabric.global_rank))
            mean_loss = float(_reduced(loss.detach().clone(), "mean", fabric))
            if not math.isfinite(mean_loss):
                raise _NotFiniteError(f"the loss is {mean_loss} in epoch {done.epoch + 1}, step {step + 1} of {steps}")
            fabric.backward(loss / num_parts)
        if is_last:
            if recipe.clip_norm is not None:
                fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            _average(done.mean, learning, recipe.average)
        total += mean_loss
    return total / steps


def _average(mean: dict[str, Tensor], learning: Mapping[str, Tensor], decay: float) -> None:
    """Let the mean of the weights follow them; with decay 0 there is none."""
    if decay == 0:
        return
    with torch.no_grad():
        for name, value in learning.items():
            if name not in mean:
                mean[name] = value.detach().clone()
            mean[name].lerp_(value, 1 - decay)


@contextmanager
def _averaged(learning: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> Iterator[None]:
    """Put the mean of the weights in their place for a while, where there is one."""
    if not mean:
        yield
        return
    now = {name: value.detach().clone() for name, value in learning.items()}
    _put(mean, learning)
    try:
        yield
    finally:
        _put(now, learning)


def _put(weights: Mapping[str, Tensor], learning: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in learning.items():
            value.copy_(weights[name])


def _evaluate(objective: nn.Module, batches: Batches, epoch: int, recipe: Recipe, fabric: Fabric) -> float:
    """Mean loss over the tiles of VAL, each counted once, with the same seeds at every look."""
    objective.eval()
    sums = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for step, (inputs, targets) in enumerate(batches):
            loss = objective(inputs, targets, seed_of(recipe.seed, _VAL, step, fabric.global_rank))
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


def _common_steps(own: int, fabric: Fabric) -> int:
    """Steps of an epoch: a step needs every process, so the one with the fewest batches decides."""
    return -int(_reduced(torch.tensor(-float(own), device=fabric.device), "max", fabric))


def _identity(about: Sequence[Any], recipe: Recipe, fabric: Fabric, learning: Mapping[str, Tensor]) -> str:
    """Hash of all that decides how a fit goes: settings, first weights, images and labels, in every process."""
    settings = {name: value for name, value in asdict(recipe).items() if name != "cache_mb"}  # changes the time alone
    words = [*about, settings, fabric.world_size, str(fabric.strategy.precision.precision)]
    digest = hashlib.sha256(json.dumps(words).encode())
    for name, value in learning.items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    everyone = torch.zeros(fabric.world_size, digest.digest_size, dtype=torch.int64)
    everyone[fabric.global_rank] = torch.tensor(list(digest.digest()))
    return bytes(_reduced(everyone.to(fabric.device), "sum", fabric).flatten().tolist()).hex()


def plain_settings(detector: nn.Module) -> dict[str, Any]:
    """The settings of a detector that are kept in it, for `Lessons.about`."""
    settings = vars(detector).items()
    return {name: value for name, value in sorted(settings) if isinstance(value, int | float | str)}


def _reduced(value: Tensor, operation: str, fabric: Fabric) -> Tensor:
    """Join a tensor of all processes by "sum", "mean" or "max"."""
    joined = fabric.all_reduce(value, reduce_op=operation)
    assert isinstance(joined, Tensor)
    return joined


class _NotFiniteError(Exception):
    """A loss that is no number."""
