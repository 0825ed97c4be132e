"""scripts/train.py from images to a bundle, looked at from outside: files, numbers, exit codes, signals, full disks."""

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from safetensors.torch import load_file

from tests.conftest import PROJECT, Ended, Programs, TrainedRun, make_image_set, train_arguments
from tests.station.conftest import small_disk
from zellige.core.bundle import read_bundle

METRICS = ("image_auroc", "pixel_auroc", "aupro", "average_precision", "f1_max")
COSTS = ("fit_seconds", "predict_ms_per_image", "peak_memory_mb")


def report_of(run: Path) -> dict[str, Any]:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert isinstance(report, dict)
    return report


def decisions_of(run: Path) -> dict[str, tuple[str, float]]:
    """Decision and score of every test image, by id, as evaluation saw them."""
    with (run / "predictions.csv").open(encoding="utf-8") as file:
        return {row["id"]: (row["decision"], float(row["score"])) for row in csv.DictReader(file)}


def rows(store: Path, query: str) -> list[tuple]:
    with sqlite3.connect(store / "mlflow.db") as database:
        return database.execute(query).fetchall()


def leftovers(root: Path) -> list[str]:
    """What a run that did not finish left under its runs folder and in the tracking store."""
    left = [path.name for path in (root / "runs").glob("*")]
    if (root / "mlruns" / "mlflow.db").exists():
        left += [name for (name,) in rows(root / "mlruns", "select name from runs where lifecycle_stage = 'active'")]
        left += [str(path) for path in (root / "mlruns" / "artifacts").rglob("*") if path.is_file()]
        left += [name for (name,) in rows(root / "mlruns", "select name from registered_models")]
    return left


def test_the_report_keeps_the_contract(trained_run: TrainedRun) -> None:
    report = report_of(trained_run.folder)
    for name in METRICS:
        assert 0 <= report[name] <= 1, name
    for name in COSTS:
        assert report[name] > 0, name
    assert report["image_auroc"] > 0.95
    for name, count in (("escape_rate", 6), ("false_reject_rate", 6)):
        rate = report[name]
        assert rate["n"] == count
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    assert not report["calibrated"]
    assert report["units"] == "px (uncalibrated)"


def test_the_rates_are_those_of_the_decisions(trained_run: TrainedRun) -> None:
    report, decisions = report_of(trained_run.folder), decisions_of(trained_run.folder)
    good = [decision for name, (decision, _) in decisions.items() if name.startswith("test/good/")]
    bad = [decision for name, (decision, _) in decisions.items() if name.startswith("test/hole/")]
    assert (len(good), len(bad)) == (6, 6)
    assert report["escape_rate"]["value"] == bad.count("ACCEPT") / 6
    assert report["false_reject_rate"]["value"] == good.count("REJECT") / 6


def test_the_run_folder_holds_all_of_it(trained_run: TrainedRun) -> None:
    names = {path.name for path in trained_run.folder.iterdir()}
    expected = {"config.yaml", "report.json", "report.html", "data_report.json", "predictions.csv", "pictures"}
    assert (
        expected | {"detector.safetensors", "fit.json", "suspicious_train.json", f"{trained_run.name}.zellige"} <= names
    )
    assert not list(trained_run.folder.rglob("*.partial"))
    assert not list(trained_run.folder.rglob("*.npy"))
    pictures = sorted((trained_run.folder / "pictures").iterdir())
    assert {"scores.png", "roc_pr.png", "suspicious_train.png"} <= {path.name for path in pictures}
    for path in pictures:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert path.suffix == ".png"
        assert min(picture.shape[:2]) >= 100
        assert picture.std() > 5, f"{path.name} is empty"
    assert trained_run.name in (trained_run.folder / "report.html").read_text(encoding="utf-8")
    assert list(trained_run.folder.parent.iterdir()) == [trained_run.folder]


def test_one_identity_in_folder_bundle_and_tracking(trained_run: TrainedRun) -> None:
    report, bundle = report_of(trained_run.folder), read_bundle(trained_run.bundle)
    assert report["run"]["name"] == bundle.manifest.run_name == trained_run.name
    assert report["run"]["bundle"] == bundle.id
    backbone = bundle.manifest.backbone
    assert report["run"]["backbone"].startswith(f"{backbone.name}, {backbone.source}, sha256 {backbone.weights_sha256}")
    assert report["run"]["data fingerprint"] == bundle.manifest.data_fingerprint == report["data"]["fingerprint"]
    store = trained_run.root / "mlruns"
    assert rows(store, "select name, status from runs") == [(trained_run.name, "FINISHED")]
    tags = dict(rows(store, "select key, value from tags"))
    assert tags["zellige.bundle_id"] == bundle.id
    assert tags["zellige.data_fingerprint"] == bundle.manifest.data_fingerprint
    assert tags.get("mlflow.source.git.commit") == bundle.manifest.git_commit
    metrics = dict(rows(store, "select key, value from latest_metrics"))
    for name in (*METRICS, *COSTS):
        assert metrics[name] == report[name]
    (stored,) = (store / "artifacts").rglob(f"{trained_run.name}.zellige")
    assert stored.read_bytes() == trained_run.bundle.read_bytes()
    suspicious = {path.name for path in (store / "artifacts").rglob("suspicious_train.*")}
    assert suspicious == {"suspicious_train.json", "suspicious_train.png"}


def test_the_bundle_says_what_the_report_says_without_the_costs(trained_run: TrainedRun) -> None:
    report, bundle = report_of(trained_run.folder), read_bundle(trained_run.bundle)
    assert not set(COSTS) & set(bundle.report)
    assert all(bundle.report[name] == report[name] for name in (*METRICS, "escape_rate", "calibration", "data"))


def test_a_station_gives_evaluations_decisions(trained_run: TrainedRun, tmp_path: Path) -> None:
    """In a process that has no torch: the verdicts on TEST, image by image."""
    command = [sys.executable, "-m", "zellige.station.cli", "inspect", trained_run.bundle, trained_run.data / "test"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    records = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    found = {
        Path(record["source_id"]).relative_to(trained_run.data).as_posix(): (record["decision"], record["score"])
        for record in records
    }
    expected = decisions_of(trained_run.folder)
    assert {name: decision for name, (decision, _) in found.items()} == {n: d for n, (d, _) in expected.items()}
    assert {decision for decision, _ in found.values()} == {"ACCEPT", "REJECT"}
    for name, (_, score) in found.items():
        assert score == pytest.approx(expected[name][1], rel=1e-3)


@pytest.fixture(scope="module")
def same_again(trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The same images, settings and name once more, started as a user starts it, with neither store nor run shared."""
    root = tmp_path_factory.mktemp("again")
    arguments = train_arguments(root, trained_run.name, "tracking.enabled=false", data=trained_run.data)
    command = [sys.executable, PROJECT / "scripts" / "train.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return TrainedRun(root=root, name=trained_run.name, ended=Ended(code=0, out=done.stdout, err=done.stderr))


def test_two_runs_with_one_seed_are_identical(trained_run: TrainedRun, same_again: TrainedRun) -> None:
    """What may differ: the costs (seconds, milliseconds, memory), and with another name that name."""
    assert decisions_of(same_again.folder) == decisions_of(trained_run.folder)
    first, second = report_of(trained_run.folder), report_of(same_again.folder)
    if first["run"]["git commit"] != second["run"]["git commit"]:
        pytest.skip("the checkout's commit changed between the two runs")
    assert {key for key in first if first[key] != second[key]} <= set(COSTS)
    states = [load_file(run.folder / "detector.safetensors") for run in (trained_run, same_again)]
    assert all(bool((states[0][key] == states[1][key]).all()) for key in states[0])
    assert same_again.bundle.read_bytes() == trained_run.bundle.read_bytes()


def test_what_is_printed_is_the_result(same_again: TrainedRun) -> None:
    report = report_of(same_again.folder)
    assert f"{same_again.folder}:" in same_again.ended.out
    assert f"image AUROC {report['image_auroc']:.3f}" in same_again.ended.out
    assert report["calibration"]["guarantee"] in same_again.ended.out


def test_color_images_resized_and_labelled_calibration(programs: Programs, tmp_path: Path) -> None:
    data = make_image_set(tmp_path / "color images ñ", rgb=True)
    for index in range(5):
        source = data / f"test/hole/{index:02}.png"
        (data / "val/hole").mkdir(exist_ok=True)
        source.rename(data / f"val/hole/{index:02}.png")
    (data / "test/good/00.png").rename(data / "test/good/größe 名.png")
    ended = programs.run(
        "train.py",
        *train_arguments(tmp_path, "color", data=data),
        "geometry=resize",
        "geometry.height=64",
        "geometry.width=96",
        "geometry.overlap_px=0",
        "calibration=labelled",
        "calibration.min_area_mm2=0.05",
        "data.pixel_size_mm=[0.1,0.2]",
        "data.augment=line",
        "engine.keep_maps=true",
        "tracking.enabled=false",
    )
    assert (ended.code, ended.err) == (0, "")
    run = tmp_path / "runs" / "color"
    report, manifest = report_of(run), read_bundle(run / "color.zellige").manifest
    assert report["calibrated"]
    assert report["units"] == "mm"
    assert report["data"]["color"] == manifest.color.value == "rgb"
    assert manifest.pixel_size is not None
    assert (manifest.pixel_size.cross_web_mm, manifest.pixel_size.down_web_mm) == (0.1, 0.2)
    assert manifest.calibration.min_area_mm2 == 0.05
    assert "escape_rate <= 0.05" in manifest.calibration.guarantee
    assert len(list(run.rglob("*.npy"))) == 8 + 5 + 6 + 1
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("model", ["subspace", "padim"])
def test_another_model_ends_in_a_bundle_too(
    programs: Programs, trained_run: TrainedRun, tmp_path: Path, model: str
) -> None:
    arguments = train_arguments(tmp_path, "other", "tracking.enabled=false", data=trained_run.data)
    arguments.remove("model.bank_size=128")
    ended = programs.run("train.py", *arguments, f"model={model}")
    assert (ended.code, ended.err) == (0, "")
    run = tmp_path / "runs" / "other"
    bundle = read_bundle(run / "other.zellige")
    assert bundle.manifest.detector.name == model
    assert bundle.manifest.detector.class_path.startswith(f"zellige.models.{model}.")
    assert report_of(run)["image_auroc"] > 0.9


def test_one_good_image_ends_in_a_bundle_and_in_plain_words(programs: Programs, tmp_path: Path) -> None:
    make_image_set(tmp_path / "images", num=(1, 5, 3, 3))
    ended = programs.run("train.py", *train_arguments(tmp_path, "one", "experiment=few_shot", "tracking.enabled=false"))
    assert (ended.code, ended.err) == (0, "")
    assert "good training images: 1 only; a good form that they do not show will look like a defect" in ended.out
    assert "NOT SHOWN: n=5 is too small for false_reject_rate <= 0.05: 54 more good images needed" in ended.out
    run = tmp_path / "runs" / "one"
    words = "1, each as it is and in 8 changed copies"
    assert report_of(run)["run"]["good training images"] == words
    assert words in (run / "report.html").read_text(encoding="utf-8")
    assert read_bundle(run / "one.zellige").manifest.detector.name == "patchcore"


def has(pattern: str) -> Callable[[Path], bool]:
    return lambda root: any(root.glob(pattern))


MOMENTS = {
    "reading": has("runs/.a.partial/config.yaml"),
    "fitting done": has("runs/.a.partial/fit.json"),
    "predicting": has("runs/.a.partial/predictions/.test.partial/maps/000002.npy"),
    "exporting": has("runs/.a.partial/predictions/test/scores.json"),
    "drawing": has("runs/.a.partial/pictures/*.png"),
    "logging": has("mlruns/artifacts/*/artifacts/config.yaml"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_nothing(
    programs: Programs, trained_run: TrainedRun, empty_store: Path, tmp_path: Path, moment: str
) -> None:
    shutil.copytree(empty_store, tmp_path / "mlruns")
    running = programs.start("train.py", *train_arguments(tmp_path, "a", data=trained_run.data))
    end = time.monotonic() + 200
    while running.poll() is None and not MOMENTS[moment](tmp_path):
        assert time.monotonic() < end
        time.sleep(0.002)
    os.kill(running.process, signal.SIGINT)
    ended = running.wait()
    assert ended.code == 130, ended.err
    assert ended.err == "error: interrupted: nothing was kept of this run\n"
    assert leftovers(tmp_path) == []


def test_a_taken_name_is_refused_at_once(programs: Programs, trained_run: TrainedRun) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained_run.root.rglob("*") if path.name != ".lock"}
    arguments = train_arguments(trained_run.root, trained_run.name)
    line = programs.run("train.py", *arguments).mistake()
    assert f"run_name: {trained_run.folder} exists already" in line
    other_runs = [f"runs_dir={trained_run.root / 'other'}"]
    line = programs.run("train.py", *arguments, *other_runs).mistake()
    assert f"run_name must be new, {trained_run.name} exists" in line
    assert {p: p.stat().st_mtime_ns for p in trained_run.root.rglob("*") if p in before} == before
    assert not (trained_run.root / "other").exists()


def test_a_run_that_another_process_is_making_is_left_alone(
    programs: Programs, trained_run: TrainedRun, tmp_path: Path
) -> None:
    arguments = train_arguments(tmp_path, "a", "tracking.enabled=false", data=trained_run.data)
    first = programs.start("train.py", *arguments)
    while not MOMENTS["fitting done"](tmp_path):
        assert first.poll() is None
        time.sleep(0.01)
    line = programs.run("train.py", *arguments).mistake()
    assert "another process is making" in line
    assert first.poll() is None
    assert (tmp_path / "runs/.a.partial/fit.json").exists()
    os.kill(first.process, signal.SIGINT)
    assert first.wait().code == 130


def test_what_a_killed_process_left_is_cleared(programs: Programs, trained_run: TrainedRun, tmp_path: Path) -> None:
    arguments = train_arguments(tmp_path, "a", "tracking.enabled=false", data=trained_run.data)
    first = programs.start("train.py", *arguments)
    while not MOMENTS["fitting done"](tmp_path):
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.process, signal.SIGKILL)
    first.wait()
    left = tmp_path / "runs/.a.partial"
    (left / "stale").write_text("of the killed run")
    second = programs.start("train.py", *arguments)
    while (left / "stale").exists():
        assert second.poll() is None
        time.sleep(0.01)
    os.kill(second.process, signal.SIGINT)
    assert second.wait().code == 130
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("room", ["4m", "7m"])
def test_a_full_disk_is_one_line_and_the_older_run_survives(
    programs: Programs, trained_run: TrainedRun, tmp_path: Path, room: str
) -> None:
    """The disk fills up at the checkpoint, and at the bundle or the pictures."""
    with small_disk(tmp_path / "runs", room) as runs:
        (runs / "older").mkdir()
        (runs / "older/report.json").write_text("{}")
        ended = programs.run(
            "train.py",
            *train_arguments(tmp_path, "a", "tracking.enabled=false", data=trained_run.data),
            "engine.keep_maps=true",
        )
        line = ended.mistake()
        assert "cannot be written" in line or "cannot write" in line
        assert str(runs / ".a.partial") in line
        assert sorted(path.relative_to(runs).as_posix() for path in runs.rglob("*")) == ["older", "older/report.json"]


def test_a_place_that_cannot_hold_runs(programs: Programs, trained_run: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    arguments = train_arguments(tmp_path, "a", "tracking.enabled=false", data=trained_run.data)
    assert f"runs_dir: {tmp_path / 'runs'} cannot be written" in programs.run("train.py", *arguments).mistake()
