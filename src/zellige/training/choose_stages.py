"""Choose the backbone stages of a patch-wise detector from good images alone.

Three quarters of some training images fill a small bank per stage. The rest, good as they are and with synthetic
anomalies in them, are looked at once with all stages; since a detector adds the stages' distances, every subset of
stages is then judged without another look. The measuring is always done with PatchCore's distance, a bank of
512 vectors and its default pooling, whichever detector is trained afterwards.

Shapes: N tiles (N, C, h, w) uint8.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from zellige.core.errors import ConfigError, InputError
from zellige.core.progress import progress
from zellige.core.types import Pixels
from zellige.data.dataset import TileDataset
from zellige.data.synthetic_anomalies import KINDS, Anomaly, make_anomaly
from zellige.models.backbones import STRIDES
from zellige.models.detector import Features
from zellige.models.patchcore import PatchCore
from zellige.training.stage_ranking import (
    Subset,
    SubsetScore,
    all_subsets,
    choose,
    image_ranks,
    look,
    overlaps,
    rank,
)

log = logging.getLogger(__name__)

CANDIDATES = (1, 2, 3, 4)
"""Without stage 0: with it, choices were made that were much worse on rolls not seen. Presumably its features follow
light and noise, which differ from roll to roll, and images held out from the rolls of the fit do not show that."""
DEFAULT_STAGES = (1, 2, 3)
"""The best fixed choice on six sets of real and synthetic defects."""
LEAST_IMAGES = 8

_MOST_IMAGES, _MOST_TILES = 64, 512
_HELD_OUT = 0.25
_PER_KIND = 16
_BANK_SIZE = 512
_PIXELS_PER_TILE = 128

MakeAnomaly = Callable[[Pixels, Sequence[Pixels], np.random.Generator, str], Anomaly]
Gaps = list[Tensor]
"""Distances (N, 1, h, w) per stage, the finest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChoice:
    """The stages chosen, the table of all subsets (the highest criterion first), and what the choice rests on."""

    stages: Subset
    table: tuple[SubsetScore, ...]
    num_fit_images: int
    num_held_out_images: int
    num_held_out_tiles: int
    num_anomalies: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the choice as strict JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planted:
    """Tiles with one anomaly each, their masks, kinds and the numbers of the images that they come from."""

    tiles: Pixels
    masks: list[NDArray[np.bool_]]
    kinds: NDArray[np.str_]
    sources: NDArray[np.int64]


def choose_stages(
    train: TileDataset,
    *,
    backbone: str,
    grid_stride: int,
    fabric: Fabric,
    seed: int = 0,
    make: MakeAnomaly = make_anomaly,
) -> StageChoice:
    """Find stages that find synthetic anomalies better than the default ones; where none do for certain, keep these.

    Looks at no more than 64 images and 512 tiles, whatever the size of the data set. The same images and seed give the
    same choice.

    Args:
        train: good images.
        backbone: name of the backbone of the detector to be trained.
        grid_stride: px between its patches at the finest.
        make: puts an anomaly of a kind into a tile; see `make_anomaly`.

    Raises:
        InputError: fewer than 8 images, or one that cannot be read.
        ConfigError: an unknown backbone or stride, or a backbone with other strides than 2 to 32.
    """
    if len(train) < LEAST_IMAGES:
        raise InputError(
            f"model.stages=auto: expected at least {LEAST_IMAGES} good training images to choose from, "
            f"got {len(train)}; name the stages instead, such as model.stages=[1,2,3]"
        )
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    few = [int(index) for index in rng.permutation(len(train))[:_MOST_IMAGES]]
    fit_images, held_out = split_held_out(few, [train.samples[index].group_id for index in few])
    meter = PatchCore(backbone=backbone, stages=CANDIDATES, grid_stride=grid_stride, bank_size=_BANK_SIZE, seed=seed)
    if meter.embed_patches.backbone.strides != STRIDES[CANDIDATES[0] :]:
        raise ConfigError(
            f"model.stages=auto: expected a backbone with stages of stride {STRIDES}, got {backbone}; name the stages "
            "instead, such as model.stages=[1,2,3]"
        )
    meter.to(fabric.device).eval()
    table, num_tiles = _measure(meter, train, fit_images, held_out, rng, make)
    choice = StageChoice(
        stages=choose(table, DEFAULT_STAGES, len(held_out)),
        table=tuple(table),
        num_fit_images=len(fit_images),
        num_held_out_images=len(held_out),
        num_held_out_tiles=num_tiles,
        num_anomalies=len(KINDS) * _PER_KIND,
        seconds=time.perf_counter() - started,
    )
    log.info("stages: %s chosen, highest %s, %.1f s", list(choice.stages), list(table[0].stages), choice.seconds)
    return choice


def _measure(
    meter: PatchCore,
    train: TileDataset,
    fit_images: Sequence[int],
    held_out: Sequence[int],
    rng: np.random.Generator,
    make: MakeAnomaly,
) -> tuple[list[SubsetScore], int]:
    """Fill the meter's banks, look at the held-out tiles, good and spoilt, and judge; with their number."""
    num_images = len(fit_images) + len(held_out)
    with torch.inference_mode(), progress("choose stages", num_images + len(KINDS) * _PER_KIND) as advance:
        most = max(1, _MOST_TILES // num_images)
        meter.build(_embed(meter, tiles) for tiles in draw_tiles(train, fit_images, most, rng, advance))
        drawn = list(draw_tiles(train, held_out, most, rng, advance))
        good = np.concatenate(drawn)
        planted = plant(good, np.repeat(np.arange(len(drawn)), [len(tiles) for tiles in drawn]), rng, make)
        seen_good, seen_bad = _gaps(meter, good), _gaps(meter, planted.tiles, advance)
        return _judge(meter, seen_good, seen_bad, planted, rng), len(good)


def split_held_out(images: Sequence[int], groups: Sequence[str]) -> tuple[list[int], list[int]]:
    """Split images, in the given order, into three quarters to fit and a quarter to hold out, by whole groups.

    Groups are held out until they make up a quarter, those that would make it more than a half left out. Where that
    gives none, as with a single group, images are held out one by one.
    """
    held_groups: list[str] = []
    held = 0
    for group in dict.fromkeys(groups):
        if held < _HELD_OUT * len(images) and held + groups.count(group) <= len(images) / 2:
            held_groups.append(group)
            held += groups.count(group)
    if not held:
        count = max(1, round(_HELD_OUT * len(images)))
        return list(images[count:]), list(images[:count])
    pairs = list(zip(images, groups, strict=True))
    return [i for i, group in pairs if group not in held_groups], [i for i, group in pairs if group in held_groups]


def draw_tiles(
    train: TileDataset,
    images: Sequence[int],
    most: int,
    rng: np.random.Generator,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[Pixels]:
    """Yield the tiles (n, C, h, w) of one image after the other, `most` of them at random where there are more."""
    for index in images:
        tiles = train[index].pixels
        yield tiles if len(tiles) <= most else tiles[np.sort(rng.choice(len(tiles), most, replace=False))]
        advance()


def plant(
    good: Pixels, sources: NDArray[np.int64], rng: np.random.Generator, make: MakeAnomaly = make_anomaly
) -> Planted:
    """Put anomalies into copies of the good tiles, the same number of each kind, the tiles in turn."""
    pictures = [tile[0] if len(tile) == 1 else np.ascontiguousarray(tile.transpose(1, 2, 0)) for tile in good]
    rounds = -(-_PER_KIND // len(good))
    made, kinds, taken = [], [], []
    for kind in KINDS:
        for place in np.concatenate([rng.permutation(len(good)) for _ in range(rounds)])[:_PER_KIND]:
            made.append(make(pictures[place], pictures, rng, kind))
            kinds.append(kind)
            taken.append(sources[place])
    stacked = np.stack([anomaly.pixels for anomaly in made])
    return Planted(
        tiles=stacked[:, None] if stacked.ndim == 3 else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)),
        masks=[anomaly.mask for anomaly in made],
        kinds=np.array(kinds),
        sources=np.array(taken),
    )


def _embed(meter: PatchCore, tiles: Pixels) -> Features:
    return meter.embed(torch.from_numpy(tiles).to(next(meter.buffers()).device))


def _gaps(meter: PatchCore, tiles: Pixels, advance: Callable[[], None] = lambda: None) -> Gaps:
    """Distances of tiles for every stage, one tile at a time: then the progress is even and memory is small."""
    parts = []
    for tile in np.split(tiles, len(tiles)):
        features = _embed(meter, tile)
        parts.append([bank(stage).cpu() for bank, stage in zip(meter.banks, features, strict=True)])
        advance()
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def _judge(meter: PatchCore, good: Gaps, bad: Gaps, planted: Planted, rng: np.random.Generator) -> list[SubsetScore]:
    """Judge every subset of stages on the distances of good and of anomalous tiles.

    Maps are only enlarged to half the spacing of the patches: more pixels would hold the same, at many times the cost.
    """
    height, width = planted.tiles.shape[2:]
    step = max(1, meter.embed_patches.grid_stride // 2)
    size = (-(-height // step), -(-width // step))

    def sampled(pixels: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(pixels // width // step * size[1] + pixels % width // step)

    anywhere = sampled(rng.integers(0, height * width, (len(good[0]), _PIXELS_PER_TILE)))
    inside = sampled(np.stack([rng.choice(np.flatnonzero(mask), _PIXELS_PER_TILE) for mask in planted.masks]))
    pool = meter.pool.cpu()
    results = []
    for subset in all_subsets(CANDIDATES):
        chosen = [CANDIDATES.index(stage) for stage in subset]
        seen_good = look(pool, [good[index] for index in chosen], size, anywhere)
        seen_bad = look(pool, [bad[index] for index in chosen], size, inside)
        results.append((subset, image_ranks(seen_good, seen_bad), overlaps(seen_good, seen_bad)))
    return rank(results, planted.kinds, planted.sources)
