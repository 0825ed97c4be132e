"""A live camera as a roll: Aravis's fake one over loopback; what it does not deliver is an undecided stretch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.station.conftest import CALIBRATION, bundle_fields, bundle_members, good_pixels, make_model
from tests.station.test_gige_camera import ADDRESS, StartFake, fake
from zellige.core.bundle import encode_golden, write_bundle
from zellige.core.types import Calibration, Color
from zellige.station.camera_source import LiveCamera
from zellige.station.cli import main
from zellige.station.roll import inspect_roll
from zellige.station.roll_setup import RollOptions
from zellige.station.sources import RollSource

__all__ = ["fake"]
pytestmark = pytest.mark.xdist_group("gige")
HEIGHT = 64
CAMERA = {"width_px": 512, "height_px": HEIGHT, "frame_rate_hz": 50, "packet_size_bytes": 4000}
BLIND = Calibration(pixel_threshold=1.5, reject_score=1.5, accept_score=1.5, fitted_on="f", target="t", guarantee="g")
"""Accepts whatever the fake camera draws."""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    scores = {"good": 10 / 128, "bar": 127 / 128}
    golden = [
        {"member": f"golden/{name}.png", "decision": "ACCEPT", "score": score, "source_kind": "good"}
        for name, score in scores.items()
    ]
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields(calibration=BLIND, golden=golden))
    (tmp_path / "profile.json").write_text(json.dumps({"camera": CAMERA}))
    names = [str(tmp_path / name) for name in ("b.zellige", "profile.json", "out")]
    return ["roll", names[0], "--camera", ADDRESS, "--profile", names[1], "--out", names[2], "--threads", "1"]


def summary(tmp_path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tmp_path / "out" / "roll.json").read_text())
    return content


def frames_by_status(content: dict[str, Any]) -> dict[str, int]:
    (note,) = (note for note in content["notes"] if note.startswith("camera"))
    words = note.split(": ")[1].removesuffix(" frames").split(", ")
    return {status: int(count) for count, status in (word.split() for word in words)}


def test_a_roll_of_so_many_frames(fake: StartFake, arguments: list[str], tmp_path: Path) -> None:
    fake()
    code = main([*arguments, "--frames", "60"])
    content = summary(tmp_path)
    counts = frames_by_status(content)
    assert sum(counts.values()) == 60
    assert counts["complete"] >= 50  # the machine may be busy
    assert content["complete"] is True
    assert content["num_lines"] >= 60 * HEIGHT  # lost ones are of any length
    assert content["num_defects"] == 0
    assert code == (0 if counts["complete"] == 60 else 1)
    assert content["speed"]["ceiling_lines_per_s"] > content["speed"]["lines_per_s"]


def test_lost_packets_are_undecided_stretches(fake: StartFake, arguments: list[str], tmp_path: Path) -> None:
    """Every line is judged or in a stretch, and the stretches of the camera are whole frames."""
    fake("-r", "10")
    assert main([*arguments, "--frames", "60"]) == 1
    content = summary(tmp_path)
    counts = frames_by_status(content)
    assert sum(counts.values()) == 60
    assert counts["complete"] < 60
    stretches = content["undecided"]
    undecided = sum(s["to_mm"] - s["from_mm"] for s in stretches) / 0.25
    assert undecided == pytest.approx(content["num_lines"] - content["num_lines_judged"])
    of_camera = [s for s in stretches if s["reason"].startswith("camera: ")]
    assert of_camera
    for stretch in of_camera:
        for place in (stretch["from_mm"], stretch["to_mm"]):
            assert place / 0.25 % HEIGHT == pytest.approx(0)
    assert any("incomplete: packets are missing" in s["reason"] or "not all packets" in s["reason"] for s in of_camera)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_roll_in_order(
    fake: StartFake, arguments: list[str], tmp_path: Path, number: int
) -> None:
    fake()
    command = [sys.executable, "-m", "zellige.station.cli", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    out = tmp_path / "out" / "roll.json"
    deadline = time.monotonic() + 60
    while not out.exists():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(number)
    said, _ = running.communicate(timeout=60)
    content = summary(tmp_path)
    assert (content["complete"], content["reason"]) == (True, None)
    assert running.returncode in (0, 1)  # 1: the machine was busy, and frames are missing
    assert content["num_lines"] > 0
    assert "note: camera" in said


class SilentCamera(LiveCamera):
    """One that was stopped before its first frame."""

    def open(self, *, width_px: int | None, color: Color) -> RollSource:
        return RollSource(name="camera", width_px=width_px or 512, num_blocks=0, blocks=lambda: iter(()), is_live=True)


def test_a_roll_without_a_line_is_not_in_order(arguments: list[str], tmp_path: Path) -> None:
    options = RollOptions(num_threads=1)
    assert inspect_roll(tmp_path / "b.zellige", SilentCamera(), None, tmp_path / "out", options) is False
    assert (summary(tmp_path)["num_lines"], summary(tmp_path)["undecided"]) == (0, [])


def test_a_profile_with_an_encoder_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = {"mm_per_count": 0.25, "counts_per_line": 1}
    (tmp_path / "profile.json").write_text(json.dumps({"camera": CAMERA, "encoder": encoder}))
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "profile.json: expected no encoder, got one: the counts of a live camera are not read" in message


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--real-time"], "expected line_rate_hz"),
        (["--counts", "counts.txt"], "neither --real-time nor --counts"),
        (["SOURCE"], "expected one of SOURCE, a recording, --source"),
        (["--frames", "0"], "at least 1"),
    ],
)
def test_mistakes(arguments: list[str], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [arguments[0], arguments[1], *extra, *arguments[2:]] if extra == ["SOURCE"] else [*arguments, *extra]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_bundle_in_color_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.dstack([good_pixels()] * 3)
    members = {**bundle_members(make_model(3)), "golden/good.png": encode_golden(pixels)}
    members.pop("golden/bar.png")
    golden = [{"member": "golden/good.png", "decision": "ACCEPT", "score": 10 / 128, "source_kind": "good"}]
    write_bundle(
        tmp_path / "rgb.zellige",
        members=members,
        **bundle_fields(color=Color.RGB, golden=golden, calibration=CALIBRATION),
    )
    assert main(["roll", str(tmp_path / "rgb.zellige"), "--camera", "--out", str(tmp_path / "out")]) == 2
    assert "expected a bundle for gray lines" in capsys.readouterr().err


def test_no_source_at_all(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments[:2], *arguments[4:]]) == 2
    assert "got none" in capsys.readouterr().err
