"""One run in several processes, as torchrun starts them: their group, and what the loss of one looks like.

A process that dies closes its connections, so the others meet an error at their next exchange. One that hangs is
noticed after `TIMEOUT`.
"""

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

TIMEOUT = timedelta(hours=2)
"""Longer than anything that one process does while the others wait, such as reading a large data set."""

T = TypeVar("T")


def group_settings() -> dict[str, Any]:
    """Return the arguments of Fabric for the processes that torchrun started; a single one without it."""
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        return {"devices": 1}
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": local, "num_nodes": world // local, "strategy": DDPStrategy(timeout=TIMEOUT)}


def join_group(fabric: Fabric) -> Fabric:
    """Meet the other processes; from here on the first one alone reports its progress."""
    fabric.launch()
    if not fabric.is_global_zero:
        logging.getLogger().setLevel(logging.WARNING)
    return fabric


def on_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Let the first process do something once and tell the others the result, which must be picklable."""
    result: T | None = work() if fabric.is_global_zero else None
    return cast(T, fabric.broadcast(result))


def is_lost_process(error: BaseException) -> bool:
    """Whether an exchange failed because another process of the run is gone or hangs."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
