import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import save_image, texture
from zellige.core.errors import InputError
from zellige.core.ignore import IgnoredShape
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.data.labelled_dataset import LabelledDataset

SIZE = (64, 96)
TILES = Geometry(mode=GeometryMode.TILES, height=32, width=32)
RESIZE = Geometry(mode=GeometryMode.RESIZE, height=32, width=48)


def sample(root: Path, name: str, mask: np.ndarray | None = None, *, kind: str = "hole") -> Sample:
    """A picture that is 255 where its mask is, so that pixels say where the defect went."""
    pixels = np.full(SIZE, 60, np.uint8) if mask is not None else texture(3, size=SIZE)
    mask_path = None
    if mask is not None:
        pixels[mask] = 255
        mask_path = root / f"{name}_mask.png"
        save_image(mask_path, mask.astype(np.uint8) * 255)
    save_image(root / f"{name}.png", pixels)
    return Sample(id=name, image_path=root / f"{name}.png", kind=kind, group_id=name, mask_path=mask_path)


def box(y: int, x: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[y : y + height, x : x + width] = True
    return mask


def dataset(root: Path, defects: list[Sample], geometry: Geometry, policy: str = "none") -> LabelledDataset:
    good = [sample(root, "good", kind="good")]
    augment = Augment(policy, seed=0)
    return LabelledDataset(TileDataset(good, geometry=geometry, color=Color.GRAY, augment=augment, defects=defects))


def test_a_good_image_has_empty_masks_that_are_known(tmp_path: Path) -> None:
    tiles = dataset(tmp_path, [], TILES).read(0)
    assert tiles is not None
    assert tiles.pixels.shape == (6, 1, 32, 32)
    assert tiles.masks.shape == (6, 32, 32)
    assert tiles.has_mask
    assert not tiles.masks.any()
    assert not tiles.is_defective.any()


def test_a_mask_is_cut_as_its_image_is(tmp_path: Path) -> None:
    mask = box(10, 20, 30, 20)  # over the corner where four of the six tiles meet
    tiles = dataset(tmp_path, [sample(tmp_path, "bad", mask)], TILES).read(1)
    assert tiles is not None
    assert np.array_equal(tiles.masks, tiles.pixels[:, 0] == 255)
    assert tiles.is_defective.tolist() == [True, True, False, True, True, False]
    assert tiles.has_mask


def test_a_resized_mask_keeps_a_defect_of_one_pixel(tmp_path: Path) -> None:
    small = Geometry(mode=GeometryMode.RESIZE, height=32, width=32)
    for mask, expected in ((box(8, 9, 16, 18), 48), (box(11, 31, 1, 1), 1)):
        tiles = dataset(tmp_path, [sample(tmp_path, "bad", mask)], small).read(1)
        assert tiles is not None
        assert tiles.is_defective.tolist() == [True]
        # 64 x 96 to 32 x 32: two lines and three columns become one pixel.
        assert int(tiles.masks.sum()) == expected
    ys, xs = np.nonzero(tiles.masks[0])
    assert (ys.tolist(), xs.tolist()) == ([5], [10])


def test_a_label_alone_says_nothing_about_tiles(tmp_path: Path) -> None:
    whole = dataset(tmp_path, [sample(tmp_path, "bad")], RESIZE).read(1)
    assert whole is not None
    assert (whole.is_defective.tolist(), whole.has_mask) == ([True], False)
    assert dataset(tmp_path, [sample(tmp_path, "bad")], TILES).read(1) is None


def test_flips_move_the_mask_with_the_pixels(tmp_path: Path) -> None:
    data = dataset(tmp_path, [sample(tmp_path, "bad", box(3, 5, 6, 4))], TILES, "flips")
    corners = set()
    for epoch in range(12):
        assert data.augment is not None
        tiles = data.read(1, data.augment.in_epoch(epoch))
        assert tiles is not None
        assert np.array_equal(tiles.masks, tiles.pixels[:, 0] == 255)
        corners.add(tuple(np.argwhere(tiles.masks[0])[0]))
    assert corners == {(3, 5), (3, 23), (23, 5), (23, 23)}
    again = data.read(1, data.augment.in_epoch(0))
    assert again is not None
    first = data.read(1, data.augment.in_epoch(0))
    assert first is not None
    assert np.array_equal(first.pixels, again.pixels)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    bad = sample(tmp_path, "bad", box(3, 5, 6, 4))
    save_image(tmp_path / "bad_mask.png", np.full((64, 95), 255, np.uint8))
    with pytest.raises(InputError, match="expected its image's size 64 x 96 px, got 64 x 95"):
        dataset(tmp_path, [bad], TILES).read(1)


@pytest.mark.parametrize("geometry", [TILES, RESIZE])
def test_a_defect_that_is_not_inspected_teaches_nothing(tmp_path: Path, geometry: Geometry) -> None:
    """The left third is ignored: with tiles, the two tiles of it are left out."""
    ignoring = dataclasses.replace(geometry, ignore=(IgnoredShape(columns=(0, 32)),))
    bad = [sample(tmp_path, "hidden", box(4, 4, 9, 20)), sample(tmp_path, "across", box(20, 22, 30, 30))]
    data = dataset(tmp_path, bad, ignoring)
    assert data.read(1) is None
    tiles = data.read(2)
    assert tiles is not None
    assert len(tiles.pixels) == (4 if geometry is TILES else 1)
    seen = box(20, 32, 30, 20)
    if geometry is TILES:
        expected = np.stack([seen[y : y + 32, x : x + 32] for y in (0, 32) for x in (32, 64)])
        assert np.array_equal(tiles.masks, expected)
        assert tiles.is_defective.tolist() == [True, False, True, False]
    else:
        assert np.array_equal(tiles.masks[0], seen[::2, ::2])
    good = data.read(0)
    assert good is not None
    assert good.masks.shape == tiles.masks.shape
