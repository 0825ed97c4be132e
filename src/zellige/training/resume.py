"""The state of a fit by gradient after a whole epoch: what a process that was killed goes on from, to the bit.

One safetensors file without code: the learning tensors now and at their best, the optimizer's, and the curve so far.
Nothing random is in it, as every step draws from a seed of its own.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zellige.training.checkpoint import write_tensors

RESUME_FILE = "resume.safetensors"
"""Its name in a run's folder, where a killed process leaves it."""

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a fit has come, counted in whole epochs."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    num_stale: int = 0
    """Evaluations since the best one."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry per epoch: epoch, learning_rate, train_loss and, where it was evaluated, val_loss."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """The learning tensors of the best epoch."""
    mean: dict[str, Tensor] = field(default_factory=dict)
    """Their running mean, where there is one."""


def save_progress(
    path: Path, identity: str, progress: Progress, learning: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write the state after an epoch; an interrupted write leaves that of the epoch before.

    Raises:
        InputError: it cannot be written.
    """
    tensors = {f"now.{name}": tensor.detach() for name, tensor in learning.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    tensors |= {f"mean.{name}": tensor for name, tensor in progress.mean.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    numbers = {
        "epoch": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss,
        "num_stale": progress.num_stale,
        "curve": progress.curve,
    }
    write_tensors(tensors, path, {"identity": identity, "progress": json.dumps(numbers)})


def load_progress(
    path: Path, identity: str, learning: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Put the state of a killed fit into the tensors and the optimizer and say how far it was.

    Returns:
        None where there is no state, or one of other data or settings, which is not used.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118  it is not a dict
        if about.get("identity") != identity:
            log.warning("%s is of other images, settings or code: the fit begins anew", path)
            return None
        numbers = json.loads(about["progress"])
        progress = Progress(**numbers, best=_under("best.", tensors), mean=_under("mean.", tensors))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        log.warning("%s cannot be used (%s): the fit begins anew", path, " ".join(str(error).split())[:200])
        return None
    now = _under("now.", tensors)
    with torch.no_grad():
        for name, tensor in learning.items():
            tensor.copy_(now[name])
    state: dict[int, dict[str, Any]] = {}
    for key, value in _under("optimizer.", tensors).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
