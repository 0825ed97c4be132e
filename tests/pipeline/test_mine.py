"""scripts/mine.py on a finished run, and scripts/prepare_data.py data=roll."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import Programs, TrainedRun, save_image, texture
from tests.station.conftest import bundle_fields, bundle_members, good_pixels
from zellige.core.bundle import write_bundle


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


def test_a_roll_is_mined_as_the_run_learned(programs: Programs, tmp_path: Path) -> None:
    """Half of the columns get half of the light. Where the bundle declares a level, mining corrects, or is refused."""
    shade, run, file = np.repeat([1.0, 0.5], 112), tmp_path / "line", tmp_path / "line.flat.json"
    run.mkdir()
    write_bundle(run / "line.zellige", members=bundle_members(), **bundle_fields(target_dn=200.0))
    sizes = {"height_px": [96, 96], "width_px": [96, 96]}
    (run / "report.json").write_text(json.dumps({"run": {"name": "line"}, "data": sizes}))
    save_image(tmp_path / "roll.png", np.uint8(good_pixels(288, 224) * shade))
    save_image(tmp_path / "dark.png", np.zeros((64, 224), np.uint8))
    save_image(tmp_path / "bright.png", np.uint8(np.full((64, 224), 200) * shade))
    images = ("--dark", tmp_path / "dark.png", "--bright", tmp_path / "bright.png")
    assert programs.run("flat_field.py", *images, "--target-dn", 200, "--out", file).code == 0
    mine = (f"run={run}", f"roll={tmp_path / 'roll.png'}", f"out={tmp_path / 'mined'}", "count=4")
    refused = programs.run("mine.py", *mine)
    assert "expected a file with target 200 DN, which the run's bundle declares, got none" in refused.mistake()
    ended = programs.run("mine.py", *mine, f"flat_field={file}")
    assert ended.code == 0, ended.err
    found = list((tmp_path / "mined" / "images").iterdir())
    assert found
    for path in found:
        columns = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).mean(axis=0)
        assert abs(columns - 128).max() < 10  # the dark half would be at 64
