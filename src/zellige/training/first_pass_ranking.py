"""Rank the good images of a fit by gradient by how suspicious they look, while its first pass embeds them."""

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from zellige.data.dataset import TileDataset
from zellige.models.detector import Features, GradientDetector, PatchDetector
from zellige.training.suspicion import Suspicion
from zellige.training.suspicion_report import write_suspicious

log = logging.getLogger(__name__)


class FirstPassRanking:
    """Compares the images by their patch features alone: pixels that a detector keeps beside them are left out."""

    def __init__(self, detector: PatchDetector, train: TileDataset, *, seed: int) -> None:
        self.seconds = 0.0
        """What it has cost so far."""
        self._detector, self._train = detector, train
        self._suspicion = Suspicion([sample.group_id for sample in train.samples], seed=seed)

    def watch(self, batches: Iterable[tuple[Features, list[int]]]) -> Iterator[Features]:
        """Pass on batches of features, each of which comes with the numbers of the images that its tiles are of."""
        for features, owners in batches:
            before = time.perf_counter()
            self._suspicion.add(self._patches(features), owners)
            self.seconds += time.perf_counter() - before
            yield features

    def write(self, run_dir: Path, *, device: torch.device, batch_size: int) -> None:
        """Write the list and the contact sheet, once all images have passed; see `write_suspicious`."""
        before = time.perf_counter()
        write_suspicious(self._suspicion, self._embed, self._train, run_dir, device=device, batch_size=batch_size)
        self.seconds += time.perf_counter() - before

    def _embed(self, images: Tensor) -> Features:
        return self._patches(self._detector.embed(images))

    def _patches(self, features: Features) -> Features:
        return features[-len(self._detector.patch_widths) :]


def first_pass_ranking(
    detector: GradientDetector, train: TileDataset, *, seed: int, fabric: Fabric
) -> FirstPassRanking | None:
    """Make the ranking of a fit; None, with the reason in the log, where the images cannot be compared as they pass."""
    if fabric.world_size > 1:
        reason = f"each of the {fabric.world_size} processes sees only its share; one process ranks them"
    elif not isinstance(detector, PatchDetector):
        reason = f"{type(detector).__name__} has no patch features to compare them by"
    else:
        return FirstPassRanking(detector, train, seed=seed)
    log.info("fit: the training images are not ranked by how suspicious they look: %s", reason)
    return None
