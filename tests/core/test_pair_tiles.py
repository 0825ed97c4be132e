"""Tiles of a frame with its template: both cut alike, the image's channels first, the template where it belongs."""

import dataclasses

import numpy as np
import pytest

from tests.shifted import surface
from zellige.core.errors import ConfigError, InputError
from zellige.core.ignore import IgnoredShape
from zellige.core.registration import Shift
from zellige.core.tiling import cut, cut_alike, join, lay_out
from zellige.core.types import Frame, Geometry, GeometryMode, Registration

TILES = Geometry(mode=GeometryMode.TILES, height=48, width=40, overlap_px=8)
RESIZE = Geometry(mode=GeometryMode.RESIZE, height=48, width=40)
SIZE = (110, 130)


def noise(seed: int, channels: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def framed(pixels: np.ndarray, template: np.ndarray | None = None) -> Frame:
    return Frame(pixels=pixels, template=template, pixel_size=None, source_id="f")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("geometry", [TILES, RESIZE, dataclasses.replace(TILES, height=128, pad_small=True)])
def test_each_half_is_cut_as_a_frame_of_its_own(geometry: Geometry, channels: int) -> None:
    image, template = noise(0, channels), noise(1, channels)
    tiles = cut(framed(image, template), geometry)
    expected = [cut(framed(one), geometry).pixels for one in (image, template)]
    np.testing.assert_array_equal(tiles.pixels, np.concatenate(expected, axis=1))
    layout = lay_out(framed(image, template), geometry)
    np.testing.assert_array_equal(layout.stack(0, 1), tiles.pixels[:1])
    assert cut_alike(image, tiles).shape[1] == channels
    assert join(tiles.pixels[:, 0].astype(np.float32), tiles).shape == SIZE


def test_the_template_is_registered_once_and_moved_to_its_place() -> None:
    geometry = dataclasses.replace(TILES, registration=Registration.TRANSLATION, search_px=5)
    frame = framed(surface(2, SIZE, 3.5, -2.25), surface(2, SIZE))
    tiles = cut(frame, geometry)
    assert tiles.shift is not None
    assert (tiles.shift.dy_px, tiles.shift.dx_px) == pytest.approx((3.5, -2.25), abs=0.05)
    inner = join(np.abs(tiles.pixels[:, 0].astype(np.float32) - tiles.pixels[:, 1]), tiles)[6:-6, 6:-6]
    assert inner.max() <= 6  # gray levels, where an unmoved template is up to 100 off
    assert cut(frame, TILES).shift is None
    given = Shift(dy_px=1.0, dx_px=0.0, quality=1.0)
    assert cut(frame, geometry, shift=given).shift is given
    row = cut(framed(noise(0), noise(1)), geometry, shift=given).pixels[0, 1, 1:]
    np.testing.assert_array_equal(row, noise(1)[: len(row), :40])


def test_a_template_that_does_not_fit_stops_the_frame() -> None:
    geometry = dataclasses.replace(TILES, registration=Registration.TRANSLATION, search_px=5)
    with pytest.raises(InputError, match=r"frame f: expected its template within 5 px, got one that lies \+9\.0 px"):
        cut(framed(surface(2, SIZE, 9, 0), surface(2, SIZE)), geometry)


@pytest.mark.parametrize("registration", list(Registration))
def test_what_is_not_inspected_has_no_influence_in_the_template_either(registration: Registration) -> None:
    left = (IgnoredShape(columns=(0, 50)),)
    geometry = dataclasses.replace(TILES, registration=registration, ignore=left)
    image, template = surface(4, SIZE, 1.5, 2.0), surface(4, SIZE)
    expected = cut(framed(image, template), geometry).pixels
    for picture in (image, template):
        picture[:, :50] = noise(9)[:, :50]
    np.testing.assert_array_equal(cut(framed(image, template), geometry).pixels, expected)


@pytest.mark.parametrize(
    "template", [noise(0, size=(110, 129)), noise(0, 3), noise(0).astype(np.uint16), noise(0)[..., None]]
)
def test_a_template_of_another_size_or_color_is_refused(template: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"frame f: expected a template of \(110, 130\) 8-bit, got \(110, 1"):
        framed(noise(1), template)


@pytest.mark.parametrize("search_px", [0, 513])
def test_a_search_range_out_of_range(search_px: int) -> None:
    with pytest.raises(ConfigError, match=f"geometry search_px: expected 1 to 512, got {search_px}"):
        dataclasses.replace(TILES, search_px=search_px)
