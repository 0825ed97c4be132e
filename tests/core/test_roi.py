"""Regions of interest: drawn where declared, and what is not inspected has no influence at all."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zellige.core.errors import InputError
from zellige.core.ignore import Foreground, IgnoredMask, IgnoredShape, LengthUnit
from zellige.core.roi import BACKGROUND, IGNORED, fill, find_roi, ignored_pixels, is_inspected
from zellige.core.tiling import cut, cut_alike, join, lay_out
from zellige.core.types import Frame, Geometry, GeometryMode, PixelSize

HALF_MM = PixelSize(cross_web_mm=0.5, down_web_mm=0.25)


def geometry(*shapes: IgnoredShape, resize: bool = False, **changes: object) -> Geometry:
    mode = {"mode": GeometryMode.RESIZE} if resize else {"mode": GeometryMode.TILES, "overlap_px": 8, "pad_small": True}
    return Geometry(**{"height": 32, "width": 32, "ignore": shapes, **mode, **changes})


def frame(pixels: np.ndarray, pixel_size: PixelSize | None = None) -> Frame:
    return Frame(pixels=pixels, pixel_size=pixel_size, source_id="f")


def noise(height: int, width: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    "polygon",
    [
        ((3, 2), (30, 9.7), (12.4, 33)),
        ((1.5, 1.5), (38, 4), (20, 18), (39, 36), (2, 30)),  # with a notch
        ((40, 0), (0, 40), (40, 40)),
    ],
)
def test_a_polygon_is_the_pixels_whose_centers_lie_inside(polygon: tuple) -> None:
    """Against OpenCV's point test, center by center."""
    drawn = ignored_pixels(geometry(IgnoredShape(polygon=polygon)), (40, 40), None)
    outline = np.array(polygon, np.float32)
    for y in range(40):
        for x in range(40):
            distance = cv2.pointPolygonTest(outline, (x + 0.5, y + 0.5), True)
            if abs(distance) > 1e-4:
                assert drawn[y, x] == (distance > 0), (y, x)


def test_boxes_columns_and_a_mask_are_joined_and_mm_follow_the_pixel_size() -> None:
    mask = np.zeros((40, 60), bool)
    mask[35:, 50:] = True
    shapes = (
        IgnoredShape(box=(2, 3, 10, 8)),
        IgnoredShape(columns=(20, 23)),
        IgnoredShape(box=(15, 2.5, 20, 5), unit=LengthUnit.MM),  # x 30 to 40 px, y 10 to 20 px
        IgnoredShape(columns=(29.9, 30), unit=LengthUnit.MM),  # 0.2 px: no center lies inside
    )
    drawn = ignored_pixels(geometry(*shapes, ignore_mask=IgnoredMask.of(mask)), (40, 60), HALF_MM)
    expected = mask.copy()
    expected[3:8, 2:10] = expected[:, 20:23] = expected[10:20, 30:40] = True
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("height", [5, 32, 71])
def test_columns_hold_for_any_height(height: int) -> None:
    drawn = ignored_pixels(geometry(IgnoredShape(columns=(4, 9))), (height, 40), None)
    assert (drawn == (np.arange(40) >= 4) & (np.arange(40) < 9)).all()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (geometry(IgnoredShape(box=(0, 0, 61, 5))), "frame f: geometry.ignore box .*: expected it inside the frame"),
        (geometry(IgnoredShape(polygon=((0, 0), (5, 0), (0, 41)))), "of 40 x 60 px, got one that reaches to x 5 and y"),
        (geometry(IgnoredShape(columns=(10, 30.5), unit=LengthUnit.MM)), "expected it inside the frame"),
        (geometry(IgnoredShape(columns=(0, 60))), "expected something left to inspect, got regions over the whole"),
        (
            geometry(IgnoredShape(columns=(0, 30)), IgnoredShape(box=(30, 0, 60, 40)), foreground=Foreground.AUTO),
            "expected something left",
        ),
        (
            geometry(ignore_mask=IgnoredMask(height=40, width=59, runs="2359 1")),
            "frame f: geometry.ignore_mask: expected frames of the mask's size 40 x 59 px, got 40 x 60",
        ),
    ],
)
def test_regions_that_do_not_fit_the_frame(declared: Geometry, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        cut(frame(noise(40, 60), HALF_MM), declared)
    assert "\n" not in str(caught.value)


def test_mm_without_a_pixel_size() -> None:
    with pytest.raises(InputError, match=r"expected a pixel size, got none; set data\.pixel_size_mm"):
        cut(frame(noise(40, 60)), geometry(IgnoredShape(columns=(0, 3), unit=LengthUnit.MM)))


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)).flatmap(lambda size: arrays(np.bool_, size)),
    st.sampled_from([1, 3]),
    st.integers(0, 9),
)
def test_fill_keeps_what_is_inspected_and_does_not_see_the_rest(
    inspected: np.ndarray, channels: int, seed: int
) -> None:
    inspected[inspected.shape[0] // 2, inspected.shape[1] // 2] = True
    one, other = (noise(*inspected.shape, seed=s, channels=channels) for s in (seed, seed + 1))
    other[inspected] = one[inspected]
    filled = fill(one, inspected)
    np.testing.assert_array_equal(filled, fill(other, inspected))
    np.testing.assert_array_equal(filled[inspected], one[inspected])
    low, high = one[inspected].min(axis=0), one[inspected].max(axis=0)
    # A cell's sum and weight are rounded to 8 bits, and at least a quarter of it is known: 2 levels off each, and 1.
    assert (filled >= low.astype(int) - 5).all()
    assert (filled <= high.astype(int) + 5).all()


def test_fill_goes_on_smoothly() -> None:
    """A ramp of light goes on under a small hole: nothing there looks like an edge."""
    ramp = np.linspace(40, 200, 128).astype(np.uint8)[None].repeat(128, axis=0)
    inspected = np.ones((128, 128), bool)
    inspected[50:80, 50:80] = False
    assert np.abs(fill(ramp, inspected).astype(int) - ramp).max() <= 25


@pytest.mark.parametrize("resize", [False, True])
def test_nothing_in_an_ignored_region_reaches_the_net_or_the_map(resize: bool) -> None:
    declared = geometry(IgnoredShape(box=(20, 10, 50, 40)), resize=resize)
    one = noise(90, 100)
    other = one.copy()
    other[10:40, 20:50] = 255 - other[10:40, 20:50]
    tiles = cut(frame(one), declared)
    np.testing.assert_array_equal(tiles.pixels, cut(frame(other), declared).pixels)
    joined = join(np.full((len(tiles.pixels), 32, 32), 7, np.float32), tiles)
    outside = np.ones((90, 100), bool)
    outside[10:40, 20:50] = False
    np.testing.assert_allclose(joined[outside], 7, rtol=1e-5)
    assert (joined[~outside] == IGNORED).all()
    np.testing.assert_array_equal(is_inspected(joined), outside)


def test_tiles_without_anything_to_inspect_are_left_out_and_the_rest_joins_as_before() -> None:
    """Where a tile is left out, no inspected pixel misses it: the map is that of all tiles."""
    pixels, whole = noise(70, 130), geometry()
    declared = geometry(IgnoredShape(columns=(0, 60)), IgnoredShape(box=(60, 0, 130, 20)))
    tiles, every = cut(frame(pixels), declared), cut(frame(pixels), whole)
    assert 0 < len(tiles.pixels) < len(every.pixels)
    ignored = ignored_pixels(declared, (70, 130), None)
    kept = fill(pixels, ~ignored)
    np.testing.assert_array_equal(tiles.pixels, cut_alike(kept, tiles))
    joined = join(tiles.pixels[:, 0].astype(np.float32), tiles)
    np.testing.assert_allclose(joined[~ignored], pixels[~ignored], atol=1e-3)
    assert (joined[ignored] == IGNORED).all()


def test_without_a_declaration_nothing_is_copied() -> None:
    source = frame(noise(70, 130))
    layout = lay_out(source, geometry())
    assert layout.roi is None
    assert all(np.shares_memory(part, source.pixels) for part in layout.parts)


def part_on_belt(seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(25, 36, (96, 128)).astype(np.uint8)
    pixels[30:75, 40:100] = np.random.default_rng(seed + 1).integers(150, 190, (45, 60))
    return pixels


def test_the_background_is_hidden_and_filled() -> None:
    declared = geometry(resize=True, foreground=Foreground.AUTO)
    plain, dirty = part_on_belt(), part_on_belt()
    dirty[5:9, 5:9] = 220
    tiles = cut(frame(plain), declared)
    assert tiles.roi is not None
    assert tiles.roi.warning == ""
    assert tiles.pixels[0, 0, :5].min() > 100  # the belt is below 36
    np.testing.assert_array_equal(tiles.pixels, cut(frame(dirty), declared).pixels)
    joined = join(np.ones((1, 32, 32), np.float32), tiles)
    assert (joined[30:75, 40:100] == 1).all()
    assert joined[0, 0] == BACKGROUND


def test_what_is_ignored_does_not_decide_where_the_part_is() -> None:
    declared = geometry(IgnoredShape(box=(50, 0, 70, 60)), resize=True, foreground=Foreground.AUTO)
    found = []
    for level in (0, 30, 170, 255):
        pixels = part_on_belt()
        pixels[0:60, 50:70] = level
        roi = find_roi(frame(pixels), declared)
        assert roi is not None
        assert roi.warning == ""
        found.append(roi.inspected)
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert not found[0][0:60, 50:70].any()


def test_without_a_part_the_whole_frame_is_inspected_with_a_warning() -> None:
    declared = geometry(IgnoredShape(columns=(0, 10)), resize=True, foreground=Foreground.AUTO)
    roi = find_roi(frame(np.random.default_rng(0).integers(25, 36, (96, 128)).astype(np.uint8)), declared)
    assert roi is not None
    np.testing.assert_array_equal(roi.inspected, ~roi.ignored)
    assert roi.warning == ("the background is inspected too: the part would be 0 % of the frame, expected 5 to 98 %")
