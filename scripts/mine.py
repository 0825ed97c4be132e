"""Store what a finished run takes for the worst on a roll of good material, for scripts/extend.py to learn from."""

import json
import logging
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from zellige.config_rolls import MineConfig, mining_flat_field
from zellige.core.bundle import read_bundle
from zellige.core.errors import ConfigError, InputError
from zellige.data.corrected_roll import corrected_roll
from zellige.data.mine_roll import mine_roll, write_mined
from zellige.program import run
from zellige.station.runtime import Runtime
from zellige.station.sources import open_source

log = logging.getLogger("mine")


def main(composed: DictConfig) -> None:
    settings = cast(MineConfig, OmegaConf.to_object(composed))
    folder, out = Path(settings.run), Path(settings.out)
    if settings.count < 1:
        raise ConfigError(f"count: expected at least 1, got {settings.count}")
    if out.exists():
        raise InputError(f"out {out}: expected a new folder, it exists")
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        name, sizes = report["run"]["name"], report["data"]
        height, width = tuple(sizes["height_px"]), tuple(sizes["width_px"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"run {folder}: expected a finished run's folder with its report.json ({error})") from None
    runtime = Runtime(read_bundle(folder / f"{name}.zellige"))
    manifest = runtime.bundle.manifest
    flat_field = mining_flat_field(settings, manifest.target_dn)
    recorded = open_source(Path(settings.roll), width_px=settings.width_px, color=manifest.color)
    source = corrected_roll(recorded, flat_field, manifest.color.num_channels)
    found = mine_roll(runtime, source, count=settings.count, height=height, width=width)
    write_mined(found, source, manifest.pixel_size, out)
    reject = manifest.calibration.reject_score
    above = sum(one.score > reject for one in found)
    log.info(
        "%s: %d images, scores %.4g to %.4g, %d above the reject score %.4g\n  look at %s, then: python "
        "scripts/extend.py run=%s data=%s",
        *(out, len(found), found[0].score, found[-1].score, above, reject, out / "contact_sheet.png", folder, out),
    )


if __name__ == "__main__":
    run(main, "mine_run")
