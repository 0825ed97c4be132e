"""scripts/train.py as a whole in two processes with gloo: the same result, written once, and no hang when one dies."""

import csv
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Programs, Started, TrainedRun, train_arguments
from zellige.core.bundle import read_bundle
from zellige.program import LOST_PROCESS

BOUND_S = 60
"""Within which a process has to end after another one died; a quiet machine needs about a second."""


@contextmanager
def two_processes(programs: Programs, *arguments: str) -> Iterator[list[Started]]:
    """Two processes as torchrun starts them, without torchrun, which would end the one when the other dies."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "test"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        programs.start("train.py", *arguments, environment={**shared, **place, "RANK": rank, "LOCAL_RANK": rank})
        for rank in (0, 1)
    ]
    try:
        yield started
    finally:
        for one in started:
            if one.poll() is None:
                os.kill(one.process, signal.SIGKILL)
                one.wait()


@pytest.fixture(scope="module")
def together(programs: Programs, trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run by two processes on the images and settings of `trained_run`."""
    root = tmp_path_factory.mktemp("together")
    with two_processes(programs, *train_arguments(root, trained_run.name, data=trained_run.data)) as processes:
        ends = [one.wait() for one in processes]
    assert [ended.code for ended in ends] == [0, 0], ends
    assert [ended.out.count("image AUROC") for ended in ends] == [1, 0]
    return root


def predictions_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_processes_give_the_result_of_one(together: Path, trained_run: TrainedRun) -> None:
    run = together / "runs" / trained_run.name
    rows, expected = predictions_of(run), predictions_of(trained_run.folder)
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    assert len({row["id"] for row in rows}) == 12
    assert [row["decision"] for row in rows] == [row["decision"] for row in expected]
    for row, one in zip(rows, expected, strict=True):
        assert float(row["score"]) == pytest.approx(float(one["score"]), rel=1e-5)
    states = [load_file(folder / "detector.safetensors") for folder in (run, trained_run.folder)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_is_left_is_one_run(together: Path, trained_run: TrainedRun) -> None:
    assert [path.name for path in (together / "runs").iterdir()] == [trained_run.name]
    run = together / "runs" / trained_run.name
    assert {path.name for path in run.rglob("*")} == {path.name for path in trained_run.folder.rglob("*")}
    assert read_bundle(run / f"{trained_run.name}.zellige").report["run"]["processes"] == "2"
    with sqlite3.connect(together / "mlruns/mlflow.db") as database:
        assert database.execute("select name, status from runs").fetchall() == [(trained_run.name, "FINISHED")]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other(
    programs: Programs, trained_run: TrainedRun, tmp_path: Path, killed: int
) -> None:
    arguments = train_arguments(tmp_path, "a", "tracking.enabled=false", data=trained_run.data)
    with two_processes(programs, *arguments) as processes:
        end = time.monotonic() + 200
        while not (tmp_path / "runs/.a.partial/config.yaml").exists():
            assert time.monotonic() < end
            assert all(one.poll() is None for one in processes)
            time.sleep(0.002)
        os.kill(processes[killed].process, signal.SIGKILL)
        left = processes[1 - killed].wait(BOUND_S)
    assert left.code == 2, left.err
    assert f"error: {LOST_PROCESS}" in left.err
    assert "Traceback" not in left.err
    assert not (tmp_path / "runs/a").exists()
    if killed == 1:
        assert list((tmp_path / "runs").iterdir()) == []


def test_a_mistake_that_one_process_finds_ends_both(
    programs: Programs, trained_run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "runs/a").mkdir(parents=True)
    arguments = train_arguments(tmp_path, "a", "tracking.enabled=false", data=trained_run.data)
    with two_processes(programs, *arguments) as processes:
        ends = [one.wait(BOUND_S) for one in processes]
    assert [ended.code for ended in ends] == [2, 2]
    assert "exists already" in ends[0].err
    assert LOST_PROCESS in ends[1].err
