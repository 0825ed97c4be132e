"""What scripts do around a detector: find early what would stop a run late, write its bundle, log the run."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from zellige.config import TrainConfig, to_geometry, to_target
from zellige.core.bundle import MAX_GOLDEN_PX
from zellige.core.errors import ConfigError, InputError
from zellige.core.kind_rules import check_kind_rules
from zellige.core.memory import peak_memory_mb
from zellige.core.roi import ignored_pixels
from zellige.core.types import Calibration, Geometry, GeometryMode, PixelSize, Splits
from zellige.data.report import DataReport
from zellige.data.supervised_tiles import kinds_of
from zellige.evaluation.calibrate import check_calibration
from zellige.evaluation.predictions import PredictionSet
from zellige.export.build_bundle import Identity, Optics, common_pixel_size, export_bundle, read_common_template
from zellige.models.backbones import origin_of
from zellige.run_report import metrics_of, report_for_bundle
from zellige.tracking import RunIdentity, log_run
from zellige.training.few_shot import check_shots

_MOST_GOLDEN = 256


def check_ready(config: TrainConfig, splits: Splits, data: DataReport) -> Optics:
    """Refuse before the fit what would end the run after it, and say how the detector sees.

    Raises:
        InputError: too few images for calibration or evaluation, an image smaller than a tile or of a size that the
            ignore regions do not fit, several pixel sizes.
        ConfigError: a setting of calibration, export or the fit out of range, a rule in mm2 on uncalibrated images,
            positions with tiles.
    """
    export, geometry = config.export, to_geometry(config.geometry)
    for name in ("score_tolerance", "pixel_size_tolerance"):
        if not 0 <= getattr(export, name) < 1:
            raise ConfigError(f"export.{name}: expected a number in [0, 1), got {getattr(export, name)}")
    if not 1 <= export.num_golden <= _MOST_GOLDEN:
        raise ConfigError(f"export.num_golden: expected 1 to {_MOST_GOLDEN}, got {export.num_golden}")
    names_kinds = hasattr(config.model, "kinds")
    rules = config.calibration.rules()
    check_calibration(splits.val, to_target(config.calibration), **rules, names_kinds=names_kinds)
    kinds = (config.model.kinds or kinds_of(splits.train_defects)) if names_kinds else ()
    check_kind_rules(rules["kind_rules"], kinds)
    if not splits.test:
        raise InputError(f"data {data.root}: expected images in the test split, got none")
    check_shots(getattr(config.trainer, "num_shots", None), len(splits.train))
    if getattr(config.model, "position_radius", None) is not None and geometry.mode is GeometryMode.TILES:
        raise ConfigError(
            f"model.position_radius={config.model.position_radius:g}: expected geometry=resize, got geometry=tiles: "
            "places are compared from one image to the next, and a tile does not know its place in the image"
        )
    smallest, tile = (data.height_px[0], data.width_px[0]), (geometry.height, geometry.width)
    is_cut = geometry.mode is GeometryMode.TILES and not geometry.pad_small
    if is_cut and (smallest[0] < tile[0] or smallest[1] < tile[1]):
        raise InputError(
            f"data {data.root}: expected images of at least one tile of {tile[0]} x {tile[1]} px, the smallest height "
            f"and width are {smallest[0]} and {smallest[1]}; set geometry.pad_small=true or a smaller tile"
        )
    pixel_size = common_pixel_size([sample for samples in splits.labelled().values() for sample in samples])
    _check_regions(geometry, data, pixel_size)
    if export.template is not None:
        _check_template(Path(export.template), splits, data)
    return Optics(
        geometry=geometry,
        color=splits.color,
        pixel_size=pixel_size,
        pixel_size_tolerance=export.pixel_size_tolerance,
        target_dn=data.target_dn,
    )


def backbone_in_words(detector: nn.Module) -> dict[str, str]:
    """What a run's report says of the backbone and its weights; nothing where the detector has none."""
    origin = origin_of(detector)
    if origin is None:
        return {}
    return {"backbone": f"{origin.name}, {origin.source}, sha256 {origin.sha256}, license: {origin.license}"}


def _check_regions(geometry: Geometry, data: DataReport, pixel_size: PixelSize | None) -> None:
    """Refuse ignore regions that do not fit every image, or that the bundle's golden frames could not have."""
    if not geometry.ignore and geometry.ignore_mask is None:
        return
    sizes = list(zip(data.height_px, data.width_px, strict=True))
    for size in sizes:
        try:
            ignored_pixels(geometry, size, pixel_size)
        except InputError as error:
            raise InputError(f"data {data.root}: {error}") from None
    is_fixed = geometry.ignore_mask is not None or any(shape.columns is None for shape in geometry.ignore)
    if is_fixed and sizes[1][0] * sizes[1][1] > MAX_GOLDEN_PX:
        raise InputError(
            f"data {data.root}: expected images of at most {MAX_GOLDEN_PX} px with a box, polygon or mask to ignore, "
            f"got up to {sizes[1][0]} x {sizes[1][1]}; columns have no such limit"
        )


def _check_template(path: Path, splits: Splits, data: DataReport) -> None:
    """Refuse a template for the bundle of a detector that does not compare, or one that fits no image of the set."""
    if not all(sample.template_path for sample in splits.test):
        raise ConfigError(f"export.template={path}: expected a model that compares with templates, got another one")
    height, width = read_common_template(path, splits.color).shape[:2]
    (low, high), (left, right) = data.height_px, data.width_px
    if not (low <= height <= high and left <= width <= right):
        raise InputError(
            f"template {path}: expected the size of the images, {low} to {high} px high and {left} to {right} px wide, "
            f"got {height} x {width}"
        )


def write_release(
    detector: nn.Module,
    calibration: Calibration,
    report: Mapping[str, Any],
    test: PredictionSet,
    optics: Optics,
    config: TrainConfig,
    path: Path,
    members: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write the bundle of a run and return the report with the bundle's id and the parity that was measured.

    Args:
        report: of the run; its "run" says name, data fingerprint and git commit.
        test: the detector's predictions of TEST, with maps.
        path: the bundle's file.
        members: what else the bundle carries (`screening.screen_members`).

    Raises:
        BundleError: torch and ONNX Runtime disagree, or the bundle cannot be written.
    """
    run = report["run"]
    identity = Identity(
        run_name=run["name"],
        data_fingerprint=run["data fingerprint"],
        git_commit=_commit_of(run),
        detector_name=config.model.name,
    )
    bundle, parity = export_bundle(
        detector,
        calibration,
        report_for_bundle(report),
        test,
        optics,
        identity,
        path,
        score_tolerance=config.export.score_tolerance,
        num_golden=config.export.num_golden,
        more_members=members,
        template=None if config.export.template is None else Path(config.export.template),
    )
    words = (
        f"{parity.num_images} images, the same verdicts, scores within "
        f"{parity.max_relative_score_difference:.1e} (relative), maps within {parity.max_relative_map_difference:.1e}"
    )
    if parity.min_defect_iou is not None:
        words += f", the same kinds of defects with an IoU of at least {parity.min_defect_iou:.4f}"
    peak = {"peak_memory_mb": round(peak_memory_mb(), 1)}
    return {**report, **peak, "run": {**run, "bundle": bundle.id, "parity": words}}


def log_release(
    run_dir: Path,
    report: Mapping[str, Any],
    config: TrainConfig,
    resolved: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> ConfigError | None:
    """Log a run folder with its reports and its bundle to MLflow, under the same identity and with further tags.

    A store that fails now does not cost the run: the error is returned, for the program to say last.
    """
    run, tracking = report["run"], config.tracking
    identity = RunIdentity(
        run_name=run["name"],
        data_name=config.data.name,
        data_fingerprint=run["data fingerprint"],
        git_commit=_commit_of(run),
        bundle_id=run["bundle"],
    )
    try:
        log_run(
            run_dir,
            store=Path(tracking.store),
            experiment=tracking.experiment,
            identity=identity,
            config=resolved,
            metrics=metrics_of(report),
            tags={
                "calibrated": str(report["calibrated"]).lower(),
                "guarantee": report["calibration"]["guarantee"],
                **(tags or {}),
            },
            registered_model=tracking.registered_model,
            curve=_curve_of(run_dir),
        )
    except ConfigError as error:
        return error
    return None


def _curve_of(run_dir: Path) -> list[dict[str, float]]:
    """Losses by epoch of a fit by gradient; nothing where the fit has none."""
    path = run_dir / "learning_curve.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _commit_of(run: Mapping[str, str]) -> str | None:
    return None if run["git commit"] == "none" else run["git commit"]
