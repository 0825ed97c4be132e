"""From distances on patch grids to an image's score and its anomaly map: the same for every patch-wise detector.

A patch at the border is a mean over fewer neighbors and noisier for it, so one with n of 9 neighbors weighs
(n / 9)^(1/2) in the score and (n / 9)^(1/4) in the map. Unweighted, the noise of the border decides the score of good
images; docs/benchmarks.md says on which sets this was compared.

Shapes: B images, H x W px; per stage a grid h x w of patches.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.detector import DetectorOutput

_SCORE_BORDER, _MAP_BORDER = 0.5, 0.25


class PatchScores(nn.Module):
    """Adds the stages: the score is the mean of the worst patches, the map is smoothed and enlarged."""

    blur: Tensor

    def __init__(self, top_share: float, smoothing_patches: float) -> None:
        """Say how to pool.

        Args:
            top_share: share of an image's patches whose mean distance is its score, in (0, 1].
            smoothing_patches: sigma of the Gaussian over the finest grid, in patches; 0 is none.

        Raises:
            ConfigError: a number out of range.
        """
        super().__init__()
        if not 0 < top_share <= 1:
            raise ConfigError(f"top_share: expected a number in (0, 1], got {top_share}")
        if not 0 <= smoothing_patches <= 16:
            raise ConfigError(f"smoothing_patches: expected 0 to 16, got {smoothing_patches}")
        self.top_share = top_share
        self.register_buffer("blur", gaussian_kernel(smoothing_patches), persistent=False)

    def forward(
        self, gaps: Sequence[Tensor], size: Sequence[int], factors: Sequence[Tensor] | None = None
    ) -> DetectorOutput:
        """Join distances (B, 1, h, w) per stage, the finest first, into maps of `size` (H, W) px and scores.

        The distances of two stages must be in units that can be added, such as those of the good patches' spread.

        Args:
            gaps: distances per stage.
            size: of the maps.
            factors: (B, K) per stage: the distances of its `worst` patches count so many times in the score.
        """
        finest = gaps[0].shape[-2:]
        placed = [
            gap if gap.shape[-2:] == finest else F.interpolate(gap, size=finest, mode="bilinear", align_corners=False)
            for gap in gaps
        ]
        smooth = smoothed(torch.stack(placed).mean(0) * _border_weights(gaps[0], _MAP_BORDER), self.blur)
        return DetectorOutput(
            anomaly_map=F.interpolate(smooth, size=list(size), mode="bilinear", align_corners=False),
            score=self.score(gaps, factors),
        )

    def score(self, gaps: Sequence[Tensor], factors: Sequence[Tensor] | None = None) -> Tensor:
        """Join distances (B, 1, h, w) per stage into scores (B,) alone; `factors` as above."""
        worst = [self.worst(gap).values for gap in gaps]
        if factors is not None:
            worst = [values * factor for values, factor in zip(worst, factors, strict=True)]
        return torch.stack([values.mean(1) for values in worst]).mean(0)

    def worst(self, gap: Tensor) -> torch.return_types.topk:
        """Find the K patches of a stage's (B, 1, h, w) that make the score: weighted `values` and `indices` (B, K)."""
        count = max(1, round(self.top_share * gap.shape[-2] * gap.shape[-1]))
        return (gap * _border_weights(gap, _SCORE_BORDER)).flatten(1).topk(count)


def smoothed(grid: Tensor, kernel: Tensor) -> Tensor:
    """Blur (B, 1, h, w) along both axes with a kernel (2 r + 1,), repeating the values at the border."""
    reach = kernel.shape[0] // 2
    if reach == 0:
        return grid
    padded = F.pad(grid, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))


def gaussian_kernel(sigma: float) -> Tensor:
    """Sampled Gaussian (2 r + 1,) with r = 3 sigma rounded up, summing to one; (1,) for sigma 0."""
    reach = int(-(-3 * sigma // 1))
    position = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (position / max(sigma, 1e-6)).square())
    return kernel / kernel.sum()


def _border_weights(gap: Tensor, power: float) -> Tensor:
    """Weight each patch (1, 1, h, w) by the share of its 3 x 3 neighbors that exist, to a power."""
    return F.avg_pool2d(gap.new_ones(1, 1, gap.shape[-2], gap.shape[-1]), 3, stride=1, padding=1).pow(power)
