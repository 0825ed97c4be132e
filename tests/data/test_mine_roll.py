"""Mining finds the worst places of a roll, apart from each other, and what it writes can join a run."""

import csv
from pathlib import Path

import cv2
import pytest

from tests.station.conftest import bundle_fields, bundle_members, good_pixels, save
from zellige.core.bundle import read_bundle, write_bundle
from zellige.core.errors import InputError
from zellige.core.types import Color
from zellige.data.additions import list_good
from zellige.data.mine_roll import Mined, mine_roll, write_mined
from zellige.data.roll_tiles import find_rolls
from zellige.station.runtime import Runtime
from zellige.station.sources import RollSource, open_source

WIDTH, ROLL = 160, "2024.05.01"
SPOTS = {(500, 40): 250, (100, 120): 230, (640, 80): 210, (505, 44): 240}
"""Level by line and column; a pixel's anomaly is its distance from 128. The last one is beside the first."""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields())
    return Runtime(read_bundle(tmp_path / "b.zellige"), num_threads=1)


@pytest.fixture
def source(tmp_path: Path) -> RollSource:
    pixels = good_pixels(900, WIDTH)
    for (y, x), level in SPOTS.items():
        pixels[y, x] = level
    folder = tmp_path / ROLL
    folder.mkdir()
    for start in range(0, 900, 100):
        save(folder / f"f_{start // 100}.png", pixels[start : start + 100])
    return open_source(folder, width_px=None, color=Color.GRAY)


def mine(runtime: Runtime, source: RollSource, count: int = 3) -> list[Mined]:
    return mine_roll(runtime, source, count=count, height=(96, 96), width=(80, 300))


def test_the_worst_places_apart_from_each_other(runtime: Runtime, source: RollSource) -> None:
    found = mine(runtime, source)
    assert [round(one.score * 128) for one in found] == [122, 102, 82]
    for one, (y, x) in zip(found, SPOTS, strict=False):
        window = one.window
        assert (window.height, window.width) == (96, 80)  # as high as the run's images, and at least as wide
        assert window.first_line <= y < window.stop_line
        assert window.left_px <= x < window.left_px + window.width <= WIDTH
    assert mine(runtime, source) == found


def test_holes_and_the_end_of_the_roll_are_no_images(runtime: Runtime, source: RollSource, tmp_path: Path) -> None:
    (tmp_path / ROLL / "f_5.png").unlink()  # with the worst place
    found = mine_roll(
        runtime,
        open_source(tmp_path / ROLL, width_px=None, color=Color.GRAY),
        count=3,
        height=(96, 96),
        width=(80, 80),
    )
    assert [round(one.score * 128) for one in found][:2] == [102, 82]
    assert all(one.window.stop_line <= 500 or one.window.first_line >= 600 for one in found)


def test_what_is_written_can_join_a_run(runtime: Runtime, source: RollSource, tmp_path: Path) -> None:
    assert list(find_rolls(tmp_path)) == [ROLL]
    found, out = mine(runtime, source, 12), tmp_path / "mined"
    write_mined(found, source, runtime.bundle.manifest.pixel_size, out)
    rows = list_good(out, None).rows
    assert len(rows) == len(found)
    assert {row.sample.group_id for row in rows} == {ROLL}  # as data=roll names its group
    assert {row.sample.pixel_size for row in rows} == {runtime.bundle.manifest.pixel_size}
    first = cv2.imread(str(rows[0].sample.image_path), cv2.IMREAD_UNCHANGED)
    assert (first.shape, int(first.max())) == ((96, 80), 250)
    with (out / "scores.csv").open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert scores == sorted(scores, reverse=True)
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.std() > 5
    with pytest.raises(InputError, match="cannot be written"):
        write_mined(found, source, None, out)


def test_a_roll_shorter_than_an_image_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    save(tmp_path / "short.pgm", good_pixels(80, WIDTH))
    short = open_source(tmp_path / "short.pgm", width_px=None, color=Color.GRAY)
    with pytest.raises(InputError, match="room for an image of 96 x 80 px"):
        mine(runtime, short)
