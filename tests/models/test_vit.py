"""Blocks of vision transformers against timm's own way to the same tokens."""

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed

from tests.models.library_images import close, images, normalized
from tests.models.weight_files import drawn, named
from zellige.models.backbones import FrozenBackbone
from zellige.models.vit import cubic_weights, enlarged, resampled


def timms_blocks(model: str, batch: torch.Tensor, blocks: list[int]) -> list[torch.Tensor]:
    return drawn("timm", model).forward_intermediates(normalized(batch, model), blocks, intermediates_only=True)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2"])
def test_blocks_of_a_transformer_are_timms_to_the_bit(model: str) -> None:
    """The one has a class token with a place, the other a register token without one."""
    batch = images(160, 160)
    with torch.no_grad():
        expected = drawn("timm", model).forward_intermediates(
            normalized(batch, model), [1, 3, 4], intermediates_only=True
        )
        backbone = FrozenBackbone(named("timm", model), [1, 3, 4])
        found = backbone.net(normalized(batch, model))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
        assert all(close(ours, theirs) for ours, theirs in zip(backbone(batch), expected, strict=True))
    assert (backbone.strides, backbone.num_channels) == ((16,) * 3, (64,) * 3)


@pytest.mark.parametrize("size", [(96, 128), (192, 320), (32, 32)])
def test_other_grids_of_a_transformer_are_timms(size: tuple[int, int]) -> None:
    batch = images(*size)
    with torch.no_grad():
        (expected,) = drawn("timm", "test_vit").forward_intermediates(
            normalized(batch, "test_vit"), [5], intermediates_only=True
        )
        (found,) = FrozenBackbone(named("timm", "test_vit"), [5])(batch)
    assert close(found, expected)


@pytest.mark.parametrize(("before", "after"), [(37, 19), (37, 37), (10, 25), (7, 1)])
def test_positions_are_resampled_as_timm_does_it(before: int, after: int) -> None:
    positions = torch.randn(1, before * 5, 3, generator=torch.Generator().manual_seed(0))
    expected = resample_abs_pos_embed(positions, [after, 9], [before, 5], num_prefix_tokens=0)
    assert torch.allclose(resampled(positions, (before, 5), (after, 9)), expected, atol=1e-5)
    assert cubic_weights(before, after).sum(1) == pytest.approx(np.ones(after), abs=1e-6)


def test_sides_are_enlarged_to_whole_patches() -> None:
    batch = torch.arange(30.0).view(1, 1, 5, 6)
    assert enlarged(batch, (5, 3)) is batch
    taller = enlarged(batch, (4, 3))
    assert taller.shape == (1, 1, 8, 6)
    expected = np.stack([np.interp((np.arange(8) + 0.5) * 5 / 8 - 0.5, range(5), column) for column in batch[0, 0].T])
    assert taller[0, 0].numpy() == pytest.approx(expected.T, abs=1e-4)
