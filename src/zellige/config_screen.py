"""The schema of the group screen."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ScreenConfig:
    """A cheap look before the net; see zellige.training.learn_screen and zellige.evaluation.screen_proof."""

    method: str = "none"
    cell_px: int = 16
    quantile: float = 0.9999
    margin: float = 0.1
    per_column: bool = False
    max_loss: float = 0.05
    confidence: float = 0.95

    def limits(self) -> dict[str, Any]:
        """Return the settings of the limits that `check_screen` checks."""
        return {name: getattr(self, name) for name in ("cell_px", "quantile", "margin")}
