"""The station alone, installed from its own lock into a fresh environment: no torch, and it inspects."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, TrainedRun

QUIET = ("--disable-pip-version-check", "--no-input", "--quiet")
SECONDS = 300


def pip(python: Path | str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run our own pip on an environment, which then needs none: to install one takes seconds."""
    options = () if python == sys.executable else ("--python", python)
    command = [str(p) for p in (sys.executable, "-m", "pip", *options, *arguments[:1], *QUIET, *arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=PROJECT)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that holds the station."""
    root = tmp_path_factory.mktemp("station")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True, timeout=SECONDS)
    python = root / "venv/bin/python"
    lock = PROJECT / "requirements-station.lock"
    installed = pip(python, "install", "--require-hashes", "--timeout", "15", "--retries", "1", "-r", lock)
    if installed.returncode:
        offline = ("connection", "timed out", "temporary failure", "no matching distribution", "proxy")
        last = installed.stderr.strip().splitlines()[-1]
        if any(word in installed.stderr.lower() for word in offline):
            pytest.skip(f"the package registry cannot be reached: {last}")
        pytest.fail(installed.stderr)
    shutil.copytree(PROJECT / "src", root / "project/src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, root / "project")
    build = ("--no-deps", "--no-build-isolation", "--wheel-dir", root / "wheel", root / "project")
    built = pip(sys.executable, "wheel", *build)
    assert built.returncode == 0, built.stderr
    (wheel,) = (root / "wheel").glob("zellige-*.whl")
    put = pip(python, "install", "--no-deps", wheel)
    assert put.returncode == 0, put.stderr
    return python.parent


def test_the_lock_brings_all_that_it_needs_and_no_training_package(environment: Path) -> None:
    assert pip(environment / "python", "check").returncode == 0
    listed = pip(environment / "python", "freeze", "--all").stdout.lower().splitlines()
    names = {line.replace("==", " ").split()[0] for line in listed}
    assert {"zellige", "onnxruntime", "numpy"} <= names
    assert not {"torch", "hydra-core", "mlflow", "albumentations", "scipy", "matplotlib"} & names


def test_it_inspects(environment: Path, trained_run: TrainedRun, tmp_path: Path) -> None:
    images = trained_run.data / "test"
    command = [environment / "zellige-station", "inspect", trained_run.bundle, images, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    records = [json.loads(line) for line in (tmp_path / "out/verdicts.jsonl").read_text().splitlines()]
    assert len(records) == 12
    assert all(r["decision"] == "REJECT" for r in records if "/hole/" in r["source_id"])


def test_it_describes(environment: Path, trained_run: TrainedRun) -> None:
    command = [environment / "zellige-station", "describe", trained_run.bundle]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert trained_run.name in done.stdout


def test_the_time_of_its_import_is_told(environment: Path, tmp_path: Path) -> None:
    program = (
        "import time; start = time.perf_counter(); import zellige.station.cli; print(time.perf_counter() - start);"
        "import sys; print(sorted({'torch', 'hydra', 'mlflow', 'scipy'} & set(sys.modules)))"
    )
    command = [environment / "python", "-c", program]
    done = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path) for _ in range(2)][-1]
    seconds, heavy = done.stdout.splitlines()
    print(f"import zellige.station.cli: {float(seconds):.2f} s")  # noqa: T201
    assert heavy == "[]"
