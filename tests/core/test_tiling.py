"""Tiles: they cover the frame, cutting and joining gives it back, and no seam shows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zellige.core.errors import ConfigError, InputError
from zellige.core.ignore import IgnoredShape
from zellige.core.tiling import cut, join, join_kind_maps, tile_corners, tile_starts
from zellige.core.types import Frame, Geometry, GeometryMode


def frame(height: int, width: int, *, channels: int = 1, seed: int = 0) -> Frame:
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return Frame(pixels=pixels, pixel_size=None, source_id="f")


def tiles_geometry(height: int = 32, width: int = 32, overlap: int = 0, *, pad: bool = False) -> Geometry:
    return Geometry(mode=GeometryMode.TILES, height=height, width=width, overlap_px=overlap, pad_small=pad)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    height, width = draw(st.integers(32, 48)), draw(st.integers(32, 48))
    return tiles_geometry(height, width, draw(st.integers(0, min(height, width) // 2)), pad=True)


@given(st.integers(1, 2000), st.integers(32, 256), st.data())
def test_starts_cover_with_at_least_the_overlap_and_no_tile_too_many(
    length: int, tile: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile // 2))
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    if length <= tile:
        assert starts == (0,)
        return
    assert starts[-1] + tile == length
    assert all(tile - (b - a) >= overlap for a, b in pairwise(starts))
    assert (len(starts) - 2) * (tile - overlap) + tile < length  # one tile fewer would not reach


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), geometries(), st.integers(0, 5))
def test_join_of_the_tiles_gives_the_frame_back(height: int, width: int, geometry: Geometry, seed: int) -> None:
    source = frame(height, width, seed=seed)
    tiles = cut(source, geometry)
    joined = join(tiles.pixels[:, 0].astype(np.float32), tiles)
    assert joined.shape == (height, width)
    np.testing.assert_allclose(joined, source.pixels, atol=1e-3)


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), geometries(), st.floats(-100, 100, width=32))
def test_join_of_constant_maps_is_constant(height: int, width: int, geometry: Geometry, value: float) -> None:
    tiles = cut(frame(height, width), geometry)
    maps = np.full((len(tiles.pixels), geometry.height, geometry.width), value, np.float32)
    np.testing.assert_allclose(join(maps, tiles), value, rtol=1e-5, atol=1e-30)


@settings(deadline=None)
@given(st.integers(33, 150), st.integers(33, 150), geometries(), st.integers(0, 99))
def test_join_stays_between_the_tiles_that_it_blends(height: int, width: int, geometry: Geometry, seed: int) -> None:
    """Against a slow reference: per pixel, the smallest and the largest value of the tiles that contain it."""
    tiles = cut(frame(height, width), geometry)
    maps = np.random.default_rng(seed).random((len(tiles.pixels), geometry.height, geometry.width)).astype(np.float32)
    size = (tiles.ys[-1] + geometry.height, tiles.xs[-1] + geometry.width)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    for index, (y, x) in enumerate((y, x) for y in tiles.ys for x in tiles.xs):
        window = (slice(y, y + geometry.height), slice(x, x + geometry.width))
        low[window] = np.minimum(low[window], maps[index])
        high[window] = np.maximum(high[window], maps[index])
    joined = join(maps, tiles)
    assert (joined >= low[:height, :width] - 1e-5).all()
    assert (joined <= high[:height, :width] + 1e-5).all()


def test_two_tiles_blend_linearly() -> None:
    """One row of two 32 px tiles that share 16 px: 0 and 1 join to a ramp with the middle at one half."""
    tiles = cut(frame(32, 48), tiles_geometry(overlap=16))
    maps = np.stack([np.zeros((32, 32), np.float32), np.ones((32, 32), np.float32)])
    row = join(maps, tiles)[0]
    np.testing.assert_array_equal(row[:16], 0)
    np.testing.assert_allclose(row[16:32], (np.arange(16) + 0.5) / 16, atol=1e-6)
    np.testing.assert_array_equal(row[32:], 1)


def test_join_takes_an_iterator_and_refuses_a_wrong_number_of_maps() -> None:
    tiles = cut(frame(70, 70), tiles_geometry())
    maps = np.random.default_rng(0).random((len(tiles.pixels), 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(join(iter(maps), tiles), join(maps, tiles))
    with pytest.raises(ValueError, match="zip"):
        join(maps[:-1], tiles)


def test_tiles_are_the_frames_pixels_channels_first() -> None:
    source = frame(40, 50, channels=3)
    tiles = cut(source, tiles_geometry())
    assert tiles.pixels.shape == (4, 3, 32, 32)
    assert tiles.pixels.flags.c_contiguous
    for index, (y, x) in enumerate((y, x) for y in tiles.ys for x in tiles.xs):
        expected = source.pixels[y : y + 32, x : x + 32].transpose(2, 0, 1)
        np.testing.assert_array_equal(tiles.pixels[index], expected)


def test_small_frame_is_mirrored_or_refused() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(1, 6).repeat(40, axis=0)
    small = Frame(pixels=pixels, pixel_size=None, source_id="narrow")
    with pytest.raises(InputError, match="frame narrow: expected at least one tile of 32 x 32 px, got 40 x 6"):
        cut(small, tiles_geometry())
    row = cut(small, tiles_geometry(pad=True)).pixels[0, 0, 0]
    mirrored = [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]
    np.testing.assert_array_equal(row, (mirrored * 3)[:32])


def test_resize_maps_back_to_the_frames_size() -> None:
    geometry = Geometry(mode=GeometryMode.RESIZE, height=32, width=64)
    source = Frame(pixels=np.full((100, 300), 77, np.uint8), pixel_size=None, source_id="f")
    tiles = cut(source, geometry)
    assert tiles.pixels.shape == (1, 1, 32, 64)
    assert (tiles.pixels == 77).all()
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(32, axis=0)
    joined = join(ramp[None], tiles)
    assert joined.shape == (100, 300)
    assert (np.diff(joined[50]) >= 0).all()
    np.testing.assert_allclose(joined[50].mean(), 0.5, atol=1e-3)


def test_shrinking_averages_areas() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[::2, ::2] = 200
    tiles = cut(
        Frame(pixels=pixels, pixel_size=None, source_id="f"), Geometry(mode=GeometryMode.RESIZE, height=32, width=32)
    )
    assert (tiles.pixels == 50).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 31}, "geometry height"),
        ({"width": 5000}, "geometry width"),
        ({"overlap_px": 17}, "overlap_px"),
        ({"overlap_px": -1}, "overlap_px"),
        ({"mode": GeometryMode.RESIZE, "overlap_px": 4}, "belong to tiles"),
        ({"mode": GeometryMode.RESIZE, "pad_small": True}, "belong to tiles"),
    ],
)
def test_bad_geometry(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Geometry(**{"mode": GeometryMode.TILES, "height": 32, "width": 32, **changes})


@settings(deadline=None, max_examples=30)
@given(st.integers(33, 120), st.integers(33, 120), geometries(), st.integers(0, 99))
def test_of_overlapping_kind_maps_the_heavier_tile_wins(height: int, width: int, geometry: Geometry, seed: int) -> None:
    """A tile's weight is what the join of maps gives where that tile alone is one."""
    tiles = cut(frame(height, width), geometry)
    num = len(tiles.pixels)
    kind_maps = np.random.default_rng(seed).integers(0, 9, (num, geometry.height, geometry.width)).astype(np.uint8)
    weights, numbers = np.zeros((num, height, width), np.float32), np.zeros((num, height, width), np.uint8)
    for index, (y, x) in enumerate(tile_corners(tiles)):
        alone = np.zeros(kind_maps.shape, np.float32)
        alone[index] = 1
        weights[index] = join(alone, tiles)
        part = kind_maps[index][: height - y, : width - x]
        numbers[index, y : y + geometry.height, x : x + geometry.width] = part
    joined = join_kind_maps(kind_maps, tiles)
    assert joined.dtype == np.uint8
    is_heaviest = weights >= weights.max(axis=0) - 1e-6  # where two weigh the same, either may win
    assert ((numbers == joined) & is_heaviest).any(axis=0).all()


def test_a_resized_kind_map_takes_the_nearest_pixel_and_hides_what_is_ignored() -> None:
    ignored = IgnoredShape(box=(0, 0, 10, 5))
    geometry = Geometry(mode=GeometryMode.RESIZE, height=32, width=48, ignore=(ignored,))
    tiles = cut(frame(75, 100), geometry)
    numbers = np.random.default_rng(0).integers(1, 256, (32, 48)).astype(np.uint8)
    joined = join_kind_maps(numbers[None], tiles)
    for y in range(75):
        for x in range(100):
            is_ignored = y < 5 and x < 10
            expected = 0 if is_ignored else numbers[int((y + 0.5) * 32 / 75), int((x + 0.5) * 48 / 100)]
            assert joined[y, x] == expected
