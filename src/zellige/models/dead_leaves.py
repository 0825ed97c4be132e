"""Pictures of things that no camera saw: opaque leaves of all sizes that cover each other, with cloudy gray levels.

They stand for "any natural image" where none is at hand. Lee, Mumford, Huang: "Occlusion Models for Natural Images",
IJCV 41, 2001: leaves whose radius r has a density of r^-3 give the statistics of natural images. Baradad, Wulff, Wang,
Isola, Torralba: "Learning to See by Looking at Noise", NeurIPS 2021, arXiv:2106.05963: features learned from such
pictures come closest to those learned from photographs among simple random processes.

Shapes: N pictures, C channels (1 gray, 3 RGB), H x W px.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from zellige.core.perlin_noise import Floats, perlin_noise

_NUM_LEAVES = 120
_LEAST_RADIUS = 3.0
_MOST_CORNERS = 9
_MOST_CLOUDS = 48.0
"""Largest deviation in gray levels that clouds add."""


def dead_leaves(count: int, channels: int, height: int, width: int, *, generator: torch.Generator) -> Tensor:
    """Draw pictures (N, C, H, W) float32 of gray levels from 0 to 255, each another one.

    A leaf is a polygon with corners at random angles and distances, in a color drawn evenly. The number of corners and
    the range of colors are each picture's own, so that there are round and pointed, strong and faint pictures.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    pictures = [_picture(channels, height, width, rng) for _ in range(count)]
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())


def _picture(channels: int, height: int, width: int, rng: np.random.Generator) -> Floats:
    """Draw (H, W, C)."""
    low, high = np.sort(rng.uniform(0, 255, 2))
    largest = max(min(height, width) / 2, 2 * _LEAST_RADIUS)
    picture = np.empty((height, width, channels), np.float32)
    picture[:] = rng.uniform(low, high, channels)
    # Inverse of the distribution function of r^-3 between the least and the largest radius.
    least_share = (_LEAST_RADIUS / largest) ** 2
    radii = _LEAST_RADIUS / np.sqrt(1 - rng.random(_NUM_LEAVES) * (1 - least_share))
    shape = (_NUM_LEAVES, int(rng.integers(3, _MOST_CORNERS + 1)))
    angles = np.sort(rng.uniform(0, 2 * np.pi, shape))
    reach = radii[:, None] * rng.uniform(0.6, 1.4, shape)
    middles = rng.uniform(0, (width, height), (_NUM_LEAVES, 2))
    points = middles[:, None] + reach[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=2)
    colors = rng.uniform(low, high, (_NUM_LEAVES, channels)).tolist()
    for corners, color in zip(np.round(points).astype(np.int32), colors, strict=True):
        cv2.fillPoly(picture, [corners], color)
    cells = 1 << int(rng.integers(1, 5))
    clouds = perlin_noise((height, width), (cells, cells), rng)[..., None] * rng.uniform(0, _MOST_CLOUDS)
    return np.asarray(np.clip(picture + clouds, 0, 255), np.float32)
