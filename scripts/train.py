"""Fit, calibrate, evaluate, export and log one detector: images in, a bundle for a station out."""

import logging
import sys
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from zellige.auto_kinds import settle_kinds
from zellige.auto_stages import check_stages, settle_stages
from zellige.config import TrainConfig, make_fabric, to_geometry, to_target
from zellige.config_data import fold_in_words, load_data
from zellige.config_models import build, learns_from_labels
from zellige.core.errors import ConfigError
from zellige.cross_validation import INTERRUPTED, cross_validate
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.data.pairs import check_templates_fit
from zellige.evaluation.calibrate import calibrate
from zellige.evaluation.named_report import named_report
from zellige.evaluation.report import evaluate
from zellige.program import NOTHING_KEPT, run
from zellige.release import backbone_in_words, check_ready, log_release, write_release
from zellige.run_folder import git_commit
from zellige.run_report import build_report, summary, write_report
from zellige.screening import check_screen_settings, screen_members, screen_words, settle_screen
from zellige.shared_run import settle_name, shared_run_folder
from zellige.trainer_settings import check_trainer
from zellige.training.checkpoint import save_checkpoint
from zellige.training.compiled import compiled_embed
from zellige.training.few_shot import shots_in_words
from zellige.training.predict import milliseconds_per_image, predict
from zellige.training.processes import on_first

log = logging.getLogger("train")


def main(composed: DictConfig) -> None:
    config = cast(TrainConfig, OmegaConf.to_object(composed))
    runs_dir, tracking, batch_size = Path(config.runs_dir), config.tracking, config.engine.batch_size
    fabric, target = make_fabric(config.engine, seed=config.seed), to_target(config.calibration)
    geometry = to_geometry(config.geometry)
    check_stages(config.model)
    check_trainer(config.trainer)
    check_screen_settings(config.screen, geometry, names_kinds=hasattr(config.model, "kinds"))
    if config.folds is not None:
        crossed = cross_validate(config, list(HydraConfig.get().overrides.task))
        log.info("\n  ".join(crossed.lines()))
        if crossed.untracked:
            raise ConfigError(f"{crossed.folder} is complete, but MLflow does not have it: {crossed.untracked}")
        return
    name = settle_name(config, fabric=fabric)
    untracked = None

    with shared_run_folder(runs_dir, name, fabric=fabric) as run_dir:
        if fabric.is_global_zero:
            OmegaConf.save(composed, run_dir / "config.yaml", resolve=True)
        needs_good = not learns_from_labels(config.trainer)
        splits, data_report = on_first(fabric, lambda: load_data(config.data, config.model, needs_good=needs_good))
        optics = check_ready(config, splits, data_report)
        on_first(fabric, lambda: check_templates_fit(splits, geometry))
        augment = Augment(config.data.augment, seed=config.seed)
        train = TileDataset(
            splits.train, geometry=geometry, color=splits.color, augment=augment, defects=splits.train_defects
        )
        val, test = (TileDataset(part, geometry=geometry, color=splits.color) for part in (splits.val, splits.test))

        chosen = settle_stages(composed, config, train, fabric=fabric, run_dir=run_dir)
        chosen |= settle_kinds(composed, config, splits, fabric=fabric, run_dir=run_dir)
        detector, scores = build(config.model), run_dir / "predictions"
        with compiled_embed(detector, is_wanted=config.engine.compile, fabric=fabric):
            fitted = build(config.trainer)(detector, train, val, fabric=fabric, run_dir=run_dir)
            on_val = predict(detector, val, "val", fabric=fabric, out_dir=scores, batch_size=batch_size)
            on_test = predict(detector, test, "test", fabric=fabric, out_dir=scores, batch_size=batch_size)
        if not fabric.is_global_zero:
            return  # what is left is one process's work
        save_checkpoint(detector, run_dir / "detector.safetensors")
        calibration = calibrate(on_val, target, **config.calibration.rules())
        evaluation = evaluate(on_test, calibration)
        named = named_report(on_val, on_test, calibration)
        screen = settle_screen(
            config.screen, splits, (on_val, on_test), calibration, geometry=geometry, run_dir=run_dir
        )

        speed = milliseconds_per_image(detector, test, fabric=fabric)
        costs = {"fit_seconds": fitted.fit_seconds, "predict_ms_per_image": speed}
        identity = {
            "name": name,
            "data fingerprint": splits.fingerprint,
            "git commit": git_commit() or "none",
            **fold_in_words(config.data),
            **backbone_in_words(detector),
            **shots_in_words(config.trainer, len(train)),
            **chosen,
            **screen_words(screen),
        }
        if fabric.world_size > 1:
            identity["processes"] = str(fabric.world_size)
        draft = {**build_report(identity, evaluation, data_report, costs, named), **screen}
        bundle, members = run_dir / f"{name}.zellige", screen_members(run_dir)
        report = write_release(detector, calibration, draft, on_test, optics, config, bundle, members)
        write_report(run_dir, report, evaluation, on_test, named)
        if not config.engine.keep_maps:
            on_val.drop_maps()
            on_test.drop_maps()
        if tracking.enabled:
            resolved = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
            untracked = log_release(run_dir, report, config, resolved)
    log.info("\n  ".join([f"{runs_dir / name}:", *summary(report)]))
    if untracked:
        raise ConfigError(f"{runs_dir / name} is complete, but MLflow does not have it: {untracked}")


if __name__ == "__main__":
    has_folds = any(argument.startswith("folds=") for argument in sys.argv)
    run(main, "train", interrupted=INTERRUPTED if has_folds else NOTHING_KEPT)
