"""The screen on the station: the same defects as without it, from a few tiles; refused where the bundle has none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.station.conftest import (
    CALIBRATION,
    bad_pixels,
    bundle_fields,
    bundle_members,
    good_pixels,
    read_records,
    save,
)
from tests.station.test_roll import WIDTH, defects, inspect, summary
from tests.station.test_templates import write_pair_bundle
from zellige.core.bundle import read_bundle, write_bundle
from zellige.core.screen import MEMBER, STATISTICS, Screen
from zellige.core.types import Calibration
from zellige.station.cli import main
from zellige.station.describe import describe


def limits(width_px: int | None = None, **levels: tuple[float, float]) -> Screen:
    """Limits of nothing but what is given."""
    low = np.full((len(STATISTICS), 1 if width_px is None else -(-width_px // 16)), -1e6, np.float32)
    high = -low
    for name, (lowest, highest) in levels.items():
        low[STATISTICS.index(name)], high[STATISTICS.index(name)] = lowest, highest
    return Screen(cell_px=16, low=low, high=high, width_px=width_px)


EXTREMES = limits(darkest=(-15, 0), brightest=(0, 15))
"""Good pixels are 118 to 138, ten levels around the mean."""


def screened_bundle(folder: Path, screen: Screen = EXTREMES, calibration: Calibration = CALIBRATION) -> Path:
    path = folder / "screened.zellige"
    write_bundle(
        path, members={**bundle_members(), MEMBER: screen.to_bytes()}, **bundle_fields(calibration=calibration)
    )
    return path


def roll_with(folder: Path, boxes: list[tuple[int, int, int, int, int]], num_lines: int = 900) -> Path:
    web = good_pixels(num_lines, WIDTH)
    for x0, y0, x1, y1, level in boxes:
        web[y0:y1, x0:x1] = level
    roll = folder / "roll.pgm"
    save(roll, web)
    return roll


def both(bundle: Path, roll: Path, folder: Path, **profile: Any) -> tuple[Path, Path]:
    """The results without and with the screen."""
    inspect(bundle, roll, folder / "all", profile=profile)
    inspect(bundle, roll, folder / "screened", profile={**profile, "screen": True})
    return folder / "all", folder / "screened"


def test_the_same_defects_from_a_few_tiles(tmp_path: Path) -> None:
    boxes = [
        (40, 95, 80, 105, 255),
        (100, 190, 110, 260, 255),  # over a border of frames, at line 200
        (20, 500, 24, 700, 0),
        (62, 395, 66, 399, 255),  # over borders of tiles
        (150, 860, 160, 900, 255),
    ]
    bundle, roll = screened_bundle(tmp_path), roll_with(tmp_path, boxes)
    whole, screened = both(bundle, roll, tmp_path)
    assert len(defects(whole)) == len(boxes)
    assert defects(screened) == defects(whole)
    assert summary(whole)["screen"] is None
    counts = summary(screened)["screen"]
    assert 0 < counts["num_screened"] < counts["num_tiles"]
    assert summary(screened)["undecided"] == summary(whole)["undecided"] == []
    speed = summary(screened)["speed"]
    assert speed["ceiling_mp_per_s"] == pytest.approx(speed["ceiling_lines_per_s"] * WIDTH / 1e6)


def test_a_defect_that_fades_is_followed_over_tiles_and_frames(tmp_path: Path) -> None:
    """The screen sees the white head alone; the gray tail, above the pixel threshold, runs on for 485 lines."""
    roll = roll_with(tmp_path, [(40, 110, 44, 115, 255), (40, 115, 44, 600, 199)])
    tail_is_usual = limits(brightest=(0, 100))
    whole, screened = both(screened_bundle(tmp_path, tail_is_usual), roll, tmp_path)
    (row,) = defects(whole)
    assert summary(screened)["undecided"] == summary(whole)["undecided"] != []
    assert float(row["extent_mm"]) == 490 * 0.25
    assert defects(screened) == defects(whole)
    counts = summary(screened)["screen"]
    assert counts["num_screened"] > 0


def test_what_the_screen_does_not_pass_is_accepted(tmp_path: Path) -> None:
    roll = roll_with(tmp_path, [(40, 110, 44, 115, 255)])
    whole, screened = both(screened_bundle(tmp_path, limits()), roll, tmp_path)
    assert len(defects(whole)) == 1
    assert defects(screened) == []
    counts = summary(screened)["screen"]
    assert counts["num_screened"] == counts["num_tiles"] > 0


def test_beside_the_web_nothing_is_screened(tmp_path: Path) -> None:
    """Background beside the web is darker than any good cell; the web is mirrored there, and no tile is passed."""
    web = np.zeros((600, WIDTH), np.uint8)
    web[:, 20:140] = good_pixels(600, 120)
    roll = tmp_path / "roll.pgm"
    save(roll, web)
    edges = {"background": "dark", "threshold_dn": 60, "width_px": 120}
    _, screened = both(screened_bundle(tmp_path), roll, tmp_path, edges=edges)
    counts = summary(screened)["screen"]
    assert (summary(screened)["num_defects"], counts["num_screened"]) == (0, counts["num_tiles"])


def test_images_are_screened_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    save(folder / "bad.png", bad_pixels())
    save(folder / "good.png", good_pixels())
    bundle = screened_bundle(tmp_path)
    for name, extra in (("all", ()), ("screened", ("--screen",))):
        arguments = ["inspect", str(bundle), str(folder), "--out", str(tmp_path / name), "--overlays", "all", *extra]
        assert main(arguments) == 1
    (bad, _), (bad_screened, good) = read_records(tmp_path / "all"), read_records(tmp_path / "screened")
    assert {key: bad_screened[key] for key in ("decision", "defects", "score")} == {
        key: bad[key] for key in ("decision", "defects", "score")
    }
    assert bad_screened["num_tiles"] == 6  # 96 x 160 px
    assert 0 < bad_screened["num_screened"] < 6
    assert (good["decision"], good["score"], good["num_screened"]) == ("ACCEPT", None, 6)
    assert good["reason"] == "screened: none of 6 tiles has an unusual cell"
    assert "num_tiles" not in bad
    assert len(list((tmp_path / "screened" / "overlays").iterdir())) == 2


def test_a_frame_that_the_limits_say_nothing_about_is_not_accepted(tmp_path: Path) -> None:
    save(tmp_path / "wide.png", good_pixels(96, 200))
    bundle = screened_bundle(tmp_path, limits(width_px=160))
    assert main(["inspect", str(bundle), str(tmp_path / "wide.png"), "--out", str(tmp_path / "out"), "--screen"]) == 1
    (record,) = read_records(tmp_path / "out")
    assert record["decision"] == "UNDECIDED"
    assert "160 px" in record["reason"]


@pytest.mark.parametrize("command", ["inspect", "roll"])
def test_a_bundle_without_a_screen_is_refused(
    bundle_path: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    roll = roll_with(tmp_path, [])
    assert main([command, str(bundle_path), str(roll), "--out", str(tmp_path / "out"), "--screen"]) == 2
    assert "expected a bundle with a screen" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_compares_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_pair_bundle(tmp_path / "pair.zellige", own=True)
    save(tmp_path / "good.png", good_pixels())
    arguments = ["inspect", str(bundle), str(tmp_path / "good.png"), "--out", str(tmp_path / "out"), "--screen"]
    assert main(arguments) == 2
    assert "--screen: expected a bundle that looks at images alone" in capsys.readouterr().err


def test_the_description_says_what_was_shown(tmp_path: Path) -> None:
    report = json.dumps({"screen": {"words": "on: 0 of 60 are lost"}}).encode()
    members = {**bundle_members(), "report.json": report, MEMBER: EXTREMES.to_bytes()}
    write_bundle(tmp_path / "b.zellige", members=members, **bundle_fields())
    rows = describe(read_bundle(tmp_path / "b.zellige")).splitlines()
    assert "screen         on: 0 of 60 are lost; the rates above are without it" in rows


def test_a_damaged_screen_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "b.zellige", members={**bundle_members(), MEMBER: b"{}"}, **bundle_fields())
    save(tmp_path / "good.png", good_pixels())
    arguments = [str(tmp_path / "b.zellige"), str(tmp_path / "good.png"), "--out", str(tmp_path / "out")]
    assert main(["inspect", *arguments, "--screen"]) == 2
    assert "screen.json is damaged" in capsys.readouterr().err
    assert main(["inspect", *arguments]) == 0
