"""One trial of a sweep, and the processes that trials run in."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from zellige.config import TrainConfig, make_fabric, to_geometry
from zellige.config_models import build
from zellige.core.errors import USER_ERRORS
from zellige.core.types import Splits
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.program import one_line
from zellige.training.held_out import HeldOutScore, hold_out, score_held_out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What a trial is to do; it travels to another process. `folder` keeps what a killed fit can go on from."""

    number: int
    values: Mapping[str, str | int | float]
    config: TrainConfig
    splits: Splits
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What became of a trial: its score, or an error in one line."""

    number: int
    values: Mapping[str, str | int | float]
    score: HeldOutScore | None = None
    fit_seconds: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """The result as strict JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TrialResult":
        """Read what `to_json` gave.

        Raises:
            TypeError: it is something else.
        """
        stored: dict[str, Any] | None = content["score"]
        lists = ("values", "weights", "sources")
        if stored is not None:
            stored = {key: tuple(value) if key in lists else value for key, value in stored.items()}
        score = None if stored is None else HeldOutScore(**stored)
        return cls(**{**content, "score": score})


def run_trial(task: Task) -> TrialResult:
    """Fit on three quarters of the training images and judge on the others; a user's mistake becomes the result."""
    failed = TrialResult(number=task.number, values=task.values)
    try:
        score, seconds = _fit_and_judge(task)
    except USER_ERRORS as error:
        return replace(failed, error=" ".join(str(error).split()))
    except (HydraException, OmegaConfBaseException) as error:
        return replace(failed, error=one_line(error))
    return TrialResult(number=task.number, values=task.values, score=score, fit_seconds=seconds)


def _fit_and_judge(task: Task) -> tuple[HeldOutScore, float]:
    config, splits = task.config, task.splits
    fabric = make_fabric(config.engine, seed=config.seed)
    geometry, color = to_geometry(config.geometry), splits.color
    augment = Augment(config.data.augment, seed=config.seed)
    train, held_out = hold_out(
        TileDataset(splits.train, geometry=geometry, color=color, augment=augment, defects=splits.train_defects),
        seed=config.seed,
    )
    task.folder.mkdir(parents=True, exist_ok=True)
    detector = build(config.model)
    val = TileDataset(splits.val, geometry=geometry, color=color)
    report = build(config.trainer)(detector, train, val, fabric=fabric, run_dir=task.folder)
    return score_held_out(detector, held_out, fabric=fabric, seed=config.seed), float(report.fit_seconds)


@contextmanager
def workers(count: int, logs: Path) -> Iterator[ProcessPoolExecutor]:
    """Give processes for trials; what they print goes to `logs`, and none of them outlives this one or an error."""
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _prepare, (str(logs),))
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Start processes that Ctrl-C on the terminal does not reach: this one ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare(logs: str) -> None:
    """Make a process quiet, deaf to Ctrl-C, and mortal with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = os.open(Path(logs) / f"worker-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
