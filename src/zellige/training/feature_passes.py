"""Send the tiles of a data set through the frozen part of a detector, once or twice, and count what it costs."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from zellige.core.errors import ConfigError
from zellige.core.progress import progress
from zellige.data.dataset import TileDataset
from zellige.models.detector import Features, OnePassDetector
from zellige.training.allocator import keep_freed_memory
from zellige.training.processes import on_first
from zellige.training.suspicion import Suspicion
from zellige.training.suspicion_report import most_suspicious, write_suspicious

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit cost. `embed_seconds` is the part spent in the backbone, reading of images included.

    `rank_seconds`, in which the images were ranked by how suspicious they look, are not in `fit_seconds`.
    """

    num_images: int
    augmented_copies: int
    """Changed copies of each image that were learned besides it."""
    num_tiles: int
    """Of images and copies together."""
    fit_seconds: float
    embed_seconds: float
    rank_seconds: float = 0.0


def check_batches(batch_size: int, seed: int) -> None:
    """Refuse a number of tiles or a seed out of range.

    Raises:
        ConfigError: see above.
    """
    if batch_size < 1:
        raise ConfigError(f"trainer.batch_size: expected at least 1, got {batch_size}")
    if seed < 0:
        raise ConfigError(f"trainer.seed: expected 0 or more, got {seed}")


class FeaturePasses:
    """Streams of features through the backbone, and what they cost."""

    def __init__(self, detector: OnePassDetector, fabric: Fabric, batch_size: int, seed: int, copies: int = 0) -> None:
        check_batches(batch_size, seed)
        assert isinstance(detector, torch.nn.Module)
        keep_freed_memory()
        detector.to(fabric.device).eval()
        self._detector, self._device, self._batch_size, self._seed = detector, fabric.device, batch_size, seed
        self._copies, self._fabric = copies, fabric
        self._started = time.perf_counter()
        self._embed_seconds = self._rank_seconds = 0.0
        self._num_images = self._num_tiles = 0

    def learn(
        self, take_in: Callable[[Iterable[Features]], None], data: TileDataset, ranking: Suspicion | None
    ) -> None:
        """Stream the features of all tiles into the detector's `take_in`, and past the ranking."""
        self._num_images = len(data)
        with torch.inference_mode():
            features = self._features(data, "fit", ranking)
            if self._fabric.is_global_zero:
                take_in(features)
            else:
                deque(features, maxlen=0)
        _share(self._detector, self._fabric)

    def find_suspicious(self, data: TileDataset, ranking: Suspicion, share: float) -> list[int]:
        """Rank the images in a pass of their own and return the numbers of the most suspicious ones."""
        with torch.inference_mode():
            for _ in self._features(data, "rank", ranking):
                pass
            scores = ranking.scores()
        self._num_tiles = 0
        chosen = [] if scores is None else most_suspicious(scores)[: round(share * len(data))]
        log.info("fit: the %d most suspicious of %d images are not learned from", len(chosen), len(data))
        return chosen

    def finish(self, data: TileDataset, ranking: Suspicion | None, dropped: Sequence[int], run_dir: Path) -> FitReport:
        """Write fit.json and the ranking."""
        total = time.perf_counter() - self._started
        fit_seconds = total - self._rank_seconds
        if ranking is not None and self._fabric.is_global_zero:
            before = time.perf_counter()
            write_suspicious(
                ranking,
                self._detector.embed,
                data,
                run_dir,
                device=self._device,
                batch_size=self._batch_size,
                dropped=dropped,
            )
            self._rank_seconds += time.perf_counter() - before
        report = FitReport(
            num_images=self._num_images,
            augmented_copies=self._copies,
            num_tiles=self._num_tiles,
            fit_seconds=fit_seconds,
            embed_seconds=self._embed_seconds,
            rank_seconds=self._rank_seconds,
        )
        if self._fabric.is_global_zero:
            (run_dir / "fit.json").write_text(json.dumps(asdict(report), indent=2))
        log.info("fit: %d images, %d tiles, %.1f s", report.num_images, report.num_tiles, report.fit_seconds)
        return report

    def _features(self, data: TileDataset, title: str, ranking: Suspicion | None) -> Iterator[Features]:
        with progress(title, len(data) * (1 + self._copies)) as advance:
            batches = data.owned_batches(self._batch_size, seed=self._seed, advance=advance, copies=self._copies)
            while True:
                before = time.perf_counter()
                dealt = list(islice(batches, self._fabric.world_size))
                if not dealt:
                    return
                embedded = _embed_dealt(self._detector, [tiles for tiles, _ in dealt], self._fabric)
                after = time.perf_counter()
                self._embed_seconds += after - before
                self._num_tiles += sum(len(tiles) for tiles, _ in dealt)
                if ranking is not None:
                    for features, (_, owners) in zip(embedded, dealt, strict=True):
                        ranking.add(features, owners)
                    self._rank_seconds += time.perf_counter() - after
                yield from embedded


def _embed_dealt(detector: OnePassDetector, dealt: Sequence[Tensor], fabric: Fabric) -> list[Features]:
    """Embed one batch per process and give all features to all processes, in the order of the batches.

    So the detector is built from the same features in the same order, however many processes there are.
    """
    if fabric.world_size == 1:
        return [detector.embed(batch.to(fabric.device)) for batch in dealt]
    own: Features = ()
    if fabric.global_rank < len(dealt):
        own = tuple(stage.cpu() for stage in detector.embed(dealt[fabric.global_rank].to(fabric.device)))
    told = [fabric.broadcast(own, src=source) for source in range(len(dealt))]
    return [tuple(stage.to(fabric.device) for stage in features) for features in told]


def _share(detector: OnePassDetector, fabric: Fabric) -> None:
    """Give the first process's detector to the others."""
    if fabric.world_size > 1:
        assert isinstance(detector, torch.nn.Module)
        state = on_first(fabric, lambda: {name: value.cpu() for name, value in detector.state_dict().items()})
        if not fabric.is_global_zero:
            detector.load_state_dict(state)
            detector.to(fabric.device)
