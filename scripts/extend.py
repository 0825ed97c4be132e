"""Let more good images join a finished run without a refit: a new run and bundle that name their parent."""

import logging
import sys
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from zellige.config import make_fabric, to_target
from zellige.config_extend import ExtendConfig
from zellige.core.errors import ConfigError
from zellige.data.dataset import TileDataset
from zellige.evaluation.calibrate import calibrate
from zellige.evaluation.named_report import named_report
from zellige.evaluation.report import evaluate
from zellige.extension import added_argument, join, lineage, new_place, parent_tags, rejected_rate, save_settings
from zellige.finished_run import open_run
from zellige.program import run
from zellige.release import check_ready, log_release, write_release
from zellige.run_folder import run_folder
from zellige.run_report import build_report, summary, write_report
from zellige.screening import screen_members, screen_words, settle_screen
from zellige.tracking import check_run_name_free
from zellige.training.predict import milliseconds_per_image, predict


def main(composed: DictConfig) -> None:
    settings = cast(ExtendConfig, OmegaConf.to_object(composed))
    (runs_dir, name), untracked = new_place(settings), None
    old = open_run(Path(settings.run), added=settings.added, on_bad=settings.on_bad)
    config, splits, tracking = old.config, old.splits, old.config.tracking
    optics, fabric = check_ready(config, splits, old.data), make_fabric(config.engine, seed=config.seed)
    if tracking.enabled:
        check_run_name_free(Path(tracking.store), tracking.experiment, name)
    val, test = (TileDataset(part, geometry=optics.geometry, color=splits.color) for part in (splits.val, splits.test))

    with run_folder(runs_dir, name) as run_dir:
        resolved = save_settings(old, runs_dir, name, run_dir)
        joined = join(old, optics, fabric=fabric, run_dir=run_dir)
        look = {"fabric": fabric, "out_dir": run_dir / "predictions", "batch_size": config.engine.batch_size}
        on_val, on_test = predict(old.detector, val, "val", **look), predict(old.detector, test, "test", **look)
        calibration = calibrate(on_val, to_target(config.calibration), **config.calibration.rules())
        evaluation, speed = evaluate(on_test, calibration), milliseconds_per_image(old.detector, test, fabric=fabric)
        named = named_report(on_val, on_test, calibration)
        identity, facts = lineage(name, old, joined, calibration, rejected_rate(on_val, calibration, joined.val))
        screen = settle_screen(
            config.screen, splits, (on_val, on_test), calibration, geometry=optics.geometry, run_dir=run_dir
        )
        costs = {"fit_seconds": joined.cost.fit_seconds, "predict_ms_per_image": speed}
        identity |= screen_words(screen)
        draft = {**build_report(identity, evaluation, old.data, costs, named), "extension": facts, **screen}
        bundle, members = run_dir / f"{name}.zellige", screen_members(run_dir)
        report = write_release(old.detector, calibration, draft, on_test, optics, config, bundle, members)
        write_report(run_dir, report, evaluation, on_test, named)
        for predictions in () if config.engine.keep_maps else (on_val, on_test):
            predictions.drop_maps()
        if tracking.enabled:
            untracked = log_release(run_dir, report, config, resolved, parent_tags(old))
    logging.getLogger("extend").info("\n  ".join([f"{runs_dir / name}:", *summary(report)]))
    if untracked:
        raise ConfigError(f"{runs_dir / name} is complete, but MLflow does not have it: {untracked}")


if __name__ == "__main__":
    sys.argv[1:] = [added_argument(argument) for argument in sys.argv[1:]]
    run(main, "extend_run")
