"""Rank training images by how little they look like the others: is each of them really good?

While the features of a fit stream by, each image is compared with patches of other images alone. Every group belongs to
one of two halves. Of the first images, which wait in a bounded memory, random patches make one small bank per half and
stage; an image is scored by the bank of the half that it does not belong to. So no second pass through the backbone is
needed, and the work per image does not grow with their number.

The patches of a bank are drawn at random, not chosen as a cover as PatchCore's are: a cover prefers unusual patches, so
a defect in one half would excuse its like in the other.

Shapes: B tiles; per stage a grid h x w of patches with D features; M patches in a bank.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zellige.models.coreset import distance_to_nearest
from zellige.models.detector import DetectorOutput, Features
from zellige.models.patch_scores import PatchScores

REFERENCE_IMAGES = 128
"""Images from which patches are drawn."""
REFERENCE_BYTES = 256 * 2**20
"""Most memory of the features that wait until these images have come."""
BANK_PATCHES = 1024
"""Patches per half and stage."""
_TOP_SHARE = 0.01


class Suspicion:
    """Scores images by patches of images of other groups, while their features stream by in a shuffled order."""

    def __init__(self, groups: Sequence[str], *, seed: int = 0) -> None:
        """Say which images there are.

        Args:
            groups: of each image; where there is only one, every image is taken as its own.
            seed: of the patches that are drawn.
        """
        self._keys = list(groups) if len(set(groups)) > 1 else [str(index) for index in range(len(groups))]
        self._half_of: dict[str, int] = {}
        self._scores = np.full(len(groups), -np.inf)
        self._pool = PatchScores(_TOP_SHARE, 1.0)
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[tuple[Features, list[int]]] = []
        self._num_bytes = 0
        self._banks: list[list[Tensor]] | None = None  # of each half, per stage (M, D), in units of the spread
        self._spreads: list[Tensor] = []

    def add(self, features: Features, owners: Sequence[int]) -> None:
        """Take in B tiles; `owners` are the numbers of their images."""
        for owner in owners:
            self._half_of.setdefault(self._keys[owner], len(self._half_of) % 2)
        if self._banks is not None:
            self._note(features, owners)
            return
        self._waiting.append((features, list(owners)))
        self._num_bytes += sum(stage.nbytes for stage in features)
        num_images = len({owner for _, waiting in self._waiting for owner in waiting})
        is_enough = num_images >= REFERENCE_IMAGES or self._num_bytes >= REFERENCE_BYTES
        if is_enough and len(self._half_of) > 1:
            self._settle()

    def scores(self) -> NDArray[np.float64] | None:
        """Score of each image (N,), that of its worst tile, higher = less like the others; None for a single image."""
        if self._banks is None and len(self._half_of) > 1:
            self._settle()
        return None if self._banks is None else self._scores

    def look(self, features: Features, owner: int, size: Sequence[int]) -> DetectorOutput:
        """Score B tiles of one image, once `scores` was called, with anomaly maps of `size` (h, w) px."""
        output: DetectorOutput = self._pool(self._gaps(features, [owner] * len(features[0])), size)
        return output

    def _settle(self) -> None:
        """Draw the banks from what has waited, and score it."""
        banks = []
        for half in (0, 1):
            tiles = [
                tuple(stage[[self._half(owner) == half for owner in owners]] for stage in features)
                for features, owners in self._waiting
            ]
            banks.append([self._drawn(torch.cat(stage).flatten(0, 2)) for stage in zip(*tiles, strict=True)])
        both = [torch.cat(stage) for stage in zip(*banks, strict=True)]
        self._spreads = [(all_ - all_.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-4) for all_ in both]
        self._banks = [[bank / unit for bank, unit in zip(half, self._spreads, strict=True)] for half in banks]
        for features, owners in self._waiting:
            self._note(features, owners)
        self._waiting = []

    def _drawn(self, patches: Tensor) -> Tensor:
        chosen = torch.randperm(len(patches), generator=self._generator)[:BANK_PATCHES]
        return patches[chosen.to(patches.device)]

    def _note(self, features: Features, owners: Sequence[int]) -> None:
        found = self._pool.score(self._gaps(features, owners)).double().cpu().numpy()
        np.maximum.at(self._scores, list(owners), found)

    def _gaps(self, features: Features, owners: Sequence[int]) -> list[Tensor]:
        """Distance (B, 1, h, w) per stage of each patch to the nearest one of the other half."""
        assert self._banks is not None
        gaps = []
        halves = [self._half(owner) for owner in owners]
        for number, (stage, unit) in enumerate(zip(features, self._spreads, strict=True)):
            gap = stage.new_zeros(stage.shape[:3])
            for half in set(halves):
                rows = [row for row, own in enumerate(halves) if own == half]
                patches = stage[rows].flatten(0, 2) / unit
                gap[rows] = distance_to_nearest(patches, self._banks[1 - half][number]).view(-1, *stage.shape[1:3])
            gaps.append(gap.unsqueeze(1))
        return gaps

    def _half(self, owner: int) -> int:
        return self._half_of[self._keys[owner]]
