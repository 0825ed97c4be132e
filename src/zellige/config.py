"""The schema of the Hydra groups (models and trainers: config_models.py), and the step to typed objects."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from hydra.core.config_store import ConfigStore
from hydra.utils import get_class, instantiate
from lightning_fabric import Fabric, seed_everything
from omegaconf import MISSING, OmegaConf

from zellige.config_extend import ExtendConfig
from zellige.config_ignore import read_ignore_mask, to_foreground, to_ignore
from zellige.config_kind_rules import KindRuleConfig, to_kind_rules
from zellige.config_labels import LabelsConfig
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
)
from zellige.config_rolls import MineConfig, RollsConfig, cut_rolls
from zellige.config_screen import ScreenConfig
from zellige.config_suggest import SuggestConfig
from zellige.core.errors import ConfigError
from zellige.core.types import Geometry, GeometryMode, PixelSize, Registration, Splits
from zellige.data.additions import add_images
from zellige.data.index import Rules, place
from zellige.data.pairs import with_templates, without_templates
from zellige.data.report import DataReport
from zellige.data.resolution import check_resolution, coarsest_pixel_size
from zellige.data.splits import Fractions
from zellige.data.synthetic import SyntheticWeb, make_synthetic_set
from zellige.evaluation.calibrate import Target
from zellige.training.processes import group_settings, is_lost_process, join_group

PROJECT = Path(__file__).resolve().parents[2]
TARGET_PREFIXES = ("zellige.models.", "zellige.training.")
Precision = Literal["32-true", "bf16-mixed"]


@dataclass
class FractionsConfig:
    """See zellige.data.splits.Fractions."""

    train: float = 0.6
    val: float = 0.2
    test: float = 0.2
    val_defects: float = 0.0
    train_defects: float = 0.0


@dataclass
class WebConfig:
    """Settings of the synthetic web; see zellige.data.synthetic.SyntheticWeb."""

    material: str = "zellige"
    height: int = 384
    width: int = 512
    num_train_good: int = 80
    num_val_good: int = 64
    num_test_good: int = 40
    num_defective: int = 10
    num_rolls: int = 8
    seed: int = 0
    color: str = "rgb"


@dataclass
class DataConfig:
    """Where images come from and how they are read and split."""

    name: str = MISSING
    layout: str = MISSING
    root: str = MISSING
    color: str = "as_stored"
    pixel_size_mm: Any = None
    duplicates: str = "group"
    on_bad: str = "error"
    augment: str = "none"
    additions: list[str] = field(default_factory=list)  # see zellige.data.additions
    split_seed: int = 0
    fractions: FractionsConfig = field(default_factory=FractionsConfig)
    web: WebConfig | None = None
    rolls: RollsConfig | None = None
    smallest_defect_mm: float | None = None


@dataclass
class GeometryConfig:
    """What the net sees of a frame; see zellige.core.types.Geometry."""

    mode: str = MISSING
    height: int = 256
    width: int = 256
    overlap_px: int = 0
    pad_small: bool = False
    ignore: Any = field(default_factory=list)
    ignore_mask: str | None = None
    foreground: str = "none"
    registration: str = "none"
    search_px: int = 8


@dataclass
class EngineConfig:
    """Where and with how many threads the net runs."""

    accelerator: str = "cpu"
    num_threads: int | None = None
    batch_size: int = 8
    keep_maps: bool = False
    precision: str = "32-true"
    compile: bool = False


@dataclass
class CalibrationConfig:
    """The operating point that is asked for; see zellige.evaluation.calibrate."""

    false_reject_rate: float | None = 0.05
    escape_rate: float | None = None
    delta: float = 0.05
    min_area_mm2: float | None = None
    min_area_px: float | None = None
    pixel_false_alarm: float = 0.001
    on_too_few: str = "widen"
    kind_rules: list[KindRuleConfig] = field(default_factory=list)

    def rules(self) -> dict[str, Any]:
        """Return the arguments of `calibrate` besides the target."""
        rules = ("min_area_mm2", "min_area_px", "pixel_false_alarm", "on_too_few")
        return {**{name: getattr(self, name) for name in rules}, "kind_rules": to_kind_rules(self.kind_rules)}


@dataclass
class TrackingConfig:
    """Where MLflow keeps the runs."""

    enabled: bool = True
    store: str = "mlruns"
    experiment: str = "${data.name}"
    registered_model: str | None = "${data.name}"


@dataclass
class ExportConfig:
    """How close ONNX Runtime must come to torch, and how many golden frames travel along."""

    score_tolerance: float = 1e-3
    pixel_size_tolerance: float = 0.02
    num_golden: int = 4
    template: str | None = None


@dataclass
class TrainConfig:
    """One training run, from images to a bundle."""

    run_name: str | None = None
    runs_dir: str = "runs"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    model: Any = MISSING
    trainer: Any = MISSING
    engine: EngineConfig = field(default_factory=EngineConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)


@dataclass
class BudgetConfig:
    """What the line allows; see zellige.evaluation.recommendation.Budget."""

    ms_per_frame: float | None = None
    mp_per_s: float | None = None


@dataclass
class CompareConfig(TrainConfig):
    """Many training runs on one data set: every setting of a run, and which candidates and seeds."""

    name: str | None = None
    models: Any = None
    candidates: dict[str, list[str]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    jobs: int = 1


@dataclass
class SweepConfig(TrainConfig):
    """Many trials on one data set: every setting of a run, and what is searched; see zellige.sweep_space."""

    name: str | None = None
    space: list[str] = field(default_factory=list)
    trials: int = 30
    sampler: str = "tpe"
    jobs: int = 1


@dataclass
class RunConfig:
    """A program that works on a finished run folder."""

    run: str = MISSING
    out: str | None = None


@dataclass
class PrepareConfig:
    """Reading and reporting on a data set without training; with labels.root, labels in the formats of others."""

    out: str = "outputs/${data.name}"
    data: DataConfig = field(default_factory=DataConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    geometry: GeometryConfig = field(default_factory=GeometryConfig)


def register_schemas() -> None:
    """Make the schemas known to Hydra, so that a misspelt or ill-typed key fails at composition.

    `${last:PATH}` in a config is `last_part(PATH)`.
    """
    OmegaConf.register_new_resolver("last", last_part, replace=True)
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="compare_schema", node=CompareConfig)
    store.store(name="sweep_schema", node=SweepConfig)
    store.store(name="run_schema", node=RunConfig)
    store.store(name="extend_schema", node=ExtendConfig)
    store.store(name="mine_schema", node=MineConfig)
    store.store(name="suggest_schema", node=SuggestConfig)
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(group="model", name="patchcore_schema", node=PatchCoreConfig)
    store.store(group="model", name="subspace_schema", node=SubspaceConfig)
    store.store(group="model", name="padim_schema", node=PadimConfig)
    store.store(group="model", name="super_simple_net_schema", node=SuperSimpleNetConfig)
    store.store(group="model", name="dinomaly_schema", node=DinomalyConfig)
    store.store(group="model", name="efficient_ad_schema", node=EfficientAdConfig)
    store.store(group="model", name="box_detector_schema", node=BoxDetectorConfig)
    store.store(group="model", name="reference_pair_schema", node=ReferencePairConfig)
    store.store(group="model", name="segmenter_schema", node=SegmenterConfig)
    store.store(group="model", name="classifier_schema", node=ClassifierConfig)
    store.store(group="trainer", name="one_pass_schema", node=OnePassConfig)
    store.store(group="trainer", name="gradient_schema", node=GradientConfig)
    store.store(group="trainer", name="supervised_schema", node=SupervisedConfig)


def last_part(path: str) -> str:
    """Name a data set by the last part of its path, without .csv; MLflow takes neither / nor : in a name.

    Example:
        >>> last_part("/data/rolls/floor 2/"), last_part("sets/a:b.csv")
        ('floor 2', 'a-b')
    """
    name = Path(os.path.abspath(str(path))).name.removesuffix(".csv")  # noqa: PTH100  resolve() would follow links
    return name.replace(":", "-") or "data"


def build(node: Any, **more: Any) -> Any:
    """Instantiate a typed config node that has a `_target_` of ours; its `name` is for people and is left out.

    Raises:
        ConfigError: the target lies outside zellige's models and trainers.
    """
    settings = {key: value for key, value in vars(node).items() if key != "name"}
    _check_target(settings["_target_"])
    return instantiate(settings, **more)


def _class_of(node: Any) -> Any:
    _check_target(node._target_)
    try:
        return get_class(str(node._target_))
    except ImportError:
        raise ConfigError(f"_target_: expected a class of zellige, got {node._target_}, which there is not") from None


def _check_target(target: object) -> None:
    if not str(target).startswith(TARGET_PREFIXES):
        raise ConfigError(f"_target_: expected one that begins with {' or '.join(TARGET_PREFIXES)}, got {target}")


def make_fabric(config: EngineConfig, *, seed: int = 0) -> Fabric:
    """Set the seed of every random generator and the number of threads, and make the engine.

    It spans the processes that torchrun started, and meets them.

    Raises:
        ConfigError: an unknown or absent accelerator, or a number out of range.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: expected 0 to {2**32 - 1}, got {seed}")
    seed_everything(seed, verbose=False)
    if config.batch_size < 1:
        raise ConfigError(f"engine.batch_size: expected at least 1, got {config.batch_size}")
    if config.precision not in get_args(Precision):
        raise ConfigError(
            f"engine.precision: expected one of {', '.join(get_args(Precision))}, got {config.precision!r}"
        )
    if config.num_threads is not None:
        if config.num_threads < 1:
            raise ConfigError(f"engine.num_threads: expected at least 1, got {config.num_threads}")
        torch.set_num_threads(config.num_threads)
    try:
        precision = cast(Precision, config.precision)
        return join_group(Fabric(accelerator=config.accelerator, precision=precision, **group_settings()))
    except (ValueError, RuntimeError) as error:
        if is_lost_process(error):
            raise
        raise ConfigError(f"engine.accelerator: {config.accelerator!r} cannot be used: {error}") from None


def to_pixel_size(value: Any, key: str = "data.pixel_size_mm") -> PixelSize | None:
    """Turn the setting `key` (null, a number, or [cross_web, down_web]) into a pixel size.

    Raises:
        ConfigError: anything else.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else [value]
    ok = len(numbers) in (1, 2) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if not ok:
        raise ConfigError(f"{key}: expected one or two numbers in mm, got {value!r}")
    return PixelSize(cross_web_mm=float(numbers[0]), down_web_mm=float(numbers[-1]))


def to_geometry(config: GeometryConfig) -> Geometry:
    """Turn the geometry group into its core type; reads the drawn ignore mask where there is one.

    Raises:
        ConfigError: an unknown mode or registration, a size out of range, or a shape that is none.
        InputError: the mask cannot be read.
    """
    modes = [m.value for m in GeometryMode]
    if config.mode not in modes:
        raise ConfigError(f"geometry.mode: expected one of {', '.join(modes)}, got {config.mode!r}")
    known = [r.value for r in Registration]
    if config.registration not in known:
        raise ConfigError(f"geometry.registration: expected one of {', '.join(known)}, got {config.registration!r}")
    typed = {
        "registration": Registration(config.registration),
        "ignore": to_ignore(config.ignore),
        "ignore_mask": read_ignore_mask(config.ignore_mask),
        "foreground": to_foreground(config.foreground),
    }
    return Geometry(**{**vars(config), **typed, "mode": GeometryMode(config.mode)})


def to_target(config: CalibrationConfig) -> Target:
    """Turn the calibration group into the target that it asks for."""
    return Target(false_reject_rate=config.false_reject_rate, escape_rate=config.escape_rate, delta=config.delta)


def learns_from_labels(trainer: Any) -> bool:
    """Whether the settings of a trainer, typed or as a run folder has them, are those of `trainer=supervised`."""
    settings = trainer if isinstance(trainer, dict) else vars(trainer)
    return bool(settings.get("_target_") == SupervisedConfig._target_)


def load_data(config: DataConfig, model: Any = None, *, needs_good: bool = True) -> tuple[Splits, DataReport]:
    """Read and split the data set of a data group, then let its additions join; a synthetic web is made where absent.

    Templates are for a `model` (its config node) that compares with them; for another one the samples have none.
    Without a model they have what the set has. A set without good images is refused where `needs_good`.

    Raises:
        InputError: the images are not usable, see `load_splits` and `add_images`, or lack such a model's templates.
        ConfigError: a setting is not usable.
    """
    pixel_size = to_pixel_size(config.pixel_size_mm)
    if config.split_seed < 0:
        raise ConfigError(f"data.split_seed: expected 0 or more, got {config.split_seed}")
    if pixel_size is not None:  # before anything is cut or drawn
        check_resolution(pixel_size, config.smallest_defect_mm)
    root, fractions = Path(config.root), Fractions(**vars(config.fractions))
    if config.rolls is not None:
        root = cut_rolls(config.rolls, root, pixel_size, config.color, fractions, seed=config.split_seed)
    if config.web is not None:
        if pixel_size is None:
            raise ConfigError("data.pixel_size_mm: expected the synthetic web's pixel size in mm, got none")
        root = make_synthetic_set(root, SyntheticWeb(**vars(config.web), pixel_size=pixel_size))
    rules = Rules(
        fractions=fractions,
        seed=config.split_seed,
        pixel_size=pixel_size,
        duplicates=config.duplicates,
        on_bad=config.on_bad,
        needs_good=needs_good,
    )
    placement = place(root, config.layout, rules, color=config.color)
    for added in config.additions:
        placement = add_images(placement, Path(added), rules)
    check_resolution(coarsest_pixel_size(placement.splits), config.smallest_defect_mm)
    if model is None:
        return placement.splits, placement.report
    is_pair = getattr(_class_of(model), "is_pair", False)
    splits = with_templates(placement.splits, root) if is_pair else without_templates(placement.splits)
    return splits, placement.report
