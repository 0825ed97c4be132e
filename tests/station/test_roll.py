"""A recorded roll through the real program: each defect once, in mm, and every line judged or undecided with a reason.

The model is that of conftest: a pixel's anomaly is its distance from mid-gray, so what is drawn is what must be found.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import PROJECT
from tests.station.conftest import CALIBRATION, bundle_fields, bundle_members, good_pixels, save, small_disk
from zellige.core.bundle import write_bundle
from zellige.core.decision import decide
from zellige.core.flat_field import FlatField, Reference
from zellige.core.flat_field_file import write_flat_field
from zellige.core.types import Calibration, Geometry, GeometryMode
from zellige.station.cli import main
from zellige.station.profile import read_profile

WIDTH, ACROSS, DOWN = 160, 0.5, 0.25  # px, and the bundle's pixel size in mm


def write_frames(folder: Path, web: np.ndarray, height: int = 100) -> Path:
    folder.mkdir()
    for number, start in enumerate(range(0, len(web), height)):
        save(folder / f"frame_{number}.png", web[start : start + height])
    return folder


def inspect(bundle: Path, roll: Path, out: Path, *extra: object, profile: dict[str, Any] | None = None) -> int:
    if profile is not None:
        out.parent.mkdir(exist_ok=True)
        (out.parent / "profile.json").write_text(json.dumps(profile))
        extra = (*extra, "--profile", out.parent / "profile.json")
    return main(["roll", str(bundle), str(roll), "--out", str(out), "--threads", "1", *map(str, extra)])


def defects(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "defects.csv").read_text().splitlines()))


def summary(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "roll.json").read_text())
    return content


def place(row: dict[str, str]) -> tuple[float, ...]:
    return tuple(float(row[name]) for name in ("x_mm", "y_mm", "width_mm", "extent_mm", "area_mm2"))


def drawn_place(x0: int, y0: int, x1: int, y1: int, datum_px: float = 0.0) -> tuple[float, ...]:
    """What a box of pixels must be in mm."""
    across, down = (x1 - x0) * ACROSS, (y1 - y0) * DOWN
    return ((x0 + x1) / 2 - datum_px) * ACROSS, y0 * DOWN, across, down, across * down


# Defects


@pytest.mark.parametrize("form", ["frames", "raw", "pgm", "png"])
def test_a_defect_over_any_border_is_one_record(bundle_path: Path, tmp_path: Path, form: str) -> None:
    """Borders: of the recording every 100 lines, of blocks every 256, of frames at 200, 392, 584 and 776 lines."""
    web = good_pixels(900, WIDTH)
    boxes = [
        (40, 95, 80, 105),
        (100, 195, 110, 260),
        (3, 199, 9, 201),
        (130, 380, 150, 400),
        (20, 500, 24, 800),
        (60, 890, 70, 900),
    ]
    for x0, y0, x1, y1 in boxes:
        web[y0:y1, x0:x1] = 255
    roll, extra = tmp_path / "roll", {}
    if form == "frames":
        write_frames(roll, web)
    elif form == "raw":
        roll = roll.with_suffix(".raw")
        roll.write_bytes(web.tobytes())
        extra = {"width_px": WIDTH}
    else:
        roll = roll.with_suffix(f".{form}")
        save(roll, web)
    out = tmp_path / "out"
    assert inspect(bundle_path, roll, out, profile=extra) == 1
    found = defects(out)
    assert sorted(map(place, found)) == sorted(drawn_place(*box) for box in boxes)
    assert [row["number"] for row in found] == ["1", "2", "3", "4", "5", "6"]
    assert {row["lanes"] for row in found} == {"web"}
    content = summary(out)
    assert (content["complete"], content["reason"], content["undecided"]) == (True, None, [])
    assert (content["num_lines"], content["length_mm"], content["width_mm"]) == (900, 225.0, 80.0)
    assert content["defects_per_m2"] == pytest.approx(6 / (0.225 * 0.08))
    crop = cv2.imread(str(out / "crops" / "000001.png"), cv2.IMREAD_UNCHANGED)
    x0, y0, x1, y1 = boxes[0]
    assert np.array_equal(crop, web[y0 - 32 : y1 + 32, x0 - 32 : x1 + 32])
    assert "6 defects" in (out / "roll.html").read_text(encoding="utf-8")
    assert (out / "roll_map.svg").is_file()


def test_score_decides_and_a_whole_defect_has_the_minimum_area(tmp_path: Path) -> None:
    """Gray 202 scores 0.578: above the pixel threshold, in the undecided band. 7 x 10 white px over a border: 70 px."""
    calibration = Calibration(
        pixel_threshold=0.5,
        reject_score=0.6,
        accept_score=0.55,
        min_area_px=60,
        fitted_on="f",
        target="t",
        guarantee="g",
    )
    members = bundle_members()
    golden = [{"member": "golden/good.png", "decision": "ACCEPT", "score": 10 / 128, "source_kind": "good"}]
    golden += [{"member": "golden/bar.png", "decision": "REJECT", "score": 127 / 128, "source_kind": "bar"}]
    write_bundle(tmp_path / "b.zellige", members=members, **bundle_fields(calibration=calibration, golden=golden))
    web = good_pixels(1000, WIDTH)
    web[195:205, 40:47] = 255  # a border of frames at line 200 cuts it into parts of 35 px
    web[300:305, 40:47] = 255  # too small
    web[600:620, 90:100] = 202  # its frame is undecided: lines 584 to 776
    write_frames(tmp_path / "roll", web)
    assert inspect(tmp_path / "b.zellige", tmp_path / "roll", tmp_path / "out") == 1
    assert list(map(place, defects(tmp_path / "out"))) == [drawn_place(40, 195, 47, 205)]
    (stretch,) = summary(tmp_path / "out")["undecided"]
    assert (stretch["from_mm"], stretch["to_mm"]) == (584 * DOWN, 776 * DOWN)
    assert "in (0.55, 0.6]" in stretch["reason"]


def test_a_later_frame_may_reject_a_defect_that_has_ended(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frame 0 keeps lines up to 200, frame 1 shows them from 192 on; a net that rejects in frame 1 alone."""
    web = good_pixels(400, WIDTH)
    for y in (100, 194):
        web[y : y + 4, 40:60] = 255

    def decide_later(score: float, anomaly_map: np.ndarray, *rest: Any, first_line: int, **named: Any) -> Any:
        return decide(0.0 if first_line == 0 else score, anomaly_map, *rest, first_line=first_line, **named)

    monkeypatch.setattr("zellige.station.roll_frames.decide", decide_later)
    save(tmp_path / "roll.png", web)
    assert inspect(bundle_path, tmp_path / "roll.png", tmp_path / "out") == 1
    assert list(map(place, defects(tmp_path / "out"))) == [drawn_place(40, 194, 60, 198)]


def test_edges_datum_lanes_grades_and_repeats(bundle_path: Path, tmp_path: Path) -> None:
    """A web 100 px wide on a dark background that wanders by a pixel every 80 lines; a mark every 120 lines."""
    web, texture = np.full((1600, WIDTH), 5, np.uint8), good_pixels(1600, 100)
    left = 20 + np.arange(1600) // 80
    for y in range(1600):
        web[y, left[y] : left[y] + 100] = texture[y]
    marks = [(left[y] + 30, y, left[y] + 40, y + 6) for y in range(50, 1600, 120)]
    for x0, y0, x1, y1 in marks:
        web[y0:y1, x0:x1] = 255
    write_frames(tmp_path / "roll", web, 200)
    rules = {
        "name": "house",
        "otherwise": "C",
        "points": "astm_d5430",
        "grades": [{"grade": "A", "limits": [{"max_count": 0}]}],
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    edges = {"background": "dark", "threshold_dn": 60, "width_px": 100, "block_lines": 8}
    profile = {
        "edges": edges,
        "edge_margin_px": 2,
        "datum": "left_edge",
        "lanes": [{"name": "L", "from_mm": 0, "to_mm": 25}, {"name": "R", "from_mm": 25, "to_mm": 50}],
        "rollers": [{"name": "nip", "circumference_mm": 30}, {"name": "chill", "circumference_mm": 47}],
        "repeats": {"min_period_mm": 20, "max_period_mm": 100},
        "grading": "rules.json",
    }
    assert inspect(bundle_path, tmp_path / "roll", tmp_path / "out", profile=profile) == 1
    found, content = defects(tmp_path / "out"), summary(tmp_path / "out")
    assert [place(row)[1:] for row in found] == [drawn_place(*m)[1:] for m in marks]
    # The drawn edge is sharp; a threshold between gray 5 and 128 lies within half a pixel of it.
    assert [place(row)[0] for row in found] == pytest.approx([35 * ACROSS] * len(marks), abs=0.5 * ACROSS)
    assert {row["lanes"] for row in found} == {"L"}
    assert content["undecided"] == []
    assert content["width_mm"] == pytest.approx(50, abs=0.5)
    assert [(g["lane"], g["grade"], g["num_defects"]) for g in content["grades"]] == [("L", "C", 13), ("R", "A", 0)]
    (repeat,) = content["repeats"]
    assert (repeat["period_mm"], repeat["rollers"]) == (pytest.approx(30), ["nip"])
    assert repeat["numbers"] == list(range(1, 14))


# What cannot be judged


def test_every_line_that_cannot_be_judged_is_undecided(bundle_path: Path, tmp_path: Path) -> None:
    web = good_pixels(1400, WIDTH)
    web[300:400] = 0
    web[690:710, 40:60] = 255
    web[1100:1200] = 255
    folder = write_frames(tmp_path / "roll", web)
    save(folder / "frame_5.png", good_pixels(100, 120))
    (folder / "frame_8.png").unlink()
    save(folder / "frame_10.png", web[900:1000])
    (folder / "frame_12.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert inspect(bundle_path, folder, out) == 1
    content = summary(out)
    stretches = [(s["from_mm"] / DOWN, s["to_mm"] / DOWN, s["reason"]) for s in content["undecided"]]
    expected = [
        (292, 300, "beside"),
        (300, 400, "web: black"),
        (400, 408, "beside"),
        (500, 600, "wrong width: frame_5.png: expected 160 px, got 120 px"),
        (800, 900, "missing: no frames before frame_9.png"),
        (1000, 1100, "doubled: frame_10.png is the frame before it again"),
        (1100, 1200, "web: saturated"),
        (1200, 1300, "frame_12.png"),
    ]
    assert [(a, b) for a, b, _ in stretches] == [(a, b) for a, b, _ in expected]
    for (_, _, reason), (_, _, words) in zip(stretches, expected, strict=True):
        assert words in reason
    assert list(map(place, defects(out))) == [drawn_place(40, 690, 60, 710)]
    assert content["num_lines"] == 1400
    assert content["num_lines_judged"] == 1400 - sum(b - a for a, b, _ in expected)


def test_encoder(bundle_path: Path, tmp_path: Path) -> None:
    """A quarter further at lines 512 to 767 (compressed), a stop of 30 lines; what comes after lies right."""
    web = good_pixels(1200, WIDTH)
    web[100:110, 40:60] = 255
    web[1000:1010, 40:60] = 255
    (tmp_path / "roll.raw").write_bytes(web.tobytes())
    steps = np.full(1200, 4)
    steps[512:768] = 5
    steps[850:880] = 0
    np.savetxt(tmp_path / "counts.txt", np.cumsum(steps), fmt="%d")
    profile = {"width_px": WIDTH, "encoder": {"mm_per_count": DOWN / 4, "counts_per_line": 4}}
    extra = ("--counts", tmp_path / "counts.txt")
    assert inspect(bundle_path, tmp_path / "roll.raw", tmp_path / "out", *extra, profile=profile) == 1
    shift = 64 - 30
    found = list(map(place, defects(tmp_path / "out")))
    assert found == [drawn_place(40, 100, 60, 110), drawn_place(40, 1000 + shift, 60, 1010 + shift)]
    content = summary(tmp_path / "out")
    (stretch,) = content["undecided"]
    assert stretch["reason"] == "encoder: compressed"
    assert (stretch["from_mm"], stretch["to_mm"]) == pytest.approx((512 * DOWN, (768 + 64) * DOWN), abs=DOWN)
    assert content["length_mm"] == pytest.approx((1200 + shift) * DOWN)


def flat_field(gain: np.ndarray) -> FlatField:
    return FlatField(
        offset_dn=np.zeros(WIDTH, np.float32),
        gain=np.float32(gain),
        target_dn=128,
        reference=Reference.WHITE,
        num_dark_lines=64,
        num_bright_lines=64,
    )


def test_flat_field_is_applied(bundle_path: Path, tmp_path: Path) -> None:
    """Half of the columns at half of the light: corrected, nothing is found; uncorrected, all of them."""
    gain = np.repeat(np.float32([2, 1]), WIDTH // 2)
    field = flat_field(gain)
    write_flat_field(tmp_path / "line.flat.json", field)
    save(tmp_path / "roll.png", np.uint8(np.round(good_pixels(300, WIDTH) / (gain * np.where(gain > 1, 1.4, 1)))))
    settings = {"file": "line.flat.json", "target_dn": 128}
    profile: dict[str, Any] = {"flat_field": settings}
    assert inspect(bundle_path, tmp_path / "roll.png", tmp_path / "raw") == 1
    save(tmp_path / "roll.png", np.uint8(np.round(good_pixels(300, WIDTH) / gain)))
    assert inspect(bundle_path, tmp_path / "roll.png", tmp_path / "flat", profile=profile) == 0
    assert summary(tmp_path / "flat")["flat_field_id"] == field.id
    settings["target_dn"] = 180
    assert inspect(bundle_path, tmp_path / "roll.png", tmp_path / "no", profile=profile) == 2


@pytest.mark.parametrize(
    ("declared_dn", "settings", "words"),
    [
        (128.0, {"file": "line.flat.json"}, None),
        (128.4, {"file": "line.flat.json", "target_dn": 128}, None),
        (128.0, None, "profile.json: flat_field: expected one with target 128 DN, which the bundle declares, got none"),
        (180.0, {"file": "line.flat.json"}, "profile.json: expected a flat field with target 180 DN, got 128 DN"),
        (
            128.0,
            {"file": "line.flat.json", "target_dn": 180},
            "flat_field.target_dn: expected 128 DN, which the bundle",
        ),
        (None, {"file": "line.flat.json"}, "flat_field.target_dn: expected the level of the images"),
        (128.0, {"file": "narrow.flat.json"}, "expected a flat field for lines of shape (160,), got (80,)"),
    ],
)
def test_a_bundle_declares_its_target_level(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    declared_dn: float | None,
    settings: dict[str, Any] | None,
    words: str | None,
) -> None:
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields(target_dn=declared_dn))
    even = flat_field(np.ones(WIDTH))
    write_flat_field(tmp_path / "line.flat.json", even)
    half = replace(even, gain=even.gain[: WIDTH // 2], offset_dn=even.offset_dn[: WIDTH // 2])
    write_flat_field(tmp_path / "narrow.flat.json", half)
    save(tmp_path / "roll.png", good_pixels(300, WIDTH))
    profile = {} if settings is None else {"flat_field": settings}
    code = inspect(tmp_path / "b.zellige", tmp_path / "roll.png", tmp_path / "out", profile=profile)
    message = capsys.readouterr().err
    if words is None:
        assert (code, message) == (0, "")
        return
    assert code == 2
    assert message.count("\n") == 1
    assert words in message
    assert not (tmp_path / "out").exists()


# Mistakes


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"pixel_size": {"cross_web_mm": 0.5, "down_web_mm": 0.3}}, "expected pixel size 0.5 x 0.25 mm"),
        ({"width_px": 99}, "expected lines of 99 px"),
        ({"widht_px": 160}, "widht_px: Extra inputs"),
        ({"edges": {"background": "dark", "threshold_dn": 60, "width_px": 90, "colour": 1}}, "edges.colour"),
        ({"edges": {"background": "dark", "threshold_dn": 300, "width_px": 90}}, "expected a level in (0, 255)"),
        ({"datum": "left_edge"}, "datum left_edge: expected edges"),
        ({"lanes": [{"name": "A", "from_mm": 9, "to_mm": 1}]}, "from_mm < to_mm"),
        ({"lanes": [{"name": "A", "from_mm": 0, "to_mm": 1}] * 2}, "expected every lane once"),
        ({"frame_height": 40}, "frame_height: expected at least a tile, 64"),
        ({"frame_height": 64, "context_lines": 32}, "context_lines: expected less than half"),
        ({"encoder": {"mm_per_count": 0.1, "counts_per_line": 2.5}}, "expected --counts and encoder together"),
        ({"grading": "none.json"}, "none.json"),
        ({"flat_field": {"file": "none.json", "target_dn": 128}}, "none.json"),
        ({"flat_field": {"file": "none.json"}}, "flat_field.target_dn"),
        ([], "expected a mapping"),
    ],
)
def test_a_mistake_in_the_profile_is_one_line(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: dict[str, Any], words: str
) -> None:
    save(tmp_path / "roll.png", good_pixels(100, WIDTH))
    assert inspect(bundle_path, tmp_path / "roll.png", tmp_path / "out", profile=profile) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert words in message
    assert not (tmp_path / "out").exists()


def test_the_profiles_in_the_guide_and_the_help_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["roll", "--help"])
    for text in ((PROJECT / "docs/guide/roll.md").read_text("utf-8"), capsys.readouterr().out):
        start = text.index('{"pixel_size"') if "```json" not in text else text.index("```json") + len("```json")
        content, _ = json.JSONDecoder().raw_decode(text[start:].lstrip())
        (tmp_path / "p.json").write_text(json.dumps(content))
        profile = read_profile(tmp_path / "p.json")
        assert profile.diameters_mm == {"nip": pytest.approx(100, abs=0.1)}
        assert [lane.name for lane in profile.lanes] == ["A", "B"]


def test_a_bundle_that_cannot_judge_a_roll(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "roll.png", good_pixels(100, WIDTH))
    resize = Geometry(mode=GeometryMode.RESIZE, height=64, width=64)
    for name, changes, words in (
        ("u", {"pixel_size": None}, "a roll is measured in mm"),
        ("r", {"geometry": resize}, "expected a bundle with geometry tiles"),
    ):
        write_bundle(tmp_path / name, members=bundle_members(), **bundle_fields(calibration=CALIBRATION, **changes))
        assert inspect(tmp_path / name, tmp_path / "roll.png", tmp_path / "out") == 2
        assert words in capsys.readouterr().err


def test_yaml_and_old_results(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "roll.png", good_pixels(100, WIDTH))
    (tmp_path / "p.yaml").write_text("line_rate_hz: 1000\nlanes:\n- {name: A, from_mm: 0, to_mm: 80}\n")
    arguments = (bundle_path, tmp_path / "roll.png", tmp_path / "out", "--profile", tmp_path / "p.yaml")
    start = time.monotonic()
    assert inspect(*arguments, "--real-time") == 0
    assert time.monotonic() - start >= 0.1  # 100 lines at 1 kHz
    content = summary(tmp_path / "out")
    assert content["lanes"] == [{"name": "A", "from_mm": 0.0, "to_mm": 80.0}]
    assert content["speed"]["lines_per_s"] <= 1000
    assert inspect(*arguments) == 2
    assert inspect(*arguments, "--overwrite") == 0
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert inspect(*arguments, "--overwrite") == 2


# Faults


def test_killed_in_the_middle(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "roll.raw").touch()
    web = good_pixels(1000, WIDTH)
    web[::50, 40:60] = 255
    with (tmp_path / "roll.raw").open("ab") as file:
        for _ in range(100):
            file.write(web.tobytes())
    (tmp_path / "p.json").write_text(json.dumps({"width_px": WIDTH}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "zellige.station.cli", "roll", bundle_path, tmp_path / "roll.raw"]
    command += ["--out", out, "--profile", tmp_path / "p.json", "--no-crops", "--threads", "1"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "defects.csv").exists() and (out / "defects.csv").stat().st_size > 500:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    assert (out / "defects.csv").read_text().endswith("\n")
    found = list(map(place, defects(out)))
    assert found == [drawn_place(40, 50 * i, 60, 50 * i + 1) for i in range(len(found))]
    assert 3 < len(found) < 2000
    content = summary(out)
    assert content["complete"] is False
    assert "ended" in content["reason"]


def test_full_disk_says_so_and_keeps_what_was_judged(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures stop first, while there is room for records; then the inspection; roll.json has its reserve."""
    monkeypatch.setattr("zellige.station.roll_report.KEPT_FREE_BYTES", 100 << 10)
    web = good_pixels(2000, WIDTH)
    web[::8, ::8] = 255
    save(tmp_path / "roll.pgm", web)
    with small_disk(tmp_path / "disk", "800k") as disk:
        assert inspect(bundle_path, tmp_path / "roll.pgm", disk / "out") == 2
        message = capsys.readouterr().err
        found, content = defects(disk / "out"), summary(disk / "out")
    assert message.count("\n") == 1
    assert "No space left" in message
    assert content["complete"] is False
    assert "No space left" in content["reason"]
    assert len(found) == content["num_defects"] > 1000
    assert [int(row["number"]) for row in found] == list(range(1, len(found) + 1))
    assert any("no pictures from defect" in note and "free" in note for note in content["notes"])
    assert content["num_crops"] < len(found) - 500
    assert content["undecided"][-1]["to_mm"] == content["length_mm"]


def test_interrupted(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = good_pixels(600, WIDTH)
    web[190:210, 40:60] = 255
    save(tmp_path / "roll.pgm", web)
    monkeypatch.setattr("zellige.station.roll_report.RollReport.checkpoint", _interrupt_at_the_second())
    assert inspect(bundle_path, tmp_path / "roll.pgm", tmp_path / "out") == 130
    content = summary(tmp_path / "out")
    assert (content["complete"], content["reason"]) == (False, "interrupted")
    # 512 lines came in, 392 of them are judged; what was open there is closed.
    assert [(s["from_mm"], s["to_mm"]) for s in content["undecided"]] == [(392 * DOWN, 512 * DOWN)]
    assert list(map(place, defects(tmp_path / "out"))) == [drawn_place(40, 190, 60, 210)]
    assert "interrupted" in (tmp_path / "out" / "roll.html").read_text(encoding="utf-8")


def _interrupt_at_the_second() -> Any:
    calls = []

    def checkpoint(self: object, num_lines: int) -> None:
        calls.append(num_lines)
        if len(calls) == 2:
            raise KeyboardInterrupt

    return checkpoint


def test_memory_does_not_grow_with_the_roll(bundle_path: Path, tmp_path: Path) -> None:
    """Four times the lines, with an endless streak on them: no more memory, arrays included."""
    peaks = []
    for num_lines in (1_600, 6_400):
        web = good_pixels(num_lines, WIDTH)
        web[:, 20:24] = 255
        roll = tmp_path / f"{num_lines}.raw"
        roll.write_bytes(web.tobytes())
        del web
        tracemalloc.start()
        inspect(bundle_path, roll, tmp_path / str(num_lines) / "out", profile={"width_px": WIDTH, "max_streak_mm": 200})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Two frames of 208 lines and the net's maps are about 1 MB; the longer roll alone is 1 MB.
    assert peaks[1] < peaks[0] + 200_000
    assert [int(row["y_mm"].split(".")[0]) for row in defects(tmp_path / "6400" / "out")] == list(range(0, 1600, 200))
