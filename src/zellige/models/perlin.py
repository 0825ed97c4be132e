"""Random masks of connected, irregular blobs, as defects are: thresholded Perlin noise.

Shapes: N masks, a grid h x w of patches.
"""

import math

import numpy as np
import torch
from torch import Tensor

from zellige.core.perlin_noise import perlin_noise

MOST_COVERED = 0.25
"""Largest share of a grid that a mask covers."""


def perlin_masks(count: int, height: int, width: int, *, generator: torch.Generator) -> Tensor:
    """Draw masks (N, 1, h, w) bool, each with at least one patch and at most a quarter of all.

    The lattice's cells are 1, 2, 4, ... along each axis, drawn apart for each axis, so that blobs differ in size and
    elongation. A mask is where its noise is highest; the share that it covers is drawn evenly.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    masks = []
    for _ in range(count):
        cells = (_cells(height, rng), _cells(width, rng))
        # Every second place of a grid twice as fine is the middle of a patch; at corners of cells the noise is zero.
        noise = torch.from_numpy(perlin_noise((2 * height, 2 * width), cells, rng)[1::2, 1::2].copy())
        covered = max(1, int(rng.random() * MOST_COVERED * height * width))
        masks.append(noise >= noise.flatten().topk(covered).values[-1])
    return torch.stack(masks).unsqueeze(1)


def _cells(length: int, rng: np.random.Generator) -> int:
    """Draw a number of cells, a power of two of at most half the length."""
    powers = max(1, int(math.log2(max(length, 1))))
    return 1 << int(rng.integers(powers))
