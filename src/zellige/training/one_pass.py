"""Fit a detector that learns in one pass over the good images: a memory bank, a Gaussian."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from zellige.core.errors import ConfigError
from zellige.core.progress import progress
from zellige.data.dataset import TileDataset
from zellige.models.detector import Features, OnePassDetector
from zellige.training.allocator import keep_freed_memory
from zellige.training.few_shot import check_copies, draw_shots

log = logging.getLogger(__name__)

_FEW = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit cost. `embed_seconds` is the part spent in the backbone, reading of images included."""

    num_images: int
    augmented_copies: int
    """Changed copies of each image that were learned besides it."""
    num_tiles: int
    """Of images and copies together."""
    fit_seconds: float
    embed_seconds: float


def fit(
    detector: OnePassDetector,
    train: TileDataset,
    val: TileDataset,
    *,
    fabric: Fabric,
    run_dir: Path,
    batch_size: int = 8,
    num_shots: int | None = None,
    augmented_copies: int = 0,
    seed: int = 0,
) -> FitReport:
    """Build the detector from the training tiles and write `fit.json` into the run folder.

    `val` is not looked at: a one-pass detector has nothing to stop early.

    Args:
        detector: see `OnePassDetector`.
        train: good tiles.
        val: not used.
        fabric: where to run.
        run_dir: folder of the run.
        batch_size: tiles that pass the backbone together.
        num_shots: learn from so many of the training images, drawn at random; None takes all.
        augmented_copies: so many copies of each image are learned too, changed by the data set's `augment`; the image
            itself is then learned as it is. 0: each image is seen once, changed by `augment`.
        seed: of the order and of the draw.

    Raises:
        ConfigError: a setting out of range, copies without a policy that changes them, or a detector that does not
            learn in one pass.
        InputError: no training images, or one that cannot be read.
    """
    _check(detector, batch_size, seed)
    check_copies(augmented_copies, train)
    train = draw_shots(train, num_shots, seed=seed)
    _warn(train, augmented_copies)
    assert isinstance(detector, torch.nn.Module)
    keep_freed_memory()
    detector.to(fabric.device).eval()
    started = time.perf_counter()
    embed_seconds = 0.0
    num_tiles = 0

    with torch.inference_mode(), progress("fit", len(train) * (1 + augmented_copies)) as advance:
        batches = train.shuffled_batches(batch_size, seed=seed, advance=advance, copies=augmented_copies)

        def features() -> Iterator[Features]:
            nonlocal embed_seconds, num_tiles
            while True:
                before = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    return
                embedded = detector.embed(batch.to(fabric.device))
                embed_seconds += time.perf_counter() - before
                num_tiles += len(batch)
                yield embedded

        detector.build(features())
    train.warn("fit")
    report = FitReport(
        num_images=len(train),
        augmented_copies=augmented_copies,
        num_tiles=num_tiles,
        fit_seconds=time.perf_counter() - started,
        embed_seconds=embed_seconds,
    )
    (run_dir / "fit.json").write_text(json.dumps(asdict(report), indent=2))
    log.info("fit: %d images, %d tiles, %.1f s", report.num_images, num_tiles, report.fit_seconds)
    return report


def _check(detector: object, batch_size: int, seed: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"trainer.batch_size: expected at least 1, got {batch_size}")
    if seed < 0:
        raise ConfigError(f"trainer.seed: expected 0 or more, got {seed}")
    if not isinstance(detector, OnePassDetector):
        name = type(detector).__name__
        raise ConfigError(
            f"trainer: {name} does not learn in one pass, expected trainer=gradient, got trainer=one_pass"
        )


def _warn(train: TileDataset, augmented_copies: int) -> None:
    """Say what a user may not expect: labels that are not used, and what few images cannot show."""
    if train.defects:
        log.warning(
            "%d labelled defective images in train are not used: this model learns from good ones", len(train.defects)
        )
    if 0 < len(train) < _FEW:
        log.warning(
            "good training images: %d only; a good form that they do not show will look like a defect%s",
            len(train),
            "" if augmented_copies else "; experiment=few_shot learns changed copies of them too",
        )
