"""The screen of a run: learned from TRAIN, shown on VAL and TEST, stored beside the detector where it may be used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zellige.config_screen import ScreenConfig
from zellige.core.errors import ConfigError
from zellige.core.screen import MEMBER
from zellige.core.types import Calibration, Geometry, Splits
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.screen_proof import prove_screen
from zellige.training.learn_screen import check_screen, learn_screen

METHODS = ("none", "cells")


def check_screen_settings(config: ScreenConfig, geometry: Geometry, *, names_kinds: bool) -> None:
    """Refuse before the fit what would end the run after it.

    Raises:
        ConfigError: an unknown method, a number out of range, a geometry without tiles, a model that names kinds.
    """
    if config.method not in METHODS:
        raise ConfigError(f"screen.method: expected one of {', '.join(METHODS)}, got {config.method!r}")
    if config.method == "none":
        return
    if names_kinds:
        raise ConfigError(
            f"screen.method={config.method}: expected none with a model that learns kinds; a run that "
            "scripts/name_kinds.py names afterwards keeps its screen"
        )
    for name in ("max_loss", "confidence"):
        if not 0 < getattr(config, name) < 1:
            raise ConfigError(f"screen.{name}: expected a number in (0, 1), got {getattr(config, name)}")
    check_screen(geometry, **config.limits())


def settle_screen(
    config: ScreenConfig,
    splits: Splits,
    predictions: Sequence[PredictionSet],
    calibration: Calibration,
    *,
    geometry: Geometry,
    run_dir: Path,
) -> dict[str, Any]:
    """Learn a screen and store it as screen.json where it was shown to lose little enough.

    Args:
        config: of the run.
        splits: TRAIN is learned from.
        predictions: of VAL and TEST, with maps.
        calibration: what the net finds.
        geometry: of the detector.
        run_dir: where screen.json goes.

    Returns:
        The report's section "screen", or nothing where none was asked for.
    """
    if config.method == "none":
        return {}
    screen = learn_screen(
        splits.train, geometry=geometry, color=splits.color, per_column=config.per_column, **config.limits()
    )
    proof = prove_screen(
        screen,
        predictions,
        calibration,
        geometry=geometry,
        color=splits.color,
        max_loss=config.max_loss,
        confidence=config.confidence,
    )
    if proof.is_shown:
        (run_dir / MEMBER).write_bytes(screen.to_bytes())
    return {"screen": proof.to_json()}


def screen_words(section: Mapping[str, Any]) -> dict[str, str]:
    """What a run's report says of its screen in one line; nothing where none was asked for."""
    return {"screen": str(section["screen"]["words"])} if section else {}


def screen_members(run_dir: Path) -> dict[str, bytes]:
    """What a bundle carries of a run's screen: nothing where there is none, or where it is off."""
    path = run_dir / MEMBER
    return {MEMBER: path.read_bytes()} if path.is_file() else {}
