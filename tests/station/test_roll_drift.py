"""Light that changes during a roll, through the real program: said in roll.json and on the page, no verdict changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.station.conftest import good_pixels, save
from zellige.core.flat_field import FlatField, Reference
from zellige.core.flat_field_file import write_flat_field
from zellige.station.cli import main

WIDTH, STRETCH, DOWN = 160, 300, 0.25
"""Frames count 200, then 192 lines each, and two make a stretch: the four at the start end at line 1,544."""
COLUMNS = np.arange(WIDTH)
DIRT = np.where(abs(COLUMNS - 50) < 2, 0.2, 1.0)


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zellige.station.roll_drift.STRETCH_LINES", STRETCH)


def judge(bundle: Path, web: np.ndarray, folder: Path, **profile: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, `drift` of roll.json, and the page."""
    save(folder / "roll.pgm", web)
    (folder / "profile.json").write_text(json.dumps(profile))
    arguments = ["roll", bundle, folder / "roll.pgm", "--profile", folder / "profile.json", "--out", folder / "out"]
    code = main([*map(str, arguments), "--threads", "1", "--no-crops"])
    content = json.loads((folder / "out" / "roll.json").read_text())
    return code, content["drift"], (folder / "out" / "roll.html").read_text(encoding="utf-8")


def lit(num_lines: int, factor: float | np.ndarray, from_line: int) -> np.ndarray:
    """Good web whose light changes at a line."""
    web = good_pixels(num_lines, WIDTH)
    web[from_line:] = np.rint(web[from_line:] * factor)
    return web


@pytest.mark.parametrize(
    ("factor", "kind", "code", "words"),
    [
        (
            1.0,
            None,
            0,
            "no drift against the start of the roll in 4 stretches of 300 lines; limits: level 10 %, shape 10 %, dirt ",
        ),
        (0.95, None, 0, "no drift"),
        (0.8, "level", 0, "light at 80 %"),
        (1 - 0.25 * (COLUMNS < 60), "shape", 0, "light around column"),
        (DIRT, "dirt", 1, "columns 49-51 unlike their neighbors"),
    ],
    ids=["same", "a little", "lamp", "segment", "dirt that the net rejects"],
)
def test_light_that_changes(
    bundle_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float | np.ndarray,
    kind: str | None,
    code: int,
    words: str,
) -> None:
    """Of 3,100 lines, eight stretches; it changes at line 2,000, within the sixth."""
    found_code, drift, page = judge(bundle_path, lit(3100, factor, 2000), tmp_path)
    assert found_code == code
    assert drift["words"].startswith(words)
    assert f"light: {drift['words']}" in capsys.readouterr().out
    assert drift["words"] in page
    assert ("Light or camera changed" in page) == (kind is not None)
    assert [one["kind"] for one in drift["found"]] == ([] if kind is None else [kind])
    for one in drift["found"]:
        assert (one["from_mm"], one["to_mm"]) == (1928 * DOWN, 3080 * DOWN)


def test_defects_are_no_drift(bundle_path: Path, tmp_path: Path) -> None:
    """A white streak of 300 lines and a blotch of 150, as wide as half of the web."""
    web = good_pixels(3100, WIDTH)
    web[2000:2300, 70:74] = 255
    web[2400:2550, 20:100] = 255
    code, drift, _ = judge(bundle_path, web, tmp_path)
    assert code == 1
    assert drift["words"].startswith("no drift")


def test_a_flat_field_of_good_material_knows_how_it_looked(bundle_path: Path, tmp_path: Path) -> None:
    """The roll begins in light that is too dim already; a white reference cannot tell."""
    for reference, kinds in ((Reference.GOOD_MATERIAL, ["level"]), (Reference.WHITE, [])):
        ones = np.ones(WIDTH, np.float32)
        field = FlatField(
            offset_dn=0 * ones,
            gain=ones,
            target_dn=128,
            reference=reference,
            num_dark_lines=64,
            num_bright_lines=64,
        )
        folder = tmp_path / str(reference)
        folder.mkdir()
        write_flat_field(folder / "line.flat.json", field)
        settings = {"file": "line.flat.json", "target_dn": 128}
        _, drift, _ = judge(bundle_path, lit(2400, 0.8, 0), folder, flat_field=settings)
        assert [one["kind"] for one in drift["found"]] == kinds
        for one in drift["found"]:
            assert one["from_mm"] == 1544 * DOWN
            assert one["level_ratio"] == pytest.approx(0.8, abs=0.01)


def test_a_wandering_web_is_compared_where_it_always_is(bundle_path: Path, tmp_path: Path) -> None:
    web, texture = np.full((3100, WIDTH), 5, np.uint8), good_pixels(3100, 100)
    for y in range(3100):
        left = 20 + y // 150
        web[y, left : left + 100] = texture[y]
    edges = {"background": "dark", "threshold_dn": 60, "width_px": 100, "block_lines": 8}
    code, drift, _ = judge(bundle_path, web, tmp_path, edges=edges, edge_margin_px=2)
    assert code == 0
    assert drift["words"].startswith("no drift against the start of the roll in 4")


@pytest.mark.parametrize(
    ("web", "words"),
    [
        (good_pixels(1000, WIDTH), "not compared: the roll has fewer than 6 stretches of 300 lines of web"),
        (lit(3000, np.where(COLUMNS == 7, 0.0, 1.0), 0), "not compared: the web is too dark in places"),
    ],
    ids=["short", "a dead column"],
)
def test_what_cannot_be_compared_is_said(bundle_path: Path, tmp_path: Path, web: np.ndarray, words: str) -> None:
    _, drift, page = judge(bundle_path, web, tmp_path)
    assert drift["words"].startswith(words)
    assert drift["found"] == []
    assert f"Light and camera: {words}" in page


def test_one_camera_of_a_row_grows_dim(bundle_path: Path, tmp_path: Path) -> None:
    """The right one of two, from line 2,000 on; the left one's recording ends earlier, and then nothing is compared."""
    web = good_pixels(4000, WIDTH)
    views = {"left": web[:3700, :115], "right": web[:, 90:].copy()}
    views["right"][2000:] = np.rint(views["right"][2000:] * 0.7)
    for name, pixels in views.items():
        save(tmp_path / f"{name}.pgm", pixels)
    cameras = [{"name": "left", "offset_mm": 0}, {"name": "right", "offset_mm": 90 * 0.5}]
    (tmp_path / "row.json").write_text(json.dumps({"cameras": cameras}))
    sources = [f"--source={name}={tmp_path / name}.pgm" for name in views]
    arguments = ["roll", bundle_path, *sources, "--profile", tmp_path / "row.json", "--out", tmp_path / "out"]
    main([*map(str, arguments), "--threads", "1", "--no-crops"])
    drift = json.loads((tmp_path / "out" / "roll.json").read_text())["drift"]
    (found,) = drift["found"]
    assert found["kind"] == "shape"
    assert found["worst_shape_column"] >= 102  # the seam
    assert found["worst_shape_ratio"] == pytest.approx(0.7, abs=0.03)
    assert found["to_mm"] <= 3700 * DOWN
