"""Outlines and masks against pycocotools, matplotlib, even-odd filling and run lengths counted in numpy."""

import matplotlib.path
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from zellige.core.errors import InputError
from zellige.data.annotations import AnnotatedDefect, Rle
from zellige.data.shapes import box_around, decode, encode, join_rings, mask_of, outline_of, read_rle, regions_of, trace

masks = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 11))).filter(np.any)


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's run lengths, counted: columns first, beginning with background."""
    runs, value = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@given(mask=masks)
def test_run_lengths_come_back(mask: np.ndarray) -> None:
    size, runs = list(mask.shape), run_lengths(mask)
    rle = encode(mask)
    assert np.array_equal(decode(rle), mask)
    text = coco_mask.frPyObjects({"size": size, "counts": runs}, *size)["counts"].decode()
    for counts in (runs, text):
        assert read_rle({"size": size, "counts": counts}, mask.shape, "x") == rle
    ys, xs = np.nonzero(mask)
    assert box_around(rle) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_long_run_lengths_are_read_from_text() -> None:
    """More than one character a run, and runs shorter than the one before the last (negative differences)."""
    mask = np.zeros((700, 300), bool)
    mask[3:650, 10:200] = True
    mask[100:140, 50:52] = False
    text = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert np.array_equal(decode(read_rle({"size": [700, 300], "counts": text}, mask.shape, "x")), mask)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"size": [3, 4], "counts": [12]}, "x: expected a mask with at least one pixel"),
        ({"size": [4, 3], "counts": [6, 6]}, "x: expected a mask of size \\[3, 4\\]"),
        ({"counts": [6, 6]}, "x: expected a mask of size"),
        ({"size": [3, 4], "counts": [6, 5]}, "x: expected run lengths that add up to 3 x 4 px"),
        ({"size": [3, 4], "counts": [6, 7]}, "x: expected run lengths that add up"),
        ({"size": [3, 4], "counts": [20, -8]}, "x: expected run lengths that add up"),
        ({"size": [3, 4], "counts": [6.0, 6.0]}, "x: expected run lengths that add up"),
        ({"size": [3, 4], "counts": "66o"}, "x: expected whole run lengths"),
        ({"size": [3, 4], "counts": "é"}, "x: expected run lengths as COCO's text"),
        ({"size": [3, 4], "counts": None}, "x: expected run lengths as COCO's text"),
        ({"size": [3, 4], "counts": "o" * 100_000}, "x: expected"),
    ],
)
def test_damaged_run_lengths_are_refused(record: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rle(record, (3, 4), "x")


def even_odd(rings: list, size: tuple[int, int]) -> np.ndarray:
    """Fill rings by counting crossings from each pixel's center to the left."""
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    inside = np.zeros(size, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if y0 != y1:
                crossing = x0 + (ys - y0) / (y1 - y0) * (x1 - x0)
                inside ^= ((y0 <= ys) != (y1 <= ys)) & (crossing < xs)
    return inside


@given(mask=masks)
def test_traced_edges_fill_to_the_same_pixels(mask: np.ndarray) -> None:
    rings = trace(mask)
    assert np.array_equal(even_odd(rings, mask.shape), mask)
    joined = join_rings(rings)
    assert np.array_equal(even_odd([joined], mask.shape), mask)
    again = AnnotatedDefect(kind="a", box=(0, 0, 1, 1), polygons=(joined,))
    assert np.array_equal(mask_of(again, mask.shape), mask)


def test_a_ring_with_a_hole_is_traced_to_two_squares() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    assert [sorted(ring) for ring in trace(mask)] == [
        [(0, 0), (0, 3), (3, 0), (3, 3)],
        [(1, 1), (1, 2), (2, 1), (2, 2)],
    ]


corners = st.lists(st.tuples(st.floats(0, 40), st.floats(0, 30)), min_size=3, max_size=7, unique=True)


@given(polygon=corners)
@settings(max_examples=60)
def test_an_outline_fills_to_the_pixels_inside_it(polygon: list[tuple[float, float]]) -> None:
    """COCO's raster has a fifth of a pixel: centers farther than 0.4 px from the outline are on the right side."""
    points = np.array(polygon)
    around = (*points.min(axis=0), *points.max(axis=0))
    mask = mask_of(AnnotatedDefect(kind="a", box=around, polygons=(tuple(polygon),)), (30, 40))
    expected = even_odd([polygon], (30, 40))
    starts, ends = points, np.roll(points, -1, axis=0)
    ys, xs = np.mgrid[:30, :40] + 0.5
    centers = np.stack([xs, ys], axis=-1)[..., None, :]
    along = ends - starts
    share = ((centers - starts) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = starts + share.clip(0, 1)[..., None] * along
    is_far = np.hypot(*np.moveaxis(centers - nearest, -1, 0)).min(axis=-1) > 0.4
    if mask.sum() == 1:  # perhaps the one pixel that an outline without any keeps
        is_far[mask] = False
    assert np.array_equal(mask[is_far], expected[is_far])


def test_a_simple_outline_agrees_with_matplotlib() -> None:
    polygon = ((3.2, 2.1), (25.7, 5.3), (18.4, 24.9), (6.6, 20.2))
    mask = mask_of(AnnotatedDefect(kind="a", box=(0, 0, 1, 1), polygons=(polygon,)), (30, 40))
    ys, xs = np.mgrid[:30, :40] + 0.5
    expected = matplotlib.path.Path(polygon).contains_points(np.stack([xs.ravel(), ys.ravel()], axis=1)).reshape(30, 40)
    assert (mask != expected).sum() <= 4
    assert expected.sum() > 300


def test_an_outline_without_a_pixel_center_keeps_one_pixel() -> None:
    thin = AnnotatedDefect(kind="a", box=(3.1, 2.1, 3.2, 2.3), polygons=(((3.1, 2.1), (3.2, 2.1), (3.2, 2.3)),))
    mask = mask_of(thin, (5, 6))
    assert np.argwhere(mask).tolist() == [[2, 3]]


def test_regions_touch_at_corners_too() -> None:
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], bool)
    first, second = regions_of(mask, "a")
    assert (first.box, second.box) == ((0, 0, 2, 2), (3, 1, 4, 3))
    assert np.array_equal(decode(first.mask) | decode(second.mask), mask)
    assert isinstance(first.mask, Rle)


def test_parts_of_a_defect_become_one_outline() -> None:
    squares = (((1, 1), (3, 1), (3, 3), (1, 3)), ((5, 2), (8, 2), (8, 4), (5, 4)))
    defect = AnnotatedDefect(kind="a", box=(1, 1, 8, 4), polygons=squares)
    expected = np.zeros((6, 9), bool)
    expected[1:3, 1:3] = expected[2:4, 5:8] = True
    assert np.array_equal(mask_of(defect, (6, 9)), expected)
    assert np.array_equal(even_odd([outline_of(defect, (6, 9))], (6, 9)), expected)
