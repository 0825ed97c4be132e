"""A plain vision transformer as a backbone: the patch tokens of chosen blocks, placed on their grid.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929; the modules are timm's. Images of any
size are taken: sides that the patch does not divide are enlarged to the next multiple, so that no row of pixels is cut
off and the grid covers exactly the image; padding would put the grid beyond it, and shift the map. The position
embedding is resampled to the grid as timm does it, but by two matrices whose values are known before the graph is
exported: a resize node for it would be left to the other runtime's idea of cubic interpolation.

Shapes: B images, H x W px; a grid h x w of patches, N = h w tokens (and P more without a place) with D features each.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

_CUBIC = -0.5


class TokenMaps(nn.Module):
    """The tokens of chosen blocks, as they leave the block and without the final norm."""

    def __init__(self, vit: VisionTransformer, blocks: Sequence[int]) -> None:
        """Take over a transformer and drop what lies behind the last of `blocks` (ascending indices)."""
        super().__init__()
        vit.prune_intermediate_layers(list(blocks), prune_norm=True)
        self.vit = vit
        self.blocks = tuple(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Turn normalized images (B, 3, H, W) into one map (B, D, h, w) per chosen block."""
        grid = self.vit.patch_embed.proj(enlarged(images, self.vit.patch_embed.patch_size))  # (B, D, h, w)
        size = grid.shape[-2:]
        tokens = self.vit.patch_embed.norm(grid.flatten(2).transpose(1, 2))  # (B, N, D)
        tokens = self.vit.norm_pre(self._placed(tokens, *size))  # (B, P + N, D)
        maps = []
        for number, block in enumerate(self.vit.blocks):
            tokens = block(tokens)
            if number in self.blocks:
                patches = tokens[:, self.vit.num_prefix_tokens :]
                maps.append(patches.transpose(1, 2).unflatten(2, size).contiguous())
        return maps

    def _placed(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Add the positions, and put the class and register tokens in front."""
        vit = self.vit
        front = [token.expand(tokens.shape[0], -1, -1) for token in (vit.cls_token, vit.reg_token) if token is not None]
        if vit.pos_embed is not None:
            num_placed = 0 if vit.no_embed_class else vit.num_prefix_tokens
            old = vit.patch_embed.grid_size
            tokens = tokens + resampled(vit.pos_embed[:, num_placed:], old, (height, width))
            if num_placed:
                front = [torch.cat(front, dim=1) + vit.pos_embed[:, :num_placed]]
        return torch.cat([*front, tokens], dim=1)


def enlarged(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Enlarge images (B, C, H, W) to the next multiples of a patch's height and width; those that fit stay."""
    height, width = images.shape[-2:]
    size = [-(-height // patch[0]) * patch[0], -(-width // patch[1]) * patch[1]]
    if size == [height, width]:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def resampled(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resample position embeddings (1, N, D) from one grid (rows, columns) to another."""
    if old == new:
        return positions
    rows, columns = (
        torch.from_numpy(cubic_weights(before, after)).to(positions) for before, after in zip(old, new, strict=True)
    )
    width = positions.shape[-1]
    tall = rows @ positions.reshape(old[0], old[1] * width)  # (h, old columns x D)
    placed: Tensor = columns @ tall.reshape(new[0], old[1], width)  # (h, w, D)
    return placed.reshape(1, new[0] * new[1], width)


def cubic_weights(before: int, after: int) -> NDArray[np.float32]:
    """Weights (after, before) of a cubic interpolation that averages where it shrinks.

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29 (1981), equation 15; the
    kernel is stretched by the factor of the shrinking, as Pillow and torch's `antialias=True` do.
    """
    scale = before / after
    centers = (np.arange(after) + 0.5) * scale
    x = np.abs(np.arange(before)[None] + 0.5 - centers[:, None]) / max(scale, 1.0)
    near = (_CUBIC + 2) * x**3 - (_CUBIC + 3) * x**2 + 1
    far = _CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
