"""What scripts do with a judged detector: write its bundle under the run's identity, and log the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from zellige.config import TrainConfig, to_geometry
from zellige.core.types import Calibration, Splits
from zellige.evaluation.predictions import PredictionSet
from zellige.export.build_bundle import Identity, Optics, common_pixel_size, export_bundle
from zellige.run_folder import git_commit
from zellige.run_report import metrics_of
from zellige.tracking import RunIdentity, log_run


def write_release(
    detector: nn.Module,
    calibration: Calibration,
    report: Mapping[str, Any],
    test: PredictionSet,
    splits: Splits,
    config: TrainConfig,
    path: Path,
) -> dict[str, Any]:
    """Write the bundle of a run and return the report with the bundle's id and the parity that was measured.

    Args:
        report: of the run, under its name in report["run"]["name"].
        test: the detector's predictions of TEST, with maps.
        path: the bundle's file.

    Raises:
        BundleError: torch and ONNX Runtime disagree, or the bundle cannot be written.
    """
    optics = Optics(
        geometry=to_geometry(config.geometry),
        color=splits.color,
        pixel_size=common_pixel_size(splits.train + splits.val + splits.test),
        pixel_size_tolerance=config.export.pixel_size_tolerance,
    )
    commit = git_commit()
    identity = Identity(
        run_name=report["run"]["name"],
        data_fingerprint=splits.fingerprint,
        git_commit=commit,
        detector_name=config.model.name,
        backbone=config.model.backbone,
    )
    bundle, parity = export_bundle(
        detector,
        calibration,
        report,
        test,
        optics,
        identity,
        path,
        score_tolerance=config.export.score_tolerance,
        num_golden=config.export.num_golden,
    )
    run = {
        **report["run"],
        "bundle": bundle.id,
        "data fingerprint": splits.fingerprint,
        "git commit": commit or "none",
        "parity": f"{parity.num_images} images, the same verdicts, scores within "
        f"{parity.max_relative_score_difference:.1e} (relative), maps within {parity.max_relative_map_difference:.1e}",
    }
    return {**report, "run": run}


def log_release(
    run_dir: Path, report: Mapping[str, Any], splits: Splits, config: TrainConfig, resolved: Mapping[str, Any]
) -> None:
    """Log a run folder with its reports and its bundle to MLflow, under the same identity."""
    run, tracking = report["run"], config.tracking
    identity = RunIdentity(
        run_name=run["name"],
        data_name=config.data.name,
        data_fingerprint=splits.fingerprint,
        git_commit=None if run["git commit"] == "none" else run["git commit"],
        bundle_id=run["bundle"],
    )
    log_run(
        run_dir,
        store=Path(tracking.store),
        experiment=tracking.experiment,
        identity=identity,
        config=resolved,
        metrics=metrics_of(report),
        tags={"calibrated": str(report["calibrated"]).lower(), "guarantee": report["calibration"]["guarantee"]},
        registered_model=tracking.registered_model,
    )
