"""scripts/roll_of_pictures.py on labelled pictures, data=roll on what it writes, and scripts/compare_roll.py."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import Programs, save_image, texture
from tests.station.roll_folder import defect, summary, write_roll
from zellige.core.known_defects import read_known_defects


def labelled_pictures(folder: Path) -> Path:
    """Thirty good pictures, ten with a white box; the labels are a CSV of boxes."""
    lines = ["path,kind,x0,y0,x1,y1"]
    for number in range(40):
        pixels = np.minimum(texture(number, size=(60, 64)), 250)
        if number % 4 == 1:
            pixels[20:30, number : number + 12] = 255
        save_image(folder / f"{number}.png", pixels)
        lines.append(f"{number}.png,hole,{number},20,{number + 12},30" if number % 4 == 1 else f"{number}.png,,,,,")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_from_labelled_pictures_to_what_was_found(programs: Programs, tmp_path: Path) -> None:
    pictures, out = labelled_pictures(tmp_path / "pictures"), tmp_path / "out"
    arguments = [f"labels.root={pictures}", "labels.pixel_size_mm=0.5", f"out={out}", "rolls=3", "good_rolls=1"]
    ended = programs.run("roll_of_pictures.py", *arguments, "frame_lines=100")
    assert ended.code == 0, ended.err
    assert "left out: 0 pictures" in ended.out
    assert "expected a folder that does not exist" in programs.run("roll_of_pictures.py", *arguments).mistake()
    read = programs.run(
        "prepare_data.py",
        "data=roll",
        f"data.rolls.source={out / 'rolls'}",
        f"data.rolls.defects={out / 'defects.csv'}",
        "data.rolls.tile_px=50",
        "data.pixel_size_mm=0.5",
        f"data.root={tmp_path / 'set'}",
        f"out={tmp_path / 'report'}",
    )
    assert read.code == 0, read.err
    splits = json.loads((tmp_path / "report" / "data_report.json").read_text())["splits"]
    assert splits["train"]["kinds"] == {}
    assert set(splits["test"]["kinds"]) == {"hole"}

    # A station that found all but the first known defect, and one that is none.
    known = read_known_defects(out / "defects.csv")["mixed_1"]
    boxes = [one.box_mm for one in known[1:]] + [(30.0, 0.0, 31.0, 1.0)]
    records = [
        defect(n, (x0 + x1) / 2, y0, width_mm=x1 - x0, extent_mm=y1 - y0, lanes="")
        for n, (x0, y0, x1, y1) in enumerate(boxes, 1)
    ]
    with (out / "pictures.csv").open(newline="") as file:
        num_lines = sum(int(row["num_lines"]) for row in csv.DictReader(file) if row["roll"] == "mixed_1")
    source = out / "rolls" / "mixed_1"
    content = summary(source=str(source), width_mm=32.0, length_mm=num_lines * 0.5, num_lines=num_lines)
    judged = write_roll(tmp_path / "judged", content, records)
    extra = ["--recording", source, "--pixel-size-mm", "0.5", "--out", tmp_path / "compared"]
    ended = programs.run("compare_roll.py", judged, out / "defects.csv", *extra)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert (found["num_hit"], found["num_missed"], found["num_false_alarms"]) == (len(known) - 1, 1, 1)
    assert found["errors_mm"]["dx_mm"]["p90_abs"] == pytest.approx(0, abs=1e-5)
    sheet = cv2.imread(str(tmp_path / "compared" / "comparison.png"))
    assert sheet is not None
    is_cyan, is_red = (np.abs(sheet.astype(int) - color).max(2) < 5 for color in ((190, 150, 0), (30, 55, 226)))
    assert is_cyan.sum() > is_red.sum() > 100
    wrong_roll = programs.run("compare_roll.py", judged, out / "defects.csv", "--roll", "x", "--out", tmp_path / "y")
    assert "expected defects of the roll x, got mixed_1, mixed_2; see --roll" in wrong_roll.mistake()


def test_of_several_cameras_one_may_leave_its_side_undecided_and_the_roll_is_named(
    programs: Programs, tmp_path: Path
) -> None:
    """The web's left edge is the datum, at column 20 mm; the seam is at column 520 mm."""
    cameras = [
        {"name": "left", "from_mm": -20.0, "to_mm": 500.0, "flat_field_id": None},
        {"name": "right", "from_mm": 500.0, "to_mm": 1020.0, "flat_field_id": None},
    ]
    undecided = [
        {"from_mm": 10_000.0, "to_mm": 40_000.0, "reason": "left: no lines", "camera": "left"},
        {"from_mm": 30_000.0, "to_mm": 50_000.0, "reason": "right: no lines", "camera": "right"},
        {"from_mm": 45_000.0, "to_mm": 50_000.0, "reason": "no web", "camera": None},
    ]
    content = summary(source="left: 17/left, right: 17/right", cameras=cameras, undecided=undecided)
    judged, listed = write_roll(tmp_path / "judged", content, []), tmp_path / "listed.csv"
    places = [(530, 20_000), (510, 20_000), (510, 42_000), (510, 46_000)]
    lines = [f"17,{x},{y},5,5,hole" for x, y in places] + ["right,1,1,5,5,hole"]
    listed.write_text("\n".join(["roll,x_mm,y_mm,w_mm,h_mm,kind", *lines]) + "\n")
    arguments = ["compare_roll.py", judged, listed, "--datum-mm", "20", "--out", tmp_path / "compared"]
    assert "--roll: expected the roll's name in" in programs.run(*arguments).mistake()
    ended = programs.run(*arguments, "--roll", "17")
    assert ended.code == 0, ended.err
    with (tmp_path / "compared" / "comparison.csv").open(newline="") as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["missed", "undecided", "missed", "undecided"]
    found = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert found["area_m2"] == pytest.approx(100 - 0.5 * 30 - 0.5 * 20 - 0.5 * 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["labels.pixel_size_mm=null"], "expected a pixel size (labels.pixel_size_mm)"),
        (["color=pink"], "color: expected one of gray, rgb, luma, got 'pink'"),
        (["color=rgb"], "expected a color image, got gray"),
        (["rolls=50"], "for each of 50 rolls, got too few: 40 groups"),
        (["labels.root=/nowhere"], "labels /nowhere: expected a folder or a file, it does not exist"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    programs: Programs, tmp_path: Path, changes: list[str], message: str
) -> None:
    pictures, out = labelled_pictures(tmp_path / "pictures"), tmp_path / "out"
    right = [f"labels.root={pictures}", "labels.pixel_size_mm=0.5", f"out={out}", "rolls=3", "good_rolls=1"]
    assert message in programs.run("roll_of_pictures.py", *right, *changes).mistake()
    assert not out.exists()
