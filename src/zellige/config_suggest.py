"""The schema of scripts/suggest.py."""

import math
from dataclasses import dataclass, field

from omegaconf import MISSING

from zellige.core.errors import ConfigError


@dataclass
class WeightsConfig:
    """How much of an image's usefulness comes from where; their sum counts as one."""

    uncertainty: float = 0.5
    novelty: float = 0.5


@dataclass
class SuggestConfig:
    """A finished run, a folder of unlabelled images and how many of them to suggest; see zellige.suggestion."""

    run: str = MISSING
    images: str = MISSING
    out: str = MISSING
    number: int = 50
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    random_share: float = 0.1
    seed: int = 0
    copy: bool = True

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a number out of range.
        """
        if self.number < 1:
            raise ConfigError(f"number: expected at least 1, got {self.number}")
        if not 0 <= self.random_share <= 1:
            raise ConfigError(f"random_share: expected 0 to 1, got {self.random_share}")
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")
        weights = (self.weights.uncertainty, self.weights.novelty)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
            raise ConfigError(f"weights: expected two numbers >= 0, not both 0, got {weights[0]:g} and {weights[1]:g}")
