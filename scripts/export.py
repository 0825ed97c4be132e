"""Write the bundle of a finished run: the same bytes that training wrote, or a line that says why not."""

import logging
import tempfile
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from zellige.config import RunConfig, make_fabric
from zellige.core.errors import InputError
from zellige.data.dataset import TileDataset
from zellige.finished_run import open_run
from zellige.program import run
from zellige.release import check_ready, write_release
from zellige.screening import screen_members
from zellige.training.predict import predict

log = logging.getLogger("export")


def main(composed: DictConfig) -> None:
    settings = cast(RunConfig, OmegaConf.to_object(composed))
    done = open_run(Path(settings.run))
    out = Path(settings.out or done.folder / f"{done.name}.zellige")
    optics = check_ready(done.config, done.splits, done.data)
    fabric, batch_size = make_fabric(done.config.engine), done.config.engine.batch_size
    dataset = TileDataset(done.splits.test, geometry=optics.geometry, color=optics.color)

    with tempfile.TemporaryDirectory(prefix="zellige-") as folder:
        on_test = predict(done.detector, dataset, "test", fabric=fabric, out_dir=Path(folder), batch_size=batch_size)
        done.check_scores(on_test)
        fresh = out.with_name(f".{out.name}.new")
        try:
            members = screen_members(done.folder)
            report = write_release(
                done.detector, done.calibration, done.report, on_test, optics, done.config, fresh, members
            )
            if settings.out is None and report["run"]["bundle"] != done.report["run"]["bundle"]:
                raise InputError(
                    f"run {done.folder}: expected bundle {done.report['run']['bundle'][:12]} as trained, this "
                    f"version of zellige makes {report['run']['bundle'][:12]}; give out=FILE to have both"
                )
            fresh.replace(out)
        finally:
            fresh.unlink(missing_ok=True)
    log.info("%s\n  bundle id %s\n  parity: %s", out, report["run"]["bundle"], report["run"]["parity"])


if __name__ == "__main__":
    run(main, "export_run")
