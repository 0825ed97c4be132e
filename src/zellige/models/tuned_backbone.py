"""A pretrained backbone that a supervised fit goes on training, but for its first stages.

It is in evaluation mode always: batch norms, where they are not folded into the convolutions, neither learn their
statistics nor see the batch, so the features of an image do not depend on its neighbors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.backbones import FrozenBackbone

_PROBE_PX = 64


class TunedBackbone(nn.Module):
    """Feature maps of chosen stages, float32 (B, D_i, h_i, w_i); the parameters behind the frozen stages learn."""

    def __init__(self, name: str, stages: Sequence[int], frozen_stages: int) -> None:
        """Load the backbone.

        Args:
            name, stages: see `FrozenBackbone`.
            frozen_stages: of the backbone, so many of the first ones stay as they are; 0 lets all learn.

        Raises:
            ConfigError: all chosen stages frozen; see `FrozenBackbone` too.
            InputError: see `FrozenBackbone`.
        """
        super().__init__()
        if not 0 <= frozen_stages <= max(stages, default=0):
            raise ConfigError(
                f"frozen_stages: expected 0 to {max(stages, default=0)}, the last stage, got {frozen_stages}"
            )
        last_frozen = [frozen_stages - 1] if frozen_stages else []
        loaded = sorted({*stages, *last_frozen})
        self.body = FrozenBackbone(name, loaded)
        self._chosen = [loaded.index(stage) for stage in stages]
        self.num_channels = tuple(self.body.num_channels[place] for place in self._chosen)
        self.strides = tuple(self.body.strides[place] for place in self._chosen)
        self._unfreeze(loaded.index(frozen_stages - 1) if frozen_stages else None)

    def _unfreeze(self, last_frozen: int | None) -> None:
        """Let the parameters learn that the chosen stages need and the last frozen stage does not."""
        parameters = list(self.body.net.parameters())
        for value in parameters:
            value.requires_grad_(True)
        with torch.enable_grad():
            maps = self.body(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, dtype=torch.uint8))
            needed = _used([maps[place] for place in self._chosen], parameters)
            frozen = _used([maps[last_frozen]], parameters) if last_frozen is not None else set[int]()
        for place, value in enumerate(parameters):
            value.requires_grad_(place in needed - frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Turn uint8 images (B, 1 or 3, H, W) into one float32 feature map per stage."""
        maps = self.body(images)
        return [maps[place] for place in self._chosen]


def _used(maps: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> set[int]:
    """Places of the parameters that maps depend on."""
    total = torch.stack([grid.sum() for grid in maps]).sum()
    slopes = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    return {place for place, slope in enumerate(slopes) if slope is not None}
