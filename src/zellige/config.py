"""The schemas of the programs and of the groups that have no file of their own, and the step to typed objects."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from hydra.core.config_store import ConfigStore
from lightning_fabric import Fabric, seed_everything
from omegaconf import MISSING, OmegaConf

from zellige.config_data import DataConfig, last_part
from zellige.config_extend import ExtendConfig
from zellige.config_ignore import read_ignore_mask, to_foreground, to_ignore
from zellige.config_kind_rules import KindRuleConfig, to_kind_rules
from zellige.config_labels import LabelsConfig, PicturesConfig
from zellige.config_models import register_models
from zellige.config_naming import NamingConfig
from zellige.config_rolls import MineConfig
from zellige.config_screen import ScreenConfig
from zellige.config_suggest import SuggestConfig
from zellige.core.errors import ConfigError
from zellige.core.types import Geometry, GeometryMode, Registration
from zellige.evaluation.calibrate import Target
from zellige.training.processes import group_settings, is_lost_process, join_group

PROJECT = Path(__file__).resolve().parents[2]
Precision = Literal["32-true", "bf16-mixed"]


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
    folds: int | None = None  # see zellige.cross_validation
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
    store.store(name="naming_schema", node=NamingConfig)
    store.store(name="mine_schema", node=MineConfig)
    store.store(name="suggest_schema", node=SuggestConfig)
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(name="pictures_schema", node=PicturesConfig)
    register_models(store)


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
