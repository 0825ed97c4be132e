"""scripts/sweep.py with real processes, a real store and Optuna: killed, gone on, concluded."""

import json
import os
import shlex
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.conftest import PROJECT, Ended, Programs, make_image_set, train_arguments
from tests.pipeline.conftest import store_rows
from zellige.comparison_plan import quote_list
from zellige.config import register_schemas
from zellige.core.errors import ConfigError
from zellige.program import quote_path
from zellige.sweep_space import Dimension, SweepPlan, plan_sweep, read_space
from zellige.sweep_study import next_batch, open_study, tell

SPACE = "space=[model.bank_size=choice(8,64),model.top_share=tag(log,interval(0.01,0.2))]"
TRIALS = 3


def plan_of(*arguments: str) -> SweepPlan:
    given = [quote_list(argument) for argument in ("data.root=x", *arguments)]
    register_schemas()
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        config: Any = OmegaConf.to_object(compose("sweep", given))
        return plan_sweep(config, given)


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A sweep that was killed after its first trial, and called again."""

    root: Path
    still_running: list[str]
    kept: dict[Path, int]
    second: Ended


def sweep_arguments(root: Path, *more: str) -> list[str]:
    shared = [text for text in train_arguments(root, "x") if not text.startswith(("run_name=", "model."))]
    return [*shared, f"trials={TRIALS}", "name=s", *more]


def workers_of(root: Path) -> list[str]:
    """Processes that write into the sweep's logs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = str(path.readlink())
        except OSError:
            continue
        if target.startswith(str(root / "runs/s/logs")):
            found.append(target)
    return found


@pytest.fixture(scope="module")
def swept(programs: Programs, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    root = tmp_path_factory.mktemp("swept")
    shutil.copytree(empty_store, root / "mlruns")
    make_image_set(root / "images", num=(12, 5, 3, 3))
    given = sweep_arguments(root, SPACE)
    first, end = programs.start("sweep.py", *given), time.monotonic() + 240
    while not list((root / "runs/s/trials").glob("*.json")):
        assert first.poll() is None, first.wait().err
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(first.process, signal.SIGKILL)
    first.wait()
    while (running := workers_of(root)) and time.monotonic() < end:
        time.sleep(0.05)
    finished = (root / "runs/s/trials").glob("*.json")  # not what a killed trial left in its own folder
    kept = {path: path.stat().st_mtime_ns for path in finished}
    second = programs.start("sweep.py", *given).wait()
    return Swept(root=root, still_running=running, kept=kept, second=second)


def record_of(root: Path) -> dict[str, Any]:
    content = json.loads((root / "runs/s/sweep.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_a_killed_sweep_leaves_no_process_and_goes_on(swept: Swept) -> None:
    assert swept.still_running == []
    assert (swept.second.code, swept.second.err) == (0, "")
    assert len(swept.kept) == 1
    assert {path: path.stat().st_mtime_ns for path in swept.kept} == swept.kept
    assert "1 trials are finished already and are kept" in swept.second.out
    folder = swept.root / "runs/s/trials"
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:04}.json" for number in range(TRIALS)]


def test_the_best_trial_is_the_one_with_the_highest_criterion(swept: Swept) -> None:
    content = record_of(swept.root)
    scores = [trial["criterion"] for trial in content["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert content["best"] == content["trials"][0]["number"]
    assert 0.5 < scores[0] < 1
    assert content["command"] in swept.second.out
    for trial in content["trials"]:
        assert trial["values"]["model.bank_size"] in ("8", "64")
        assert 0.01 <= trial["values"]["model.top_share"] <= 0.2


def test_the_printed_command_is_one_of_train(swept: Swept) -> None:
    content = record_of(swept.root)
    python, script, *arguments = shlex.split(content["command"])
    assert (python, script) == ("python", "scripts/train.py")
    register_schemas()
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        config = compose("train", [quote_path(argument) for argument in arguments])
    values = content["trials"][0]["values"]
    assert str(config.model.bank_size) == values["model.bank_size"]
    assert config.model.top_share == values["model.top_share"]
    assert (config.data.root, config.geometry.height) == (str(swept.root / "images"), 64)


def test_mlflow_has_the_trials_under_the_sweep(swept: Swept) -> None:
    query = (
        "select r.name, r.status, p.name, m.value from runs r join tags t on t.run_uuid = r.run_uuid and "
        "t.key = 'mlflow.parentRunId' join runs p on p.run_uuid = t.value "
        "join latest_metrics m on m.run_uuid = r.run_uuid and m.key = 'held_out'"
    )
    expected = {(f"s-t{t['number']:04}", "FINISHED", "s", t["criterion"]) for t in record_of(swept.root)["trials"]}
    assert set(store_rows(swept.root, query)) == expected
    assert store_rows(swept.root, "select status from runs where name = 's'") == [("FINISHED",)]


def other_space(root: Path) -> list[str]:
    return ["space=[model.bank_size=choice(8,32)]"]


def other_settings(root: Path) -> list[str]:
    return [SPACE, "seed=7"]


def no_sweep(root: Path) -> list[str]:
    (root / "runs/other").mkdir(exist_ok=True)
    return [SPACE, "name=other"]


def too_few_images(root: Path) -> list[str]:
    if not (root / "few").exists():
        shutil.copytree(root / "images", root / "few")
        for index in range(5, 12):
            (root / f"few/train/good/{index:02}.png").unlink()
    return [SPACE, f"data.root={root / 'few'}", "name=few", "tracking.enabled=false"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_space, "was made with other settings (space.model.bank_size"),
        (other_settings, "seed: 0 there, 7 now"),
        (no_sweep, "exists and is not a sweep"),
        (too_few_images, "expected at least 8 good training images, got 5"),
    ],
)
def test_what_cannot_be_swept_is_one_line(programs: Programs, swept: Swept, spoil: Any, message: str) -> None:
    more = spoil(swept.root)
    assert message in programs.run("sweep.py", *sweep_arguments(swept.root), *more).mistake()


MISTAKES = {
    "nothing to search": (["space=[]"], "space: expected what to search, such as"),
    "a plain value": (["space=[model.bank_size=8]"], "expected choice"),
    "no setting": (["space=[model.bank_size]"], "space: model.bank_size: expected something such as"),
    "a setting twice": (
        ["space=[model.bank_size=choice(8,9),model.bank_size=choice(8,9)]"],
        "got model.bank_size twice",
    ),
    "the same choice twice": (["space=[model.bank_size=choice(8,8)]"], "expected different choices, got 8, 8"),
    "a misspelt setting": (["space=[model.bank_sise=choice(8,9)]"], "space: .*bank_sise"),
    "text for a number": (["space=[model.bank_size=choice(8,many)]"], "space: .*many"),
    "real numbers for whole ones": (["space=[model.bank_size=interval(8,64)]"], "space: .*model.bank_size=8.0"),
    "an interval that falls": (
        ["space=[model.top_share=interval(0.5,0.1)]"],
        "expected a number and then a larger one",
    ),
    "logarithm of zero": (["space=[model.top_share=tag(log,interval(0,0.1))]"], "expected a number above 0"),
    "a range that falls": (["space=[model.bank_size=range(64,8,-8)]"], "expected a range that rises"),
    "another test": (["space=[geometry.height=choice(64,128)]"], "expected settings of model or trainer"),
    "seeds": (["space=[model.seed=choice(0,1)]"], "expected settings of model or trainer"),
    "settings of one of several models": (
        ["space=[model=choice(patchcore,subspace),model.top_share=interval(0.1,0.2)]"],
        "expected no model.top_share beside model",
    ),
    "stages that choose themselves": (["model.stages=auto", "space=[model.bank_size=choice(8,9)]"], "stages=auto"),
    "trials": (["trials=0"], "trials: expected 1 to 10000, got 0"),
    "sampler": (["sampler=best"], "sampler: expected one of tpe, random, got 'best'"),
    "jobs": (["jobs=0"], "jobs: expected 1 to 64, got 0"),
    "folds": (["folds=2"], "folds: scripts/train.py alone takes it"),
    "run name": (["run_name=a"], "run_name: a sweep names its trials itself"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_before_anything_is_read(name: str) -> None:
    arguments, message = MISTAKES[name]
    with pytest.raises(ConfigError, match=message) as caught:
        plan_of(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", sorted(path.stem for path in (PROJECT / "configs/search").glob("*.yaml")))
def test_a_model_brings_its_own_space(model: str) -> None:
    plan = plan_of(f"model={model}", "trials=5")
    assert len(plan.dimensions) >= 3
    assert plan.shared == ("data.root=x", f"model={model}")
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        first = plan.trial_config({d.key: d.choices[0] if d.choices else d.low for d in plan.dimensions})
    assert first.model.name == model


def test_what_is_typed_is_what_is_searched() -> None:
    space = ["model.a=choice([1,2],x)", "model.b=int(interval(1,9))", "model.c=range(2,9,3)", "trainer.d=interval(1,2)"]
    assert read_space(space) == (
        Dimension(key="model.a", choices=("[1,2]", "x")),
        Dimension(key="model.b", low=1, high=9),
        Dimension(key="model.c", low=2, high=8, step=3),
        Dimension(key="trainer.d", low=1.0, high=2.0),
    )


def driven(plan: SweepPlan, folder: Path, *, calls: int) -> list[dict[str, Any]]:
    """Drive a study to its end in several calls, each but the last one killed with its trials drawn but not told."""
    folder.mkdir(exist_ok=True)
    for call in range(calls):
        study = open_study(plan, folder, "images")
        num_batches = 0
        while batch := next_batch(plan, study):
            num_batches += 1
            if call + 1 < calls and num_batches == 4:
                break
            for trial in batch:
                share = trial.params["model.top_share"]
                tell(study, trial.number, None if trial.number == 2 else -((share - 0.05) ** 2))
    return [trial.params for trial in study.get_trials()]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_sweep_that_was_killed_tries_what_it_would_have_tried(tmp_path: Path, jobs: int) -> None:
    plan = plan_of(SPACE, "trials=12", f"jobs={jobs}")
    at_once, in_parts = driven(plan, tmp_path / "a", calls=1), driven(plan, tmp_path / "b", calls=3)
    assert len(at_once) == 12
    assert in_parts == at_once
    assert len({repr(params) for params in at_once}) == 12
