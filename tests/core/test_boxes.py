"""Boxes of tiles: each defect once, wherever the tiles cut it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zellige.core.boxes import box_iou, join_boxes
from zellige.core.errors import InputError
from zellige.core.ignore import IgnoredShape
from zellige.core.tiling import Tiles, cut, tile_corners
from zellige.core.types import Frame, Geometry, GeometryMode

KINDS = ("hole", "scratch")
TILE = 64


def tiles_of(height: int, width: int, overlap: int = 16, *, ignore: tuple[IgnoredShape, ...] = ()) -> Tiles:
    geometry = Geometry(
        mode=GeometryMode.TILES, height=TILE, width=TILE, overlap_px=overlap, pad_small=True, ignore=ignore
    )
    return cut(Frame(pixels=np.zeros((height, width), np.uint8), pixel_size=None, source_id="f"), geometry)


def as_seen(truth: list[tuple[float, ...]], tiles: Tiles, scores: np.ndarray | None = None) -> np.ndarray:
    """What a perfect detector says of each tile: the part of each box (x0, y0, x1, y1, kind) in it, (N, 8, 6)."""
    corners = tile_corners(tiles)
    found = np.zeros((len(corners), 8, 6), np.float32)
    for index, (y, x) in enumerate(corners):
        rows = []
        for number, (x0, y0, x1, y1, kind) in enumerate(truth):
            part = (max(x0 - x, 0), max(y0 - y, 0), min(x1 - x, TILE), min(y1 - y, TILE))
            if part[0] < part[2] and part[1] < part[3]:
                score = 0.9 - 0.1 * number if scores is None else scores[index, number]
                rows.append((*part, score, kind))
        rows.sort(key=lambda row: -row[4])
        found[index, : len(rows)] = rows or np.zeros((0, 6))
    return found


@given(st.lists(st.integers(0, 9), min_size=8, max_size=8))
def test_iou_counts_common_pixels(numbers: list[int]) -> None:
    def box(a: int, b: int, c: int, d: int) -> list[int]:
        return [min(a, c), min(b, d), max(a, c), max(b, d)]

    first, second = box(*numbers[:4]), box(*numbers[4:])
    drawn = np.zeros((2, 10, 10), bool)
    for picture, (x0, y0, x1, y1) in zip(drawn, (first, second), strict=True):
        picture[y0:y1, x0:x1] = True
    union = (drawn[0] | drawn[1]).sum()
    expected = (drawn[0] & drawn[1]).sum() / union if union else 0.0
    assert box_iou(np.array([first], float), np.array([second], float))[0, 0] == pytest.approx(expected)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(65, 230),
    st.integers(65, 230),
    st.sampled_from([0, 3, 16, 32]),
    st.data(),
)
def test_one_defect_is_one_box_however_tiles_cut_it(height: int, width: int, overlap: int, data: st.DataObject) -> None:
    """Also one that is larger than a tile, and whichever of its parts has the best score."""
    w, h = data.draw(st.integers(4, min(150, width))), data.draw(st.integers(4, min(150, height)))
    x0, y0 = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    tiles = tiles_of(height, width, overlap)
    seed = data.draw(st.integers(0, 999))
    scores = np.random.default_rng(seed).uniform(0.1, 1, (len(tiles.pixels), 1)).astype(np.float32)
    seen = as_seen([(x0, y0, x0 + w, y0 + h, 2)], tiles, scores)
    joined = join_boxes(seen, tiles, KINDS)
    assert joined.names == ("scratch",)
    np.testing.assert_allclose(joined.boxes[0, :4], (x0, y0, x0 + w, y0 + h), atol=1e-3)
    assert joined.boxes[0, 4] == seen[..., 4].max()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 120), st.integers(0, 120), st.sampled_from([0, 16, 32]))
def test_neighbors_and_other_kinds_stay_apart(x: int, y: int, overlap: int) -> None:
    """Two of a kind 6 px apart, one of another kind over the first."""
    truth = [(x, y, x + 20, y + 20, 1), (x + 26, y, x + 46, y + 20, 1), (x, y, x + 20, y + 20, 2)]
    tiles = tiles_of(200, 200, overlap)
    joined = join_boxes(as_seen(truth, tiles), tiles, KINDS)
    expected = sorted((*box[:4], KINDS[int(box[4]) - 1]) for box in truth)
    assert sorted(
        (*map(round, box[:4].tolist()), name) for box, name in zip(joined.boxes, joined.names, strict=True)
    ) == (expected)


def test_of_two_whole_boxes_the_better_one_stays() -> None:
    tiles = tiles_of(64, 112, 16)  # tiles at 0 and 48
    found = np.zeros((2, 1, 6), np.float32)
    found[0, 0] = (51, 20, 61, 30, 0.6, 1)
    found[1, 0] = (4, 20, 14, 30, 0.8, 1)  # 52 to 62 in the frame
    joined = join_boxes(found, tiles, KINDS)
    np.testing.assert_allclose(joined.boxes, [[52, 20, 62, 30, 0.8, 1]])


def test_a_resized_box_is_scaled_and_clipped_to_the_frame() -> None:
    geometry = Geometry(mode=GeometryMode.RESIZE, height=64, width=64)
    tiles = cut(Frame(pixels=np.zeros((128, 320), np.uint8), pixel_size=None, source_id="f"), geometry)
    found = np.zeros((1, 3, 6), np.float32)
    found[0, 0] = (8, 16, 70, 32, 0.75, 2)
    joined = join_boxes(found, tiles, KINDS)
    np.testing.assert_allclose(joined.boxes, [[40, 32, 320, 64, 0.75, 2]])


def test_what_is_not_inspected_or_beyond_the_frame_has_no_boxes() -> None:
    tiles = tiles_of(40, 112, ignore=(IgnoredShape(columns=(0, 20)),))  # mirrored from row 40 on
    found = np.zeros((2, 3, 6), np.float32)
    found[0, 0] = (4, 5, 22, 15, 0.9, 1)  # 2 px of it are inspected, by which boxes may be too large
    found[0, 1] = (2, 25, 23, 35, 0.8, 1)  # 3 px of it are
    found[1, 0] = (20, 44, 40, 60, 0.9, 1)  # in the mirror image
    joined = join_boxes(found, tiles, KINDS)
    np.testing.assert_allclose(joined.boxes, [[2, 25, 23, 35, 0.8, 1]])


def test_no_kind_crowds_another_out() -> None:
    geometry = Geometry(mode=GeometryMode.TILES, height=64, width=64)
    tiles = cut(Frame(pixels=np.zeros((64, 64 * 12), np.uint8), pixel_size=None, source_id="f"), geometry)
    found = np.zeros((12, 100, 6), np.float32)
    for row in range(100):
        x, y = row % 10 * 6, row // 10 * 6
        found[:, row] = (x, y, x + 4, y + 4, 0.9, 1)
    found[11, 99] = (54, 54, 58, 58, 0.5, 2)  # the worst of 1200
    assert (join_boxes(found, tiles, KINDS).boxes[:, 5] == 2).sum() == 1


def test_values_that_are_not_finite_are_kept_for_decide_and_numbers_of_no_kind_refused() -> None:
    tiles = tiles_of(64, 112)
    found = np.zeros((2, 1, 6), np.float32)
    found[0, 0] = (1, 1, 9, 9, np.nan, 1)
    assert not join_boxes(found, tiles, KINDS).is_finite
    found[0, 0] = (1, 1, 9, 9, 0.5, 3)
    with pytest.raises(InputError, match="expected the numbers of kinds, 1 to 2"):
        join_boxes(found, tiles, KINDS)
    assert len(join_boxes(np.zeros_like(found), tiles, KINDS).boxes) == 0
