"""A defect cut by frame borders is the same defect uncut: exactly one record, of the right size, at every phase."""

import gc
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from zellige.core.errors import ConfigError, InputError
from zellige.core.frame_cutter import FrameCutter
from zellige.core.named import KindMap
from zellige.core.open_region import WebDefect
from zellige.core.regions import MAX_DEFECTS, find_defects
from zellige.core.stitching import Stitcher, StitchRule
from zellige.core.tiling import join, lay_out
from zellige.core.types import Defect, Geometry, GeometryMode, PixelSize

SIZE = PixelSize(cross_web_mm=0.1, down_web_mm=0.5)


def stitch(anomaly_map: np.ndarray, heights: Iterable[int], first_line: int = 0, **options: object) -> list[WebDefect]:
    """Cut a map into frames of these heights (the last one takes the rest) and stitch it."""
    settings_ = {"pixel_threshold": 0.5, "max_length_lines": 10_000, "pixel_size": SIZE, **options}
    stitcher = Stitcher(StitchRule(width_px=anomaly_map.shape[1], **settings_))
    found, start = [], 0
    for height in [*heights, len(anomaly_map)]:
        part = anomaly_map[start : start + height]
        if len(part):
            found += stitcher.add(part, first_line + start)
        start += height
    return [*found, *stitcher.finish()]


def boxes(defects: Iterable[WebDefect]) -> list[tuple]:
    return sorted((d.box_px, d.area_px) for d in defects)


def rows(defects: Iterable[WebDefect | Defect], first_line: int = 0) -> list[tuple]:
    """What a defect is, in an order of its own; lines from `first_line`."""
    found = []
    for d in defects:
        x0, y0, x1, y1 = d.box_px
        box = (x0, y0 - first_line, x1, y1 - first_line)
        found.append((box, d.area_px, d.peak_score, d.length_px, d.length_mm, d.area_mm2, d.box_mm))
    return sorted(found, key=lambda r: (*r[:3], round(r[3], 3)))


maps = arrays(
    np.float32, st.tuples(st.integers(1, 40), st.integers(1, 14)), elements=st.sampled_from([0, 0.25, 0.75, 1])
)


@settings(deadline=None, max_examples=100)
@given(maps, st.lists(st.integers(1, 12), max_size=40), st.sampled_from([0, 7, 3_000_000]))
def test_cut_or_uncut_the_defects_are_the_same(anomaly_map: np.ndarray, heights: list[int], first_line: int) -> None:
    expected = find_defects(anomaly_map, pixel_threshold=0.5, pixel_size=SIZE, first_line=first_line)
    found = stitch(anomaly_map, heights, first_line)
    for actual, true in zip(rows(found, first_line), rows(expected), strict=True):
        assert actual[:3] == true[:3]
        assert actual[3:6] == pytest.approx(true[3:6], abs=2e-6)
        assert actual[6] == pytest.approx(true[6])
    labels, count = ndimage.label(anomaly_map > 0.5, structure=np.ones((3, 3)))
    assert len(found) == count
    assert sorted(d.area_px for d in found) == sorted(np.bincount(labels.ravel())[1:].tolist())


@st.composite
def chains(draw: st.DrawFn) -> tuple[int, int, Geometry]:
    """Frame height, context and tiles."""
    height = draw(st.integers(33, 90))
    tile_h, tile_w = draw(st.integers(32, 48)), draw(st.integers(32, 48))
    overlap = draw(st.integers(0, min(tile_h, tile_w) // 2))
    geometry = Geometry(mode=GeometryMode.TILES, height=tile_h, width=tile_w, overlap_px=overlap, pad_small=True)
    return height, draw(st.integers(0, 12)), geometry


@settings(deadline=None, max_examples=50)
@given(chains(), st.integers(1, 30), st.integers(1, 200), st.integers(0, 60), st.integers(0, 99))
def test_one_record_at_any_phase_of_any_border(
    chain: tuple[int, int, Geometry], width: int, length: int, x: int, y: int
) -> None:
    """Lines into frames, tiles, maps, joined and stitched: a bar drawn on the web is one record of its size."""
    height, context, geometry = chain
    web = np.zeros((320, 96), np.uint8)
    web[y : y + length, x : x + width] = 200
    cutter = FrameCutter(height_px=height, context_px=context, width_px=96, source_id="camera")
    stitcher = Stitcher(StitchRule(width_px=96, pixel_threshold=0.5, max_length_lines=1000, pixel_size=SIZE))
    found: list[WebDefect] = []
    for cut in [*cutter.add(web[:77]), *cutter.add(web[77:]), *cutter.finish()]:
        layout = lay_out(cut.frame, geometry)
        whole = join((part.astype(np.float32) / 255 for part in layout.parts), layout)
        found += stitcher.add(whole[cut.keep_start : cut.keep_stop], cut.first_kept_line)
    (defect,) = [*found, *stitcher.finish()]
    assert (defect.box_px, defect.area_px) == ((x, y, x + width, y + length), width * length)
    assert defect.box_mm == pytest.approx((0.1 * x, 0.5 * y, 0.1 * (x + width), 0.5 * (y + length)))
    assert defect.length_mm == pytest.approx(max(0.1 * width, 0.5 * length), abs=1e-4)
    assert (defect.is_cut, defect.is_continuing, defect.is_continuation) == (False, False, False)


@pytest.mark.parametrize(
    "rows",
    [
        ["#..#", "#..#", "####"],
        ["####", "#..#", "#..#"],
        ["#...", ".#..", "..#.", "...#"],
        ["#..#", "#..#", ".##."],
        ["#.#.#", "#.#.#", "##.##", "..#.."],
    ],
    ids=["V closes", "arms part", "diagonal", "touch diagonally", "three arms"],
)
def test_shapes_are_one_defect_however_they_are_cut(rows: list[str]) -> None:
    anomaly_map = np.array([[c == "#" for c in row] for row in rows], np.float32)
    area = int(anomaly_map.sum())
    for cuts in range(2 ** (len(rows) - 1)):
        heights, height = [], 1
        for i in range(len(rows) - 1):
            if cuts >> i & 1:
                heights.append(height)
                height = 0
            height += 1
        (defect,) = stitch(anomaly_map, heights)
        assert (defect.box_px, defect.area_px) == ((0, 0, anomaly_map.shape[1], len(rows)), area)


@pytest.mark.parametrize("height", [1, 7, 64, 100, 1000])
def test_a_streak_is_closed_at_the_maximum_length_exactly(height: int) -> None:
    """350 lines at a maximum of 100: 100 + 100 + 100 + 50, each but the last goes on, wherever the frames end."""
    anomaly_map = np.zeros((400, 9), np.float32)
    anomaly_map[13:363, 4:6] = 1
    anomaly_map[90:130, 0] = 1  # an ordinary defect beside it stays whole
    found = stitch(anomaly_map, [height] * 400, max_length_lines=100, min_area_px=30)
    streak = [d for d in found if d.box_px[0] == 4]
    assert [(d.box_px[1], d.box_px[3], d.area_px) for d in streak] == [
        (13, 113, 200),
        (113, 213, 200),
        (213, 313, 200),
        (313, 363, 100),
    ]
    assert [d.is_continuing for d in streak] == [True, True, True, False]
    assert [d.is_continuation for d in streak] == [False, True, True, True]
    assert boxes(d for d in found if d.box_px[0] == 0) == [((0, 90, 1, 130), 40)]


@settings(deadline=None, max_examples=60)
@given(maps, st.lists(st.integers(1, 12), max_size=40), st.integers(1, 9))
def test_records_of_streaks_do_not_depend_on_the_frames(
    anomaly_map: np.ndarray, heights: list[int], longest: int
) -> None:
    """Line by line or in frames, the same parts with the same flags; no part too long, no pixel lost or doubled."""
    found = stitch(anomaly_map, heights, max_length_lines=longest)
    line_by_line = stitch(anomaly_map, [1] * len(anomaly_map), max_length_lines=longest)
    assert sorted(map(flagged, found)) == sorted(map(flagged, line_by_line))
    assert sum(d.area_px for d in found) == (anomaly_map > 0.5).sum()
    assert all(d.box_px[3] - d.box_px[1] <= longest for d in found)


def flagged(d: WebDefect) -> tuple:
    return d.box_px, d.area_px, d.length_px, d.is_continuing, d.is_continuation


@pytest.mark.parametrize("height", [10, 100, 33])
def test_a_defect_of_exactly_the_maximum_length_does_not_go_on(height: int) -> None:
    anomaly_map = np.zeros((300, 4), np.float32)
    anomaly_map[50:150, 1] = 1
    (defect,) = stitch(anomaly_map, [height] * 30, max_length_lines=100)
    assert (defect.box_px, defect.is_continuing, defect.is_continuation) == ((1, 50, 2, 150), False, False)


def test_the_minimum_area_is_that_of_the_whole_defect() -> None:
    anomaly_map = np.zeros((20, 5), np.float32)
    anomaly_map[8:12, 2] = 1
    anomaly_map[8:11, 4] = 1
    assert boxes(stitch(anomaly_map, [10], min_area_px=4)) == [((2, 8, 3, 12), 4)]


def test_missing_lines_end_what_is_open() -> None:
    stitcher = Stitcher(StitchRule(width_px=3, pixel_threshold=0.5, max_length_lines=100))
    ones = np.ones((4, 3), np.float32)
    assert stitcher.add(ones, 0) == ()
    (before,) = stitcher.add(ones, 6)
    assert (before.box_px, before.is_cut) == ((0, 0, 3, 4), True)
    (after,) = stitcher.finish()
    assert (after.box_px, after.is_cut) == ((0, 6, 3, 10), True)
    whole = Stitcher(stitcher.rule)
    whole.add(np.zeros((4, 3), np.float32), 0)
    ones[0] = 0
    whole.add(ones, 9)
    (later,) = whole.finish()
    assert (later.box_px, later.is_cut) == ((0, 10, 3, 13), False)


def test_bad_maps() -> None:
    stitcher = Stitcher(StitchRule(width_px=3, pixel_threshold=0.5, max_length_lines=100))
    zeros = np.zeros((4, 3), np.float32)
    stitcher.add(zeros, 10)
    for line, anomaly_map, borders, message in (
        (14, zeros[:, :2], None, "expected width 3 px, got shape"),
        (13, zeros, None, "expected line 14 or later, these lines came before"),
        (14, zeros * np.nan, None, "expected finite values"),
        (14, zeros, np.arange(5.0), "expected borders in mm with every map or with none"),
    ):
        with pytest.raises(InputError, match=f"map at line {line}: {message}"):
            stitcher.add(anomaly_map, line, borders_mm=borders)
    with pytest.raises(InputError, match="expected a pixel size and 5 borders in mm, got None and 5"):
        Stitcher(stitcher.rule).add(zeros, 0, borders_mm=np.arange(5.0))
    calibrated = Stitcher(StitchRule(width_px=3, pixel_threshold=0.5, max_length_lines=100, pixel_size=SIZE))
    for borders in (np.arange(4.0), np.array([0.0, 1, 2, 1.5, 3])):
        with pytest.raises(InputError, match="borders"):
            calibrated.add(zeros, 0, borders_mm=borders)
    with pytest.raises(ConfigError, match="at least 1"):
        StitchRule(width_px=3, pixel_threshold=0.5, max_length_lines=0)
    with pytest.raises(ConfigError, match="seams inside"):
        StitchRule(width_px=3, pixel_threshold=0.5, max_length_lines=5, seams_px=(3,))


def test_noise_does_not_stall_and_is_counted() -> None:
    anomaly_map = np.zeros((100, 200), np.float32)
    anomaly_map[::2, ::2] = 1  # 5,000 single pixels
    anomaly_map[31, 51:80] = 1
    stitcher = Stitcher(StitchRule(width_px=200, pixel_threshold=0.5, max_length_lines=1000))
    found = [*stitcher.add(anomaly_map, 0), *stitcher.finish()]
    assert len(found) == MAX_DEFECTS
    assert stitcher.num_dropped == ndimage.label(anomaly_map, structure=np.ones((3, 3)))[1] - MAX_DEFECTS
    assert max(d.area_px for d in found) > 29


def test_memory_is_flat_over_a_million_lines() -> None:
    """A streak without end and a defect across every border, 1,000,000 lines: what is held does not grow."""
    stitcher = Stitcher(StitchRule(width_px=16, pixel_threshold=0.5, max_length_lines=25_000, pixel_size=SIZE))
    block = np.zeros((10_000, 16), np.float32)
    block[:, 3] = 1
    block[:20, 10:14] = block[-20:, 10:14] = block[500:600, 7] = 1
    count, held = 0, []
    tracemalloc.start()
    for number in range(100):
        count += len(stitcher.add(block, number * len(block)))
        if number in (10, 99):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    count += len(stitcher.finish())
    assert count == 1_000_000 // 25_000 + 101 + 100
    assert held[1] < held[0] + 10_000
    assert stitcher.num_open == 0


@settings(deadline=None, max_examples=50)
@given(maps, st.lists(st.integers(1, 12), max_size=40), st.integers(0, 2**32 - 1))
def test_cut_or_uncut_the_kinds_are_the_same(anomaly_map: np.ndarray, heights: list[int], seed: int) -> None:
    kinds = ("hole", "scratch")
    numbers = np.random.default_rng(seed).integers(0, 3, anomaly_map.shape).astype(np.uint8)
    whole = find_defects(anomaly_map, pixel_threshold=0.5, kind_map=KindMap(numbers=numbers, kinds=kinds))
    rule = StitchRule(width_px=anomaly_map.shape[1], pixel_threshold=0.5, max_length_lines=10_000, kinds=kinds)
    stitcher, found, start = Stitcher(rule), [], 0
    for height in [*heights, len(anomaly_map)]:
        part = slice(start, start + height)
        if len(anomaly_map[part]):
            found += stitcher.add(anomaly_map[part], start, kind_numbers=numbers[part])
        start += height
    found += stitcher.finish()
    assert sorted((d.box_px, d.kind) for d in found) == sorted((d.box_px, d.kind) for d in whole)
    with pytest.raises(InputError, match="expected kinds of its size where the rule has kinds, else none"):
        Stitcher(rule).add(anomaly_map, 0)
