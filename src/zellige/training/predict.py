"""Score every sample of a split with a detector and store scores and maps on disk."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from zellige.core.progress import progress
from zellige.core.tiling import Tiles
from zellige.core.types import Sample
from zellige.data.dataset import TileDataset
from zellige.evaluation.predictions import PredictionSet, PredictionWriter
from zellige.training.allocator import keep_freed_memory
from zellige.training.frame_output import TileOutputs, kinds_of


def predict(
    detector: nn.Module, dataset: TileDataset, split: str, *, fabric: Fabric, out_dir: Path, batch_size: int = 8
) -> PredictionSet:
    """Score the samples of a split ("val" or "test") once each; a sample's score is the highest of its tiles.

    Where the detector names kinds, what it names is stored beside.

    Several processes share the samples; `out_dir` must be the same folder for all of them.

    Returns:
        The predictions, stored in `out_dir/split`, maps at the size of the images; the same in every process.
    """
    keep_freed_memory()
    world, rank = fabric.world_size, fabric.global_rank
    if world == 1:
        return _predict(detector, dataset, range(len(dataset)), split, fabric, out_dir / split, batch_size)
    own = range(rank, len(dataset), world)
    if own:
        _predict(detector, dataset, own, split, fabric, _part(out_dir, split, rank), batch_size)
    fabric.barrier()
    if fabric.is_global_zero:
        _join_parts(dataset.samples, split, world, out_dir, kinds_of(detector))
    fabric.barrier()
    predictions = PredictionSet.load(out_dir / split, dataset.samples)
    fabric.barrier()  # before the first process goes on and moves the folder
    return predictions


def _predict(
    detector: nn.Module,
    dataset: TileDataset,
    indices: Sequence[int],
    split: str,
    fabric: Fabric,
    folder: Path,
    batch_size: int,
) -> PredictionSet:
    detector.to(fabric.device).eval()
    with (
        torch.inference_mode(),
        PredictionWriter(folder, split, [dataset.samples[i] for i in indices], kinds=kinds_of(detector)) as writer,
        progress(f"predict {split}", len(indices)) as advance,
    ):
        waiting: list[tuple[str, Tiles]] = []
        for index in indices:
            waiting.append((dataset.samples[index].id, dataset[index]))
            is_last = index == indices[-1]
            if is_last or sum(len(tiles.pixels) for _, tiles in waiting) >= batch_size:
                _score(detector, waiting, fabric, writer, batch_size)
                waiting = []
            advance()
        dataset.warn(f"predict {split}")
        return writer.close()


def _part(out_dir: Path, split: str, rank: int) -> Path:
    return out_dir / f".{split}-{rank}"


def _join_parts(samples: Sequence[Sample], split: str, world: int, out_dir: Path, kinds: tuple[str, ...]) -> None:
    """Join what the processes wrote, each id once, in the order of the samples; maps are read one at a time."""
    with PredictionWriter(out_dir / split, split, samples, kinds=kinds) as writer:
        for rank in range(min(world, len(samples))):
            part = _part(out_dir, split, rank)
            for prediction in PredictionSet.load(part, samples[rank::world]):
                writer.write(prediction.sample.id, prediction.score, prediction.anomaly_map, prediction.named)
            shutil.rmtree(part)
        writer.close()


def _score(
    detector: nn.Module,
    waiting: Sequence[tuple[str, Tiles]],
    fabric: Fabric,
    writer: PredictionWriter,
    batch_size: int,
) -> None:
    stacked = torch.from_numpy(np.concatenate([tiles.pixels for _, tiles in waiting]))
    outputs = [detector(batch.to(fabric.device)) for batch in torch.split(stacked, batch_size)]
    gathered = TileOutputs.gather(outputs, kinds_of(detector))
    start = 0
    for sample_id, tiles in waiting:
        writer.write(sample_id, *gathered.of_frame(start, tiles))
        start += len(tiles.pixels)


def milliseconds_per_image(detector: nn.Module, dataset: TileDataset, *, fabric: Fabric, most: int = 20) -> float:
    """Median time in ms of one image from tiles in memory to its map, one image at a time, reading apart."""
    detector.to(fabric.device).eval()
    times = []
    with torch.inference_mode():
        for index in range(min(most, len(dataset))):
            tiles = dataset[index]
            started = time.perf_counter()
            output = detector(torch.from_numpy(tiles.pixels).to(fabric.device))
            TileOutputs.gather([output], kinds_of(detector)).of_frame(0, tiles)
            times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times))
