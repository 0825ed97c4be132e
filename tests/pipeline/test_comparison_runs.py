"""run_children as a process that starts others sees it: Ctrl-C at the worst moment."""

import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zellige import comparison_runs
from zellige.comparison_plan import Child
from zellige.comparison_runs import run_children

TAKES_BACK = """
import pathlib, sys, time
place = pathlib.Path(sys.argv[1])
place.with_suffix(".began").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.2)
    place.with_suffix(".took_back").touch()
"""


def children(root: Path, count: int) -> list[Child]:
    config = cast(Any, SimpleNamespace(runs_dir=str(root / "runs")))
    return [
        Child(
            candidate="a",
            seed=seed,
            run_name=f"a{seed}",
            arguments=(str(root / f"a{seed}"),),
            settings={},
            config=config,
        )
        for seed in range(count)
    ]


def test_ctrl_c_while_a_run_is_being_started_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        """The user presses Ctrl-C between the start of the second process and its being known."""

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            started.append(self)
            end = time.monotonic() + 30
            while not (tmp_path / f"a{len(started) - 1}.began").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            if len(started) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    (tmp_path / "train.py").write_text(TAKES_BACK)
    monkeypatch.setattr(comparison_runs, "TRAIN", tmp_path / "train.py")
    monkeypatch.setattr(comparison_runs.subprocess, "Popen", Interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_children(children(tmp_path, 3), set(), tmp_path, jobs=3)
        assert [process.poll() for process in started] == [0, 0]
        assert sorted(path.name for path in tmp_path.glob("*.took_back")) == ["a0.took_back", "a1.took_back"]
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        for process in started:
            process.kill()
