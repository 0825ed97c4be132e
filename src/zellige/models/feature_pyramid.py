"""Small convolutional parts of the nets that learn as a whole, and a pyramid that joins fine and coarse features.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144. Deviation: the convolution
after each sum is left to the head, which begins with one.

Norms are over groups of channels of one tile: Wu, He, "Group Normalization", ECCV 2018, arXiv:1803.08494. So a tile's
result depends neither on its batch nor on whether the net learns, the batch may be small, and there are no running
statistics beside the weights.

Shapes: feature maps (B, C_i, h_i, w_i), the finest first; each coarser one has half the sides, rounded up.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 8
"""Channels that are normalized together; every width is a multiple of it."""

_FIRST_SHARE = 0.2


def conv_norm(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution, a group norm and a ReLU."""
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(outputs // GROUP, outputs), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions whose result is added to their input.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, figure 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_norm(channels, channels)
        self.second = conv_norm(channels, channels)[:2]

    def forward(self, features: Tensor) -> Tensor:
        """Turn (B, C, h, w) into the same shape."""
        return F.relu(features + self.second(self.first(features)))


class FeaturePyramid(nn.Module):
    """Brings feature maps to one width and adds to each what the coarser ones see."""

    def __init__(self, num_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in num_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Turn maps (B, C_i, h_i, w_i), the finest first, into maps (B, width, h_i, w_i)."""
        levels = [lateral(level) for lateral, level in zip(self.lateral, features, strict=True)]
        for finer in reversed(range(len(levels) - 1)):
            size = list(levels[finer].shape[-2:])
            levels[finer] = levels[finer] + F.interpolate(levels[finer + 1], size=size, mode="nearest")
        return levels


def begin(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the first weights of all convolutions; what is added to its input begins small.

    Source: He et al., ICCV 2015, arXiv:1502.01852, equation 10; Goyal et al., arXiv:1706.02677, section 5.1 (the last
    norm of a residual block).
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
                if part.bias is not None:
                    part.bias.zero_()
            if isinstance(part, Residual):
                norm = part.second[1]
                assert isinstance(norm, nn.GroupNorm)
                norm.weight.fill_(_FIRST_SHARE)
