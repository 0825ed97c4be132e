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

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit cost. `embed_seconds` is the part spent in the backbone, reading of images included."""

    num_images: int
    num_tiles: int
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
    seed: int = 0,
) -> FitReport:
    """Build the detector from the training tiles and write `fit.json` into the run folder.

    `val` is not looked at: a one-pass detector has nothing to stop early.

    Raises:
        ConfigError: a batch size below 1, or a detector that does not learn in one pass.
        InputError: no training images, or one that cannot be read.
    """
    if batch_size < 1:
        raise ConfigError(f"trainer.batch_size: expected at least 1, got {batch_size}")
    if seed < 0:
        raise ConfigError(f"trainer.seed: expected 0 or more, got {seed}")
    if not isinstance(detector, OnePassDetector):
        name = type(detector).__name__
        raise ConfigError(
            f"trainer: {name} does not learn in one pass, expected trainer=gradient, got trainer=one_pass"
        )
    if train.defects:
        log.warning(
            "%d labelled defective images in train are not used: this model learns from good ones", len(train.defects)
        )
    assert isinstance(detector, torch.nn.Module)
    keep_freed_memory()
    detector.to(fabric.device).eval()
    started = time.perf_counter()
    embed_seconds = 0.0
    num_tiles = 0

    with torch.inference_mode(), progress("fit", len(train)) as advance:
        batches = train.shuffled_batches(batch_size, seed=seed, advance=advance)

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
    report = FitReport(
        num_images=len(train),
        num_tiles=num_tiles,
        fit_seconds=time.perf_counter() - started,
        embed_seconds=embed_seconds,
    )
    (run_dir / "fit.json").write_text(json.dumps(asdict(report), indent=2))
    log.info("fit: %d images, %d tiles, %.1f s", report.num_images, num_tiles, report.fit_seconds)
    return report
