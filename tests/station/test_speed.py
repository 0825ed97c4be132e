"""The speed of a bundle, measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.station.conftest import bad_pixels, good_pixels, save


def measure(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zellige.station.speed", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def no_torch() -> None:
    program = "import sys, zellige.station.speed; print({'torch', 'hydra', 'mlflow', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_each_frame_is_timed_once(bundle_path: Path, tmp_path: Path, no_torch: None) -> None:
    save(tmp_path / "a.png", good_pixels())
    save(tmp_path / "b.png", bad_pixels(height=192, width=320))
    done = measure(bundle_path, tmp_path / "a.png", tmp_path / "b.png", "--threads", 1)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["frame_mp"] == pytest.approx([96 * 160 / 1e6, 192 * 320 / 1e6])
    assert len(found["frame_ms"]) == 2
    assert all(0 < time_ms < 10_000 for time_ms in found["frame_ms"])
    assert found["num_threads"] == 1
    assert 10 < found["peak_memory_mb"] < 1000


def test_what_cannot_be_inspected_has_no_speed(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    save(tmp_path / "small.png", good_pixels(height=20, width=20))
    for path, message in (
        (images / "z_corrupt.png", "z_corrupt.png: truncated"),
        (tmp_path / "small.png", "small.png cannot be inspected: "),
        (tmp_path / "none.png", "none.png: cannot be read"),
    ):
        done = measure(bundle_path, path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
