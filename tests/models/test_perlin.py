import math

import numpy as np
import pytest
import torch

from zellige.models.perlin import MOST_COVERED, perlin_masks, perlin_noise


def slow_perlin(gradients: np.ndarray, height: int, width: int) -> np.ndarray:
    """Point by point, as Perlin wrote it: dot products with four corners, faded together."""

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    rows, columns = gradients.shape[0] - 1, gradients.shape[1] - 1
    noise = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * rows / height, (j + 0.5) * columns / width
            row, column = math.floor(y), math.floor(x)
            fy, fx = y - row, x - column
            for down in (0, 1):
                for right in (0, 1):
                    gy, gx = gradients[row + down, column + right]
                    weight = (fade(fy) if down else 1 - fade(fy)) * (fade(fx) if right else 1 - fade(fx))
                    noise[i, j] += weight * (gy * (fy - down) + gx * (fx - right))
    return noise


@pytest.mark.parametrize(
    ("cells", "size"), [((1, 1), (8, 8)), ((2, 4), (16, 12)), ((3, 5), (7, 31)), ((8, 1), (16, 1))]
)
def test_noise_is_that_of_the_slow_one(cells: tuple[int, int], size: tuple[int, int]) -> None:
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradients = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    found = perlin_noise(torch.from_numpy(gradients).float(), *size)
    assert found.numpy() == pytest.approx(slow_perlin(gradients, *size), abs=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (4, 4), (1, 1), (3, 50)])
def test_masks_are_never_empty_and_never_large(size: tuple[int, int]) -> None:
    masks = perlin_masks(200, *size, generator=torch.Generator().manual_seed(0))
    assert masks.shape == (200, 1, *size)
    assert masks.dtype == torch.bool
    covered = masks.flatten(1).sum(1)
    assert covered.min() >= 1
    assert covered.max() <= max(1, MOST_COVERED * size[0] * size[1])


def test_masks_differ_in_size_and_hang_together() -> None:
    masks = perlin_masks(200, 32, 32, generator=torch.Generator().manual_seed(1))[:, 0]
    share = masks.float().mean((1, 2))
    assert share.quantile(0.1) < 0.05
    assert share.quantile(0.9) > 0.2
    # A pixel's right neighbor is mostly of its kind, by chance it would be in at most a quarter.
    alike = (masks[:, :, 1:] & masks[:, :, :-1]).sum() / masks[:, :, :-1].sum()
    assert alike > 0.6


def test_the_generator_decides() -> None:
    first, again = (perlin_masks(5, 16, 16, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, perlin_masks(5, 16, 16, generator=torch.Generator().manual_seed(4)))
