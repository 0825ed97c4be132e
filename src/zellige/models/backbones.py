"""Pretrained feature extractors: weights from a package, a file or a library, known by hash, never random weights.

Shapes: feature maps are (B, C_i, ceil(H / s_i), ceil(W / s_i)) with a stride s_i per stage; 2, 4, 8, 16, 32 for most
convolutional backbones, the patch for all blocks of a vision transformer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zellige.core.errors import InputError
from zellige.models.backbone_nets import load_trunk
from zellige.models.backbone_weights import SOURCES, STRIDES, Origin
from zellige.models.detector import ScaledInput

__all__ = ["SOURCES", "STRIDES", "FrozenBackbone", "origin_of"]


class FrozenBackbone(nn.Module):
    """Feature maps of chosen stages; its weights never change and it is always in evaluation mode."""

    weights_sha256: Tensor

    def __init__(self, name: str, stages: Sequence[int]) -> None:
        """Load the backbone.

        Args:
            name: a key of `SOURCES`, `timm:MODEL`, `torchvision:MODEL`, or one of these two with `@FILE`; see
                docs/guide/backbones.md.
            stages: ascending indices into the backbone's stages.

        Raises:
            ConfigError: unknown name or stage, or weights that are not installed and cannot be fetched.
            InputError: the weight file is not the expected one.
        """
        super().__init__()
        trunk = load_trunk(name, stages)
        self.scale = ScaledInput(trunk.mean, trunk.std)
        self.net = trunk.net.requires_grad_(False).to(memory_format=torch.channels_last)
        self.num_channels, self.strides, self.origin = trunk.num_channels, trunk.strides, trunk.origin
        # In every checkpoint, so that what a run and its bundle say of the weights stays true.
        self.register_buffer(
            "weights_sha256", torch.tensor(list(bytes.fromhex(trunk.origin.sha256)), dtype=torch.uint8)
        )
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBackbone":
        """Stay in evaluation mode: a frozen backbone's batch norms must not learn."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Turn uint8 images (B, 1 or 3, H, W) into one float32 feature map per stage."""
        features: list[Tensor] = self.net(self.scale(images).to(memory_format=torch.channels_last))
        return features

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Refuse a checkpoint that was made with other weights; older checkpoints do not say."""
        stored = state_dict.setdefault(prefix + "weights_sha256", self.weights_sha256)
        if not torch.equal(stored.cpu(), self.weights_sha256.cpu()):
            raise InputError(
                f"backbone {self.origin.name}: expected the weights of the run, sha256 "
                f"{bytes(stored.tolist()).hex()[:12]}, got {self.origin.sha256[:12]} ({self.origin.source})"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def origin_of(detector: nn.Module) -> Origin | None:
    """Say which weights a detector's backbone has; None for a detector without one."""
    return next((module.origin for module in detector.modules() if isinstance(module, FrozenBackbone)), None)
