"""Random masks of connected, irregular blobs, as defects are: thresholded Perlin noise.

Perlin: "An image synthesizer", SIGGRAPH 1985, with the fade of "Improving noise", SIGGRAPH 2002.

Shapes: N masks, a grid h x w of patches, a lattice of r x c cells.
"""

import math

import torch
from torch import Tensor

MOST_COVERED = 0.25
"""Largest share of a grid that a mask covers."""


def perlin_masks(count: int, height: int, width: int, *, generator: torch.Generator) -> Tensor:
    """Draw masks (N, 1, h, w) bool, each with at least one patch and at most a quarter of all.

    The lattice's cells are 1, 2, 4, ... along each axis, drawn apart for each axis, so that blobs differ in size and
    elongation. A mask is where its noise is highest; the share that it covers is drawn evenly.
    """
    masks = []
    for _ in range(count):
        rows, columns = _cells(height, generator), _cells(width, generator)
        angles = torch.rand(rows + 1, columns + 1, generator=generator) * (2 * math.pi)
        noise = perlin_noise(torch.stack([angles.sin(), angles.cos()], dim=-1), height, width)
        share = float(torch.rand((), generator=generator)) * MOST_COVERED
        covered = max(1, int(share * height * width))
        masks.append(noise >= noise.flatten().topk(covered).values[-1])
    return torch.stack(masks).unsqueeze(1)


def perlin_noise(gradients: Tensor, height: int, width: int) -> Tensor:
    """Perlin noise (h, w) from unit vectors (r + 1, c + 1, 2 as y, x) at the corners of a lattice of r x c cells."""
    row, y = _place(height, gradients.shape[0] - 1)
    column, x = _place(width, gradients.shape[1] - 1)

    def corner(down: int, right: int) -> Tensor:
        slopes = gradients[row + down][:, column + right]
        return slopes[..., 0] * (y - down)[:, None] + slopes[..., 1] * (x - right)[None, :]

    upper = torch.lerp(corner(0, 0), corner(0, 1), _fade(x)[None, :])
    lower = torch.lerp(corner(1, 0), corner(1, 1), _fade(x)[None, :])
    return torch.lerp(upper, lower, _fade(y)[:, None])


def _place(length: int, cells: int) -> tuple[Tensor, Tensor]:
    """Cell (length,) of each patch's middle, and its place in the cell from 0 to 1."""
    middle = (torch.arange(length) + 0.5) * (cells / length)
    cell = middle.floor().long()
    return cell, middle - cell


def _fade(t: Tensor) -> Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)


def _cells(length: int, generator: torch.Generator) -> int:
    """Draw a number of cells, a power of two of at most half the length."""
    powers = max(1, int(math.log2(max(length, 1))))
    return 1 << int(torch.randint(powers, (), generator=generator))
