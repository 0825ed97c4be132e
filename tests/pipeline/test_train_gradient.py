"""scripts/train.py with a detector that learns by gradient and from labels: images to a bundle that a station runs."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.conftest import HEIGHT, WIDTH, Programs, make_image_set, save_image, texture, train_arguments
from zellige.core.bundle import read_bundle

NAME = "labels"


@pytest.fixture(scope="module")
def finished(programs: Programs, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gradient")
    shutil.copytree(empty_store, root / "mlruns")
    make_image_set(root / "images")
    for index in range(4):
        pixels, mask = texture(900 + index), texture(0) * 0
        mask[20:34, 30 + index : 44 + index] = 255
        pixels[mask > 0] = 255
        save_image(root / f"images/train/spot/{index}.png", pixels)
        save_image(root / f"images/ground_truth/spot/{index}_mask.png", mask)
    arguments = [a for a in train_arguments(root, NAME) if not a.startswith("model.")]
    more = ["model=super_simple_net", "model.hidden=32", "model.score_channels=8", "trainer.epochs=15"]
    ended = programs.run("train.py", *arguments, *more, "trainer.learning_rate=0.003")
    assert ended.code == 0, ended.err
    return root / "runs" / NAME


def test_it_learns_and_says_how(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert report["image_auroc"] > 0.9
    assert report["pixel_auroc"] > 0.9
    assert report["data"]["splits"]["train"]["defective"] == 4
    fit = json.loads((finished / "fit.json").read_text())
    assert (fit["num_images"], fit["num_defects"], fit["num_defects_left_out"]) == (14, 4, 0)
    # 96 x 112 px in tiles of 64 px that share 16: two by two.
    assert fit["num_tiles"] == 14 * 4
    assert HEIGHT == 96
    assert WIDTH == 112


def test_its_curve_falls_and_the_state_of_the_fit_is_gone(finished: Path) -> None:
    curve = json.loads((finished / "learning_curve.json").read_text())
    assert [entry["epoch"] for entry in curve] == list(range(1, len(curve) + 1))
    assert curve[-1]["train_loss"] < curve[0]["train_loss"] / 2
    query = "select step, value from metrics where key = 'train_loss' order by step"
    with sqlite3.connect(finished.parents[1] / "mlruns/mlflow.db") as database:
        logged = database.execute(query).fetchall()
    assert logged == [(entry["epoch"], entry["train_loss"]) for entry in curve]
    assert not list(finished.glob("*.partial"))
    assert not (finished / "resume.safetensors").exists()


def test_it_shows_which_training_images_are_suspicious(finished: Path) -> None:
    """In the run folder, the report and MLflow: the good ones alone, as the others are known to be defective."""
    listed = json.loads((finished / "suspicious_train.json").read_text(encoding="utf-8"))
    assert listed["num_images"] == len(listed["images"]) == 10
    assert "Training images that look least like the others." in (finished / "report.html").read_text(encoding="utf-8")
    kept = {path.name for path in (finished.parents[1] / "mlruns/artifacts").rglob("suspicious_train.*")}
    assert kept == {"suspicious_train.json", "suspicious_train.png"}


def test_its_bundle_has_passed_the_parity_check(finished: Path) -> None:
    bundle = read_bundle(finished / f"{NAME}.zellige")
    assert bundle.manifest.detector.name == "super_simple_net"
    with safe_open(finished / "detector.safetensors", framework="pt") as stored:
        assert "score_head.join.weight" in stored.keys()  # noqa: SIM118  it is not a dict
