"""Defects from a map: against scipy's labelling, brute-force rectangles, and sizes known by construction."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial import ConvexHull

from zellige.core.regions import MAX_DEFECTS, find_defects, region_length
from zellige.core.types import Defect, PixelSize

maps = arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.floats(0, 1, width=16))
pixel_sizes = st.builds(PixelSize, cross_web_mm=st.floats(0.005, 5), down_web_mm=st.floats(0.005, 5))


def slow_defects(anomaly_map: np.ndarray, threshold: float) -> list[tuple]:
    """Box, area and peak of each 8-connected region, by scipy."""
    labels, count = ndimage.label(anomaly_map > threshold, structure=np.ones((3, 3)))
    found = []
    for label in range(1, count + 1):
        ys, xs = np.nonzero(labels == label)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        found.append((box, len(ys), float(anomaly_map[labels == label].max())))
    return sorted(found, key=lambda d: (-d[2], d[0]))


def slow_lengths(region: np.ndarray, sx: float, sy: float) -> list[float]:
    """Longer sides of all smallest rectangles around the pixels' corners: one side of each lies on the convex hull."""
    ys, xs = np.nonzero(region)
    corners = np.concatenate([np.stack([(xs + dx) * sx, (ys + dy) * sy], 1) for dx in (0, 1) for dy in (0, 1)])
    hull = corners[ConvexHull(corners).vertices]
    rectangles = []
    for a, b in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        along = (b - a) / np.linalg.norm(b - a)
        sides = (np.ptp(hull @ along), np.ptp(hull @ np.array([-along[1], along[0]])))
        rectangles.append((sides[0] * sides[1], max(sides)))
    smallest = min(area for area, _ in rectangles)
    return [length for area, length in rectangles if area <= smallest * (1 + 1e-9)]


@settings(deadline=None, max_examples=200)
@given(maps, st.floats(0, 1, width=16))
def test_same_regions_as_scipy(anomaly_map: np.ndarray, threshold: float) -> None:
    found = [(d.box_px, d.area_px, d.peak_score) for d in find_defects(anomaly_map, pixel_threshold=threshold)]
    assert found == slow_defects(anomaly_map, threshold)


@settings(deadline=None, max_examples=200)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), pixel_sizes)
def test_length_is_that_of_the_smallest_rectangle(region: np.ndarray, pixel_size: PixelSize) -> None:
    labels, count = ndimage.label(region, structure=np.ones((3, 3)))
    for label in range(1, count + 1):
        one = labels == label
        expected = slow_lengths(one, pixel_size.cross_web_mm, pixel_size.down_web_mm)
        assert region_length(one, pixel_size) == pytest.approx(max(expected), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "pixel_size", "expected"),
    [
        ((1, 1), None, 1.0),
        ((1, 9), None, 9.0),
        ((9, 1), None, 9.0),
        ((4, 3), None, 4.0),
        ((1, 10), PixelSize(cross_web_mm=0.05, down_web_mm=0.2), 0.5),
        ((10, 1), PixelSize(cross_web_mm=0.05, down_web_mm=0.2), 2.0),
        ((2, 10), PixelSize(cross_web_mm=0.1, down_web_mm=2.0), 4.0),
    ],
)
def test_length_of_bars(shape: tuple[int, int], pixel_size: PixelSize | None, expected: float) -> None:
    assert region_length(np.ones(shape, bool), pixel_size) == pytest.approx(expected, abs=1e-6)


def test_length_where_two_smallest_rectangles_tie() -> None:
    """A staircase of four rows: 2 x 4 px upright, or 4.4721 x 1.7889 px slanted; both have 8 px2."""
    staircase = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    assert region_length(staircase) == pytest.approx(2 * math.sqrt(5), abs=1e-6)


def test_length_of_a_diagonal_scratch() -> None:
    """Ten pixels along the diagonal: the corners span 10 * sqrt(2)."""
    assert region_length(np.eye(10, dtype=bool)) == pytest.approx(10 * math.sqrt(2), abs=1e-6)


@settings(deadline=None)
@given(maps, pixel_sizes, st.integers(2, 9))
def test_sizes_scale_with_the_pixel_size(anomaly_map: np.ndarray, size: PixelSize, factor: int) -> None:
    larger = PixelSize(cross_web_mm=size.cross_web_mm * factor, down_web_mm=size.down_web_mm * factor)
    for one, many in zip(
        find_defects(anomaly_map, pixel_threshold=0.5, pixel_size=size),
        find_defects(anomaly_map, pixel_threshold=0.5, pixel_size=larger),
        strict=True,
    ):
        assert (one.box_px, one.area_px, one.length_px) == (many.box_px, many.area_px, many.length_px)
        assert many.area_mm2 == pytest.approx(factor**2 * one.area_mm2)
        assert many.length_mm == pytest.approx(factor * one.length_mm, rel=1e-6, abs=1e-5)
        assert many.box_mm == pytest.approx(tuple(factor * v for v in one.box_mm))


def test_mm_fields_of_one_defect() -> None:
    anomaly_map = np.zeros((10, 20), np.float32)
    anomaly_map[2:4, 5:15] = 0.9
    anomaly_map[3, 7] = 1.5
    size = PixelSize(cross_web_mm=0.1, down_web_mm=0.5)
    (defect,) = find_defects(anomaly_map, pixel_threshold=0.5, pixel_size=size, first_line=100)
    assert defect == Defect(
        box_px=(5, 2, 15, 4),
        area_px=20,
        length_px=10.0,
        peak_score=1.5,
        box_mm=pytest.approx((0.5, 51.0, 1.5, 52.0)),
        area_mm2=pytest.approx(1.0),
        length_mm=1.0,
    )


def test_uncalibrated_defects_have_no_mm() -> None:
    (defect,) = find_defects(np.ones((4, 4), np.float32), pixel_threshold=0.5)
    assert (defect.box_mm, defect.area_mm2, defect.length_mm) == (None, None, None)


def test_threshold_is_exclusive_and_small_regions_are_dropped() -> None:
    anomaly_map = np.zeros((5, 9), np.float32)
    anomaly_map[0, 0] = 0.5
    anomaly_map[2, 2:4] = 0.75
    anomaly_map[4, 5:8] = 0.75
    assert [d.area_px for d in find_defects(anomaly_map, pixel_threshold=0.5)] == [2, 3]
    assert [d.area_px for d in find_defects(anomaly_map, pixel_threshold=0.5, min_area_px=3)] == [3]
    assert find_defects(anomaly_map, pixel_threshold=0.75) == ()


@pytest.mark.parametrize("side_mm", [0.1, 0.05, 0.03, 0.007])
@pytest.mark.parametrize("num_px", [3, 7, 30, 49])
def test_a_defect_of_exactly_the_minimum_area_is_kept(side_mm: float, num_px: int) -> None:
    """0.07 mm2 / (0.1 mm)^2 is 7.000000000000001 in floating point; seven pixels must still count."""
    anomaly_map = np.zeros((3, 60), np.float32)
    anomaly_map[1, :num_px] = 1
    size = PixelSize(cross_web_mm=side_mm, down_web_mm=side_mm)
    minimum_mm2 = float(f"{num_px * side_mm * side_mm:.6g}")
    assert len(find_defects(anomaly_map, pixel_threshold=0.5, min_area_px=minimum_mm2 / size.area_mm2)) == 1
    assert not find_defects(anomaly_map, pixel_threshold=0.5, min_area_px=1.001 * minimum_mm2 / size.area_mm2)


def test_a_frame_of_noise_lists_the_largest_defects_only() -> None:
    anomaly_map = np.zeros((200, 200), np.float32)
    anomaly_map[::2, ::2] = 1  # 10,000 single pixels
    anomaly_map[101, 51:80] = 0.6  # joins some of them into one long region
    found = find_defects(anomaly_map, pixel_threshold=0.5)
    assert len(found) == MAX_DEFECTS
    assert max(d.area_px for d in found) > 29
