"""Mean and covariance of patch features that arrive in batches: one pass, double precision, bounded memory.

Shapes: G groups of vectors that share a Gaussian (one for all patches, or one per position), N vectors of D features
per group; batches of features (B, h, w, D).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor

from zellige.models.detector import Features
from zellige.models.patch_features import first_batches


class Moments:
    """Count, sum and scatter matrix of each group; memory is G x D x D doubles, however many vectors come.

    What is summed is the difference to `shift`, some point near the mean: squares of large numbers that are nearly
    equal would cancel.
    """

    def __init__(self, shift: Tensor) -> None:
        """Start from a shift (G, D)."""
        self.count = 0
        self._shift = shift.double()
        self._sum = torch.zeros_like(self._shift)
        self._scatter = self._shift.new_zeros(*shift.shape, shift.shape[1])

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (G, N, D)."""
        moved = vectors.double() - self._shift[:, None]
        self.count += moved.shape[1]
        self._sum += moved.sum(1)
        self._scatter.baddbmm_(moved.mT, moved)

    def mean(self) -> Tensor:
        """Mean (G, D) float64."""
        return self._shift + self._sum / self.count

    def covariance(self) -> Tensor:
        """Covariance (G, D, D) float64 around the mean, the sum divided by the count."""
        mean = self._sum / self.count
        return self._scatter / self.count - mean[:, :, None] * mean[:, None, :]


def collect_moments(features: Iterable[Features], arrange: Sequence[Callable[[Tensor], Tensor]]) -> list[Moments]:
    """Take the moments of each stage over all batches, which are consumed once.

    Args:
        features: batches of patch features.
        arrange: per stage, turns a batch (B, h, w, D) into groups (G, N, D).

    Raises:
        InputError: no batch came.
    """
    stream = iter(features)
    first = first_batches(stream)
    moments = [
        Moments(torch.cat([groups(batch) for batch in batches], 1).mean(1))
        for groups, batches in zip(arrange, zip(*first, strict=True), strict=True)
    ]
    for batches in chain(first, stream):
        for stage, groups, batch in zip(moments, arrange, batches, strict=True):
            stage.add(groups(batch))
    return moments
