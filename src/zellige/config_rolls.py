"""The schemas of what is cut out of recorded rolls, data=roll and scripts/mine.py, and the step to typed objects."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from zellige.core.errors import ConfigError
from zellige.core.types import Color, PixelSize
from zellige.data.roll_tiles import RollTiles, make_roll_set
from zellige.data.splits import Fractions


@dataclass
class RollsConfig:
    """Rolls that images are cut out of; see zellige.data.roll_tiles.RollTiles."""

    source: str = MISSING
    defects: str | None = None
    tile_px: int = 512
    good_per_roll: int = 100
    width_px: int | None = None


@dataclass
class MineConfig:
    """A finished run and a roll of good material; see zellige.data.mine_roll."""

    run: str = MISSING
    roll: str = MISSING
    out: str = MISSING
    count: int = 64
    width_px: int | None = None


def cut_rolls(
    config: RollsConfig, root: Path, pixel_size: PixelSize | None, color: str, fractions: Fractions, *, seed: int
) -> Path:
    """Cut the images of data=roll under `root`, or find them there, and return their folder.

    Raises:
        ConfigError: no pixel size, or a color that raw lines do not tell.
        InputError: see `make_roll_set`.
    """
    if pixel_size is None:
        raise ConfigError("data.pixel_size_mm: expected the rolls' pixel size in mm, got none")
    colors = [mode.value for mode in Color]
    if color not in colors:
        raise ConfigError(f"data.color: expected one of {', '.join(colors)} for rolls, got {color!r}")
    rolls = RollTiles(
        source=Path(config.source),
        defects=None if config.defects is None else Path(config.defects),
        pixel_size=pixel_size,
        color=Color(color),
        tile_px=config.tile_px,
        good_per_roll=config.good_per_roll,
        width_px=config.width_px,
    )
    return make_roll_set(root, rolls, fractions, seed=seed)
