"""Fit, calibrate, evaluate, export and log one detector: images in, a bundle for a station out."""

import logging
from pathlib import Path
from typing import Any, cast

from lightning_fabric import seed_everything
from omegaconf import DictConfig, OmegaConf

from zellige.config import TrainConfig, build, load_data, make_fabric, to_geometry, to_target
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.evaluation.calibrate import calibrate
from zellige.evaluation.report import evaluate
from zellige.program import run
from zellige.release import log_release, write_release
from zellige.run_folder import check_run_name, new_run_name, run_folder
from zellige.run_report import build_report, summary, write_report
from zellige.tracking import check_run_name_free
from zellige.training.checkpoint import save_checkpoint
from zellige.training.predict import milliseconds_per_image, predict

log = logging.getLogger("train")


def main(composed: DictConfig) -> None:
    config = cast(TrainConfig, OmegaConf.to_object(composed))
    name = config.run_name or new_run_name(config.data.name, config.model.name)
    runs_dir, tracking, batch_size = Path(config.runs_dir), config.tracking, config.engine.batch_size
    check_run_name(runs_dir, name)
    if tracking.enabled:
        check_run_name_free(Path(tracking.store), tracking.experiment, name)
    seed_everything(config.seed, verbose=False)
    fabric, geometry, target = make_fabric(config.engine), to_geometry(config.geometry), to_target(config.calibration)

    with run_folder(runs_dir, name) as run_dir:
        OmegaConf.save(composed, run_dir / "config.yaml", resolve=True)
        splits, data_report = load_data(config.data)
        augment = Augment(config.data.augment, seed=config.seed)
        train = TileDataset(splits.train, geometry=geometry, color=splits.color, augment=augment)
        val, test = (TileDataset(part, geometry=geometry, color=splits.color) for part in (splits.val, splits.test))

        detector = build(config.model)
        fitted = build(config.trainer)(detector, train, val, fabric=fabric, run_dir=run_dir)
        save_checkpoint(detector, run_dir / "detector.safetensors")
        on_val = predict(detector, val, "val", fabric=fabric, out_dir=run_dir / "predictions", batch_size=batch_size)
        calibration = calibrate(on_val, target, **config.calibration.rules())
        on_test = predict(detector, test, "test", fabric=fabric, out_dir=run_dir / "predictions", batch_size=batch_size)
        evaluation = evaluate(on_test, calibration)

        speed = milliseconds_per_image(detector, test, fabric=fabric)
        costs = {"fit_seconds": fitted.fit_seconds, "predict_ms_per_image": speed}
        draft = build_report({"name": name}, evaluation, data_report, costs)
        report = write_release(detector, calibration, draft, on_test, splits, config, run_dir / f"{name}.zellige")
        write_report(run_dir, report, evaluation, on_test)
        if not config.engine.keep_maps:
            on_val.drop_maps()
            on_test.drop_maps()
        if tracking.enabled:
            resolved = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
            log_release(run_dir, report, splits, config, resolved)
    log.info("\n  ".join([f"{runs_dir / name}:", *summary(report)]))


if __name__ == "__main__":
    run(main, "train")
