"""What is PatchCore's own: odd sizes, and how it treats the border."""

import cv2
import numpy as np
import pytest
import torch

from zellige.core.errors import ConfigError
from zellige.models.patchcore import PatchCore


def textures(num: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    images = [cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 2) for _ in range(num)]
    pixels = [np.clip(128 + 20 * image / image.std(), 0, 255).astype(np.uint8) for image in images]
    return torch.from_numpy(np.stack(pixels)[:, None])


def fitted(images: torch.Tensor, **settings: object) -> PatchCore:
    detector = PatchCore(bank_size=256, **settings)  # type: ignore[arg-type]
    with torch.inference_mode():
        detector.build([detector.embed(images)])
    return detector


@pytest.mark.parametrize(
    ("stages", "grid_stride", "size"),
    [((2, 3), 8, (100, 100)), ((1, 2), 8, (100, 92)), ((2, 3), 16, (200, 136)), ((1, 2, 3), 8, (72, 90))],
)
def test_any_size_and_grid(stages: tuple[int, ...], grid_stride: int, size: tuple[int, int]) -> None:
    images = textures(2, *size)
    detector = fitted(images, stages=stages, grid_stride=grid_stride)
    with torch.inference_mode():
        for features, stage in zip(detector.embed(images), stages, strict=True):
            assert features.shape[:3] == (2, *(-(-side // max(grid_stride, 2 << stage)) for side in size))
        assert detector(images).anomaly_map.shape == (2, 1, *size)


def test_a_defect_at_the_border_stands_out_like_one_in_the_middle() -> None:
    detector = fitted(textures(6, 128, 128))
    middle, corner = textures(2, 128, 128, seed=1)
    middle, corner = middle.clone(), corner.clone()
    middle[:, 56:72, 56:72] = 255
    corner[:, :16, :16] = 255
    with torch.inference_mode():
        output = detector(torch.stack([middle, corner]))
    peaks = output.anomaly_map.amax((1, 2, 3))
    assert peaks[1] > 0.75 * peaks[0]
    y, x = divmod(int(output.anomaly_map[1].argmax()), 128)
    assert max(y, x) < 32


def test_a_grid_that_is_no_stride_is_refused() -> None:
    with pytest.raises(ConfigError, match="grid_stride: expected one of"):
        PatchCore(grid_stride=10)
