"""scripts/export.py on a finished run: the bytes of training again, or one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import Programs, TrainedRun, save_image, texture
from zellige.core.bundle import read_bundle


@pytest.fixture
def copied_run(trained_run: TrainedRun, tmp_path: Path) -> Path:
    """A run folder that a test may spoil; its images stay where they are."""
    return Path(shutil.copytree(trained_run.folder, tmp_path / "copy of run"))


def test_the_same_bytes_as_training_wrote(programs: Programs, trained_run: TrainedRun, copied_run: Path) -> None:
    bundle = copied_run / f"{trained_run.name}.zellige"
    bundle.write_bytes(b"an older one")
    ended = programs.run("export.py", f"run={copied_run}")
    assert (ended.code, ended.err) == (0, "")
    assert bundle.read_bytes() == trained_run.bundle.read_bytes()
    assert ended.out.splitlines()[-3] == str(bundle)
    assert f"bundle id {read_bundle(bundle).id}\n" in ended.out
    assert "parity: 12 images, the same verdicts" in ended.out


def no_folder(run: Path) -> None:
    shutil.rmtree(run)


def no_report(run: Path) -> None:
    (run / "report.json").unlink()


def report_of_something_else(run: Path) -> None:
    (run / "report.json").write_text('{"run": {"name": "x"}}')


def damaged_report(run: Path) -> None:
    (run / "report.json").write_bytes((run / "report.json").read_bytes()[:-20])


def damaged_config(run: Path) -> None:
    (run / "config.yaml").write_text("data: {root: [")


def unknown_setting(run: Path) -> None:
    with (run / "config.yaml").open("a") as file:
        file.write("wheels: 4\n")


def no_checkpoint(run: Path) -> None:
    (run / "detector.safetensors").unlink()


def damaged_checkpoint(run: Path) -> None:
    with (run / "detector.safetensors").open("r+b") as file:
        file.truncate(5000)


def checkpoint_of_another_run(run: Path) -> None:
    tensors = load_file(run / "detector.safetensors")
    tensors["banks.0.vectors"] = tensors["banks.0.vectors"][:40].contiguous()
    save_file(tensors, run / "detector.safetensors")


def trained_with_another_version(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    report["run"]["bundle"] = "0" * 64
    (run / "report.json").write_text(json.dumps(report))


def data_moved(run: Path) -> None:
    config = (run / "config.yaml").read_text().splitlines()
    config = [f"  root: {run}/gone" if line.startswith("  root:") else line for line in config]
    (run / "config.yaml").write_text("\n".join(config))


def data_changed(run: Path) -> None:
    old = next(line.split(": ")[1] for line in (run / "config.yaml").read_text().splitlines() if "  root:" in line)
    shutil.copytree(old, run / "data")
    save_image(run / "data/train/good/extra.png", texture(900))
    config = (run / "config.yaml").read_text().replace(old, str(run / "data"))
    (run / "config.yaml").write_text(config)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_folder, "expected a finished run's folder, got one without config.yaml"),
        (no_report, "expected a finished run's folder, got one without report.json"),
        (report_of_something_else, "report.json is not the report of a run"),
        (damaged_report, "report.json is damaged"),
        (damaged_config, "config.yaml is damaged"),
        (unknown_setting, "config.yaml is damaged (Key 'wheels' not in 'TrainConfig'"),
        (no_checkpoint, "detector.safetensors: not found; is this a finished run folder?"),
        (damaged_checkpoint, "detector.safetensors: damaged or of another detector"),
        (checkpoint_of_another_run, "expected the scores of its report, got others"),
        (trained_with_another_version, "expected bundle 000000000000 as trained"),
        (data_moved, "/gone: expected a folder of images, it does not exist"),
        (data_changed, "images, labels or splits have changed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_run_that_cannot_be_exported(
    programs: Programs, trained_run: TrainedRun, copied_run: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(copied_run)
    line = programs.run("export.py", f"run={copied_run}").mistake()
    assert message in line
    assert "copy of run" in line
    if copied_run.exists():
        bundle = copied_run / f"{trained_run.name}.zellige"
        assert bundle.read_bytes() == trained_run.bundle.read_bytes()
        assert not list(copied_run.glob(".*"))


def test_the_run_must_be_named(programs: Programs) -> None:
    assert "run" in programs.run("export.py").mistake()


def test_help(programs: Programs) -> None:
    ended = programs.run("export.py", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "python scripts/export.py run=runs/NAME" in ended.out
