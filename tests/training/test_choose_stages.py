"""The choice with the real backbone on small textures: planted cases, repeatability, splits, bad input."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from tests.conftest import save_image, texture
from tests.models.weight_files import named
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.data.synthetic_anomalies import KINDS, Anomaly
from zellige.training.choose_stages import StageChoice, choose_stages, split_held_out

SIDE = 64


def dataset(root: Path, num: int, *, rgb: bool = False, size: int = SIDE) -> TileDataset:
    samples = []
    for index in range(num):
        path = root / f"{index:03}.png"
        save_image(path, texture(index, rgb=rgb, size=(size, size)))
        samples.append(Sample(id=path.name, image_path=path, kind="good", group_id=path.name))
    geometry = Geometry(mode=GeometryMode.TILES, height=SIDE, width=SIDE)
    return TileDataset(samples, geometry=geometry, color=Color.RGB if rgb else Color.GRAY)


def choose(train: TileDataset, **settings) -> StageChoice:
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=1)
    return choose_stages(train, backbone="efficientnet_lite0", grid_stride=8, fabric=fabric, **settings)


def fine_grain(pixels: np.ndarray, others: Sequence[np.ndarray], rng: np.random.Generator, kind: str) -> Anomaly:
    """A pattern of single pixels in a small square: gone after a few strides."""
    mask = np.zeros(pixels.shape[:2], bool)
    y, x = rng.integers(8, SIDE - 20, 2)
    mask[y : y + 12, x : x + 12] = True
    board = np.where(np.indices(pixels.shape[:2]).sum(0) % 2 == 0, 12, -12)
    spoilt = np.clip(pixels + board, 0, 255).astype(np.uint8)
    return Anomaly(pixels=np.where(mask, spoilt, pixels), mask=mask, kind=kind)


def test_what_only_fine_stages_see_chooses_fine_stages(tmp_path: Path) -> None:
    choice = choose(dataset(tmp_path, 16), make=fine_grain)
    assert max(choice.stages) <= 1
    criterion = {row.stages: row.criterion for row in choice.table}
    assert criterion[choice.stages] > criterion[(3,)] + 0.1
    assert criterion[choice.stages] > criterion[(4,)] + 0.1


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[TileDataset, StageChoice]:
    train = dataset(tmp_path_factory.mktemp("chosen"), 12, rgb=True)
    return train, choose(train)


def test_the_table_holds_every_subset_and_kind(chosen) -> None:
    _, choice = chosen
    assert len({row.stages for row in choice.table}) == 15
    assert choice.stages in {row.stages for row in choice.table}
    assert [row.criterion for row in choice.table] == sorted((row.criterion for row in choice.table), reverse=True)
    for row in choice.table:
        assert set(row.by_kind) == set(KINDS)
        assert all(0 <= value <= 1 for value in row.by_kind.values())
        assert row.behind >= 0
    assert (choice.num_fit_images, choice.num_held_out_images, choice.num_held_out_tiles) == (9, 3, 3)
    assert choice.num_anomalies == 16 * len(KINDS)


def test_the_same_seed_gives_the_same_choice_and_no_global_state_does(chosen) -> None:
    train, choice = chosen
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = choose(train)
    assert again.table == choice.table
    assert again.stages == choice.stages
    assert choose(train, seed=1).table != choice.table


def test_only_so_many_images_and_tiles_are_looked_at(tmp_path: Path) -> None:
    """80 images of four tiles each: 64 of them, and all four tiles, as 512 / 64 are allowed."""
    choice = choose(dataset(tmp_path, 80, size=2 * SIDE))
    assert (choice.num_fit_images, choice.num_held_out_images) == (48, 16)
    assert choice.num_held_out_tiles == 64


def test_an_unknown_backbone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="backbone: expected one of"):
        choose_stages(dataset(tmp_path, 8), backbone="vgg", grid_stride=8, fabric=Fabric(accelerator="cpu", devices=1))


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least 8 good training images to choose from, got 7"):
        choose(dataset(tmp_path, 7))


@pytest.mark.parametrize(
    ("groups", "held_out"),
    [
        ("abcdefgh", "ab"),
        ("aabbccdd", "aa"),
        ("aaaaaabc", "bc"),
        ("aaaaaaaa", "one by one"),
        ("aaaaabbb", "bbb"),
        ("abababab", "aaaa"),
    ],
)
def test_whole_groups_are_held_out(groups: str, held_out: str) -> None:
    images = list(range(10, 18))
    fit, held = split_held_out(images, list(groups))
    assert sorted(fit + held) == images
    if held_out == "one by one":
        assert held == [10, 11]
    else:
        assert "".join(groups[i - 10] for i in held) == held_out
        assert not {groups[i - 10] for i in fit} & set(held_out)


def test_a_backbone_of_one_grid_has_nothing_to_choose_from(tmp_path: Path) -> None:
    fabric, name = Fabric(accelerator="cpu", devices=1), named("timm", "test_vit")
    with pytest.raises(ConfigError, match=r"model\.stages=auto: expected a backbone with stages of stride \(2, 4, 8"):
        choose_stages(dataset(tmp_path, 8), backbone=name, grid_stride=8, fabric=fabric)
