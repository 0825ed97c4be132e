"""Subspace: how far each patch lies outside the subspace in which good patches vary, at several scales.

The residual of a principal component analysis of patch features, as in Lendering, Akdag, Bondarev: "SubspaceAD:
Training-Free Few-Shot Anomaly Detection via Subspace Modeling", CVPR 2026, arXiv:2602.23013. Deviations:

- each stage of a small convolutional backbone has a subspace and a grid of its own, and the residuals are added in
  units of the good patches' residual; the paper averages layers of a large vision transformer into one feature;
- the kept components explain 0.95 of the variance by default, the paper's 0.99 (docs/models/subspace.md says why);
- the distance is the norm of the residual, the paper's its square;
- the training images are taken as they are; the paper adds rotated copies of its few ones.

Shapes: B images, C channels, H x W px; per stage a grid h x w of patches with D features each, R discarded directions.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.detector import DetectorOutput, Features
from zellige.models.moments import KeptMoments, Moments, add_moments, collect_moments
from zellige.models.patch_features import PatchFeatures
from zellige.models.patch_scores import PatchScores

_LEAST_SHARE = 1e-3
"""Least unit of a residual, as a share of the features' spread: good patches that lie in the subspace have none."""
_LEAST_UNIT = 1e-4
"""Least unit of a residual where the features do not spread at all."""


class Subspace(nn.Module):
    """A mean and principal components per stage; a patch is as anomalous as they fail to explain it."""

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (1, 2, 3),
        grid_stride: int = 8,
        variance: float = 0.95,
        top_share: float = 0.01,
        smoothing_patches: float = 1.0,
    ) -> None:
        """Make an empty detector.

        Args:
            backbone, stages, grid_stride: see `PatchFeatures`.
            variance: share of the good patches' variance that the kept components explain, in (0, 1); what lies in the
                others is anomalous.
            top_share, smoothing_patches: see `PatchScores`.

        Raises:
            ConfigError: a number out of range.
        """
        super().__init__()
        if not 0 < variance < 1:
            raise ConfigError(f"variance: expected a number in (0, 1), got {variance}")
        self.variance = variance
        self.embed_patches = PatchFeatures(backbone, stages, grid_stride)
        self.pool = PatchScores(top_share, smoothing_patches)
        self.residuals = nn.ModuleList(Residual(width) for width in self.embed_patches.num_channels)

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into patch features."""
        features: Features = self.embed_patches(images)
        return features

    def build(self, features: Iterable[Features]) -> None:
        """Learn the subspaces from batches of patch features.

        Raises:
            InputError: no batch came.
        """
        stages = collect_moments(features, [_one_group] * len(self.residuals))
        for residual, moments in zip(self.residuals, stages, strict=True):
            assert isinstance(residual, Residual)
            residual.learn(moments, self.variance)

    def extend(self, features: Iterable[Features]) -> None:
        """Take in more good images: the same, but for rounding, as a fit on all of them.

        Raises:
            ConfigError: fitted by a version that did not keep its moments.
        """
        stages = [residual for residual in self.residuals if isinstance(residual, Residual)]
        moments = [stage.kept.resumed() for stage in stages]
        if add_moments(moments, features, [_one_group] * len(stages)):
            for stage, found in zip(stages, moments, strict=True):
                stage.learn(found, self.variance)

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        return self.score_features(self.embed(images), images.shape[-2:])

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage."""
        return self.embed_patches.num_channels

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them; with it this is `forward`."""
        gaps = [residual(stage) for residual, stage in zip(self.residuals, features, strict=True)]
        output: DetectorOutput = self.pool(gaps, size)
        return output


class Residual(nn.Module):
    """What one stage's kept components leave unexplained, in units of what they leave of good patches."""

    center: Tensor
    directions: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("directions", torch.zeros(width, 0))
        self.kept = KeptMoments(width)

    def learn(self, moments: Moments, variance: float) -> None:
        """Keep as few components as explain the share `variance`, at least one less than there are features.

        The directions of all others are stored, divided by the root mean square residual of the good patches. To
        project on them is exact where the difference of two squared norms would cancel.
        """
        self.kept.keep(moments)
        spreads, components = torch.linalg.eigh(moments.covariance()[0].cpu())
        spreads = spreads.clamp(min=0.0)
        unexplained, total = spreads.cumsum(0), spreads.sum()
        num_discarded = max(1, int((unexplained <= (1.0 - variance) * total).sum()))
        unit = torch.maximum(unexplained[num_discarded - 1].sqrt(), _LEAST_SHARE * total.sqrt()).clamp(min=_LEAST_UNIT)
        self.center = moments.mean()[0].to(self.center)
        self.directions = (components[:, :num_discarded] / unit).to(self.center).contiguous()

    def forward(self, features: Tensor) -> Tensor:
        """Norm of the residual (B, 1, h, w) of each patch (B, h, w, D)."""
        outside: Tensor = (features - self.center) @ self.directions  # (B, h, w, R)
        return outside.square().sum(3).sqrt().unsqueeze(1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take the number of directions that were saved."""
        num_discarded = state_dict[prefix + "directions"].shape[1]
        self.directions = self.directions.new_zeros(self.directions.shape[0], num_discarded)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _one_group(features: Tensor) -> Tensor:
    """Put all patches (B, h, w, D) into one group (1, N, D)."""
    return features.flatten(0, 2)[None]
