"""The two nets of EfficientAD that learn, both of plain convolutions: a student and an autoencoder.

Both say, for each stage of the teacher and on its grid, what its features are. Shapes: B tiles, H x W px; per stage a
stride s, a grid of h x w = ceil(H / s) x ceil(W / s) patches and D features.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_POOLED = 4
"""px that the autoencoder averages first; its narrowest grid has three halvings more: one place per 32 px."""
_LITTLE = 0.1


class Student(nn.Module):
    """Looks at a small surrounding of each patch and guesses two things: the teacher's features and the autoencoder's.

    A 3 x 3 convolution for each halving, down to the coarsest stage, and for each stage one more and a linear layer.
    """

    def __init__(self, strides: Sequence[int], channels: Sequence[int], width: int) -> None:
        """Make it without weights; see `begin`.

        Args:
            strides: of the stages, powers of two.
            channels: D of the stages.
            width: channels from stride 8 on; half of them at stride 4, a quarter at stride 2.
        """
        super().__init__()
        depth = int(math.log2(max(strides)))
        widths = [3, *(max(4, width >> max(0, 3 - level)) for level in range(1, depth + 1))]
        self.down = nn.ModuleList(_convolution(a, b, stride=2) for a, b in pairwise(widths))
        self.levels = [int(math.log2(stride)) for stride in strides]
        self.heads = nn.ModuleList(
            nn.Sequential(_convolution(widths[level], widths[level]), nn.ReLU(), nn.Conv2d(widths[level], 2 * d, 1))
            for level, d in zip(self.levels, channels, strict=True)
        )

    def forward(self, scaled: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Guess the teacher's and the autoencoder's features, (B, D, h, w) each per stage, of scaled (B, 3, H, W)."""
        grids = [scaled]
        for halve in self.down:
            grids.append(halve(grids[-1]).relu())
        guesses = [head(grids[level]).chunk(2, dim=1) for head, level in zip(self.heads, self.levels, strict=True)]
        return [(teacher, autoencoder) for teacher, autoencoder in guesses]


class Autoencoder(nn.Module):
    """Draws the teacher's features from a few numbers per 32 x 32 px, so from what is usual on a larger scale."""

    def __init__(self, strides: Sequence[int], channels: Sequence[int], width: int, latent: int) -> None:
        """Make it without weights; see `begin`.

        Args:
            strides: of the stages, the finest first.
            channels: D of the stages.
            width: channels of all layers but the narrowest.
            latent: numbers for each place of the narrowest grid.
        """
        super().__init__()
        self.strides = list(strides)
        self.encode = nn.Sequential(
            _convolution(3, width, stride=2),
            nn.ReLU(),
            _convolution(width, width, stride=2),
            nn.ReLU(),
            _convolution(width, width, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, latent, 1),
        )
        self.widen = _convolution(latent, width)
        self.refine = nn.ModuleList(_convolution(width, width) for _ in strides)
        self.heads = nn.ModuleList(nn.Conv2d(width, d, 1) for d in channels)

    def forward(self, scaled: Tensor) -> list[Tensor]:
        """Draw features (B, D, h, w) per stage, the finest first, from scaled pixels (B, 3, H, W)."""
        pooled = F.avg_pool2d(scaled, _POOLED, ceil_mode=True, count_include_pad=False)
        grid = self.widen(self.encode(pooled)).relu()
        drawn = []
        for stride, refine, head in reversed(list(zip(self.strides, self.refine, self.heads, strict=True))):
            size = [-(-side // stride) for side in scaled.shape[-2:]]
            grid = refine(F.interpolate(grid, size=size, mode="bilinear", align_corners=False)).relu()
            drawn.append(head(grid))
        return drawn[::-1]


class FeatureScale(nn.Module):
    """Brings each channel of a stage to mean 0 and spread 1 over good patches."""

    center: Tensor
    spread: Tensor

    def __init__(self, num_channels: int, most_spreads: float) -> None:
        super().__init__()
        self.most_spreads = most_spreads
        self.register_buffer("center", torch.zeros(num_channels))
        self.register_buffer("spread", torch.ones(num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Turn (B, h, w, D) into (B, D, h, w) in units of the spread, cut off at `most_spreads`."""
        scaled = (features - self.center) / self.spread
        return scaled.clamp(-self.most_spreads, self.most_spreads).permute(0, 3, 1, 2)


def begin(net: nn.Module, generator: torch.Generator) -> None:
    """Set the first weights of a net's convolutions: nothing is biased, and what its heads say is near 0."""
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                module.bias.zero_()
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if name.startswith("heads") and module.kernel_size == (1, 1):
                    module.weight.mul_(_LITTLE)


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Conv2d:
    """Make a 3 x 3 convolution whose output has ceil(side / stride) places along each side."""
    return nn.Conv2d(before, after, 3, stride=stride, padding=1)
