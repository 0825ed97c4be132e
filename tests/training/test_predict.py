from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import HEIGHT, WIDTH, save_image, texture
from tests.training.conftest import GEOMETRY, Fitted
from zellige.core.errors import InputError
from zellige.core.ignore import Foreground
from zellige.core.image_files import read_pixels
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.evaluation.predictions import PredictionSet
from zellige.models.detector import DetectorOutput
from zellige.training.predict import milliseconds_per_image, predict


class Brightness(nn.Module):
    """A detector that can be checked by hand: the map is the gray level, the score its maximum."""

    def forward(self, images: torch.Tensor) -> DetectorOutput:
        anomaly_map = images.float().mean(1, keepdim=True)
        return DetectorOutput(anomaly_map=anomaly_map, score=anomaly_map.amax((1, 2, 3)))


class NotANumber(nn.Module):
    def forward(self, images: torch.Tensor) -> DetectorOutput:
        nothing = images.float()[:, :1] * float("nan")
        return DetectorOutput(anomaly_map=nothing, score=nothing[:, 0, 0, 0])


def test_every_sample_once_with_a_map_of_its_size(fitted: Fitted, tmp_path: Path) -> None:
    found = predict(fitted.detector, fitted.dataset("test"), "test", fabric=fitted.fabric, out_dir=tmp_path)
    assert isinstance(found, PredictionSet)
    assert found.split == "test"
    assert [p.sample.id for p in found] == [sample.id for sample in fitted.splits.test]
    assert {p.anomaly_map.shape for p in found} == {(HEIGHT, WIDTH)}
    good, bad = found.scores[~found.is_defective], found.scores[found.is_defective]
    assert bad.min() > good.max()
    again = PredictionSet.load(tmp_path / "test", fitted.splits.test)
    assert again.fingerprint == found.fingerprint


@pytest.mark.parametrize("batch_size", [1, 3, 8, 1000])
def test_the_score_is_the_worst_tile_and_tiles_join_to_the_image(
    fitted: Fitted, tmp_path: Path, batch_size: int
) -> None:
    dataset = fitted.dataset("test")
    found = predict(Brightness(), dataset, "test", fabric=fitted.fabric, out_dir=tmp_path, batch_size=batch_size)
    for prediction in found:
        pixels = read_pixels(prediction.sample.image_path)
        assert prediction.score == pixels.max()
        assert prediction.anomaly_map == pytest.approx(pixels, abs=1e-3)


def test_images_of_different_sizes_share_batches(fitted: Fitted, tmp_path: Path) -> None:
    sizes = [(64, 64), (200, 70), (64, 65), (130, 128)]
    samples = []
    for index, size in enumerate(sizes):
        path = tmp_path / f"{index}.png"
        save_image(path, texture(index, size=size))
        samples.append(Sample(id=str(index), image_path=path, kind="good", group_id=str(index)))
    for geometry in (GEOMETRY, Geometry(mode=GeometryMode.RESIZE, height=64, width=64)):
        dataset = TileDataset(samples, geometry=geometry, color=Color.GRAY)
        out_dir = tmp_path / geometry.mode.value
        found = predict(Brightness(), dataset, "val", fabric=fitted.fabric, out_dir=out_dir, batch_size=5)
        assert [p.anomaly_map.shape for p in found] == sizes


def test_scores_do_not_depend_on_the_batch_size(fitted: Fitted, tmp_path: Path) -> None:
    scores = [
        predict(
            fitted.detector,
            fitted.dataset("val"),
            "val",
            fabric=fitted.fabric,
            out_dir=tmp_path / str(size),
            batch_size=size,
        ).scores
        for size in (1, 16)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_a_score_that_is_no_number_ends_the_work_and_leaves_nothing(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a finite score and map"):
        predict(NotANumber(), fitted.dataset("val"), "val", fabric=fitted.fabric, out_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_time_of_an_image_is_measured(fitted: Fitted) -> None:
    milliseconds = milliseconds_per_image(Brightness(), fitted.dataset("test"), fabric=fitted.fabric, most=3)
    assert np.isfinite(milliseconds)
    assert milliseconds > 0


def test_images_without_a_part_are_told_in_one_line(
    fitted: Fitted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The texture fills these images, so there is no part and no background."""
    geometry = replace(GEOMETRY, foreground=Foreground.AUTO)
    dataset = TileDataset(fitted.splits.test[:3], geometry=geometry, color=Color.GRAY)
    predict(Brightness(), dataset, "test", fabric=fitted.fabric, out_dir=tmp_path)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    first = min(sample.id for sample in dataset.samples)
    assert warning.startswith(f"predict test: 3 images, first {first}: the background is inspected too: the part would")
