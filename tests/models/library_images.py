"""Images as the libraries' own models take them, and how close features have to be."""

import numpy as np
import timm
import torch

from tests.conftest import texture


def images(height: int = 64, width: int = 96) -> torch.Tensor:
    pictures = [texture(seed, rgb=True, size=(height, width)).transpose(2, 0, 1) for seed in range(2)]
    return torch.from_numpy(np.stack(pictures))


def normalized(batch: torch.Tensor, model: str = "") -> torch.Tensor:
    """As timm says for its model, or as torchvision does it."""
    about = timm.get_pretrained_cfg(model) if model else None
    mean, std = (about.mean, about.std) if about else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return (batch.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())
