from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import save_image, texture
from zellige.core.errors import InputError
from zellige.core.tiling import cut
from zellige.core.types import Color, Frame, Geometry, GeometryMode, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset

TILES = Geometry(mode=GeometryMode.TILES, height=32, width=32, overlap_px=8)
RESIZE = Geometry(mode=GeometryMode.RESIZE, height=32, width=40)
SIZES = [(32, 32), (32, 60), (70, 33), (100, 100), (48, 48)]


def write_samples(root: Path, *, rgb: bool = False) -> list[Sample]:
    samples = []
    for index, size in enumerate(SIZES):
        path = root / f"{index}.png"
        save_image(path, texture(index, rgb=rgb, size=size))
        samples.append(Sample(id=path.name, image_path=path, kind="good", group_id=path.name))
    return samples


def expected_tiles(geometry: Geometry, *, rgb: bool = False) -> Counter[bytes]:
    frames = [
        Frame(pixels=texture(index, rgb=rgb, size=size), pixel_size=None, source_id="")
        for index, size in enumerate(SIZES)
    ]
    return Counter(tile.tobytes() for frame in frames for tile in cut(frame, geometry).pixels)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 16, 1000])
@pytest.mark.parametrize("geometry", [TILES, RESIZE], ids=["tiles", "resize"])
def test_every_tile_comes_exactly_once(tmp_path: Path, geometry: Geometry, batch_size: int) -> None:
    dataset = TileDataset(write_samples(tmp_path), geometry=geometry, color=Color.GRAY)
    calls = []
    batches = list(dataset.shuffled_batches(batch_size, seed=3, advance=lambda: calls.append(1)))
    expected = expected_tiles(geometry)
    assert Counter(tile.numpy().tobytes() for batch in batches for tile in batch) == expected
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size
    assert {(tuple(batch.shape[1:]), str(batch.dtype)) for batch in batches} == {
        ((1, geometry.height, geometry.width), "torch.uint8")
    }
    assert len(calls) == len(SIZES)


def test_rgb_tiles_are_channels_first(tmp_path: Path) -> None:
    dataset = TileDataset(write_samples(tmp_path, rgb=True), geometry=TILES, color=Color.RGB)
    batches = list(dataset.shuffled_batches(4, seed=0, advance=lambda: None))
    assert batches[0].shape[1] == 3
    assert Counter(tile.numpy().tobytes() for b in batches for tile in b) == expected_tiles(TILES, rgb=True)


def order(dataset: TileDataset, seed: int, batch_size: int = 4) -> list[bytes]:
    return [
        tile.numpy().tobytes()
        for batch in dataset.shuffled_batches(batch_size, seed=seed, advance=lambda: None)
        for tile in batch
    ]


def test_the_seed_decides_the_order_and_the_batch_size_does_not(tmp_path: Path) -> None:
    dataset = TileDataset(write_samples(tmp_path), geometry=TILES, color=Color.GRAY)
    assert order(dataset, 1) == order(dataset, 1) == order(dataset, 1, batch_size=3)
    assert order(dataset, 1) != order(dataset, 2)


def test_augmentation_is_for_batches_alone(tmp_path: Path) -> None:
    samples = write_samples(tmp_path)
    plain = TileDataset(samples, geometry=TILES, color=Color.GRAY)
    flipped = TileDataset(samples, geometry=TILES, color=Color.GRAY, augment=Augment("flips", seed=0))
    assert order(plain, 1) != order(flipped, 1)
    for index in range(len(samples)):
        assert np.array_equal(plain[index].pixels, flipped[index].pixels)


def test_luma_reads_color_as_one_channel(tmp_path: Path) -> None:
    dataset = TileDataset(write_samples(tmp_path, rgb=True), geometry=RESIZE, color=Color.LUMA)
    assert dataset[0].pixels.shape == (1, 1, 32, 40)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "truncated"),
        (lambda path: save_image(path, texture(0, rgb=True)), "expected a gray image, got color"),
        (lambda path: save_image(path, texture(0, size=(31, 64))), "at least one tile of 32 x 32 px, got 31 x 64"),
    ],
)
def test_an_image_that_changed_since_it_was_listed_is_refused(tmp_path: Path, spoil, message: str) -> None:
    samples = write_samples(tmp_path)
    spoil(samples[2].image_path)
    dataset = TileDataset(samples, geometry=TILES, color=Color.GRAY)
    with pytest.raises(InputError, match=message) as caught:
        list(dataset.shuffled_batches(4, seed=0, advance=lambda: None))
    assert str(samples[2].image_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_copies_come_besides_the_images_as_they_are(tmp_path: Path, batch_size: int) -> None:
    dataset = TileDataset(write_samples(tmp_path), geometry=TILES, color=Color.GRAY, augment=Augment("jitter", seed=0))
    calls = []
    batches = dataset.shuffled_batches(batch_size, seed=0, advance=lambda: calls.append(1), copies=3)
    found = Counter(tile.numpy().tobytes() for batch in batches for tile in batch)
    expected = expected_tiles(TILES)
    assert len(calls) == 4 * len(SIZES)
    assert found.total() == 4 * expected.total()
    assert {tile: found[tile] for tile in expected} == expected


def test_some_of_the_samples(tmp_path: Path) -> None:
    dataset = TileDataset(write_samples(tmp_path), geometry=RESIZE, color=Color.GRAY, augment=Augment("flips", seed=0))
    few = dataset.only([3, 1])
    assert [sample.id for sample in few.samples] == ["3.png", "1.png"]
    assert (few.geometry, few.color, few.augment) == (dataset.geometry, dataset.color, dataset.augment)
    assert len(dataset) == len(SIZES)
