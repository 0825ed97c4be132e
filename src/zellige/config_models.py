"""The schema of each model and each trainer, and how one is built from it."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_class, instantiate
from omegaconf import MISSING

from zellige.core.errors import ConfigError

TARGET_PREFIXES = ("zellige.models.", "zellige.training.")


@dataclass
class PatchModelConfig:
    """What every patch-wise detector has; see zellige.models.patch_features and zellige.models.patch_scores."""

    name: str = MISSING
    _target_: str = MISSING
    backbone: str = "efficientnet_lite0"
    stages: Any = field(default_factory=lambda: [1, 2, 3])  # a list or auto; see zellige.auto_stages
    grid_stride: int = 8
    top_share: float = 0.01
    smoothing_patches: float = 1.0


@dataclass
class PatchCoreConfig(PatchModelConfig):
    """See zellige.models.patchcore.PatchCore."""

    name: str = "patchcore"
    _target_: str = "zellige.models.patchcore.PatchCore"
    stages: Any = field(default_factory=lambda: [2, 3])
    bank_size: int = 4096
    reweight_neighbors: int = 0
    position_radius: float | None = None
    seed: int = 0


@dataclass
class SubspaceConfig(PatchModelConfig):
    """See zellige.models.subspace.Subspace."""

    name: str = "subspace"
    _target_: str = "zellige.models.subspace.Subspace"
    variance: float = 0.95


@dataclass
class PadimConfig(PatchModelConfig):
    """See zellige.models.padim.Padim."""

    name: str = "padim"
    _target_: str = "zellige.models.padim.Padim"
    num_dims: int = 64
    prior_images: int = 32
    seed: int = 0


@dataclass
class SuperSimpleNetConfig:
    """See zellige.models.super_simple_net.SuperSimpleNet."""

    name: str = "super_simple_net"
    _target_: str = "zellige.models.super_simple_net.SuperSimpleNet"
    backbone: str = "efficientnet_lite0"
    stages: Any = field(default_factory=lambda: [2, 3])
    grid_stride: int = 8
    hidden: int = 256
    score_channels: int = 32
    noise: float = 1.0
    smoothing_patches: float = 1.0
    seed: int = 0


@dataclass
class EfficientAdConfig(PatchModelConfig):
    """See zellige.models.efficient_ad.EfficientAd."""

    name: str = "efficient_ad"
    _target_: str = "zellige.models.efficient_ad.EfficientAd"
    stages: Any = field(default_factory=lambda: [2, 3])
    width: int = 64
    latent: int = 16
    hard_quantile: float = 0.9
    autoencoder_share: float = 0.1
    seed: int = 0


@dataclass
class DinomalyConfig:
    """See zellige.models.dinomaly.Dinomaly."""

    name: str = "dinomaly"
    _target_: str = "zellige.models.dinomaly.Dinomaly"
    backbone: str = "efficientnet_lite0"
    stages: Any = field(default_factory=lambda: [3])
    num_groups: int = 2
    decoder_blocks: int = 4
    dropout: float = 0.2
    top_share: float = 0.01
    smoothing_patches: float = 0.5
    seed: int = 0


@dataclass
class SegmenterConfig:
    """See zellige.models.segmenter.Segmenter."""

    name: str = "segmenter"
    _target_: str = "zellige.models.segmenter.Segmenter"
    kinds: list[str] = field(default_factory=list)  # empty: those of the training split; see zellige.auto_kinds
    backbone: str = "efficientnet_lite0"
    stages: Any = field(default_factory=lambda: [1, 2, 3, 4])
    frozen_stages: int = 2
    width: int = 64
    top_share: float = 0.001
    least_confidence: float = 0.5
    seed: int = 0


@dataclass
class ClassifierConfig:
    """See zellige.models.classifier.Classifier."""

    name: str = "classifier"
    _target_: str = "zellige.models.classifier.Classifier"
    kinds: list[str] = field(default_factory=list)  # empty: those of the training split; see zellige.auto_kinds
    has_good: bool = True
    backbone: str = "efficientnet_lite0"
    stages: Any = field(default_factory=lambda: [3, 4])
    frozen_stages: int = 2
    hidden: int = 256
    least_confidence: float = 0.5
    seed: int = 0


@dataclass
class ReferencePairConfig:
    """See zellige.models.reference_pair.ReferencePair."""

    name: str = "reference_pair"
    _target_: str = "zellige.models.reference_pair.ReferencePair"
    kinds: list[str] = field(default_factory=list)  # empty: those of the training split; see zellige.auto_kinds
    width: int = 32
    depth: int = 2
    overlap: float = 0.5
    seed: int = 0


@dataclass
class BoxDetectorConfig:
    """See zellige.models.box_detector.BoxDetector."""

    name: str = "box_detector"
    _target_: str = "zellige.models.box_detector.BoxDetector"
    kinds: list[str] = field(default_factory=list)  # empty: those of the training split; see zellige.auto_kinds
    backbone: str = "efficientnet_lite0"
    stages: Any = field(default_factory=lambda: [2, 3, 4])
    frozen_stages: int = 1
    width: int = 64
    depth: int = 2
    overlap: float = 0.5
    seed: int = 0


@dataclass
class OnePassConfig:
    """See zellige.training.one_pass.fit."""

    _target_: str = "zellige.training.one_pass.fit"
    _partial_: bool = True
    batch_size: int = 8
    num_shots: int | None = None
    augmented_copies: int = 0
    seed: int = 0
    rank_suspicious: bool = False
    drop_suspicious: float = 0.0


@dataclass
class GradientConfig:
    """See zellige.training.gradient.fit and zellige.training.recipe.Recipe."""

    _target_: str = "zellige.training.gradient.fit"
    _partial_: bool = True
    epochs: int = 60
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "cosine"
    warmup_epochs: int = 0
    clip_norm: float | None = None
    average: float = 0.0
    evaluate_every: int = 1
    patience: int | None = 10
    defect_share: float = 0.25
    cache_mb: int = 4096
    seed: int = 0
    rank_suspicious: bool = False


@dataclass
class SupervisedConfig:
    """See zellige.training.supervised_recipe.SupervisedRecipe."""

    _target_: str = "zellige.training.supervised.fit"
    _partial_: bool = True
    epochs: int = 40
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-3
    backbone_rate: float = 0.1
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup_epochs: int = 1
    clip_norm: float | None = 5.0
    average: float = 0.0
    evaluate_every: int = 1
    patience: int | None = 10
    balance: float = 0.5
    crops: str = "random"
    crop_px: int | None = None
    crop_zoom: float = 0.0
    crop_stretch: float = 0.0
    opposites: dict[str, str] = field(default_factory=dict)
    marks: dict[str, list[str]] = field(default_factory=dict)
    draws_per_image: int = 1
    num_workers: int = 0
    cache_mb: int = 2048
    seed: int = 0


MODELS = (
    PatchCoreConfig,
    SubspaceConfig,
    PadimConfig,
    SuperSimpleNetConfig,
    DinomalyConfig,
    EfficientAdConfig,
    SegmenterConfig,
    ClassifierConfig,
    BoxDetectorConfig,
    ReferencePairConfig,
)
TRAINERS = {"one_pass": OnePassConfig, "gradient": GradientConfig, "supervised": SupervisedConfig}


def register_models(store: ConfigStore) -> None:
    """Make the schemas of all models and trainers known to Hydra."""
    for model in MODELS:
        store.store(group="model", name=f"{model.name}_schema", node=model)
    for name, trainer in TRAINERS.items():
        store.store(group="trainer", name=f"{name}_schema", node=trainer)


def build(node: Any, **more: Any) -> Any:
    """Instantiate a typed config node that has a `_target_` of ours; its `name` is for people and is left out.

    Raises:
        ConfigError: the target lies outside zellige's models and trainers.
    """
    settings = {key: value for key, value in vars(node).items() if key != "name"}
    for part in (settings, *settings.values()):
        if isinstance(part, dict) and "_target_" in part:
            _check_target(part["_target_"])
    return instantiate(settings, **more)


def class_of(node: Any) -> Any:
    """The class that a typed config node says.

    Raises:
        ConfigError: the target lies outside zellige's models and trainers, or there is no such class.
    """
    _check_target(node._target_)
    try:
        return get_class(str(node._target_))
    except ImportError:
        raise ConfigError(f"_target_: expected a class of zellige, got {node._target_}, which there is not") from None


def _check_target(target: object) -> None:
    if not str(target).startswith(TARGET_PREFIXES):
        raise ConfigError(f"_target_: expected one that begins with {' or '.join(TARGET_PREFIXES)}, got {target}")


def learns_from_labels(trainer: Any) -> bool:
    """Whether the settings of a trainer, typed or as a run folder has them, are those of `trainer=supervised`."""
    settings = trainer if isinstance(trainer, dict) else vars(trainer)
    return bool(settings.get("_target_") == SupervisedConfig._target_)
