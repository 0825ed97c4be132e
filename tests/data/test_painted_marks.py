"""Marks of labelled defects painted elsewhere: what they touch is counted here from the finished picture."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import save_image
from zellige.core.types import Color, Geometry, GeometryMode, LabelledBox, Sample
from zellige.data.dataset import TileDataset
from zellige.data.labelled_frame import LabelledFrame
from zellige.data.labelled_tile import LabelledTile
from zellige.data.painted_marks import MarkBook
from zellige.data.supervised_tiles import Drawing, SupervisedTiles

KINDS = ("copper", "mousebite", "open", "pin-hole", "short", "spur")
MARKS = {"light": ("pin-hole", "mousebite", "open"), "dark": ("copper", "spur", "short")}
NUMBERS = {tone: tuple(KINDS.index(kind) + 1 for kind in kinds) for tone, kinds in MARKS.items()}
LIGHT, DARK = 240, 15
SIDE = 128


def pattern() -> NDArray[np.uint8]:
    """Dark tracks of 12 px and a dark pad, on light ground; far from each other and from the border."""
    board = np.full((SIDE, SIDE), LIGHT, np.uint8)
    for first in (10, 34, 58):
        board[:, first : first + 12] = DARK
    board[30:100, 82:122] = DARK
    return board


def labelled(*, has_mask: bool = False) -> LabelledFrame:
    """A pinhole, 8 x 6 px, in the pad; its box goes 3, 4, 5 and 6 px beyond it."""
    template = pattern()
    image = template.copy()
    image[60:66, 96:104] = LIGHT
    return LabelledFrame(
        pixels=np.stack([image, template]),
        numbers=np.zeros_like(image),
        boxes=np.array([[93, 56, 109, 72, 4]], np.float32),
        has_mask=has_mask,
        has_place=True,
        kind=0,
        inspected=None,
        corners=((0, 0),),
        tile_size=(SIDE, SIDE),
    )


def empty_tile(*, has_mask: bool = False) -> LabelledTile:
    board = pattern()
    tile = replace(labelled(), pixels=np.stack([board, board]), boxes=np.zeros((0, 5), np.float32)).tile(0, 0)
    return replace(tile, has_mask=has_mask)


def book() -> MarkBook:
    marks = MarkBook()
    marks.collect(labelled())
    return marks


def parts(is_tone: NDArray[np.bool_], window: tuple[slice, slice]) -> int:
    """How many parts of a tone, of 3 px or more, show in a window."""
    labels = cv2.connectedComponents(np.ascontiguousarray(is_tone[window]).view(np.uint8), connectivity=4)[1]
    return int((np.bincount(labels.ravel())[1:] >= 3).sum())


def test_a_mark_is_what_differs_within_its_box() -> None:
    mark = book().marks[0]
    assert mark.alpha.shape == (6 + 4, 8 + 4)  # two pixels of soft edge on every side
    assert np.array_equal(mark.alpha > 0.5, np.pad(np.ones((6, 8), np.bool_), 2))
    assert mark.margins.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("change", ["same", "flat", "tiny", "beyond"])
def test_what_is_no_mark_is_not_collected(change: str) -> None:
    """No difference; a product of one tone; three pixels; a difference that goes beyond its box."""
    frame = labelled()
    pixels, boxes = frame.pixels.copy(), frame.boxes.copy()
    if change == "same":
        pixels[0] = pixels[1]
    elif change == "flat":
        pixels = np.clip(pixels, 100, 140)
    elif change == "tiny":
        pixels[0], pixels[0, 60, 96:99] = pixels[1], LIGHT
    else:
        boxes[0, :4] = (98, 56, 109, 72)
    marks = MarkBook()
    marks.collect(replace(frame, pixels=pixels, boxes=boxes))
    assert marks.marks == []


def test_a_painted_mark_is_named_by_what_it_touches() -> None:
    """A light mark joins light parts, or none; a dark one dark parts: counted where it lies and 3 px around."""
    marks, seen = book(), set()
    for seed in range(400):
        tile = empty_tile()
        painted = marks.paint(tile, NUMBERS, np.random.default_rng(seed))
        assert np.array_equal(painted.pixels[1], tile.pixels[1])
        before, after = tile.pixels[0] > 128, painted.pixels[0] > 128
        for x0, y0, x1, y1, number in painted.boxes.astype(int).tolist():
            kind = KINDS[number - 1]
            tone = "light" if kind in MARKS["light"] else "dark"
            changed = np.argwhere((before != after)[y0:y1, x0:x1]) + np.array([y0, x0])
            assert (after[tuple(changed.T)] == (tone == "light")).all()
            low, high = np.maximum(changed.min(0) - 3, 0), changed.max(0) + 4
            window = (slice(low[0], high[0]), slice(low[1], high[1]))
            mark = (before != after)[window]
            near = cv2.dilate(mark.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
            is_tone = (before if tone == "light" else ~before)[window]
            touched = parts(is_tone & near, (slice(None), slice(None)))
            assert MARKS[tone].index(kind) == min(touched, 2), (seed, kind)
            seen.add(kind)
    assert seen == set(KINDS)


def test_boxes_go_as_far_beyond_the_mark_as_the_labelled_one_and_never_overlap() -> None:
    marks = book()
    num_painted = 0
    for seed in range(200):
        tile = empty_tile()
        painted = marks.paint(tile, NUMBERS, np.random.default_rng(seed))
        covered = np.zeros((SIDE, SIDE), np.int64)
        for x0, y0, x1, y1, number in painted.boxes.astype(int).tolist():
            covered[y0:y1, x0:x1] += 1
            assert (painted.kind_mask[y0:y1, x0:x1] == number).all()
            changed = np.argwhere((np.abs(painted.pixels[0].astype(int) - tile.pixels[0]) > 112)[y0:y1, x0:x1])
            gaps = [*changed.min(0), y1 - y0 - 1 - changed.max(0)[0], x1 - x0 - 1 - changed.max(0)[1]]
            wanted = [4, 3, 6, 5]  # rows, columns before; rows, columns after
            at_border = [y0 == 0, x0 == 0, y1 == SIDE, x1 == SIDE]
            assert all(abs(g - w) <= 1 or (b and g < w) for g, w, b in zip(gaps, wanted, at_border, strict=True))
            num_painted += 1
        assert covered.max() <= 1
        assert np.array_equal(painted.kind_mask > 0, covered > 0)
    assert num_painted > 100


def test_masks_are_painted_to_the_pixel() -> None:
    marks = book()
    drawn = [marks.paint(empty_tile(has_mask=True), NUMBERS, np.random.default_rng(seed)) for seed in range(60)]
    assert sum(len(tile.boxes) > 0 for tile in drawn) > 20
    for tile in drawn:
        difference = np.abs(tile.pixels[0].astype(int) - pattern())
        assert np.array_equal(tile.kind_mask > 0, difference > (LIGHT - DARK) / 2)


def test_half_of_the_tiles_stay_and_the_same_seed_paints_the_same() -> None:
    marks = book()
    drawn = [marks.paint(empty_tile(), NUMBERS, np.random.default_rng(seed)) for seed in range(200)]
    again = [marks.paint(empty_tile(), NUMBERS, np.random.default_rng(seed)) for seed in range(200)]
    for one, other in zip(drawn, again, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.boxes, other.boxes)
    assert 0.3 < np.mean([len(tile.boxes) == 0 for tile in drawn]) < 0.65


def test_a_tile_of_one_tone_is_left_alone() -> None:
    flat = replace(empty_tile(), pixels=np.full((2, SIDE, SIDE), LIGHT, np.uint8))
    assert all(book().paint(flat, NUMBERS, np.random.default_rng(seed)) is flat for seed in range(20))


def test_a_tile_whose_boxes_nobody_knows_is_left_alone() -> None:
    unknown = replace(empty_tile(), has_boxes=False)
    assert all(book().paint(unknown, NUMBERS, np.random.default_rng(seed)) is unknown for seed in range(20))


def test_tiles_of_pairs_are_drawn_with_marks(tmp_path: Path) -> None:
    frame = labelled()
    for name, pixels in zip(("image", "template"), frame.pixels, strict=True):
        save_image(tmp_path / f"{name}.png", pixels)
    sample = Sample(
        id="a",
        image_path=tmp_path / "image.png",
        kind="pin-hole",
        group_id="a",
        boxes=(LabelledBox(kind="pin-hole", box_px=(93, 56, 109, 72)),),
        template_path=tmp_path / "template.png",
    )
    whole = Geometry(mode=GeometryMode.TILES, height=SIDE, width=SIDE)
    tiles = SupervisedTiles(TileDataset([], geometry=whole, color=Color.GRAY, defects=[sample]), KINDS, cache_mb=10)
    tiles.scan("train", lambda: None)
    assert tiles.num_marks == 0
    tiles.scan("train", lambda: None, with_marks=True)
    assert tiles.num_marks == 1
    plain = [tiles.draw(0, Drawing(), seed=(seed,)) for seed in range(60)]
    drawn = [tiles.draw(0, Drawing(marks=MARKS), seed=(seed,)) for seed in range(60)]
    assert {len(tile.boxes) for tile in plain} == {1}
    assert sum(len(tile.boxes) > 1 for tile in drawn) > 15
    assert all(np.array_equal(tile.boxes[0], plain[0].boxes[0]) for tile in drawn)
