"""One look at images: scores, pooled features and the doubt of a kind, against numpy and values by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from tests.conftest import save_image, texture
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.models.detector import BoxOutput, DetectorOutput, NamedOutput
from zellige.training.kind_doubt import kind_doubt
from zellige.training.looks import Looks, look
from zellige.training.predict import predict

SIDE = 64


class Edges(nn.Module):
    """A backbone of two blocks: brightness, and its steps to the right."""

    def forward(self, images: Tensor) -> list[Tensor]:
        pixels = images.float()
        return [pixels, pixels[..., 1:] - pixels[..., :-1]]


class WithBackbone(nn.Module):
    """Scores by the brightest pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Edges()

    def forward(self, images: Tensor) -> DetectorOutput:
        pixels = self.backbone(images)[0]
        return DetectorOutput(anomaly_map=pixels, score=pixels.amax((1, 2, 3)))


class WithEmbed(nn.Module):
    """The same without a module of that name."""

    def embed(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(block.permute(0, 2, 3, 1) for block in Edges()(images))

    def forward(self, images: Tensor) -> DetectorOutput:
        pixels = images.float()
        return DetectorOutput(anomaly_map=pixels, score=pixels.amax((1, 2, 3)))


class Featureless(nn.Module):
    def forward(self, images: Tensor) -> DetectorOutput:
        return WithEmbed.forward(self, images)  # type: ignore[arg-type]


def some_images(root: Path) -> TileDataset:
    """Three images of one tile and of four, and one that is smaller than a tile."""
    sizes = [(SIDE, SIDE), (SIDE, 2 * SIDE), (2 * SIDE, 2 * SIDE), (SIDE // 2, SIDE)]
    samples = []
    for index, size in enumerate(sizes):
        save_image(root / f"{index}.png", texture(index, size=size))
        path = root / f"{index}.png"
        samples.append(Sample(id=path.name, image_path=path, kind="unlabelled", group_id=path.name))
    geometry = Geometry(mode=GeometryMode.TILES, height=SIDE, width=SIDE)
    return TileDataset(samples, geometry=geometry, color=Color.GRAY)


def look_at(detector: nn.Module, data: TileDataset, batch_size: int = 3) -> Looks:
    return look(detector, data, fabric=Fabric(accelerator="cpu"), batch_size=batch_size, pixel_threshold=0.5)


@pytest.mark.parametrize("detector", [WithBackbone(), WithEmbed()])
def test_features_are_mean_and_spread_of_each_tile(tmp_path: Path, detector: nn.Module) -> None:
    data = some_images(tmp_path)
    seen = look_at(detector, data)
    assert [sample.id for sample in seen.samples] == ["0.png", "1.png", "2.png"]
    assert [(one.path, "at least one tile" in one.reason) for one in seen.unusable] == [("3.png", True)]
    for index in range(3):
        tiles = [texture(index, size=(SIDE * (1 + (index == 2)), SIDE * (1 + (index > 0)))).astype(float)]
        tiles = [part for row in tiles for part in np.vsplit(row, row.shape[0] // SIDE)]
        tiles = [part for row in tiles for part in np.hsplit(row, row.shape[1] // SIDE)]
        for block, of_tile in zip(seen.features, (tiles, [np.diff(tile, axis=1) for tile in tiles]), strict=True):
            expected = np.mean([[values.mean(), values.std()] for values in of_tile], axis=0)
            np.testing.assert_allclose(block[index], expected, rtol=1e-4, atol=1e-4)
    assert not list(getattr(detector, "backbone", nn.Module())._forward_hooks)


def test_scores_are_those_of_a_prediction(tmp_path: Path) -> None:
    data = some_images(tmp_path).only([0, 1, 2])
    fabric = Fabric(accelerator="cpu")
    stored = predict(WithBackbone(), data, "test", fabric=fabric, out_dir=tmp_path / "predictions")
    np.testing.assert_array_equal(look_at(WithBackbone(), data).scores, stored.scores)


def test_a_detector_without_features_has_none(tmp_path: Path) -> None:
    seen = look_at(Featureless(), some_images(tmp_path), batch_size=100)
    assert [block.shape for block in seen.features] == [(3, 0)]
    assert len(seen.scores) == 3


def test_two_boxes_of_other_kinds_at_one_place_are_in_doubt() -> None:
    boxes = torch.zeros(4, 5, 6)
    boxes[0, :2] = torch.tensor([[0, 0, 10, 10, 0.8, 1], [0, 0, 10, 9, 0.6, 2]])
    boxes[1, :3] = torch.tensor([[0, 0, 10, 10, 0.8, 1], [0, 0, 10, 9, 0.6, 1], [50, 50, 60, 60, 0.7, 2]])
    boxes[2, :2] = torch.tensor([[0, 0, 10, 10, 0.4, 1], [0, 0, 10, 9, 0.3, 2]])  # too faint to be defects
    output = BoxOutput(anomaly_map=torch.zeros(4, 1, 64, 64), score=boxes[:, 0, 4], boxes=boxes)
    assert kind_doubt(output, 0.5) == pytest.approx([0.75, 0, 0, 0])


def test_a_region_of_two_kinds_is_in_doubt() -> None:
    maps, kinds = torch.zeros(3, 1, 32, 32), torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    maps[:2, :, 4:8, 4:14] = 0.8
    kinds[0, :, 4:8, 4:12], kinds[0, :, 4:8, 12:14] = 1, 2
    kinds[1, :, 4:8, 4:14] = 2
    maps[1, :, 20:22, 20:22] = 0.9  # a smaller region of another kind is no doubt of the large one
    kinds[1, :, 20:22, 20:22] = 1
    output = NamedOutput(anomaly_map=maps, score=maps.amax((1, 2, 3)), kind_map=kinds)
    assert kind_doubt(output, 0.5) == pytest.approx([0.25, 0, 0])
    plain = DetectorOutput(anomaly_map=maps, score=maps.amax((1, 2, 3)))
    assert kind_doubt(plain, 0.5) == [0, 0, 0]
