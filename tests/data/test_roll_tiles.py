"""Images cut out of rolls are what lies there, boxes are where they were drawn, and a roll is in one split."""

import csv
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import save_image
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, PixelSize
from zellige.data.box_text import boxes_from_text
from zellige.data.index import load_splits
from zellige.data.resolution import check_resolution
from zellige.data.roll_tiles import RollTiles, make_roll_set
from zellige.data.roll_windows import Window, cut_windows, whole_runs
from zellige.data.splits import Fractions
from zellige.station.sources import open_source

SIZE = PixelSize(cross_web_mm=0.5, down_web_mm=0.25)
SIDE, WIDTH = 64, 200


def roll_pixels(seed: int, num_lines: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_lines, WIDTH)).astype(np.uint8)


def write_rolls(folder: Path, count: int = 5) -> dict[str, np.ndarray]:
    """As a folder of frames, a tall image and raw files."""
    rolls = {f"roll{k}": roll_pixels(k) for k in range(count)}
    for k, (name, pixels) in enumerate(rolls.items()):
        if k == 0:
            for start in range(0, len(pixels), 100):
                save_image(folder / name / f"f_{start // 100}.png", pixels[start : start + 100])
        elif k == 1:
            save_image(folder / f"{name}.png", pixels)
        else:
            (folder / f"{name}.raw").write_bytes(pixels.tobytes())
    return rolls


def write_defects(path: Path, *boxes_px: tuple[str, int, int, int, int, str]) -> Path:
    """Boxes as roll, x0, y0, x1, y1, kind in px."""
    rows = ["roll,x_mm,y_mm,w_mm,h_mm,kind"]
    rows += [
        f"{roll},{x0 * 0.5},{y0 * 0.25},{(x1 - x0) * 0.5},{(y1 - y0) * 0.25},{kind}"
        for roll, x0, y0, x1, y1, kind in boxes_px
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def settings(folder: Path, **other: object) -> RollTiles:
    known = {"source": folder, "pixel_size": SIZE, "color": Color.GRAY, "tile_px": SIDE, "width_px": WIDTH}
    return RollTiles(**{**known, **other})


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


BOXES = (
    ("roll0", 90, 95, 100, 105, "hole"),  # over a border of frames
    ("roll0", 98, 90, 120, 100, "slub"),  # beside it
    ("roll2", 10, 60, 14, 260, "streak"),  # longer than an image
    ("roll3", 190, 380, 200, 400, "hole"),  # in the corner
)


@pytest.fixture
def made(tmp_path: Path) -> tuple[dict[str, np.ndarray], Path, RollTiles]:
    (tmp_path / "rolls").mkdir()
    rolls = write_rolls(tmp_path / "rolls")
    asked = settings(tmp_path / "rolls", defects=write_defects(tmp_path / "defects.csv", *BOXES))
    return rolls, make_roll_set(tmp_path / "set", asked, Fractions(), seed=0), asked


def test_images_and_boxes_are_where_they_were(made: tuple[dict[str, np.ndarray], Path, RollTiles]) -> None:
    rolls, folder, _ = made
    drawn = {name: np.zeros((400, WIDTH), bool) for name in rolls}
    for roll, x0, y0, x1, y1, _kind in BOXES:
        drawn[roll][y0:y1, x0:x1] = True
    kinds = set()
    for row in rows_of(folder):
        name, top, left = re.fullmatch(r"(roll\d)/l(\d+)_x(\d+)\.png", row["path"]).groups()
        part = (slice(int(top), int(top) + SIDE), slice(int(left), int(left) + SIDE))
        image = cv2.imread(str(folder / row["path"]), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(image, rolls[name][part])
        inside = np.zeros((SIDE, SIDE), bool)
        for box in boxes_from_text(row["boxes"]):
            x0, y0, x1, y1 = (round(v) for v in box.box_px)
            inside[y0:y1, x0:x1] = True
        assert np.array_equal(inside, drawn[name][part])
        assert (row["kind"] == "good") == (not inside.any())
        assert (row["group"], row["pixel_size"]) == (name, "0.5x0.25")
        kinds.add((name, row["kind"]))
    assert {("roll0", "slub"), ("roll2", "streak"), ("roll3", "hole")} <= kinds
    streaks = [row for row in rows_of(folder) if row["kind"] == "streak"]
    assert len(streaks) == 4  # 200 lines in images of 64
    assert len([row for row in rows_of(folder) if row["group"] == "roll1"]) == 6 * 3  # all good, 400 x 200 px


def test_a_roll_is_in_one_split_and_the_set_is_read(made: tuple[dict[str, np.ndarray], Path, RollTiles]) -> None:
    _, folder, _ = made
    splits = {row["group"]: row["split"] for row in rows_of(folder)}
    assert len({(row["group"], row["split"]) for row in rows_of(folder)}) == len(splits) == 5
    assert set(splits.values()) == {"train", "val", "test"}
    found, _ = load_splits(folder, "manifest", Fractions(), seed=0, duplicates="ignore")
    assert any(sample.is_defective for sample in found.test)
    assert found.train
    assert found.val


def test_a_set_is_found_again_and_made_anew_when_something_changed(
    made: tuple[dict[str, np.ndarray], Path, RollTiles], tmp_path: Path
) -> None:
    _, folder, asked = made
    before = (folder / "manifest.csv").stat().st_mtime_ns
    assert make_roll_set(tmp_path / "set", asked, Fractions(), seed=0) == folder
    assert (folder / "manifest.csv").stat().st_mtime_ns == before
    write_defects(tmp_path / "defects.csv", *BOXES[:-1])
    again = make_roll_set(tmp_path / "set", asked, Fractions(), seed=0)
    assert again != folder
    assert not any(row["kind"] == "hole" and row["group"] == "roll3" for row in rows_of(again))
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == sorted([folder.name, again.name])


def test_good_images_are_evenly_chosen(tmp_path: Path) -> None:
    (tmp_path / "rolls").mkdir()
    write_rolls(tmp_path / "rolls", 3)
    folder = make_roll_set(tmp_path / "set", settings(tmp_path / "rolls", good_per_roll=4), Fractions(), seed=0)
    lines = [int(re.search(r"/l(\d+)", row["path"])[1]) for row in rows_of(folder) if row["group"] == "roll1"]
    assert len(lines) == 4
    assert (min(lines), max(lines)) == (0, 5 * SIDE)


def test_a_defect_that_no_image_shows_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines 200 to 299 are missing."""
    (tmp_path / "rolls").mkdir()
    write_rolls(tmp_path / "rolls", 3)
    (tmp_path / "rolls/roll0/f_2.png").unlink()
    drawn = write_defects(tmp_path / "d.csv", ("roll0", 50, 230, 60, 240, "hole"), ("roll0", 50, 150, 60, 160, "hole"))
    make_roll_set(tmp_path / "set", settings(tmp_path / "rolls", defects=drawn), Fractions(), seed=0)
    (message,) = (
        record.getMessage()
        for record in caplog.records
        if record.name == "zellige.data.roll_tiles" and record.levelname == "WARNING"
    )
    assert message.endswith(
        "roll0: the defect hole at line 230, column 50 is in no image: it is not inside 64 lines without a hole"
    )


def test_no_image_lies_over_a_hole(tmp_path: Path) -> None:
    folder = tmp_path / "roll"
    pixels = roll_pixels(0)
    for number in (0, 1, 3):
        save_image(folder / f"f_{number}.png", pixels[number * 100 : number * 100 + 100])
    source = open_source(folder, width_px=None, color=Color.GRAY)
    assert whole_runs(source) == [(0, 200), (300, 400)]
    windows = [
        Window(first_line=310, left_px=5, height=20, width=30),
        Window(first_line=95, left_px=0, height=9, width=8),
    ]
    found = dict(cut_windows(source, windows))
    for window in windows:
        columns = slice(window.left_px, window.left_px + window.width)
        assert np.array_equal(found[window], pixels[window.first_line : window.stop_line, columns])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roll,x_mm\n", "expected the columns roll, x_mm, y_mm"),
        ("roll,x_mm,y_mm,w_mm,h_mm,kind\nroll0,1,1,0,1,hole\n", "line 2: expected x_mm and y_mm"),
        ("roll,x_mm,y_mm,w_mm,h_mm,kind\nroll0,1,1,nan,1,hole\n", "line 2: expected x_mm and y_mm"),
        ("roll,x_mm,y_mm,w_mm,h_mm,kind\nroll0,1,1,1,one,hole\n", "line 2: expected four numbers"),
        ("roll,x_mm,y_mm,w_mm,h_mm,kind\nroll0,1,1,1,1,Good\n", "the kind of a defect"),
        (f"roll,x_mm,y_mm,w_mm,h_mm,kind\nroll0,1,1,1,1,{'h' * 200_000}\n", "line 2: expected CSV (field larger than"),
        (f"roll,x_mm,y_mm,w_mm,h_mm,{'k' * 200_000}\n", "line 1: expected CSV (field larger than"),
        ("roll,x_mm,y_mm,w_mm,h_mm,kind\nroll9,1,1,1,1,hole\n", "expected rolls of"),
        ("roll,x_mm,y_mm,w_mm,h_mm,kind\nroll0,500,1,1,1,hole\n", "expected it on a roll of 200 columns"),
    ],
)
def test_wrong_boxes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rolls").mkdir()
    write_rolls(tmp_path / "rolls", 3)
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        make_roll_set(tmp_path / "set", settings(tmp_path / "rolls", defects=tmp_path / "d.csv"), Fractions(), seed=0)
    assert not (tmp_path / "set").exists() or not list((tmp_path / "set").iterdir())


def test_too_few_rolls_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rolls").mkdir()
    write_rolls(tmp_path / "rolls", 2)
    with pytest.raises(InputError, match="at least one roll for each of train, val, test, got 2"):
        make_roll_set(tmp_path / "set", settings(tmp_path / "rolls"), Fractions(), seed=0)


@pytest.mark.parametrize(
    ("pixel_size", "smallest_mm", "message"),
    [
        (SIZE, None, None),
        (SIZE, 1.5, None),
        (SIZE, 1.4, "expected at most 0.467 mm, 3 px on the smallest defect of 1.4 mm, got 0.5 mm: 2.8 px"),
        (None, 1.5, "expected data.pixel_size_mm with it, got none"),
        (SIZE, 0.0, "expected a length above 0 mm"),
    ],
)
def test_three_pixels_on_the_smallest_defect(
    pixel_size: PixelSize | None, smallest_mm: float | None, message: str | None
) -> None:
    if message is None:
        check_resolution(pixel_size, smallest_mm)
        return
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_resolution(pixel_size, smallest_mm)
