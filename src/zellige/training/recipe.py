"""How to learn by gradient: the settings of `trainer=gradient`, checked once."""

from dataclasses import dataclass

from zellige.core.errors import ConfigError
from zellige.training.schedules import SCHEDULES


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn; the settings of `trainer=gradient`."""

    epochs: int = 60
    """Most passes over the training tiles."""
    batch_size: int = 8
    """Tiles per step and process."""
    accumulate: int = 1
    """Batches whose gradients are averaged before a step of the optimizer."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "cosine"
    warmup_epochs: int = 0
    """Epochs over which the learning rate rises to its height, before the schedule begins."""
    clip_norm: float | None = None
    """Longest gradient of a step; longer ones are shortened to it. None: never."""
    average: float = 0.0
    """Share that the running mean of the weights keeps at every step; 0: no mean, the weights themselves."""
    evaluate_every: int = 1
    """Epochs between looks at the loss on VAL."""
    patience: int | None = 10
    """Looks without a lower loss on VAL after which the fit ends; None: never."""
    defect_share: float = 0.25
    """Labelled defective tiles are repeated until they are at least this share of the good ones."""
    cache_mb: int = 4096
    """Most megabytes of features kept on disk during the fit; 0 keeps none."""
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"epochs": 1, "batch_size": 1, "accumulate": 1, "evaluate_every": 1}
        whole |= {"cache_mb": 0, "seed": 0, "warmup_epochs": 0}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise ConfigError(f"trainer.{name}: expected {least} or more, got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"trainer.patience: expected 1 or more, or null, got {self.patience}")
        if not 0 < self.learning_rate <= 10:
            raise ConfigError(f"trainer.learning_rate: expected a number above 0, got {self.learning_rate}")
        for name in ("weight_decay", "defect_share"):
            if not 0 <= getattr(self, name) <= 10:
                raise ConfigError(f"trainer.{name}: expected 0 to 10, got {getattr(self, name)}")
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"trainer.warmup_epochs: expected fewer than the {self.epochs} epochs, got {self.warmup_epochs}"
            )
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise ConfigError(f"trainer.clip_norm: expected a number above 0, or null, got {self.clip_norm}")
        if not 0 <= self.average < 1:
            raise ConfigError(f"trainer.average: expected 0 to below 1, got {self.average}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"trainer.schedule: expected one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
