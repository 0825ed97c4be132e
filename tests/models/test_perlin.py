import pytest
import torch

from zellige.models.perlin import MOST_COVERED, perlin_masks


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
