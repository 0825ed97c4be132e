"""The schemas of what is cut out of recorded rolls, data=roll and scripts/mine.py, and the steps to typed objects."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from zellige.core.errors import ConfigError
from zellige.core.flat_field import FlatField, check_flat_field_fits
from zellige.core.flat_field_file import read_flat_field
from zellige.core.types import Color, PixelSize
from zellige.data.roll_tiles import RollTiles


@dataclass
class RollsConfig:
    """Rolls that images are cut out of; see zellige.data.roll_tiles.RollTiles."""

    source: str = MISSING
    defects: str | None = None
    tile_px: int = 512
    good_per_roll: int = 100
    width_px: int | None = None
    flat_field: str | None = None


@dataclass
class MineConfig:
    """A finished run and a roll of good material; see zellige.data.mine_roll."""

    run: str = MISSING
    roll: str = MISSING
    out: str = MISSING
    count: int = 64
    width_px: int | None = None
    flat_field: str | None = None


def to_roll_tiles(config: RollsConfig, pixel_size: PixelSize | None, color: str) -> RollTiles:
    """Turn the settings of data=roll into what is cut; reads the flat field where there is one.

    Raises:
        ConfigError: no pixel size, a color that raw lines do not tell, or a number out of range.
        InputError: the flat field cannot be read.
    """
    if pixel_size is None:
        raise ConfigError("data.pixel_size_mm: expected the rolls' pixel size in mm, got none")
    colors = [mode.value for mode in Color]
    if color not in colors:
        raise ConfigError(f"data.color: expected one of {', '.join(colors)} for rolls, got {color!r}")
    return RollTiles(
        source=Path(config.source),
        defects=None if config.defects is None else Path(config.defects),
        pixel_size=pixel_size,
        color=Color(color),
        tile_px=config.tile_px,
        good_per_roll=config.good_per_roll,
        width_px=config.width_px,
        flat_field=None if config.flat_field is None else read_flat_field(Path(config.flat_field)),
    )


def mining_flat_field(config: MineConfig, declared_dn: float | None) -> FlatField | None:
    """Read the flat field that a roll is mined with: that of the bundle's target level, or none where it has no level.

    Raises:
        ConfigError: one is missing, or one is given that nobody can check.
        InputError: it cannot be read, or has another target level.
    """
    if config.flat_field is None:
        if declared_dn is None:
            return None
        raise ConfigError(
            f"flat_field: expected a file with target {declared_dn:g} DN, which the run's bundle declares, got none"
        )
    if declared_dn is None:
        raise ConfigError(
            f"flat_field={config.flat_field}: expected none, since the run's bundle declares no target level "
            "(data.target_dn)"
        )
    flat_field = read_flat_field(Path(config.flat_field))
    check_flat_field_fits(flat_field, declared_dn, "run's bundle")
    return flat_field
