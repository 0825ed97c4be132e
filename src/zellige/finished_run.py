"""Open the folder of a finished run: its settings, data, report and fitted detector, as they were."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from yaml import YAMLError

from zellige.config import TrainConfig
from zellige.config_data import load_data
from zellige.config_models import build, learns_from_labels
from zellige.core.errors import ConfigError, InputError
from zellige.core.kind_rules import KindRule, Severity
from zellige.core.types import Calibration, Splits
from zellige.data.report import DataReport
from zellige.evaluation.predictions import PredictionSet
from zellige.training.checkpoint import load_checkpoint

CHECKPOINT = "detector.safetensors"

_SAME_SCORES = 1e-3
"""Largest relative difference of a score on another machine or with other threads."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedRun:
    """What a run folder holds. `detector` is fitted, `report` is the content of report.json."""

    folder: Path
    config: TrainConfig
    report: dict[str, Any]
    calibration: Calibration
    splits: Splits
    data: DataReport
    detector: nn.Module

    @property
    def name(self) -> str:
        return str(self.report["run"]["name"])

    def check_scores(self, test: PredictionSet) -> None:
        """Refuse a detector that does not give the scores that the report was made from.

        Raises:
            InputError: another score, or no stored predictions.
        """
        stored = PredictionSet.load(self.folder / "predictions" / "test", self.splits.test)
        scale = np.maximum(np.abs(stored.scores), 1e-9)
        worst = float(np.max(np.abs(test.scores - stored.scores) / scale))
        if not worst <= _SAME_SCORES:
            raise InputError(
                f"run {self.folder}: expected the scores of its report, got others, by up to {worst:.2g} (relative); "
                f"is {CHECKPOINT} of another run?"
            )


def open_run(folder: Path, *, added: str | None = None, on_bad: str | None = None) -> FinishedRun:
    """Open a run folder; the images are read again and must be the same.

    Args:
        folder: of the run.
        added: good images that join the run's data; they are in what is returned as settings, splits and data, while
            report, calibration and detector know nothing of them.
        on_bad: overrides the run's setting.

    Raises:
        InputError: not a run folder, a damaged file in it, or other data than the run's.
        ConfigError: a setting that this version does not know or take.
    """
    config, report = _read_config(folder / "config.yaml"), _read_report(folder / "report.json")
    try:
        calibration = _calibration(report["calibration"])
        expected = str(report["run"]["data fingerprint"])
    except (KeyError, TypeError, ConfigError) as error:
        raise InputError(f"run {folder}: report.json is not the report of a run ({error})") from None
    detector = build(config.model)
    load_checkpoint(detector, folder / CHECKPOINT)
    if on_bad is not None:
        config.data.on_bad = on_bad
    if added is not None:
        config.data.additions = [*config.data.additions, added]
    splits, data = load_data(config.data, config.model, needs_good=not learns_from_labels(config.trainer))
    found = splits.fingerprint if added is None else data.additions[-1].extends
    if found != expected:
        raise InputError(
            f"run {folder}: expected the data that it was made from (fingerprint {expected[:12]}), got "
            f"{found[:12]} in {config.data.root}: images, labels or splits have changed"
        )
    return FinishedRun(
        folder=folder,
        config=config,
        report=report,
        calibration=calibration,
        splits=splits,
        data=data,
        detector=detector,
    )


def _calibration(content: dict[str, Any]) -> Calibration:
    """Build the operating point from its JSON; runs of earlier versions have no rules of kinds."""
    severities = {severity.value: severity for severity in Severity}
    rules = [KindRule(**{**rule, "severity": severities[rule["severity"]]}) for rule in content.get("kind_rules", ())]
    return Calibration(**{**content, "kind_rules": tuple(rules)})


def _read_config(path: Path) -> TrainConfig:
    try:
        stored = OmegaConf.merge(OmegaConf.structured(TrainConfig), OmegaConf.load(path))
        config = cast(TrainConfig, OmegaConf.to_object(stored))
        config.model = SimpleNamespace(**config.model)
    except FileNotFoundError:
        raise InputError(f"run {path.parent}: expected a finished run's folder, got one without {path.name}") from None
    except (OSError, YAMLError, OmegaConfBaseException, TypeError, ValueError) as error:
        raise InputError(f"run {path.parent}: {path.name} is damaged ({' '.join(str(error).split())[:300]})") from None
    return config


def _read_report(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"run {path.parent}: expected a finished run's folder, got one without {path.name}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"run {path.parent}: {path.name} is damaged ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"run {path.parent}: {path.name}: expected an object, got {type(content).__name__}")
    return content
