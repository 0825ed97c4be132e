import numpy as np
import pytest

from tests.conftest import texture
from zellige.core.errors import ConfigError
from zellige.data.augment import POLICIES, Augment


def tiles(num_channels: int, count: int = 40) -> np.ndarray:
    """Tiles (N, C, 32, 48) uint8, all different."""
    pictures = [texture(seed, rgb=num_channels == 3, size=(32, 48)) for seed in range(count)]
    return np.ascontiguousarray([p[None] if p.ndim == 2 else p.transpose(2, 0, 1) for p in pictures])


def mirrors(tile: np.ndarray) -> list[np.ndarray]:
    return [tile, tile[:, ::-1], tile[:, :, ::-1], tile[:, ::-1, ::-1]]


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_shape_and_type_stay_and_the_input_is_not_changed(policy: str, num_channels: int) -> None:
    given = tiles(num_channels)
    before = given.copy()
    changed = Augment(policy, seed=0)(given)
    assert changed.shape == given.shape
    assert changed.dtype == np.uint8
    assert changed.flags.c_contiguous
    assert np.array_equal(given, before)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_seed_decides(policy: str) -> None:
    first, again, other = (Augment(policy, seed=seed) for seed in (1, 1, 2))
    for part in np.split(tiles(1), 4):
        expected = first(part)
        assert np.array_equal(expected, again(part))
        differs = not np.array_equal(expected, other(part))
        assert differs == (policy != "none")


def test_none_is_the_identity() -> None:
    assert np.array_equal(Augment("none", seed=0)(tiles(3)), tiles(3))


@pytest.mark.parametrize("num_channels", [1, 3])
def test_flips_give_each_mirror_image_and_nothing_else(num_channels: int) -> None:
    given = tiles(num_channels)
    seen = [0, 0, 0, 0]
    for tile, changed in zip(given, Augment("flips", seed=0)(given), strict=True):
        matches = [np.array_equal(changed, mirror) for mirror in mirrors(tile)]
        assert sum(matches) == 1
        seen[matches.index(True)] += 1
    assert min(seen) > 0


@pytest.mark.parametrize("num_channels", [1, 3])
def test_line_changes_grey_levels_a_little_and_moves_nothing(num_channels: int) -> None:
    given = tiles(num_channels)
    num_changed = 0
    for tile, changed in zip(given, Augment("line", seed=0)(given), strict=True):
        alike = [float(np.corrcoef(changed.ravel(), mirror.ravel())[0, 1]) for mirror in mirrors(tile)]
        same = mirrors(tile)[int(np.argmax(alike))].astype(float)
        assert max(alike) > 0.9
        assert np.abs(changed - same).mean() < 20
        num_changed += not np.array_equal(changed, same)
    assert num_changed > len(given) / 4


def test_unknown_policy() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.augment: expected one of none, flips, .*labelled_turns, got 'strong'"
    ):
        Augment("strong", seed=0)


def turns(tile: np.ndarray) -> list[np.ndarray]:
    """The eight mirror images and quarter turns of a square tile (C, h, h), the tile itself first."""
    turned = [np.rot90(tile, k, axes=(1, 2)) for k in range(4)]
    return turned + [t[:, :, ::-1] for t in turned]


@pytest.mark.parametrize(("policy", "size", "wanted"), [("jitter", 64, {0}), ("jitter_turns", 64, set(range(8)))])
def test_jitter_moves_a_little_and_turns_only_when_asked(policy: str, size: int, wanted: set[int]) -> None:
    pictures = [texture(seed, size=(size, size))[None] for seed in range(60)]
    seen = set()
    for tile, changed in zip(pictures, Augment(policy, seed=0)(np.stack(pictures)), strict=True):
        middle = (slice(None), slice(16, -16), slice(16, -16))
        alike = [float(np.corrcoef(changed[middle].ravel(), turn[middle].ravel())[0, 1]) for turn in turns(tile)]
        assert max(alike) > 0.5
        assert not np.array_equal(changed, tile)
        assert np.abs(changed.astype(float).mean() - tile.mean()) < 25
        seen.add(int(np.argmax(alike)))
    assert seen == wanted


def test_jitter_moves_a_mask_with_its_tile() -> None:
    tile = np.full((1, 1, 64, 64), 100, np.uint8)
    mask = np.zeros((1, 64, 64), np.bool_)
    mask[0, 20:30, 34:50] = True
    tile[0, 0][mask[0]] = 200
    for seed in range(10):
        changed, moved = Augment("jitter_turns", seed=seed).with_masks(tile, mask)
        found = changed[0, 0] > changed.mean() + 25
        assert (found & moved[0]).sum() / (found | moved[0]).sum() > 0.8
