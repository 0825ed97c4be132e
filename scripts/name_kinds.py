"""Name the kinds of what a finished run finds, from a few labelled defects: a new run and bundle, the same verdicts."""

import logging
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from zellige.config import make_fabric
from zellige.config_naming import NamingConfig
from zellige.core.errors import ConfigError
from zellige.data.dataset import TileDataset
from zellige.evaluation.named_report import named_report
from zellige.evaluation.report import evaluate
from zellige.extension import new_place, parent_tags
from zellige.finished_run import open_run
from zellige.naming import find_examples, learn, lineage, name_detector, save_settings, unnamed_kinds, with_rules
from zellige.program import run
from zellige.release import check_ready, log_release, write_release
from zellige.run_folder import run_folder
from zellige.run_report import build_report, summary, write_report
from zellige.screening import screen_members, screen_words, settle_screen
from zellige.tracking import check_run_name_free
from zellige.training.predict import milliseconds_per_image, predict

log = logging.getLogger("name_kinds")


def main(composed: DictConfig) -> None:
    settings = cast(NamingConfig, OmegaConf.to_object(composed))
    (runs_dir, name), untracked = new_place(settings, "named"), None
    old = open_run(Path(settings.run), on_bad=settings.on_bad)
    config, splits, tracking = old.config, old.splits, old.config.tracking
    examples = find_examples(settings, old)
    detector = name_detector(settings, old, examples)
    optics, fabric = check_ready(config, splits, old.data), make_fabric(config.engine, seed=config.seed)
    if tracking.enabled:
        check_run_name_free(Path(tracking.store), tracking.experiment, name)
    if strange := unnamed_kinds(old, examples):
        log.warning("TEST shows kinds of which there are no examples: %s", ", ".join(strange))
    val, test = (TileDataset(part, geometry=optics.geometry, color=splits.color) for part in (splits.val, splits.test))

    with run_folder(runs_dir, name) as run_dir:
        resolved = save_settings(old, runs_dir, name, run_dir)
        learned = learn(settings, old, detector, examples, optics, fabric=fabric, run_dir=run_dir)
        look = {"fabric": fabric, "out_dir": run_dir / "predictions", "batch_size": config.engine.batch_size}
        on_val, on_test = predict(detector, val, "val", **look), predict(detector, test, "test", **look)
        old.check_scores(on_test)
        calibration = with_rules(old)
        evaluation, speed = evaluate(on_test, calibration), milliseconds_per_image(detector, test, fabric=fabric)
        named = named_report(on_val, on_test, calibration)
        identity, facts = lineage(name, old, examples, learned)
        screen = settle_screen(
            config.screen, splits, (on_val, on_test), calibration, geometry=optics.geometry, run_dir=run_dir
        )
        identity |= screen_words(screen)
        costs = {"fit_seconds": learned.seconds, "predict_ms_per_image": speed}
        draft = {**build_report(identity, evaluation, old.data, costs, named), "naming": facts, **screen}
        bundle, members = run_dir / f"{name}.zellige", screen_members(run_dir)
        report = write_release(detector, calibration, draft, on_test, optics, config, bundle, members)
        write_report(run_dir, report, evaluation, on_test, named)
        for predictions in () if config.engine.keep_maps else (on_val, on_test):
            predictions.drop_maps()
        if tracking.enabled:
            untracked = log_release(run_dir, report, config, resolved, parent_tags(old))
    log.info("\n  ".join([f"{runs_dir / name}:", *summary(report)]))
    if untracked:
        raise ConfigError(f"{runs_dir / name} is complete, but MLflow does not have it: {untracked}")


if __name__ == "__main__":
    run(main, "name_kinds")
