"""scripts/mine.py on a finished run, and scripts/prepare_data.py data=roll."""

import csv
import json
from pathlib import Path

from tests.conftest import Programs, TrainedRun, save_image, texture


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
