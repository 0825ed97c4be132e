"""Every YAML composes and becomes objects; every mistake in a setting is one line, exit code 2, and costs nothing."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import MISSING, OmegaConf
from torch import nn

from tests.conftest import PROJECT, Programs, make_image_set
from zellige.config import CalibrationConfig, GeometryConfig, make_fabric, register_schemas, to_geometry, to_target
from zellige.config_data import FractionsConfig, WebConfig, to_pixel_size
from zellige.config_labels import LabelsConfig, PicturesConfig
from zellige.config_models import (
    BoxDetectorConfig,
    ClassifierConfig,
    DinomalyConfig,
    EfficientAdConfig,
    GradientConfig,
    OnePassConfig,
    PadimConfig,
    PatchCoreConfig,
    ReferencePairConfig,
    SegmenterConfig,
    SubspaceConfig,
    SuperSimpleNetConfig,
    SupervisedConfig,
    build,
)
from zellige.config_naming import NamingConfig
from zellige.config_rolls import RollsConfig
from zellige.config_screen import ScreenConfig
from zellige.core.errors import ConfigError
from zellige.core.types import Geometry, PixelSize
from zellige.data.augment import Augment
from zellige.data.prepare_labels import prepare_labels
from zellige.data.roll_of_pictures import Deal, write_rolls
from zellige.data.roll_tiles import RollTiles
from zellige.data.splits import Fractions
from zellige.data.synthetic import SyntheticWeb
from zellige.evaluation.calibrate import Target
from zellige.models.box_detector import BoxDetector
from zellige.models.classifier import Classifier
from zellige.models.detector import GradientDetector, OnePassDetector, SupervisedDetector
from zellige.models.dinomaly import Dinomaly
from zellige.models.efficient_ad import EfficientAd
from zellige.models.named_detector import NamedDetector
from zellige.models.padim import Padim
from zellige.models.patchcore import PatchCore
from zellige.models.reference_pair import ReferencePair
from zellige.models.segmenter import Segmenter
from zellige.models.subspace import Subspace
from zellige.models.super_simple_net import SuperSimpleNet
from zellige.training import gradient, one_pass, supervised
from zellige.training.learn_names import learn_names
from zellige.training.learn_screen import learn_screen
from zellige.training.recipe import Recipe
from zellige.training.supervised_recipe import SupervisedRecipe

CONFIGS = PROJECT / "configs"
PROGRAMS = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
OPTIONS = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("[!l]*/*.yaml"))


def composed(name: str, *overrides: str) -> Any:
    register_schemas()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return OmegaConf.to_object(compose(name, list(overrides)))


def test_the_options_are_found() -> None:
    assert PROGRAMS == [
        "compare",
        "export_run",
        "extend_run",
        "mine_run",
        "name_kinds",
        "prepare_data",
        "roll_of_pictures",
        "suggest",
        "sweep",
        "train",
    ]
    assert {"data/folder", "experiment/demo", "geometry/tiles", "model/patchcore", "model/subspace"} <= set(OPTIONS)


@pytest.mark.parametrize(
    ("schema", "built"),
    [
        (FractionsConfig, Fractions),
        (WebConfig, SyntheticWeb),
        (PatchCoreConfig, PatchCore),
        (SubspaceConfig, Subspace),
        (PadimConfig, Padim),
        (SuperSimpleNetConfig, SuperSimpleNet),
        (BoxDetectorConfig, BoxDetector),
        (ReferencePairConfig, ReferencePair),
        (DinomalyConfig, Dinomaly),
        (EfficientAdConfig, EfficientAd),
        (SegmenterConfig, Segmenter),
        (ClassifierConfig, Classifier),
        (GradientConfig, Recipe),
        (GradientConfig, gradient.fit),
        (SupervisedConfig, SupervisedRecipe),
        (OnePassConfig, one_pass.fit),
        (GeometryConfig, Geometry),
        (CalibrationConfig, Target),
        (LabelsConfig, prepare_labels),
        (ScreenConfig, learn_screen),
        (NamingConfig, NamedDetector),
        (NamingConfig, learn_names),
        (RollsConfig, RollTiles),
        (PicturesConfig, Deal),
        (PicturesConfig, write_rolls),
    ],
)
def test_a_schema_has_the_defaults_of_what_it_builds(schema: type, built: type) -> None:
    parameters = inspect.signature(built).parameters
    shared = [f for f in fields(schema) if f.name in parameters and f.default is not MISSING]
    assert shared
    for f in shared:
        default = parameters[f.name].default
        if default is not inspect.Parameter.empty and isinstance(default, int | float | str | tuple | None):
            ours = f.default_factory() if callable(f.default_factory) else f.default
            assert (tuple(ours) if isinstance(ours, list) else ours) == default, f.name


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_becomes_objects(option: str) -> None:
    group, name = option.split("/")
    program = "sweep" if group == "search" else "train"
    needed = ["data.pixel_size_mm=0.2", "data.rolls.source=y"] if option == "data/roll" else []
    config = composed(program, f"{group}={name}", "data.root=x", *needed)
    to_geometry(config.geometry)
    to_target(config.calibration)
    to_pixel_size(config.data.pixel_size_mm)
    Fractions(**vars(config.data.fractions))
    Augment(config.data.augment, seed=config.seed)
    if config.data.web is not None:
        SyntheticWeb(**vars(config.data.web), pixel_size=to_pixel_size(config.data.pixel_size_mm))
    make_fabric(config.engine, seed=config.seed)
    detector = build(config.model)
    assert isinstance(detector, nn.Module)
    wanted: Any = {
        one_pass.fit: OnePassDetector,
        gradient.fit: GradientDetector,
        supervised.fit: SupervisedDetector,
    }[build(config.trainer).func]
    if group != "trainer":
        assert isinstance(detector, wanted)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("train", ["data.root=x"]),
        ("compare", ["data.root=x"]),
        ("sweep", ["data.root=x"]),
        ("prepare_data", ["data.root=x"]),
        ("export_run", ["run=x"]),
        ("extend_run", ["run=x", "added=y"]),
        ("mine_run", ["run=x", "roll=y", "out=z"]),
        ("name_kinds", ["run=x"]),
        ("roll_of_pictures", ["labels.root=x", "out=y"]),
        ("suggest", ["run=x", "images=y", "out=z"]),
    ],
)
def test_every_program_composes(name: str, overrides: list[str]) -> None:
    composed(name, *overrides)


def test_many_runs_have_the_settings_of_one() -> None:
    """What can be set for one run can be set for all runs of a comparison and for all trials of a sweep."""
    groups = []
    for name in ("train", "compare", "sweep"):
        listed: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml").defaults, resolve=False)
        groups.append({next(iter(entry)) for entry in listed if isinstance(entry, dict)} - {"optional search"})
    assert groups[0] == groups[1] == groups[2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0.1, PixelSize(cross_web_mm=0.1, down_web_mm=0.1)),
        (2, PixelSize(cross_web_mm=2.0, down_web_mm=2.0)),
        ([0.1, 0.2], PixelSize(cross_web_mm=0.1, down_web_mm=0.2)),
    ],
)
def test_pixel_size(value: Any, expected: PixelSize | None) -> None:
    assert to_pixel_size(value) == expected


@pytest.mark.parametrize("value", ["0.1", "0.1x0.2", True, [], [1, 2, 3], [0.1, None], {"cross": 1}, 0, -1, 1e9])
def test_pixel_size_of_a_wrong_kind(value: Any) -> None:
    with pytest.raises(ConfigError, match="pixel"):
        to_pixel_size(value)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_set(tmp_path_factory.mktemp("few") / "images", num=(6, 6, 2, 2))


MISTAKES = {
    # at composition
    "misspelt key": (["model.bank_sise=8"], "bank_sise"),
    "misspelt group": (["modell=patchcore"], "modell"),
    "unknown option": (["geometry=cube"], "Could not find 'geometry/cube'"),
    "unknown experiment": (["experiment=nothing"], "Could not find 'experiment/nothing'"),
    "text for a number": (["geometry.height=tall"], "geometry.height"),
    "text for yes or no": (["geometry.pad_small=perhaps"], "pad_small"),
    "no sense at all": (["model.stages=[2,"], "config: model.stages=[2,: "),
    "mandatory value": (["data.root=???"], "config: data.root: expected a value, got none"),
    "null where a number must be": (["seed=null"], "seed"),
    # at the first step, before any image is read
    "number for stages": (["model.stages=2"], "model.stages: expected ascending numbers from 0 to 4"),
    "misspelt auto": (["model.stages=atuo"], "such as [1,2,3], or auto, got 'atuo'"),
    "stage that is not there": (["model.stages=[1,5]"], "model.stages: expected ascending numbers from 0 to 4"),
    "stages out of order": (["model.stages=[3,1]"], "or auto, got [3, 1]"),
    "no stage": (["model.stages=[]"], "or auto, got []"),
    "stage of text": (["model.stages=[a]"], "or auto, got ['a']"),
    "foreign target": (["model._target_=os.system"], "_target_: expected one that begins with zellige.models."),
    "absent target": (["model._target_=zellige.models.patchcore.Nothing"], "zellige.models.patchcore.Nothing"),
    "foreign trainer": (["trainer._target_=subprocess.run"], "_target_: expected one that begins with"),
    "seed": (["seed=-1"], "seed: expected 0 to 4294967295, got -1"),
    "screen of kinds": (
        ["model=segmenter", "trainer=supervised", "geometry=tiles", "screen=cells"],
        "screen.method=cells: expected none with a model that learns kinds",
    ),
    "split seed": (["data.split_seed=-3"], "data.split_seed: expected 0 or more, got -3"),
    "geometry out of range": (["geometry.height=16"], "geometry height: expected 32 to 4096 px, got 16"),
    "geometry that contradicts itself": (["geometry.overlap_px=4"], "overlap_px and pad_small belong to tiles"),
    "unknown mode": (["geometry.mode=cubes"], "geometry.mode: expected one of resize, tiles"),
    "polygon with two corners": (["geometry.ignore=[{polygon:[[0,0],[9,9]]}]"], "expected 3 to 1000 corners, got 2"),
    "absent ignore mask": (["geometry.ignore_mask=none.png"], "none.png"),
    "unknown accelerator": (["engine.accelerator=abacus"], "engine.accelerator: 'abacus' cannot be used"),
    "threads": (["engine.num_threads=0"], "engine.num_threads: expected at least 1, got 0"),
    "batch": (["engine.batch_size=0"], "engine.batch_size: expected at least 1, got 0"),
    "rate": (["calibration.false_reject_rate=1.5"], "false_reject_rate: expected a number in (0, 1), got 1.5"),
    "no rate": (["calibration.false_reject_rate=null"], "expected false_reject_rate, escape_rate or both"),
    "pixel size of text": (["data.pixel_size_mm=fine"], "data.pixel_size_mm: expected one or two numbers in mm"),
    "three pixel sizes": (["data.pixel_size_mm=[1,2,3]"], "data.pixel_size_mm: expected one or two numbers in mm"),
    "run name with a slash": (["run_name=a/b"], "run_name: expected letters"),
    "hidden run name": (["run_name=.a"], "run_name: expected letters"),
    "empty run name": (["run_name=''"], "run_name"),
    "fractions": (["data.fractions.train=0.9"], "fractions: expected train > 0"),
    "color": (["data.color=green"], "data color: expected one of"),
    "layout": (["data.layout=heap"], "data layout: expected one of"),
    "duplicates": (["data.duplicates=perhaps"], "data duplicates: expected one of"),
    # before the fit
    "augmentation": (
        ["data.augment=wild"],
        "data.augment: expected one of none, flips, turns, line, jitter, jitter_turns, labelled, labelled_turns, got",
    ),
    "shots": (["trainer.num_shots=7"], "trainer.num_shots: expected null (all) or 1 to 6, the good training images"),
    "copies that are all the same": (["trainer.augmented_copies=2"], "expected a data.augment that changes the copies"),
    "places in tiles": (
        ["geometry=tiles", "model.position_radius=2"],
        "model.position_radius=2: expected geometry=resize, got geometry=tiles",
    ),
    "both areas": (
        ["calibration.min_area_px=4", "calibration.min_area_mm2=1", "data.pixel_size_mm=0.1"],
        "min_area_mm2 and min_area_px are both set",
    ),
    "area in mm without a pixel size": (["calibration.min_area_mm2=1"], "expected a pixel size for every sample"),
    "negative area": (["calibration.min_area_px=-1"], "min_area_px: expected a number >= 0, got -1"),
    "too few": (["calibration.on_too_few=guess"], "on_too_few: expected widen or error, got 'guess'"),
    "too few, and that is an error": (["calibration.on_too_few=error"], "n=6 is too small"),
    "pixel false alarms": (["calibration.pixel_false_alarm=0"], "pixel_false_alarm: expected a number in (0, 1)"),
    "severity": (
        ["calibration.kind_rules=[{kind: hole, severity: fatal}]"],
        "calibration.kind_rules[0].severity: expected one of critical, major, minor, ignore, got 'fatal'",
    ),
    "size of what is critical": (
        ["calibration.kind_rules=[{kind: hole, severity: critical, min_area_px: 4}]"],
        "calibration.kind_rules of 'hole': expected no minimum size with critical, got min_area_px",
    ),
    "rule for a model that names none": (
        ["calibration.kind_rules=[{kind: hole}]"],
        "calibration.kind_rules: expected a model that names kinds, got one without, and a rule for 'hole'",
    ),
    "misspelt rule": (["calibration.kind_rules=[{kind: hole, sevrity: minor}]"], "sevrity"),
    "tolerance": (["export.score_tolerance=2"], "export.score_tolerance: expected a number in [0, 1), got 2"),
    "golden": (["export.num_golden=0"], "export.num_golden: expected 1 to 256, got 0"),
    "tile larger than the images": (
        ["geometry=tiles", "geometry.height=256", "geometry.width=256"],
        "expected images of at least one tile of 256 x 256 px",
    ),
    "region outside of the images": (
        ["geometry.ignore=[{columns:[0,200]}]"],
        "geometry.ignore columns [0, 200] px: expected it inside the frame of 96 x 112 px",
    ),
    "region over all": (["geometry.ignore=[{columns:[0,112]}]"], "expected something left to inspect"),
    "bank": (["model.bank_size=0"], "error: bank_size: expected 1 to 1000000, got 0"),
    "neighbors": (["model.reweight_neighbors=1"], "reweight_neighbors: expected 0 (off) or 2 to 64, got 1"),
    "explained variance": (["model=subspace", "model.variance=1"], "variance: expected a number in (0, 1), got 1.0"),
    "dimensions": (["model=padim", "model.num_dims=0"], "num_dims: expected 1 to 256, got 0"),
    "setting of another model": (["model=subspace", "model.bank_size=8"], "bank_size"),
    "backbone": (["model.backbone=vgg"], "backbone: expected one of efficientnet_lite0, efficientnet_lite1, "),
    "backbone of a library": (["model.backbone=timm:vgg"], "expected the name of a model after timm:, got 'vgg'"),
    "weights that are not there": (
        ["model.backbone=timm:test_resnet@/no/such.pth"],
        "backbone weights /no/such.pth: cannot be read (No such file or directory)",
    ),
    "auto for one grid": (
        ["model=dinomaly", "model.stages=auto"],
        "expected a list such as [3], got auto, which dinomaly",
    ),
    "stages of several grids": (
        ["model=dinomaly", "model.stages=[2,3]"],
        "dinomaly: expected stages of one grid and width",
    ),
    "trainer's batch": (["trainer.batch_size=0"], "trainer.batch_size: expected at least 1, got 0"),
    "share to drop": (["trainer.drop_suspicious=0.6"], "trainer.drop_suspicious: expected 0 to 0.5, got 0.6"),
    "share to drop of a fit by gradient": (
        ["model=super_simple_net", "trainer.drop_suspicious=0.1"],
        "drop_suspicious",
    ),
    "gradient's batch": (["model=super_simple_net", "trainer.batch_size=0"], "trainer.batch_size: expected 1 or more"),
    "one pass for a net": (
        ["model=super_simple_net", "trainer=one_pass"],
        "SuperSimpleNet does not learn in one pass, expected trainer=gradient, got trainer=one_pass",
    ),
    "gradient for a bank": (["trainer=gradient"], "PatchCore does not learn by gradient, expected trainer=one_pass"),
    "setting of the other trainer": (["trainer.epochs=3"], "epochs"),
    "precision": (["engine.precision=8"], "engine.precision: expected one of 32-true, bf16-mixed, got"),
    "one fold": (["folds=1"], "folds: expected 2 to 100, got 1"),
    "folds of declared splits": (
        ["folds=2"],
        "expected images without splits, which the folds deal, got declared splits",
    ),
    "fold that is not there": (["data.fold=[6,5]"], "data.fold: expected a number from 1 to 5, got 6"),
    "half a fold": (["data.fold=[2]"], "data.fold: expected its number and how many there are, such as [1,5], got [2]"),
    # before anything is read
    "too long a warm-up": (
        ["model=classifier", "trainer.epochs=1", "data.root=nowhere"],
        "trainer.warmup_epochs: expected fewer than the 1 epochs, got 1",
    ),
    "share to drop, of no images": (
        ["trainer.drop_suspicious=0.6", "data.root=nowhere"],
        "trainer.drop_suspicious: expected 0 to 0.5, got 0.6",
    ),
    "shares of defects": (["data.fractions.train_defects=1"], "fractions train_defects: expected 0 to below 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_setting_is_one_line(programs: Programs, images: Path, tmp_path: Path, name: str) -> None:
    overrides, message = MISTAKES[name]
    line = programs.run(
        "train.py", "tracking.enabled=false", f"data.root={images}", *overrides, folder=tmp_path
    ).mistake()
    assert message in line
    assert not list(tmp_path.rglob("*.*"))
    assert not list(tmp_path.glob("runs/*"))


def test_a_setting_is_refused_before_the_tracking_store_is_made(
    programs: Programs, images: Path, tmp_path: Path
) -> None:
    programs.run("train.py", f"data.root={images}", "geometry.height=16", folder=tmp_path).mistake()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["train.py", "prepare_data.py", "compare.py", "sweep.py"])
def test_help(programs: Programs, script: str) -> None:
    ended = programs.run(script, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"python scripts/{script} data=folder data.root=DIR" in ended.out
    assert "duplicates: group" in ended.out


def test_the_composed_settings_can_be_shown(programs: Programs) -> None:
    ended = programs.run("train.py", "--cfg", "job", "data.root=x")
    assert (ended.code, ended.err) == (0, "")
    assert "_target_: zellige.models.patchcore.PatchCore" in ended.out


def test_a_model_chooses_its_trainer_and_the_command_line_wins() -> None:
    def trainer(*overrides: str) -> Any:
        return type(composed("train", "data.root=x", *overrides).trainer)

    assert trainer() is OnePassConfig
    assert trainer("model=super_simple_net") is GradientConfig
    assert trainer("model=super_simple_net", "trainer=one_pass") is OnePassConfig
    assert composed("train", "data.root=x", "model=super_simple_net", "seed=7", "trainer.epochs=3").trainer == (
        GradientConfig(epochs=3, seed=7, rank_suspicious=True)
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("opposites", {"mousebite": "spur", "pin-hole": "copper"}),
        ("marks", {"light": ["pin-hole", "mousebite", "open"], "dark": ["copper", "spur", "short"]}),
    ],
)
def test_settings_that_name_kinds_are_added_on_the_command_line_as_the_guide_says(
    setting: str, value: dict[str, Any]
) -> None:
    given = str(value).replace("'", "")
    trainer = composed("train", "experiment=deeppcb", f"+trainer.{setting}={given}").trainer
    assert getattr(trainer, setting) == value
