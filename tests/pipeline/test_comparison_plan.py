"""From the command line of a comparison to its training runs, composed by the real Hydra, without running any."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from tests.conftest import PROJECT
from zellige.comparison_plan import Plan, make_plan, quote_list
from zellige.config import register_schemas
from zellige.config_models import PatchCoreConfig
from zellige.core.errors import ConfigError
from zellige.evaluation.recommendation import Budget

CONFIGS = PROJECT / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


def plan_of(*arguments: str) -> Plan:
    given = [quote_list(argument) for argument in ("data.root=x", *arguments)]
    register_schemas()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config: Any = OmegaConf.to_object(compose("compare", given))
        return make_plan(config, given)


@pytest.mark.parametrize(
    ("typed", "entries"),
    [
        ("models=[patchcore]", ["patchcore"]),
        ("models=[a,b+model.stages=[2,3]]", ["a", "b+model.stages=[2,3]"]),
        (r"models=[a,b+model.stages=[2\,3]]", ["a", "b+model.stages=[2,3]"]),
        ("models=['a', \"b+x.y={c: [1, 2]}\" , c]", ["a", "b+x.y={c: [1, 2]}", "c"]),
        ("models=[a+x.y=it's]", ["a+x.y=it's"]),
        ("models=[]", []),
        ("candidates.fast=[model.bank_size=512,geometry=tiles]", ["model.bank_size=512", "geometry=tiles"]),
        ("+candidates.fast-1=[]", []),
    ],
)
def test_lists_of_settings_reach_hydra_as_they_were_meant(typed: str, entries: list[str]) -> None:
    (override,) = OverridesParser.create().parse_overrides([quote_list(typed)])
    assert [str(entry) for entry in override.value()] == entries


@pytest.mark.parametrize(
    "argument", ["models=all", "data.root=/a/models=[x]", "seeds=[0,1]", "--help", "model=patchcore"]
)
def test_everything_else_is_left_alone(argument: str) -> None:
    assert quote_list(argument) == argument


def test_every_run_is_composed_with_what_all_share_and_what_is_its_own() -> None:
    plan = plan_of(
        "models=[patchcore+model.stages=[2,3]+model.bank_size=64]",
        "candidates.fine=[geometry=tiles,geometry.overlap_px=32]",
        "geometry=resize",
        "engine.batch_size=3",
        "seeds=[4,9]",
        "name=n",
        "budget.mp_per_s=2.5",
    )
    assert list(plan.candidates) == ["patchcore-stages_2_3-bank_size_64", "fine"]
    assert [(child.run_name, child.seed) for child in plan.children] == [
        ("n-patchcore-stages_2_3-bank_size_64-s4", 4),
        ("n-patchcore-stages_2_3-bank_size_64-s9", 9),
        ("n-fine-s4", 4),
        ("n-fine-s9", 9),
    ]
    assert plan.budget == Budget(mp_per_s=2.5)
    first, last = plan.children[0], plan.children[-1]
    assert (first.config.model.stages, first.config.model.bank_size) == ([2, 3], 64)
    assert (first.config.geometry.mode, last.config.geometry.mode) == ("resize", "tiles")
    assert (last.config.geometry.overlap_px, last.config.model.bank_size) == (32, PatchCoreConfig().bank_size)
    for child in plan.children:
        seeds = {child.config.seed, child.config.model.seed, child.config.trainer.seed}
        assert seeds == {child.seed}
        assert (child.config.engine.batch_size, child.config.data.split_seed) == (3, 0)
        assert child.config.tracking.registered_model is None
        assert child.settings["run_name"] == child.config.run_name == child.run_name


def test_a_candidate_may_hold_its_own_seed_still() -> None:
    plan = plan_of("candidates.a=[model.seed=5]", "seeds=[1,2]")
    assert [child.config.model.seed for child in plan.children] == [5, 5]


def test_the_models_that_there_are_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learn_from_labels = {"box_detector", "classifier", "reference_pair", "segmenter"}
    assert list(plan_of("models=all").candidates) == [name for name in MODELS if name not in learn_from_labels]
    assert list(plan_of().candidates) == ["patchcore"]
    assert list(plan_of("models=patchcore", "seeds=[0]").candidates) == ["patchcore"]
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_its_own_comes_from_the_data() -> None:
    assert plan_of("data.name='Floor (2)'").name == "Floor_2-comparison"


def test_an_experiment_holds_for_all() -> None:
    plan = plan_of("experiment=magnetic_tile_tiles", "models=[patchcore]", "candidates.b=[model.bank_size=8]")
    assert {child.config.geometry.height for child in plan.children} == {224}


MISTAKES = {
    "unknown model": (["models=[patchcore,best]"], "models: expected all or some of .*patchcore.*, got 'best'"),
    "no models": (["models=[]"], "models: expected at least one of .*patchcore"),
    "a number for a model": (["models=3"], "models: expected names of models"),
    "no seeds": (["seeds=[]"], "seeds: expected at least one"),
    "a seed twice": (["seeds=[1,1]"], r"seeds: expected different whole numbers .* got \[1, 1\]"),
    "a negative seed": (["seeds=[-1]"], "seeds: expected different whole numbers from 0"),
    "jobs": (["jobs=0"], "jobs: expected 1 to 64, got 0"),
    "budget of nothing": (["budget.ms_per_frame=0"], "budget.ms_per_frame: expected a number above 0 or null, got 0"),
    "negative budget": (["budget.mp_per_s=-1"], "budget.mp_per_s: expected a number above 0 or null, got -1"),
    "name of a folder above": (["name=../a"], "name: expected letters, digits"),
    "empty name": (["name=''"], "name: expected letters, digits"),
    "name of a candidate": (["candidates.a/b=[]"], "."),
    "too long a name": ([f"name={'x' * 95}"], "candidate patchcore: run name: expected letters"),
    "a candidate twice": (["models=[patchcore]", "candidates.patchcore=[]"], "got patchcore twice"),
    "misspelt key": (["candidates.a=[model.bank_sise=8]"], "candidate a: .*bank_sise"),
    "misspelt group": (["candidates.a=[geometri=tiles]"], "candidate a: .*geometri"),
    "no setting": (["candidates.a=[tiles]"], "candidate a: tiles: expected a setting such as"),
    "text for a number": (["candidates.a=[model.bank_size=many]"], "candidate a: .*many"),
    "other data": (["candidates.a=[]", "candidates.b=[data.root=y]"], "candidate b: data.root: expected 'x'.*got 'y'"),
    "other store": (["candidates.a=[]", "candidates.b=[tracking.store=y]"], "candidate b: tracking and runs_dir"),
    "other folder": (["candidates.a=[runs_dir=y]"], "candidate a: tracking and runs_dir"),
    "seed of a candidate": (["candidates.a=[seed=1]"], "candidate a: seed: a comparison sets it"),
    "seed": (["seed=1"], r"seed: a comparison sets it; give seeds=\[...\]"),
    "folds": (["folds=2"], "folds: scripts/train.py alone takes it"),
    "run name": (["run_name=a"], "run_name: a comparison names its runs itself"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_before_anything_runs(name: str) -> None:
    arguments, message = MISTAKES[name]
    with pytest.raises(Exception, match=message) as caught:
        plan_of(*arguments)
    if name != "name of a candidate":  # Hydra's own grammar refuses that
        assert isinstance(caught.value, ConfigError)
        assert "\n" not in str(caught.value)
