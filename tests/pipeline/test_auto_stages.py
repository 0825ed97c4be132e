"""model.stages=auto from the command line: the run remembers the list, and whoever opens it does not choose again."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import Programs, make_image_set, train_arguments
from zellige.finished_run import open_run
from zellige.models.patchcore import PatchCore


@pytest.fixture(scope="module")
def run(programs: Programs, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("auto")
    shutil.copytree(empty_store, root / "mlruns")
    make_image_set(root / "images")
    ended = programs.run("train.py", *train_arguments(root, "auto", "model.stages=auto"))
    assert (ended.code, ended.err) == (0, "")
    assert "stages: [" in ended.out
    return root / "runs" / "auto"


def test_the_choice_is_in_the_settings_the_report_and_mlflow(run: Path) -> None:
    choice = json.loads((run / "stages.json").read_text())
    stages = OmegaConf.load(run / "config.yaml").model.stages
    assert list(stages) == choice["stages"]
    assert choice["stages"] in [row["stages"] for row in choice["table"]]
    report = json.loads((run / "report.json").read_text())
    assert report["run"]["backbone stages"].startswith(str(choice["stages"]))
    with sqlite3.connect(run.parents[1] / "mlruns" / "mlflow.db") as database:
        logged = dict(database.execute("select key, value from params").fetchall())
    assert json.loads(logged["model.stages"]) == choice["stages"]


def test_the_run_opens_with_the_chosen_stages(run: Path) -> None:
    opened = open_run(run)
    assert isinstance(opened.detector, PatchCore)
    chosen = json.loads((run / "stages.json").read_text())["stages"]
    assert opened.config.model.stages == chosen
    assert list(opened.detector.embed_patches.backbone.strides) == [2 << stage for stage in chosen]
    assert len(opened.detector.banks) == len(chosen)


@pytest.mark.parametrize(("num_train", "more"), [(7, []), (9, ["trainer.num_shots=7"])])
def test_too_few_images_to_choose_from(programs: Programs, tmp_path: Path, num_train: int, more: list[str]) -> None:
    make_image_set(tmp_path / "images", num=(num_train, 6, 2, 2))
    line = programs.run("train.py", *train_arguments(tmp_path, "few", "model.stages=auto", *more)).mistake()
    assert "model.stages=auto: expected at least 8 good training images to choose from, got 7" in line
    assert list((tmp_path / "runs").iterdir()) == []
