"""Judge a fitted detector on good training images that it did not see, as they are and with synthetic anomalies.

It needs no label, and neither VAL nor TEST is looked at: settings that are chosen by it leave the calibration's
guarantee and the report as they are. Shapes: N tiles (N, C, h, w) uint8.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from zellige.core.errors import InputError
from zellige.core.types import Pixels, Sample
from zellige.data.dataset import TileDataset
from zellige.training.choose_stages import LEAST_IMAGES, draw_tiles, plant, split_held_out
from zellige.training.stage_ranking import Floats, Looked, image_ranks, overlaps, standard_error

_MOST_IMAGES, _MOST_TILES = 64, 256
_PIXELS_PER_TILE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutScore:
    """How well a detector finds synthetic anomalies in held-out good tiles; 1 is all of them.

    `criterion` is the mean of `values`, one per anomaly, each kind with the same weight: the mean of its image's rank
    among the good tiles and of the area under its overlap curve up to 30 % false-positive pixels.
    """

    criterion: float
    image_auroc: float
    aupro: float
    by_kind: dict[str, float]
    ms_per_tile: float
    num_good_tiles: int
    values: tuple[float, ...]
    weights: tuple[float, ...]
    sources: tuple[int, ...]
    """Number of the image that each anomaly was put into."""


def hold_out(train: TileDataset, *, seed: int) -> tuple[TileDataset, TileDataset]:
    """Split the good training images into three quarters to fit and a quarter to judge on, by whole groups.

    Labelled defects stay with those to fit. The same samples and seed give the same parts.

    Raises:
        InputError: fewer than 8 images.
    """
    check_enough(train.samples)
    order = [int(index) for index in np.random.default_rng(seed).permutation(len(train))]
    parts = split_held_out(order, [train.samples[index].group_id for index in order])
    fit, judged = ([train.samples[index] for index in part] for part in parts)
    geometry, color = train.geometry, train.color
    return (
        TileDataset(fit, geometry=geometry, color=color, augment=train.augment, defects=train.defects),
        TileDataset(judged[:_MOST_IMAGES], geometry=geometry, color=color),
    )


def check_enough(train: Sequence[Sample]) -> None:
    """Refuse a training split that is too small to hold something out.

    Raises:
        InputError: fewer than 8 images.
    """
    if len(train) < LEAST_IMAGES:
        raise InputError(f"sweep: expected at least {LEAST_IMAGES} good training images, got {len(train)}")


def score_held_out(detector: nn.Module, held_out: TileDataset, *, fabric: Fabric, seed: int) -> HeldOutScore:
    """Judge a detector; the same held-out images and seed give the same tiles and anomalies for every detector.

    Looks at no more than 256 good tiles and 16 anomalies of each kind.

    Raises:
        InputError: an image that cannot be read.
    """
    rng = np.random.default_rng([seed, 1])
    most = max(1, _MOST_TILES // len(held_out))
    drawn = list(draw_tiles(held_out, range(len(held_out)), most, rng))
    good = np.concatenate(drawn)
    planted = plant(good, np.repeat(np.arange(len(drawn)), [len(tiles) for tiles in drawn]), rng)
    height, width = good.shape[2:]
    anywhere = rng.integers(0, height * width, (len(good), _PIXELS_PER_TILE))
    inside = np.stack([rng.choice(np.flatnonzero(mask), _PIXELS_PER_TILE) for mask in planted.masks])
    detector.to(fabric.device).eval()
    started = time.perf_counter()
    seen_good = _look(detector, good, anywhere, fabric)
    elapsed_ms = (time.perf_counter() - started) * 1e3
    seen_bad = _look(detector, planted.tiles, inside, fabric)
    return _judged(
        image_ranks(seen_good, seen_bad),
        overlaps(seen_good, seen_bad),
        planted.kinds,
        planted.sources,
        ms_per_tile=elapsed_ms / len(good),
        num_good_tiles=len(good),
    )


def behind(best: HeldOutScore, other: HeldOutScore) -> tuple[float, float]:
    """How much lower the other criterion is, and the standard error of that over the images; of the same anomalies.

    Raises:
        InputError: they were judged on other anomalies.
    """
    if (best.sources, best.weights) != (other.sources, other.weights):
        raise InputError("held-out scores: expected two of the same anomalies, got others")
    parts = np.array(best.weights) * (np.array(best.values) - np.array(other.values))
    return float(parts.sum()), standard_error(parts, np.array(best.sources))


def _look(detector: nn.Module, tiles: Pixels, positions: NDArray[np.int64], fabric: Fabric) -> Looked:
    """Score tiles one at a time, so that memory is small; `positions` (N, P) are flat indices into the maps."""
    scores: list[Tensor] = []
    pixels: list[Tensor] = []
    with torch.inference_mode():
        for tile, places in zip(np.split(tiles, len(tiles)), torch.from_numpy(positions), strict=True):
            output = detector(torch.from_numpy(tile).to(fabric.device))
            scores.append(output.score.cpu())
            pixels.append(output.anomaly_map.flatten().cpu()[places])
    return Looked(scores=torch.cat(scores).double().numpy(), pixels=torch.stack(pixels).double().numpy())


def _judged(
    ranks: Floats,
    covered: Floats,
    kinds: NDArray[np.str_],
    sources: Sequence[int] | NDArray[np.int64],
    *,
    ms_per_tile: float,
    num_good_tiles: int,
) -> HeldOutScore:
    names, place = np.unique(kinds, return_inverse=True)
    weights = 1 / (len(names) * np.bincount(place)[place])
    values = (ranks + covered) / 2
    return HeldOutScore(
        criterion=float(weights @ values),
        image_auroc=float(weights @ ranks),
        aupro=float(weights @ covered),
        by_kind={str(name): float(values[kinds == name].mean()) for name in names},
        ms_per_tile=ms_per_tile,
        num_good_tiles=num_good_tiles,
        values=tuple(values.tolist()),
        weights=tuple(weights.tolist()),
        sources=tuple(int(source) for source in sources),
    )
