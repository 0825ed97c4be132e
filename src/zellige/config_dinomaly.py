"""The settings of Dinomaly, registered by zellige.config."""

from dataclasses import dataclass, field
from typing import Any


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
