"""One comparison, made once, that several files look at."""

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Ended, Programs, make_image_set, save_image, texture, train_arguments

OWN = {
    "patchcore-bank_size_16": ["model=patchcore", "model.bank_size=16"],
    "coarse": ["model.stages=[2]", "model.bank_size=16"],
}
CANDIDATES = ("models=[patchcore+model.bank_size=16]", "candidates.coarse=[model.stages=[2],model.bank_size=16]")
RUNS = [f"c-{name}-s{seed}" for name in OWN for seed in (0, 1)]
SECONDS = 900


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One comparison: the runs of seed 0 were made by hand, it was interrupted, called again with two runs at a time,
    and called once more with a candidate that fails."""

    root: Path
    interrupted: Ended
    left: list[str]
    still_running: list[str]
    second: Ended
    most_at_a_time: int
    by_hand_is_kept: bool
    result: Path
    """The comparison's folder after the second call, copied."""
    parents: dict[str, str]
    """MLflow: name of each training run to the name of the run above it, after the second call."""
    third: Ended


def compare_arguments(root: Path, *more: str) -> list[str]:
    shared = [text for text in train_arguments(root, "x") if not text.startswith(("run_name=", "model."))]
    return [*shared, "trainer.batch_size=4", *more]


def processes_of(root: Path) -> list[str]:
    """Command lines of the training runs whose data lie under `root`, one of each session.

    A run's process that starts another program looks for a moment as if there were two of it.
    """
    lines = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            session = (path.parent / "stat").read_text().rpartition(")")[2].split()[3]
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "train.py" in line and str(root) in line:
                lines[session] = line
    return list(lines.values())


def store_rows(root: Path, query: str) -> list[tuple]:
    with sqlite3.connect(root / "mlruns/mlflow.db") as database:
        return database.execute(query).fetchall()


def parents_of(root: Path) -> dict[str, str]:
    query = (
        "select r.name, p.name from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId'"
        " join runs p on p.run_uuid = t.value where r.lifecycle_stage = 'active' and p.lifecycle_stage = 'active'"
    )
    return dict(store_rows(root, query))


def times_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="session")
def compared(programs: Programs, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(empty_store, root / "mlruns")
    make_image_set(root / "images", num=(4, 5, 5, 5))
    for index in (1, 3):  # a defect that cannot be seen: with an AUROC of 1 all candidates would look alike
        save_image(root / f"images/test/hole/{index:02}.png", texture(100 + index))
    for name, own in OWN.items():
        by_hand = ["seed=0", "model.seed=0", f"run_name=c-{name}-s0", "tracking.registered_model=null"]
        assert programs.run("train.py", *compare_arguments(root, *own, *by_hand)).code == 0
    before = times_of(root / "runs")
    given = compare_arguments(root, *CANDIDATES, "name=c", "seeds=[0,1]", "budget.ms_per_frame=100000")

    running = programs.start("compare.py", *given)
    end = time.monotonic() + SECONDS
    while not processes_of(root):
        assert running.poll() is None, running.wait().err
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(running.process, signal.SIGINT)
    interrupted = running.wait()
    left, still_running = sorted(path.name for path in (root / "runs").iterdir()), processes_of(root)

    running, most = programs.start("compare.py", *given, "jobs=2"), 0
    while running.poll() is None:
        assert time.monotonic() < end
        most = max(most, len(processes_of(root)))
        time.sleep(0.1)
    second = running.wait(SECONDS)
    after = times_of(root / "runs")
    kept = all(after[path] == when for path, when in before.items() if path != root / "runs")
    result = Path(shutil.copytree(root / "runs/c", root / "result", dirs_exist_ok=True))
    parents = parents_of(root)

    fails = "candidates.broken=[trainer.batch_size=0]"
    again = compare_arguments(root, CANDIDATES[1], fails, "name=c", "seeds=[0]")
    third = programs.start("compare.py", *again).wait(SECONDS)
    return Compared(
        root=root,
        interrupted=interrupted,
        left=left,
        still_running=still_running,
        second=second,
        most_at_a_time=most,
        by_hand_is_kept=kept,
        result=result,
        parents=parents,
        third=third,
    )
