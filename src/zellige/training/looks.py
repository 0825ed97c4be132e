"""Look at images once: the score, how doubtful the kind is, and what the backbone sees, pooled over each image.

Shapes: B tiles; feature maps (B, C, h, w) per block (a stage of the backbone); N images.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from zellige.core.errors import InputError
from zellige.core.progress import progress
from zellige.core.types import Sample
from zellige.data.dataset import TileDataset
from zellige.data.formats import Skipped
from zellige.models.backbones import FrozenBackbone
from zellige.training.allocator import keep_freed_memory
from zellige.training.kind_doubt import kind_doubt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """What was seen of N images.

    `scores` (N,) as in `predict`, `kind_doubt` (N,) from 0 to 1. `features` has per block of the backbone the mean and
    the spread of each channel, (N, 2 C) float32; one block without columns where the detector has no features.
    """

    samples: tuple[Sample, ...]
    scores: NDArray[np.float64]
    kind_doubt: NDArray[np.float64]
    features: tuple[NDArray[np.float32], ...]
    unusable: tuple[Skipped, ...]
    """Images that cannot be cut as the run's."""


def look(
    detector: nn.Module,
    dataset: TileDataset,
    *,
    fabric: Fabric,
    batch_size: int,
    pixel_threshold: float,
    title: str = "look",
) -> Looks:
    """Score the images of a data set, and pool their features.

    Args:
        detector: fitted; its score is taken as `predict` takes it, the highest of an image's tiles.
        dataset: images that cannot be read or cut are listed and passed over.
        fabric: where to run.
        batch_size: tiles at a time.
        pixel_threshold: level above which a pixel, or a box, counts for the doubt of the kind.
        title: of the progress bar.
    """
    keep_freed_memory()
    detector.to(fabric.device).eval()
    seen: list[_Seen] = []
    unusable: list[Skipped] = []
    waiting: list[tuple[Sample, NDArray[np.uint8]]] = []
    with torch.inference_mode(), _tapped(detector) as tap, progress(title, len(dataset)) as advance:
        for sample in dataset.samples:
            try:
                waiting.append((sample, dataset.cut(sample).pixels))
            except InputError as error:
                unusable.append(Skipped(path=sample.id, reason=str(error)))
            if sum(len(tiles) for _, tiles in waiting) >= batch_size:
                seen += _see(detector, tap, waiting, fabric, batch_size, pixel_threshold)
                waiting = []
            advance()
        if waiting:
            seen += _see(detector, tap, waiting, fabric, batch_size, pixel_threshold)
    dataset.warn(title)
    blocks = zip(*(one.features for one in seen), strict=True)
    return Looks(
        samples=tuple(one.sample for one in seen),
        scores=np.array([one.score for one in seen], np.float64),
        kind_doubt=np.array([one.kind_doubt for one in seen], np.float64),
        features=tuple(np.stack(block) for block in blocks),
        unusable=tuple(unusable),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    sample: Sample
    score: float
    kind_doubt: float
    features: tuple[NDArray[np.float32], ...]


class _Tap:
    """Takes what a backbone gives while the detector scores; without a backbone what `embed` gives, else nothing."""

    def __init__(self, detector: nn.Module) -> None:
        self.backbone = _backbone_of(detector)
        self._embed = getattr(detector, "embed", None)
        self._maps: list[Tensor] = []

    def take(self, module: nn.Module, given: Any, maps: Any) -> None:
        """Keep the output of a forward pass; a hook of `self.backbone`."""
        values = maps.values() if isinstance(maps, Mapping) else [maps] if isinstance(maps, Tensor) else maps
        self._maps = [value for value in values if isinstance(value, Tensor) and value.ndim == 4]

    def pooled(self, images: Tensor) -> list[Tensor]:
        """Per block (B, 2 C) of the images that were scored last."""
        if self.backbone is None and self._embed is not None:
            self._maps = [stage.permute(0, 3, 1, 2) for stage in self._embed(images)]
        maps, self._maps = self._maps, []
        if not maps:
            return [images.new_zeros((len(images), 0), dtype=torch.float32)]
        return [torch.cat([one.mean((2, 3)), one.std((2, 3), correction=0)], 1).float() for one in maps]


@contextmanager
def _tapped(detector: nn.Module) -> Iterator[_Tap]:
    tap = _Tap(detector)
    if tap.backbone is None:
        yield tap
        return
    handle = tap.backbone.register_forward_hook(tap.take)
    try:
        yield tap
    finally:
        handle.remove()


def _backbone_of(detector: nn.Module) -> nn.Module | None:
    """The frozen backbone somewhere in a detector, or what it calls its backbone."""
    for module in detector.modules():
        if isinstance(module, FrozenBackbone):
            return module
    named = getattr(detector, "backbone", None)
    return named if isinstance(named, nn.Module) else None


def _see(
    detector: nn.Module,
    tap: _Tap,
    waiting: Sequence[tuple[Sample, NDArray[np.uint8]]],
    fabric: Fabric,
    batch_size: int,
    pixel_threshold: float,
) -> list[_Seen]:
    scores, doubts, blocks = [], list[float](), list[list[Tensor]]()
    for part in torch.split(torch.from_numpy(np.concatenate([tiles for _, tiles in waiting])), batch_size):
        images = part.to(fabric.device)
        output = detector(images)
        scores.append(output.score.cpu())
        doubts += kind_doubt(output, pixel_threshold)
        blocks.append([block.cpu() for block in tap.pooled(images)])
    of_tiles, start, seen = torch.cat(scores).double().numpy(), 0, []
    joined = [torch.cat(block).numpy() for block in zip(*blocks, strict=True)]
    for sample, tiles in waiting:
        own = slice(start, start + len(tiles))
        seen.append(
            _Seen(
                sample=sample,
                score=float(of_tiles[own].max()),
                kind_doubt=max(doubts[own]),
                features=tuple(block[own].mean(0) for block in joined),
            )
        )
        start += len(tiles)
    return seen
