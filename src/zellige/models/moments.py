"""Mean and covariance of patch features that arrive in batches: one pass, double precision, bounded memory.

Shapes: G groups of vectors that share a Gaussian (one for all patches, or one per position), N vectors of D features
per group; batches of features (B, h, w, D).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from zellige.core.errors import ConfigError
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


class KeptMoments(nn.Module):
    """The moments that a stage was learned from, kept in its checkpoint so that more images can join them exactly.

    Inference does not use them, so they are in no exported graph.
    """

    count: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(self, width: int) -> None:
        """Start empty, for vectors of D features."""
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(0, width, dtype=torch.float64))
        self.register_buffer("covariance", torch.zeros(0, width, width, dtype=torch.float64))

    def keep(self, moments: Moments) -> None:
        """Replace what is kept."""
        self.count = torch.full_like(self.count, moments.count)
        self.mean = moments.mean().to(self.mean.device)
        self.covariance = moments.covariance().to(self.mean.device)

    def resumed(self) -> Moments:
        """Moments that go on where the kept ones ended.

        Raises:
            ConfigError: nothing is kept: the detector was fitted by a version that did not.
        """
        if int(self.count) == 0:
            raise ConfigError(
                "extend: expected a detector that kept its moments, got one of an older version; fit anew"
            )
        moments = Moments(self.mean)
        moments.count = int(self.count)
        moments._scatter += self.covariance * moments.count  # the sum of differences to the mean is zero
        return moments

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take the number of groups that was saved; a checkpoint of an older version has none."""
        if prefix + "count" not in state_dict:
            state_dict |= {prefix + name: value for name, value in self.state_dict().items()}
        groups = len(state_dict[prefix + "mean"])
        self.mean = self.mean.new_zeros(groups, *self.mean.shape[1:])
        self.covariance = self.covariance.new_zeros(groups, *self.covariance.shape[1:])
        super()._load_from_state_dict(state_dict, prefix, *args)


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
    add_moments(moments, chain(first, stream), arrange)
    return moments


def add_moments(
    moments: Sequence[Moments], features: Iterable[Features], arrange: Sequence[Callable[[Tensor], Tensor]]
) -> int:
    """Take further batches into the moments of each stage, and return how many batches came."""
    count = 0
    for batches in features:
        for stage, groups, batch in zip(moments, arrange, batches, strict=True):
            stage.add(groups(batch))
        count += 1
    return count
