"""Labelled tiles: pixels say where the defects went, as a defect's pixels have the gray level of its kind."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import save_image, texture
from zellige.core.ignore import IgnoredShape
from zellige.core.image_files import read_sample
from zellige.core.tiling import cut
from zellige.core.types import Color, Frame, Geometry, GeometryMode, LabelledBox, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.data.labelled_tile import LabelledTile, clipped
from zellige.data.supervised_tiles import Drawing, SupervisedTiles, kinds_of

KINDS = ("dent", "hole")
LEVEL = {"dent": 0, "hole": 255}
SIZE = (64, 96)
TILES = Geometry(mode=GeometryMode.TILES, height=32, width=32)
RESIZE = Geometry(mode=GeometryMode.RESIZE, height=32, width=48)


def sample(
    root: Path,
    name: str,
    boxes: dict[str, tuple[int, int, int, int]] | None = None,
    *,
    has_mask: bool = True,
    has_boxes: bool = True,
    size: tuple[int, int] = SIZE,
) -> Sample:
    """A flat image of 60; each kind's box x0, y0, x1, y1 is filled with its level."""
    pixels, mask = np.full(size, 60, np.uint8), np.zeros(size, np.uint8)
    for kind, (x0, y0, x1, y1) in (boxes or {}).items():
        pixels[y0:y1, x0:x1] = LEVEL[kind]
        mask[y0:y1, x0:x1] = 255
    save_image(root / f"{name}.png", pixels)
    save_image(root / f"{name}_mask.png", mask)
    kinds = list(boxes or {})
    return Sample(
        id=name,
        image_path=root / f"{name}.png",
        kind="good" if not kinds else kinds[0] if len(kinds) == 1 else "mixed",
        group_id=name,
        mask_path=root / f"{name}_mask.png" if boxes and has_mask else None,
        boxes=tuple(LabelledBox(kind=kind, box_px=box) for kind, box in (boxes or {}).items()) if has_boxes else (),
    )


def supervised(
    samples: list[Sample], geometry: Geometry, policy: str = "none", cache_mb: int = 10, kinds: tuple[str, ...] = KINDS
) -> SupervisedTiles:
    good = [one for one in samples if not one.is_defective]
    bad = [one for one in samples if one.is_defective]
    augment = Augment(policy, seed=0)
    data = TileDataset(good, geometry=geometry, color=Color.GRAY, augment=augment, defects=bad)
    tiles = SupervisedTiles(data, kinds, cache_mb=cache_mb)
    tiles.scan("train", lambda: None)
    return tiles


def numbers(tile: LabelledTile) -> np.ndarray:
    """The kinds that the pixels show: 0 dark is the first, 255 bright the second."""
    pixels = tile.pixels[0]
    return np.where(pixels < 20, 1, np.where(pixels > 200, 2, 0))


def bounds(tile: LabelledTile, number: int) -> tuple[float, ...]:
    ys, xs = np.nonzero(numbers(tile) == number)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


TWO = {"dent": (10, 8, 26, 20), "hole": (60, 30, 80, 50)}


@pytest.mark.parametrize("has_boxes", [True, False])
def test_a_masks_kinds_and_boxes_are_cut_as_its_image_is(tmp_path: Path, has_boxes: bool) -> None:
    boxes = TWO if has_boxes else {"hole": TWO["hole"]}
    tiles = supervised([sample(tmp_path, "a", boxes, has_boxes=has_boxes)], TILES).tiles_of(0)
    frame = Frame(pixels=np.ascontiguousarray(texture(0, size=SIZE)), pixel_size=None, source_id="a")
    assert len(tiles) == len(cut(frame, TILES).pixels) == 6
    for tile in tiles:
        assert np.array_equal(tile.kind_mask, numbers(tile))
        areas = np.bincount(tile.kind_mask.ravel(), minlength=3)[1:]
        assert tile.kind == (areas.argmax() + 1 if areas.any() else 0)
        assert tile.has_mask
        assert tile.has_boxes
        for *box, number in tile.boxes.tolist():
            assert tuple(box) == bounds(tile, int(number))
    # The hole's 20 x 20 px lie in four tiles; of two of them it takes less than a quarter: the boxes are gone.
    shares = [np.sum(tile.kind_mask == 2) / 400 for tile in tiles]
    assert [int(any(row[4] == 2 for row in tile.boxes)) for tile in tiles] == [int(share >= 0.25) for share in shares]
    assert sum(0 < share < 0.25 for share in shares) > 0


def test_boxes_and_masks_follow_a_resize(tmp_path: Path) -> None:
    (tile,) = supervised([sample(tmp_path, "a", TWO)], RESIZE).tiles_of(0)
    assert tile.boxes.tolist() == [[5, 4, 13, 10, 1], [30, 15, 40, 25, 2]]
    assert np.array_equal(tile.kind_mask, numbers(tile))


def test_boxes_without_a_mask_are_filled_in_and_known_where_a_tile_has_none(tmp_path: Path) -> None:
    tiles = supervised([sample(tmp_path, "a", TWO, has_mask=False)], TILES).tiles_of(0)
    for tile in tiles:
        assert np.array_equal(tile.kind_mask, numbers(tile))
        assert tile.has_mask == (tile.kind == 0)
        assert tile.has_boxes


def test_a_kind_alone_is_known_of_one_tile_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = sample(tmp_path, "a", {"hole": TWO["hole"]}, has_mask=False, has_boxes=False)
    whole = supervised([alone], RESIZE)
    (tile,) = whole.tiles_of(0)
    assert (tile.kind, tile.has_mask, tile.has_boxes, len(tile.boxes)) == (2, False, False, 0)
    assert not caplog.text
    pieces = supervised([sample(tmp_path, "good"), alone], TILES)
    assert pieces.usable.tolist() == [0]
    assert "train: 1 images are left out, without a mask or boxes, and cut into several tiles" in caplog.text


def test_what_cannot_teach_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    belt = Geometry(mode=GeometryMode.TILES, height=32, width=32, ignore=(IgnoredShape(columns=(48, 96)),))
    ignored = sample(tmp_path, "a", {"hole": TWO["hole"]})
    both = sample(tmp_path, "b", TWO)
    tiles = supervised([ignored, both], belt)
    assert tiles.usable.tolist() == [1]
    assert "where nothing is inspected" in caplog.text
    assert {row[4] for tile in tiles.tiles_of(1) for row in tile.boxes} == {1}
    other = supervised([sample(tmp_path, "good"), both], TILES, kinds=("hole",))
    assert other.usable.tolist() == [0]
    assert "of a kind that the model does not have (dent)" in caplog.text


def test_a_small_frame_is_mirrored_with_its_boxes(tmp_path: Path) -> None:
    geometry = Geometry(mode=GeometryMode.TILES, height=48, width=96, pad_small=True)
    (tile,) = supervised([sample(tmp_path, "a", {"hole": (10, 4, 18, 14)}, size=(20, 40))], geometry).tiles_of(0)
    assert np.array_equal(tile.kind_mask, numbers(tile))
    expected = [
        [x0, y0, x1, y1, 2] for y0, y1 in ((4, 14), (26, 36), (44, 48)) for x0, x1 in ((10, 18), (62, 70), (90, 96))
    ]  # mirrored at 20 and 40 px, repeated at 40 and 80
    assert sorted(tile.boxes.tolist()) == sorted(expected)


def test_clipped_boxes_against_sums_over_pixels() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (200, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 20, (200, 2)), np.ones((200, 1))], 1).astype(np.float32)
    expected = []
    for x0, y0, x1, y1, _ in boxes.astype(int):
        whole = np.zeros((80, 80), bool)
        whole[y0:y1, x0:x1] = True
        part = whole[12:36, 8:40]
        if part.sum() * 4 >= whole.sum():
            ys, xs = np.nonzero(part)
            expected.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, 1])
    assert clipped(boxes, (12, 8), (24, 32)).tolist() == expected


def test_drawn_tiles_depend_on_their_seed_alone(tmp_path: Path) -> None:
    samples = [sample(tmp_path, "good"), sample(tmp_path, "a", TWO), sample(tmp_path, "b", {"hole": (0, 0, 9, 9)})]
    first, second = (supervised(samples, TILES, "labelled_turns", cache_mb=size) for size in (10, 0))
    places = [(index, seed) for seed in range(8) for index in range(3)]
    seen = {place: first.draw(place[0], Drawing(crops="random"), seed=(7, place[1])) for place in places}
    for place in reversed(places):
        again = second.draw(place[0], Drawing(crops="random"), seed=(7, place[1]))
        for name in ("pixels", "kind_mask", "boxes", "kind"):
            assert np.array_equal(getattr(seen[place], name), getattr(again, name)), name
    assert len({tile.pixels.tobytes() for (index, _), tile in seen.items() if index == 1}) > 6
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != supervised(samples, TILES, "flips").fingerprint()
    assert first.fingerprint() != supervised(samples, replace(TILES, overlap_px=8)).fingerprint()


@pytest.mark.parametrize(("policy", "places"), [("flips", 3), ("labelled", 10), ("labelled_turns", 15)])
def test_masks_and_boxes_follow_the_augmentation(tmp_path: Path, policy: str, places: int) -> None:
    """Of a box that was not turned the bounds are the pixels'; those of a turned one, an ellipse's, lie up to 1.7 px
    inside of a rectangle's corners (10 degrees, 15 % larger), beside a pixel's rounding. Half of the tiles stay where
    they are.
    """
    geometry = Geometry(mode=GeometryMode.RESIZE, height=64, width=64)
    tiles = supervised([sample(tmp_path, "a", {"hole": (20, 24, 40, 34)}, size=(64, 64))], geometry, policy)
    moved = set()
    for seed in range(30):
        tile = tiles.draw(0, Drawing(crops="grid"), seed=(seed,))
        assert np.mean(tile.kind_mask != numbers(tile)) < 0.02
        assert len(tile.boxes) == 1
        off = np.array(bounds(tile, 2)) - tile.boxes[0, :4]
        slack = 0 if policy == "flips" else 4.5
        assert (np.array([1, 1, -1, -1]) * off >= -2 * (slack > 0)).all()
        assert np.abs(off).max() <= slack
        moved.add(tile.boxes[0].tobytes())
    assert len(moved) >= places
    assert policy != "labelled" or len(moved) <= 22


def test_boxes_that_leave_are_clipped_and_dropped(tmp_path: Path) -> None:
    geometry = Geometry(mode=GeometryMode.RESIZE, height=64, width=64)
    tiles = supervised([sample(tmp_path, "a", {"hole": (0, 0, 6, 6)}, size=(64, 64))], geometry, "labelled")
    drawn = [tiles.draw(0, Drawing(crops="grid"), seed=(seed,)) for seed in range(60)]
    counts = Counter(len(tile.boxes) for tile in drawn)
    assert counts[0] > 0
    for tile in drawn:
        assert (tile.boxes[:, :4] >= 0).all()
        assert (tile.boxes[:, :4] <= 64).all()
        assert tile.kind == (2 if tile.kind_mask.any() else 0)


def test_random_crops_lie_on_defects_three_times_of_four(tmp_path: Path) -> None:
    small = Geometry(mode=GeometryMode.TILES, height=32, width=32)
    tiles = supervised([sample(tmp_path, "a", {"hole": (84, 84, 86, 86)}, size=(256, 256))], small)
    drawn = [tiles.draw(0, Drawing(crops="random"), seed=(seed,)) for seed in range(200)]
    share = np.mean([tile.kind == 2 for tile in drawn])
    assert 0.65 < share < 0.85  # a random crop meets it in one of 50
    assert len({tuple(tile.boxes[0]) for tile in drawn if tile.kind == 2}) > 15
    grid = {tiles.draw(0, Drawing(crops="grid"), seed=(seed,)).pixels.tobytes() for seed in range(500)}
    assert len(grid) == 2  # the tile with the defect and those without


def test_random_crops_of_good_images_show_the_frames_edges_too(tmp_path: Path) -> None:
    """A crop of 32 px may begin 4 px before the frame or end 4 px behind it and is moved inside."""
    save_image(tmp_path / "a.png", np.arange(128, dtype=np.uint8)[:, None].repeat(96, axis=1))
    one = Sample(id="a", image_path=tmp_path / "a.png", kind="good", group_id="a")
    tiles = supervised([one], replace(TILES, height=32, width=32))
    first = np.array([tiles.draw(0, Drawing(), seed=(seed,)).pixels[0, 0, 0] for seed in range(1000)])
    expected = 5 / (128 - 32 + 1 + 2 * 4)
    for edge in (0, 96):
        assert abs(np.mean(first == edge) - expected) < 0.02
    assert len(np.unique(first)) > 90


def test_small_crops_lie_on_defects_and_keep_them_off_their_borders(tmp_path: Path) -> None:
    """Of a defect of one pixel, wherever it lies: in a corner of the frame it cannot be kept away from the border."""
    for number, place in enumerate([(100, 60), (0, 255)]):
        y, x = place
        box = {"hole": (x, y, x + 1, y + 1)}
        tiles = supervised([sample(tmp_path, f"a{number}", box, size=(256, 256))], replace(TILES, height=64, width=64))
        drawn = [tiles.draw(0, Drawing(crops="random", crop_px=32), seed=(seed,)) for seed in range(300)]
        assert {tile.pixels.shape[-2:] for tile in drawn} == {(32, 32)}
        shown = np.array([np.argwhere(tile.kind_mask)[0] for tile in drawn if tile.kind_mask.any()])
        assert 0.65 < len(shown) / 300 < 0.85
        for at, seen in zip(place, shown.T, strict=True):
            if at in (0, 255):  # the crop ends with the frame
                assert np.mean(seen == at % 32) > 0.97
            else:  # an eighth of 32 px away, from both borders, and everywhere between; random ones may lie closer
                assert np.quantile(seen, [0.02, 0.98]).tolist() == [4, 27]


def test_every_other_crop_is_zoomed_with_its_labels(tmp_path: Path) -> None:
    """A defect of 24 px shows as large as the crop's own scale makes it: up to 1.5 times larger or smaller."""
    tiles = supervised([sample(tmp_path, "a", {"hole": (100, 90, 124, 114)}, size=(256, 256))], TILES)
    drawn = [tiles.draw(0, Drawing(crops="random", crop_px=96, crop_zoom=0.5), seed=(seed,)) for seed in range(300)]
    assert {tile.pixels.shape[-2:] for tile in drawn} == {(96, 96)}
    whole = [
        tile for tile in drawn if len(tile.boxes) and tile.boxes[0, :2].min() > 0 and tile.boxes[0, 2:4].max() < 96
    ]
    sides = np.array([tile.boxes[0, 2:4] - tile.boxes[0, :2] for tile in whole])
    assert np.allclose(sides[:, 0], sides[:, 1])
    assert 0.35 < np.mean(np.abs(sides[:, 0] - 24) < 1e-3) < 0.65
    assert 15.5 < sides.min() < 18
    assert 32 < sides.max() < 36.5
    for tile, side in zip(whole, sides[:, 0], strict=True):
        shown = np.argwhere(tile.kind_mask)
        assert np.abs(np.ptp(shown, axis=0) + 1 - side).max() <= 2  # a pixel counts from an eighth on, on either side
        assert np.abs(shown.min(axis=0) - tile.boxes[0, [1, 0]]).max() <= 1


def test_a_stretched_crop_keeps_area_and_labels(tmp_path: Path) -> None:
    """A square defect of 24 px becomes oblong, up to 1.5 times longer along one side, and keeps its area."""
    tiles = supervised([sample(tmp_path, "a", {"hole": (100, 90, 124, 114)}, size=(256, 256))], TILES)
    how = Drawing(crop_px=96, crop_stretch=0.5)
    drawn = [tiles.draw(0, how, seed=(seed,)) for seed in range(300)]
    assert {tile.pixels.shape[-2:] for tile in drawn} == {(96, 96)}
    whole = [t for t in drawn if len(t.boxes) and t.boxes[0, :2].min() > 0 and t.boxes[0, 2:4].max() < 96]
    sides = np.array([tile.boxes[0, 2:4] - tile.boxes[0, :2] for tile in whole])
    ratio = sides[:, 0] / sides[:, 1]
    assert 0.35 < np.mean(ratio == 1) < 0.65
    assert 1 / 1.55 < ratio.min() < 0.75 < 1.35 < ratio.max() < 1.55  # crops are whole pixels
    assert np.abs(sides.prod(axis=1) / 24**2 - 1).max() < 0.03
    for tile, side in zip(whole, sides, strict=True):
        shown = np.argwhere(tile.pixels[0] > 160)
        assert np.abs(np.ptp(shown, axis=0) + 1 - side[::-1]).max() <= 1.5


@pytest.mark.parametrize("opposites", [{"hole": "dent"}, {"dent": "hole", "hole": "dent"}, {}])
def test_every_fourth_tile_is_a_negative_with_the_opposite_kinds(tmp_path: Path, opposites: dict[str, str]) -> None:
    """A dent is black and a hole is white: in the negative too, if they changed places."""
    one = sample(tmp_path, "a", {"dent": (8, 8, 20, 20), "hole": (40, 30, 60, 44)})
    tiles = supervised([one], replace(TILES, height=64, width=96))
    drawn = [tiles.draw(0, Drawing(opposites=opposites), seed=(seed,)) for seed in range(200)]
    is_negative = np.array([tile.pixels[0, 0, 0] == 195 for tile in drawn])
    assert (0.17 < is_negative.mean() < 0.33) if opposites else not is_negative.any()
    for tile in drawn:
        for number, kind in enumerate(KINDS, start=1):
            assert np.array_equal(tile.kind_mask == number, tile.pixels[0] == LEVEL[kind])
            x0, y0, x1, y1 = tile.boxes[tile.boxes[:, 4] == number][0, :4].astype(int)
            assert (tile.kind_mask[y0:y1, x0:x1] == number).all()
            assert (y1 - y0) * (x1 - x0) == np.sum(tile.kind_mask == number)


def test_a_negative_keeps_good_and_what_nobody_knows() -> None:
    """Good is 0 and has no opposite; a kind of -1 is not known."""
    tile = LabelledTile(
        pixels=np.zeros((1, 2, 2), np.uint8),
        kind_mask=np.zeros((2, 2), np.uint8),
        has_mask=False,
        kind=-1,
        boxes=np.zeros((0, 5), np.float32),
        has_boxes=False,
    )
    swapped = np.array([0, 2, 1], np.uint8)
    assert [replace(tile, kind=kind).negative(swapped).kind for kind in (-1, 0, 1, 2)] == [-1, 0, 2, 1]


def test_a_thin_defect_stays_in_a_crop_that_shows_more(tmp_path: Path) -> None:
    tiles = supervised([sample(tmp_path, "a", {"hole": (20, 100, 236, 101)}, size=(256, 256))], TILES)
    drawn = [tiles.draw(0, Drawing(crops="random", crop_px=96, crop_zoom=1.0), seed=(seed,)) for seed in range(100)]
    shown = [tile for tile in drawn if tile.pixels.max() > 80]
    assert len(shown) > 60
    assert all(tile.kind == 2 and tile.kind_mask.any() for tile in shown)


def test_a_defect_that_nobody_placed_is_drawn_whole(tmp_path: Path) -> None:
    """What a crop shows would else be called a defect where it shows none."""
    bare = sample(tmp_path, "a", {"hole": (5, 5, 9, 9)}, has_mask=False, has_boxes=False, size=(64, 96))
    tiles = supervised([bare], RESIZE)
    whole = tiles.tiles_of(0)[0].pixels
    drawn = [tiles.draw(0, Drawing(crops="random", crop_zoom=1.0), seed=(seed,)) for seed in range(20)]
    assert all(np.array_equal(tile.pixels, whole) and tile.kind == 2 for tile in drawn)


def test_a_zoomed_crop_shows_no_more_than_there_is(tmp_path: Path) -> None:
    tiles = supervised(
        [sample(tmp_path, "a", {"hole": (5, 5, 20, 20)}, size=(34, 200))], replace(TILES, height=32, width=32)
    )
    drawn = [tiles.draw(0, Drawing(crops="random", crop_zoom=1.0), seed=(seed,)) for seed in range(50)]
    assert {tile.pixels.shape[-2:] for tile in drawn} == {(32, 32)}


@pytest.mark.parametrize(("balance", "shares"), [(0.0, (0.8, 0.16, 0.04)), (1.0, (1 / 3, 1 / 3, 1 / 3))])
def test_the_order_of_an_epoch(tmp_path: Path, balance: float, shares: tuple[float, ...]) -> None:
    good = [sample(tmp_path, f"good{i}", size=(32, 48)) for i in range(20)]
    dents = [sample(tmp_path, f"dent{i}", {"dent": (1, 1, 9, 9)}, size=(32, 48)) for i in range(4)]
    tiles = supervised([*good, *dents, sample(tmp_path, "hole", {"hole": (1, 1, 9, 9)}, size=(32, 48))], RESIZE)
    look = {"balance": balance, "num_draws": 300}
    order = tiles.order(seed=0, epoch=3, **look)
    found = np.array([np.sum(order < 20), np.sum((order >= 20) & (order < 24)), np.sum(order == 24)]) / 300
    assert np.abs(found - shares).max() < 0.01
    assert np.array_equal(order, tiles.order(seed=0, epoch=3, **look))
    assert not np.array_equal(order, tiles.order(seed=0, epoch=4, **look))
    if balance == 0:
        assert sorted(tiles.order(seed=0, epoch=1, balance=0, num_draws=25).tolist()) == list(range(25))


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [sample(tmp_path, f"good{i}", size=(500, 500)) for i in range(6)]
    geometry = Geometry(mode=GeometryMode.TILES, height=64, width=64)
    tiles = supervised(samples, geometry, cache_mb=2)  # half a megabyte each: pixels and kinds
    before = [tiles.tiles_of(index)[0].pixels.tobytes() for index in range(6)]
    for one in samples:
        one.image_path.unlink()
    kept = []
    for index in range(6):
        try:
            assert tiles.tiles_of(index)[0].pixels.tobytes() == before[index]
            kept.append(index)
        except ValueError:
            continue
    assert kept == [0, 1, 2, 3]


def test_kinds_of_samples(tmp_path: Path) -> None:
    unplaced = sample(tmp_path, "b", TWO, has_boxes=False)
    assert kinds_of([sample(tmp_path, "good"), sample(tmp_path, "a", TWO), unplaced]) == ["dent", "hole"]
    assert kinds_of([unplaced]) == []


def test_a_box_larger_than_its_tile_is_in_every_tile_that_it_fills() -> None:
    scratch = np.array([[0, 10, 2000, 20, 1], [0, 0, 600, 600, 1]], np.float32)
    assert clipped(scratch, (0, 224), (224, 224)).tolist() == [[0, 10, 224, 20, 1], [0, 0, 224, 224, 1]]
    assert clipped(scratch[:1], (0, 1990), (224, 224)).tolist() == []


def test_a_template_follows_its_image_as_it_does_in_evaluation(tmp_path: Path) -> None:
    template = texture(1, size=SIZE)
    save_image(tmp_path / "gold.png", template)
    one = replace(sample(tmp_path, "a", {"hole": (10, 20, 30, 40)}), template_path=tmp_path / "gold.png")
    tiles = supervised([one], TILES)
    expected = cut(read_sample(one, color=Color.GRAY), TILES).pixels
    assert expected.shape[1] == 2
    np.testing.assert_array_equal([tile.pixels for tile in tiles.tiles_of(0)], expected)
    turned = supervised([one], TILES, "flips").draw(0, Drawing(crops="grid"), seed=(3,)).pixels
    assert any(
        np.array_equal(turned, tile[:, ::rows, ::columns])
        for tile in expected
        for rows in (1, -1)
        for columns in (1, -1)
    )
