"""Rolls of a camera whose columns differ: what training cuts is, to the bit, what the station shows its net."""

import json
import runpy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import PROJECT, save_image
from tests.station.conftest import bundle_fields, bundle_members
from zellige.config_data import DataConfig, load_data
from zellige.config_rolls import RollsConfig
from zellige.core.bundle import write_bundle
from zellige.core.errors import InputError
from zellige.core.flat_field_file import read_flat_field
from zellige.core.frame_cutter import CutFrame
from zellige.core.types import Calibration, Color, Pixels
from zellige.data.corrected_roll import corrected_roll
from zellige.data.synthetic_camera import SyntheticWeb, expose, lines
from zellige.data.synthetic_materials import Material
from zellige.station.cli import main
from zellige.station.roll_frames import FrameJudge, JudgedFrame
from zellige.station.roll_view import Absence
from zellige.station.sources import Hole, open_source

WIDTH, NUM_LINES, TARGET = 301, 600, 150.0
WEB = SyntheticWeb(material=Material.STEEL, color=Color.GRAY, width=WIDTH)
BLIND = Calibration(pixel_threshold=1.5, reject_score=1.5, accept_score=1.5, fitted_on="f", target="t", guarantee="g")


def run_script(name: str, *arguments: object) -> int:
    old = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        code: int = runpy.run_path(str(PROJECT / "scripts" / name))["main"]()
    finally:
        sys.argv = old
    return code


@pytest.fixture(scope="module")
def line3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three recorded rolls and the camera's flat field, estimated by the script from its references."""
    folder = tmp_path_factory.mktemp("line3")
    for roll in range(3):
        web = lines(WEB, roll, 0, NUM_LINES)
        for start in range(0, NUM_LINES, 150):
            save_image(folder / "recordings" / f"roll{roll}" / f"l_{start}.png", web[start : start + 150])
    for name, reflectance in {"dark": 0.0, "bright": 0.6}.items():
        seen = np.full((258, WIDTH + 2, 3), reflectance, np.float32)
        save_image(folder / f"{name}.png", expose(seen, WEB, 0, 0))
    images = ("--dark", folder / "dark.png", "--bright", folder / "bright.png")
    assert run_script("flat_field.py", *images, "--target-dn", TARGET, "--out", folder / "line3.flat.json") == 0
    return folder


def settings(line3: Path, root: Path, **rolls: Any) -> DataConfig:
    """What data=roll composes."""
    return DataConfig(
        name="line3",
        layout="manifest",
        root=str(root),
        color="gray",
        pixel_size_mm=0.25,
        duplicates="ignore",
        rolls=RollsConfig(source=str(line3 / "recordings"), tile_px=96, **rolls),
    )


def as_the_net_sees_them(line3: Path, roll: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """Run the station on a roll; the lines of the frames that it judges, (N, W)."""
    fields = bundle_fields(target_dn=TARGET, calibration=BLIND)
    fields["golden"] = [{**entry, "decision": "ACCEPT"} for entry in fields["golden"]]
    write_bundle(folder / "b.zellige", members=bundle_members(), **fields)
    (folder / "profile.json").write_text(json.dumps({"flat_field": {"file": str(line3 / "line3.flat.json")}}))
    seen, judge = np.zeros((NUM_LINES, WIDTH), np.uint8), FrameJudge.judge

    def look(self: FrameJudge, cut: CutFrame, absences: Sequence[Absence] = ()) -> JudgedFrame:
        seen[cut.frame.first_line :][: len(cut.frame.pixels)] = cut.frame.pixels
        return judge(self, cut, absences)

    monkeypatch.setattr(FrameJudge, "judge", look)
    arguments = ("roll", folder / "b.zellige", line3 / "recordings" / roll, "--profile", folder / "profile.json")
    assert main([*map(str, arguments), "--out", str(folder / roll), "--threads", "1"]) == 0
    return seen


def test_training_images_are_what_the_station_sees(
    line3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = line3 / "line3.flat.json"
    splits, report = load_data(settings(line3, tmp_path / "set", flat_field=str(file)))
    assert report.target_dn == TARGET
    samples = [sample for part in splits.labelled().values() for sample in part]
    field = read_flat_field(file)
    for roll in range(3):
        station = as_the_net_sees_them(line3, f"roll{roll}", tmp_path, monkeypatch)
        # The formula in double precision: half a level of rounding, and float32's share.
        exact = (lines(WEB, roll, 0, NUM_LINES) - field.offset_dn.astype(np.float64)) * field.gain.astype(np.float64)
        assert np.abs(station - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-4
        images = [sample.image_path for sample in samples if sample.group_id == f"roll{roll}"]
        assert len(images) == (NUM_LINES // 96) * (WIDTH // 96)
        for path in images:
            top, left = (int(part[1:]) for part in path.stem.split("_"))
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(image, station[top : top + 96, left : left + 96])


def test_a_set_belongs_to_its_flat_field(line3: Path, tmp_path: Path) -> None:
    """As recorded and corrected are two sets; a flat field of another content makes a third."""
    file = line3 / "line3.flat.json"
    other = tmp_path / "other.flat.json"
    images = ("--dark", line3 / "dark.png", "--bright", line3 / "bright.png")
    assert run_script("flat_field.py", *images, "--target-dn", 120, "--out", other) == 0
    levels = []
    for flat_field in (None, str(file), str(other), str(file)):
        splits, report = load_data(settings(line3, tmp_path / "set", flat_field=flat_field))
        first = min(sample.image_path for sample in splits.train)
        levels.append((report.target_dn, float(cv2.imread(str(first), cv2.IMREAD_UNCHANGED).mean())))
    assert [target for target, _ in levels] == [None, 150, 120, 150]
    assert levels[2][1] / levels[1][1] == pytest.approx(120 / 150, abs=0.01)
    assert levels[1] == levels[3]
    assert len([path for path in (tmp_path / "set").iterdir() if path.is_dir()]) == 3
    other_level = replace(settings(line3, tmp_path / "none", flat_field=str(file)), target_dn=180.0)
    with pytest.raises(InputError, match=r"data\.target_dn: expected a flat field with target 180 DN, got 150 DN"):
        load_data(other_level)
    assert not (tmp_path / "none").exists()


def test_holes_stay_and_other_lines_are_refused(line3: Path, tmp_path: Path) -> None:
    field = read_flat_field(line3 / "line3.flat.json")
    for number, start in enumerate((0, 100, 300)):
        save_image(tmp_path / "roll" / f"l_{start}.png", lines(WEB, 0, start, 100 + number))
    recorded = open_source(tmp_path / "roll", width_px=None, color=Color.GRAY)
    before, after = list(recorded.blocks()), list(corrected_roll(recorded, field, 1).blocks())
    assert [(type(b), b.first_line, b.num_lines) for b in before] == [
        (type(b), b.first_line, b.num_lines) for b in after
    ]
    assert sum(isinstance(block, Hole) for block in after) == 1
    assert corrected_roll(recorded, None, 1) is recorded
    with pytest.raises(InputError, match=r"roll .*: expected a flat field for lines of shape \(301, 3\), got \(301,\)"):
        corrected_roll(recorded, field, 3)
    with pytest.raises(InputError, match=r"lines of shape \(300,\), got \(301,\)"):
        corrected_roll(replace(recorded, width_px=300), field, 1)
