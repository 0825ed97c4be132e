"""Patch features: a frozen backbone's stages, averaged over neighbors and placed on grids of patches.

Shapes: B images, C channels, H x W px; per stage a grid h x w of patches with D features each.
"""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbones import STRIDES, FrozenBackbone
from zellige.models.detector import Features

WARM_UP_PATCHES = 16384
"""Patches of the finest grid from which a detector takes the centers and spreads of its features."""


class PatchFeatures(nn.Module):
    """Turns images into one grid of patch features per backbone stage, the finest first."""

    def __init__(self, backbone: str, stages: Sequence[int], grid_stride: int) -> None:
        """Load the backbone.

        Args:
            backbone: name of a pretrained backbone; see `FrozenBackbone`.
            stages: backbone stages (0 to 4 for stride 2 to 32 of the default one).
            grid_stride: px from one patch to the next at the finest: finer stages are averaged onto this grid, coarser
                ones keep their own.

        Raises:
            ConfigError: an unknown backbone, stage or stride, or weights that are not installed.
            InputError: the backbone's weights are not the expected ones.
        """
        super().__init__()
        if grid_stride not in STRIDES:
            raise ConfigError(f"grid_stride: expected one of {STRIDES}, got {grid_stride}")
        self.backbone = FrozenBackbone(backbone, stages)
        self.grid_stride = grid_stride
        self.num_channels = self.backbone.num_channels

    def forward(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into features (B, h, w, D) per stage, each a mean over 3 x 3 neighbors.

        The mean leaves out what lies beyond the border.
        """
        return tuple(
            self._onto_grid(F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False), stride)
            for features, stride in zip(self.backbone(images), self.backbone.strides, strict=True)
        )

    def _onto_grid(self, features: Tensor, stride: int) -> Tensor:
        if stride < self.grid_stride:
            ratio = self.grid_stride // stride
            features = F.avg_pool2d(features, ratio, ceil_mode=True, count_include_pad=False)
        return features.permute(0, 2, 3, 1)


def first_batches(stream: Iterator[Features], wanted: int = WARM_UP_PATCHES) -> list[Features]:
    """Take batches off a stream until they hold `wanted` patches of the finest grid, or all there are.

    Raises:
        InputError: no batch came.
    """
    taken: list[Features] = []
    count = 0
    for batch in stream:
        taken.append(batch)
        count += batch[0][..., 0].numel()
        if count >= wanted:
            break
    if not taken:
        raise InputError("fit: expected at least one good training image, got none")
    return taken
