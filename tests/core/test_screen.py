"""Cells against a slow account of them, the tiles they pick, and the map of which only a part was seen."""

import json

import numpy as np
import pytest

from zellige.core.errors import BundleError, ConfigError, InputError
from zellige.core.screen import STATISTICS, Screen, cell_statistics, parse_screen, pick_tiles, unusual_cells
from zellige.core.screened_map import SCREENED, join_seen, reached_tiles
from zellige.core.tiling import join, lay_out
from zellige.core.types import Frame, Geometry, GeometryMode

GEOMETRY = Geometry(mode=GeometryMode.TILES, height=64, width=64, overlap_px=16)


def frame(height: int = 150, width: int = 230, seed: int = 0) -> Frame:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return Frame(pixels=pixels, pixel_size=None, source_id="frame")


def open_limits(channels: int = 1, **other: float) -> Screen:
    """Limits that nothing exceeds, but for the high ones given by statistic."""
    low = np.full((len(STATISTICS) * channels, 1), -1e6, np.float32)
    high = -low
    for name, value in other.items():
        high[STATISTICS.index(name) :: len(STATISTICS)] = value
    return Screen(cell_px=16, low=low, high=high)


@pytest.mark.parametrize(("shape", "cell"), [((37, 50), 8), ((64, 48), 16), ((33, 41, 3), 16)])
def test_statistics_are_those_of_every_cell(shape: tuple[int, ...], cell: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    found = cell_statistics(pixels, cell)
    planes = [pixels] if len(shape) == 2 else list(np.moveaxis(pixels, 2, 0))
    expected = np.concatenate([slow_statistics(plane, cell) for plane in planes])
    assert found.shape == expected.shape
    assert found == pytest.approx(expected, abs=2e-3)


def slow_statistics(plane: np.ndarray, cell: int) -> np.ndarray:
    height, width = plane.shape
    whole = np.pad(plane.astype(float), ((0, -height % cell), (0, -width % cell)), mode="symmetric")
    across, along = np.zeros_like(whole), np.zeros_like(whole)
    across[:, :-1] = np.abs(np.diff(whole, axis=1))
    along[:-1] = np.abs(np.diff(whole, axis=0))
    steps = np.minimum(across + along, 255)
    rows, columns = whole.shape[0] // cell, whole.shape[1] // cell
    means = whole.reshape(rows, cell, columns, cell).mean(axis=(1, 3))
    around, near, far = (neighborhood(means, side) for side in (5, 3, 11))
    spots = neighborhood(whole, 5)
    out = np.zeros((len(STATISTICS), rows, columns))
    for i, j in np.ndindex(rows, columns):
        part = (slice(i * cell, (i + 1) * cell), slice(j * cell, (j + 1) * cell))
        values, slopes, level = whole[part], steps[part], around[i, j]
        out[:, i, j] = (
            *(values.mean(), values.std(), slopes.mean(), slopes.max()),
            *(values.min() - level, values.max() - level, values.mean() - level, near[i, j] - far[i, j]),
            *(spots[part].min() - level, spots[part].max() - level),
            *(np.abs(values.mean(axis=axis) - values.mean()).max() for axis in (0, 1)),
        )
    return out


def neighborhood(values: np.ndarray, side: int) -> np.ndarray:
    """Mean of side x side values around each, mirrored at the borders."""
    padded = np.pad(values, side // 2, mode="symmetric")
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side)).mean(axis=(2, 3))


def test_a_tile_is_picked_where_a_pixel_of_an_unusual_cell_lies_in_it() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pixels = np.full((150, 230), 100, np.uint8)
        for _ in range(rng.integers(0, 3)):
            pixels[rng.integers(150), rng.integers(230)] = 200
        shown = Frame(pixels=pixels, pixel_size=None, source_id="f")
        layout = lay_out(shown, GEOMETRY)
        in_cell = np.zeros((160, 240), bool)
        for y, x in np.argwhere(pixels == 200):
            in_cell[y // 16 * 16 : y // 16 * 16 + 16, x // 16 * 16 : x // 16 * 16 + 16] = True
        if (pixels[-10:] == 200).any() or (pixels[:, -10:] == 200).any():
            continue  # mirrored into the last cell: the same cell, but not drawn above
        expected = [bool(in_cell[y : y + 64, x : x + 64].any()) for y, x in layout.corners]
        assert pick_tiles(open_limits(brightest=50), pixels, layout).tolist() == expected


def test_what_is_not_inspected_picks_no_tile() -> None:
    pixels = np.full((64, 64), 100, np.uint8)
    pixels[:, :16] = 250
    inspected = np.ones((64, 64), bool)
    inspected[:, :16] = False
    assert unusual_cells(open_limits(brightest=50), pixels).sum() == 4
    assert not unusual_cells(open_limits(brightest=50), pixels, inspected).any()


def test_limits_by_column_hold_for_their_column() -> None:
    low = np.full((len(STATISTICS), 3), -1e6, np.float32)
    high = -low
    high[STATISTICS.index("mean")] = [100, 150, 200]
    screen = Screen(cell_px=16, low=low, high=high, width_px=40)
    assert unusual_cells(screen, np.full((16, 40), 140, np.uint8)).tolist() == [[True, False, False]]
    with pytest.raises(InputError, match="width of 40 px"):
        unusual_cells(screen, np.full((16, 48), 140, np.uint8))
    with pytest.raises(InputError, match="1 channel"):
        unusual_cells(screen, np.full((16, 40, 3), 140, np.uint8))


def test_a_map_of_some_tiles_is_the_whole_map_where_all_were_seen() -> None:
    layout = lay_out(frame(), GEOMETRY)
    maps = dict(enumerate(np.random.default_rng(2).random((len(layout.parts), 64, 64)).astype(np.float32)))
    whole = join(maps.values(), layout)
    assert np.array_equal(join_seen(maps, layout), whole)
    seen = {number: maps[number] for number in (0, 1, 6)}
    found = join_seen(seen, layout)
    none, one = np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)
    sums = join([seen.get(number, none) for number in maps], layout)
    weights = join([one if number in seen else none for number in maps], layout)
    assert np.array_equal(found == SCREENED, weights == 0)
    assert found[weights > 0] == pytest.approx((sums / np.maximum(weights, 1e-9))[weights > 0], rel=1e-4)
    assert np.array_equal(found[weights > 0.9999], sums[weights > 0.9999])


def test_a_region_reaches_the_tiles_that_it_touches() -> None:
    layout = lay_out(frame(64, 160), GEOMETRY)
    assert [x for _, x in layout.corners] == [0, 48, 96]
    above = np.zeros((64, 64), bool)
    assert reached_tiles(above, 1, layout) == []
    above[30, 20] = True  # column 68 of the frame: in no other tile, and not beside one
    assert reached_tiles(above, 1, layout) == []
    above[30, 16] = True  # column 64: beside the last column of tile 0
    assert reached_tiles(above, 1, layout) == [0]
    above[5, 47] = True  # column 95: beside the first column of tile 2
    assert reached_tiles(above, 1, layout) == [0, 2]


def test_stored_limits_come_back_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    low = rng.normal(size=(12, 4)).astype(np.float32)
    screen = Screen(cell_px=32, low=low, high=low + np.float32(0.1), width_px=100)
    back = parse_screen(screen.to_bytes(), "b")
    assert (back.cell_px, back.width_px) == (32, 100)
    assert np.array_equal(back.low, screen.low)
    assert np.array_equal(back.high, screen.high)
    assert back.to_bytes() == screen.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"statistics": ["mean"]},
        {"cell_px": 4},
        {"cell_px": "many"},
        {"low": [[1.0]]},
        {"low": [[1e9]] * 12},
        {"high": None},
        {"width_px": 40},
    ],
)
def test_damaged_limits_are_refused(change: dict[str, object]) -> None:
    content = json.loads(open_limits().to_bytes())
    with pytest.raises(BundleError, match=r"screen\.json"):
        parse_screen(json.dumps(content | change).encode(), "b")
    with pytest.raises(BundleError, match="damaged"):
        parse_screen(b"{", "b")


def test_a_cell_has_a_sensible_size() -> None:
    limits = np.zeros((12, 1), np.float32)
    with pytest.raises(ConfigError, match="8 to 64"):
        Screen(cell_px=128, low=limits, high=limits)
