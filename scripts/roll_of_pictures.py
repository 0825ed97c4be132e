"""Lay labelled pictures end to end as recorded rolls and list their defects in mm, for data=roll and the station."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from zellige.config_data import to_pixel_size
from zellige.config_labels import PicturesConfig, to_source
from zellige.core.errors import ConfigError
from zellige.core.types import Color, PixelSize
from zellige.data.label_formats import read_labels
from zellige.data.label_scan import scan_labels
from zellige.data.roll_of_pictures import (
    DEFECTS,
    PICTURES,
    ROLLS,
    Deal,
    LaidPicture,
    check_pictures,
    deal_pictures,
    write_rolls,
)
from zellige.data.whole_folder import check_new
from zellige.program import run

log = logging.getLogger("roll_of_pictures")


def main(composed: DictConfig) -> None:
    settings = cast(PicturesConfig, OmegaConf.to_object(composed))
    labels, out = settings.labels, Path(settings.out)
    deal = Deal(
        rolls=settings.rolls,
        good_rolls=settings.good_rolls,
        pictures_per_roll=settings.pictures_per_roll,
        seed=settings.seed,
    )
    if settings.color not in list(Color):
        raise ConfigError(f"color: expected one of {', '.join(Color)}, got {settings.color!r}")
    check_new(out)
    _, listing = read_labels(labels.format, to_source(labels))
    pixel_size = to_pixel_size(labels.pixel_size_mm, "labels.pixel_size_mm")
    found = scan_labels(listing, on_bad=labels.on_bad, unlabelled=labels.unlabelled, pixel_size=pixel_size)
    if labels.on_bad == "drop":
        found = found.without_unplaced()
    size = check_pictures(found.images)
    rolls = deal_pictures(found.images, deal)
    write_rolls(out, rolls, pixel_size=size, color=Color(settings.color), frame_lines=settings.frame_lines)
    rows = [describe(out / ROLLS / name, laid, size) for name, laid in rolls.items()]
    num_left = len(found.images) - sum(map(len, rolls.values()))
    rows += [f"left out: {num_left} pictures that no roll took, {len(found.dropped)} that cannot be used"]
    log.info("\n  ".join([*rows, f"{out / DEFECTS}, {out / PICTURES}"]))


def describe(roll: Path, laid: Sequence[LaidPicture], size: PixelSize) -> str:
    length_m = sum(one.num_lines for one in laid) * size.down_web_mm / 1000
    num_defects = sum(len(one.image.defects) for one in laid)
    return f"{roll}: {length_m:.4g} m, {len(laid)} pictures, {num_defects} defects"


if __name__ == "__main__":
    run(main, "roll_of_pictures")
