"""Names for what a detector finds: of which kind the patches of a region look, or of none of the kinds.

Linear discriminant analysis (Fisher 1936) with a shrunken covariance that all kinds share: it is in closed form, gives
probabilities, and needs few examples. What is far from all kinds has no name, by the Mahalanobis distance to the
nearest one (Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
Attacks", NeurIPS 2018, arXiv:1807.03888). Probabilities are brought to the error rates of held-out examples by one
temperature (Guo et al., ICML 2017, arXiv:1706.04599).

A patch is named by itself, and a region by the vote of its patches (`core.regions`).

Shapes: B tiles, H x W px, a grid of h x w patches with D features, K kinds, N patches with a label.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.models.detector import Features

_RIDGE = 0.01
"""Added to each variance, as a share of the mean one: bounds what a feature without variance can say."""
_LEAST_VARIANCE = 1e-8


class KindHead(nn.Module):
    """Says the number of the kind of each patch, 0 where it is none of them."""

    center: Tensor
    whitening: Tensor
    means: Tensor
    temperature: Tensor
    limit: Tensor

    def __init__(self, widths: Sequence[int], num_kinds: int, least_confidence: float) -> None:
        """Make a head that knows no kind yet.

        Args:
            widths: features per patch of each stage; all are joined on the finest one's grid.
            num_kinds: how many kinds there are.
            least_confidence: a kind that is less probable is not said.
        """
        super().__init__()
        self.least_confidence = least_confidence
        width = sum(widths)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("whitening", torch.eye(width))
        self.register_buffer("means", torch.zeros(num_kinds, width))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("limit", torch.zeros(()))

    def patches(self, features: Features) -> Tensor:
        """Join features (B, h, w, D_i) of all stages on the finest one's grid: (B, h, w, D)."""
        grids = [stage.permute(0, 3, 1, 2) for stage in features]
        size = grids[0].shape[-2:]
        placed = [grids[0]]
        placed += [F.interpolate(grid, size=size, mode="bilinear", align_corners=False) for grid in grids[1:]]
        return torch.cat(placed, dim=1).permute(0, 2, 3, 1)

    def distances(self, patches: Tensor) -> Tensor:
        """Squared Mahalanobis distances (..., K) of patches (..., D) to the kinds' means."""
        white = (patches - self.center) @ self.whitening
        cross = white @ self.means.T
        squares: Tensor = white.square().sum(-1, keepdim=True) - 2.0 * cross + self.means.square().sum(1)
        return squares.clamp(min=0.0)

    def forward(self, features: Features) -> Tensor:
        """Numbers (B, 1, h, w) uint8: k for kind k - 1, 0 for none of them."""
        return self.named(self.distances(self.patches(features))).unsqueeze(1)

    def named(self, distances: Tensor) -> Tensor:
        """Turn squared distances (..., K) into numbers (...) uint8, 0 where no kind is near or likely enough."""
        nearest, number = distances.min(-1)
        confidence = (-0.5 * distances / self.temperature).softmax(-1).amax(-1)
        is_known = (confidence >= self.least_confidence) & (nearest <= self.limit)
        return ((number + 1) * is_known).to(torch.uint8)

    def learn(self, patches: Tensor, kinds: Tensor, weights: Tensor, shrinkage: float) -> None:
        """Take the kinds' means and their common covariance.

        Args:
            patches: (N, D).
            kinds: (N,) int64, from 0.
            weights: (N,) float64, above 0.
            shrinkage: how much of the covariances off the diagonal is left out, from 0 to 1, which is all.
        """
        points, weights = patches.double(), weights.double()
        num_kinds = len(self.means)
        members = F.one_hot(kinds, num_kinds).double() * weights[:, None]  # (N, K)
        means = (members / members.sum(0).clamp(min=_LEAST_VARIANCE)).T @ points
        off = (points - means[kinds]) * weights[:, None].sqrt()
        covariance = off.T @ off / weights.sum()
        variances = covariance.diagonal().clone()
        mixed = (1.0 - shrinkage) * covariance
        mixed.diagonal().copy_(variances + (_RIDGE * variances.mean()).clamp(min=_LEAST_VARIANCE))
        factor = torch.linalg.cholesky(mixed)
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=factor.dtype), upper=False)
        center = means.mean(0)
        self.center = center.to(self.center)
        self.whitening = inverse.T.to(self.whitening).contiguous()
        self.means = ((means - center) @ inverse.T).to(self.means).contiguous()
