"""Send the tiles of a data set through the frozen part of a detector, once or twice, and count what it costs."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from zellige.core.errors import ConfigError
from zellige.core.progress import progress
from zellige.data.dataset import TileDataset
from zellige.models.detector import Features, OnePassDetector
from zellige.training.allocator import keep_freed_memory
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


class FeaturePasses:
    """Streams of features through the backbone, and what they cost."""

    def __init__(self, detector: OnePassDetector, fabric: Fabric, batch_size: int, seed: int, copies: int = 0) -> None:
        if batch_size < 1:
            raise ConfigError(f"trainer.batch_size: expected at least 1, got {batch_size}")
        if seed < 0:
            raise ConfigError(f"trainer.seed: expected 0 or more, got {seed}")
        assert isinstance(detector, torch.nn.Module)
        keep_freed_memory()
        detector.to(fabric.device).eval()
        self._detector, self._device, self._batch_size, self._seed = detector, fabric.device, batch_size, seed
        self._copies = copies
        self._started = time.perf_counter()
        self._embed_seconds = self._rank_seconds = 0.0
        self._num_images = self._num_tiles = 0

    def learn(
        self, take_in: Callable[[Iterable[Features]], None], data: TileDataset, ranking: Suspicion | None
    ) -> None:
        """Stream the features of all tiles into the detector's `take_in`, and past the ranking."""
        self._num_images = len(data)
        with torch.inference_mode():
            take_in(self._features(data, "fit", ranking))

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
        if ranking is not None:
            before = time.perf_counter()
            write_suspicious(
                ranking,
                self._detector,
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
        (run_dir / "fit.json").write_text(json.dumps(asdict(report), indent=2))
        log.info("fit: %d images, %d tiles, %.1f s", report.num_images, report.num_tiles, report.fit_seconds)
        return report

    def _features(self, data: TileDataset, title: str, ranking: Suspicion | None) -> Iterator[Features]:
        with progress(title, len(data) * (1 + self._copies)) as advance:
            batches = data.owned_batches(self._batch_size, seed=self._seed, advance=advance, copies=self._copies)
            while True:
                before = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    return
                tiles, owners = batch
                embedded = self._detector.embed(tiles.to(self._device))
                after = time.perf_counter()
                self._embed_seconds += after - before
                self._num_tiles += len(tiles)
                if ranking is not None:
                    ranking.add(embedded, owners)
                    self._rank_seconds += time.perf_counter() - after
                yield embedded
