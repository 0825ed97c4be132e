"""scripts/mine.py on a finished run, and scripts/prepare_data.py data=roll."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import TILES, Programs, TrainedRun, save_image, texture
from zellige.core.bundle import read_bundle


def test_hard_good_images_of_a_roll(programs: Programs, trained_run: TrainedRun, tmp_path: Path) -> None:
    roll = texture(40, size=(384, 224))
    roll[200:214, 100:114] = 255
    save_image(tmp_path / "roll.png", roll)
    out = tmp_path / "mined"
    ended = programs.run(
        "mine.py", f"run={trained_run.folder}", f"roll={tmp_path / 'roll.png'}", f"out={out}", "count=3"
    )
    assert ended.code == 0, ended.err
    with (out / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert 1 <= len(rows) <= 3
    top, left = (int(part[1:]) for part in Path(rows[0]["path"]).stem.split("_")[1:])
    assert top <= 200 < top + 96
    assert left <= 100 < left + 112
    assert f"data={out}" in ended.out
    again = programs.run("mine.py", f"run={trained_run.folder}", f"roll={tmp_path / 'roll.png'}", f"out={out}")
    assert "expected a new folder" in again.mistake()


def test_images_of_rolls_are_read(programs: Programs, tmp_path: Path) -> None:
    for number in range(3):
        save_image(tmp_path / "rolls" / f"r{number}.png", texture(number, size=(300, 200)))
    (tmp_path / "d.csv").write_text("roll,x_mm,y_mm,w_mm,h_mm,kind\nr1,10,10,4,4,hole\n")
    arguments = [
        "data=roll",
        f"data.rolls.source={tmp_path / 'rolls'}",
        f"data.rolls.defects={tmp_path / 'd.csv'}",
        "data.rolls.tile_px=96",
        f"data.root={tmp_path / 'set'}",
        "data.pixel_size_mm=0.2",
        f"out={tmp_path / 'out'}",
    ]
    refused = programs.run("prepare_data.py", *arguments, "data.smallest_defect_mm=0.5")
    assert "3 px on the smallest defect of 0.5 mm" in refused.mistake()
    ended = programs.run("prepare_data.py", *arguments, "data.smallest_defect_mm=0.6")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert report["splits"]["test"]["kinds"] == {"hole": 1}
    assert all(report["splits"][name]["good"] > 0 for name in ("train", "val", "test"))


def test_a_run_on_corrected_rolls_says_so_to_the_station(programs: Programs, tmp_path: Path) -> None:
    """Half of the columns get half of the light. The bundle declares the level; mining corrects too, or is refused."""
    shade = np.repeat([1.0, 0.5], 112)
    for number in range(3):
        save_image(tmp_path / "rolls" / f"r{number}.png", np.uint8(texture(number, size=(288, 224)) * shade))
    save_image(tmp_path / "dark.png", np.zeros((64, 224), np.uint8))
    save_image(tmp_path / "bright.png", np.uint8(np.full((64, 224), 200) * shade))
    file = tmp_path / "line.flat.json"
    images = ("--dark", tmp_path / "dark.png", "--bright", tmp_path / "bright.png")
    assert programs.run("flat_field.py", *images, "--target-dn", 200, "--out", file).code == 0
    (tmp_path / "d.csv").write_text("roll,x_mm,y_mm,w_mm,h_mm,kind\nr1,10,10,4,4,hole\n")
    arguments = [
        "data=roll",
        f"data.rolls.source={tmp_path / 'rolls'}",
        f"data.rolls.defects={tmp_path / 'd.csv'}",
        f"data.rolls.flat_field={file}",
        "data.rolls.good_per_roll=5",
        "data.rolls.tile_px=96",
        f"data.root={tmp_path / 'set'}",
        "data.pixel_size_mm=0.2",
        *TILES,
        "export.num_golden=1",
        "model.bank_size=16",
        "engine.num_threads=1",
        f"runs_dir={tmp_path / 'runs'}",
        "tracking.enabled=false",
        "run_name=line",
    ]
    ended = programs.run("train.py", *arguments)
    assert ended.code == 0, ended.err
    run = tmp_path / "runs" / "line"
    assert read_bundle(run / "line.zellige").manifest.target_dn == 200
    assert json.loads((run / "data_report.json").read_text())["target_dn"] == 200
    mine = (f"run={run}", f"roll={tmp_path / 'rolls/r0.png'}", f"out={tmp_path / 'mined'}", "count=2")
    refused = programs.run("mine.py", *mine)
    assert "expected a file with target 200 DN, which the run's bundle declares, got none" in refused.mistake()
    ended = programs.run("mine.py", *mine, f"flat_field={file}")
    assert ended.code == 0, ended.err
    for path in (tmp_path / "mined" / "images").iterdir():
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert abs(pixels.mean() - 128) < 25  # texture's level; half of it is 64
