"""scripts/extend.py on a finished run: a process that drifted, looked at from outside."""

import csv
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Ended, Programs, TrainedRun, save_image, texture
from zellige.core.bundle import read_bundle

PARENT, CHILD, GRANDCHILD = "gray-tiles", "moved-lamp", "darker-lamp"


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A run, its tracking store, and what was made of them."""

    root: Path
    ended: Ended
    parent_before: dict[str, str]

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def report(self, name: str) -> dict[str, Any]:
        report = json.loads((self.run(name) / "report.json").read_text(encoding="utf-8"))
        assert isinstance(report, dict)
        return report

    def decisions(self, name: str) -> dict[str, tuple[str, float]]:
        with (self.run(name) / "predictions.csv").open(encoding="utf-8") as file:
            return {row["id"]: (row["decision"], float(row["score"])) for row in csv.DictReader(file)}

    def mlflow(self, query: str) -> list[tuple]:
        with sqlite3.connect(self.root / "mlruns/mlflow.db") as database:
            return database.execute(query).fetchall()


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_good(folder: Path, lamp: tuple[float, float], seed: int, num: int) -> Path:
    """Good images under a lamp that gives such shares of its light at the left and the right edge."""
    for index in range(num):
        pixels = texture(seed + index)
        lit = np.clip(pixels * np.linspace(*lamp, pixels.shape[1]), 0, 255).astype(np.uint8)
        save_image(folder / f"{index:02}.png", lit)
    return folder


@pytest.fixture(scope="module")
def plant(programs: Programs, trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """The trained run with a store of its own, extended by 16 good images under a lamp that moved."""
    root = tmp_path_factory.mktemp("plant")
    run = Path(shutil.copytree(trained_run.folder, root / "runs" / PARENT))
    shutil.copytree(trained_run.root / "mlruns", root / "mlruns")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace(f"{trained_run.root / 'mlruns'}", f"{root / 'mlruns'}"))
    before = contents(run)
    new = write_good(root / "new images", (0.4, 1.5), 3000, 16)
    ended = programs.run("extend.py", f"run={run}", f"data={new}", f"run_name={CHILD}")
    assert (ended.code, ended.err) == (0, "")
    return Plant(root=root, ended=ended, parent_before=before)


def test_good_images_of_the_new_light_pass_and_old_defects_do_not(plant: Plant) -> None:
    extension, report = plant.report(CHILD)["extension"], plant.report(CHILD)
    before, after = extension["added_val_rejected"]["before"], extension["added_val_rejected"]["after"]
    assert (before["n"], after["n"]) == (4, 4)
    assert before["value"] >= 0.75
    assert after["value"] == 0
    assert (extension["added"]["train"], extension["added"]["val"], extension["added"]["left_out"]) == (12, 4, 0)
    threshold = report["calibration"]["reject_score"]
    defects = {name: score for name, (_, score) in plant.decisions(CHILD).items() if name.startswith("test/hole/")}
    assert len(defects) == 6
    assert min(defects.values()) > threshold
    assert plant.decisions(CHILD).keys() == plant.decisions(PARENT).keys()
    assert report["image_auroc"] > 0.95


def test_a_new_identity_that_names_its_parent(plant: Plant) -> None:
    report, parent, bundle = (
        plant.report(CHILD),
        plant.report(PARENT),
        read_bundle(plant.run(CHILD) / f"{CHILD}.zellige"),
    )
    assert bundle.id == report["run"]["bundle"] != parent["run"]["bundle"]
    assert bundle.manifest.run_name == report["run"]["name"] == CHILD
    assert bundle.report["run"]["extends run"] == bundle.report["extension"]["parent"] == PARENT
    assert bundle.report["extension"]["parent_bundle"] == parent["run"]["bundle"]
    assert bundle.manifest.data_fingerprint == report["data"]["fingerprint"] != parent["data"]["fingerprint"]
    assert report["data"]["additions"][0]["extends"] == parent["data"]["fingerprint"]
    page = (plant.run(CHILD) / "report.html").read_text(encoding="utf-8")
    assert "added VAL images rejected" in page
    assert f"{plant.run(CHILD)}:" in plant.ended.out


def test_mlflow_has_it_under_its_parent(plant: Plant) -> None:
    ids = dict(plant.mlflow("select name, run_uuid from runs where status = 'FINISHED'"))
    stored = plant.mlflow("select run_uuid, key, value from tags")
    tags = {key: value for run, key, value in stored if run == ids[CHILD]}
    assert tags["zellige.parent_run"] == PARENT
    assert tags["zellige.parent_bundle_id"] == plant.report(PARENT)["run"]["bundle"]
    assert tags["mlflow.parentRunId"] == ids[PARENT]
    (version,) = plant.mlflow("select version from registered_model_aliases where alias = 'candidate'")
    assert int(version[0]) == 2


def test_an_extended_run_exports_the_same_bytes(programs: Programs, plant: Plant) -> None:
    bundle = plant.run(CHILD) / f"{CHILD}.zellige"
    written = bundle.read_bytes()
    ended = programs.run("export.py", f"run={plant.run(CHILD)}")
    assert (ended.code, ended.err) == (0, "")
    assert bundle.read_bytes() == written


def test_a_killed_extension_of_an_extension_can_be_started_again(programs: Programs, plant: Plant) -> None:
    new = write_good(plant.root / "darker", (0.3, 0.3), 4000, 8)
    command = ("extend.py", f"run={plant.run(CHILD)}", f"data={new}", f"run_name={GRANDCHILD}")
    partial, child = plant.root / f"runs/.{GRANDCHILD}.partial", contents(plant.run(CHILD))
    killed = programs.start(*command)
    while not (partial / "detector.safetensors").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.process, signal.SIGKILL)
    killed.wait()
    assert not plant.run(GRANDCHILD).exists()
    ended = programs.run(*command)
    assert (ended.code, ended.err) == (0, "")
    assert not partial.exists()
    report = plant.report(GRANDCHILD)
    assert report["extension"]["parent"] == CHILD
    assert [added["train"] for added in report["data"]["additions"]] == [12, 6]
    assert report["data"]["splits"]["train"]["good"] == 10 + 12 + 6
    assert contents(plant.run(CHILD)) == child
    assert contents(plant.run(PARENT)) == plant.parent_before


def taken_name(plant: Plant) -> tuple[list[str], str]:
    return [f"run_name={CHILD}"], "exists already"


def nothing_new(plant: Plant) -> tuple[list[str], str]:
    arguments = [f"data={plant.root / 'new images'}", f"run={plant.run(CHILD)}"]
    return arguments, "all 16 are left out, first added-2/00.png"


def no_folder(plant: Plant) -> tuple[list[str], str]:
    return [f"data={plant.root / 'nowhere'}"], "expected a folder of images, it does not exist"


def no_run(plant: Plant) -> tuple[list[str], str]:
    return [f"run={plant.root / 'runs'}"], "expected a finished run's folder, got one without config.yaml"


@pytest.mark.parametrize("mistake", [taken_name, nothing_new, no_folder, no_run])
def test_a_mistake_is_one_line_and_costs_nothing(
    programs: Programs, plant: Plant, mistake: Callable[[Plant], tuple[list[str], str]]
) -> None:
    arguments, message = mistake(plant)
    given = {"run": plant.run(PARENT), "data": plant.root / "new images", "run_name": "mistaken"}
    given |= dict(argument.split("=", 1) for argument in arguments)
    line = programs.run("extend.py", *(f"{key}={value}" for key, value in given.items())).mistake()
    assert message in line
    assert not list((plant.root / "runs").glob("*mistaken*"))
    assert contents(plant.run(PARENT)) == plant.parent_before


def test_help(programs: Programs) -> None:
    ended = programs.run("extend.py", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "python scripts/extend.py run=runs/NAME data=FOLDER" in ended.out
