"""The schema of the group data, and the step from it to splits of samples."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from zellige.config_models import class_of
from zellige.config_rolls import RollsConfig, to_roll_tiles
from zellige.core.errors import ConfigError
from zellige.core.flat_field import FlatField, check_flat_field_fits, check_target_level
from zellige.core.types import PixelSize, Splits
from zellige.data.additions import add_images
from zellige.data.index import Rules, place
from zellige.data.pairs import with_templates, without_templates
from zellige.data.report import DataReport
from zellige.data.resolution import check_resolution, coarsest_pixel_size
from zellige.data.roll_tiles import make_roll_set
from zellige.data.splits import Fractions
from zellige.data.synthetic import SyntheticWeb, make_synthetic_set


@dataclass
class FractionsConfig:
    """See zellige.data.splits.Fractions."""

    train: float = 0.6
    val: float = 0.2
    test: float = 0.2
    val_defects: float = 0.0
    train_defects: float = 0.0


@dataclass
class WebConfig:
    """Settings of the synthetic web; see zellige.data.synthetic.SyntheticWeb."""

    material: str = "zellige"
    height: int = 384
    width: int = 512
    num_train_good: int = 80
    num_val_good: int = 64
    num_test_good: int = 40
    num_defective: int = 10
    num_rolls: int = 8
    seed: int = 0
    color: str = "rgb"


@dataclass
class DataConfig:
    """Where images come from and how they are read and split."""

    name: str = MISSING
    layout: str = MISSING
    root: str = MISSING
    color: str = "as_stored"
    pixel_size_mm: Any = None
    duplicates: str = "group"
    on_bad: str = "error"
    augment: str = "none"
    additions: list[str] = field(default_factory=list)  # see zellige.data.additions
    split_seed: int = 0
    fractions: FractionsConfig = field(default_factory=FractionsConfig)
    web: WebConfig | None = None
    rolls: RollsConfig | None = None
    smallest_defect_mm: float | None = None
    target_dn: float | None = None


def last_part(path: str) -> str:
    """Name a data set by the last part of its path, without .csv; MLflow takes neither / nor : in a name.

    Example:
        >>> last_part("/data/rolls/floor 2/"), last_part("sets/a:b.csv")
        ('floor 2', 'a-b')
    """
    name = Path(os.path.abspath(str(path))).name.removesuffix(".csv")  # noqa: PTH100  resolve() would follow links
    return name.replace(":", "-") or "data"


def to_pixel_size(value: Any, key: str = "data.pixel_size_mm") -> PixelSize | None:
    """Turn the setting `key` (null, a number, or [cross_web, down_web]) into a pixel size.

    Raises:
        ConfigError: anything else.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else [value]
    ok = len(numbers) in (1, 2) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if not ok:
        raise ConfigError(f"{key}: expected one or two numbers in mm, got {value!r}")
    return PixelSize(cross_web_mm=float(numbers[0]), down_web_mm=float(numbers[-1]))


def settled_target_dn(target_dn: float | None, flat_field: FlatField | None) -> float | None:
    """Say which target level the images have: that of the flat field that corrects them, else what data.target_dn says.

    Raises:
        ConfigError: not a level.
        InputError: the flat field has another one than data.target_dn.
    """
    if target_dn is not None:
        check_target_level(target_dn, "data.target_dn")
    if flat_field is None:
        return target_dn
    if target_dn is not None:
        check_flat_field_fits(flat_field, target_dn, "data.target_dn")
    return flat_field.target_dn


def load_data(config: DataConfig, model: Any = None, *, needs_good: bool = True) -> tuple[Splits, DataReport]:
    """Read and split the data set of a data group, then let its additions join; a synthetic web is made where absent.

    Templates are for a `model` (its config node) that compares with them; for another one the samples have none.
    Without a model they have what the set has. A set without good images is refused where `needs_good`.

    Raises:
        InputError: the images are not usable, see `load_splits` and `add_images`, or lack such a model's templates.
        ConfigError: a setting is not usable.
    """
    pixel_size = to_pixel_size(config.pixel_size_mm)
    if config.split_seed < 0:
        raise ConfigError(f"data.split_seed: expected 0 or more, got {config.split_seed}")
    if pixel_size is not None:  # before anything is cut or drawn
        check_resolution(pixel_size, config.smallest_defect_mm)
    root, fractions = Path(config.root), Fractions(**vars(config.fractions))
    rolls = None if config.rolls is None else to_roll_tiles(config.rolls, pixel_size, config.color)
    target_dn = settled_target_dn(config.target_dn, None if rolls is None else rolls.flat_field)
    if rolls is not None:
        root = make_roll_set(root, rolls, fractions, seed=config.split_seed)
    if config.web is not None:
        if pixel_size is None:
            raise ConfigError("data.pixel_size_mm: expected the synthetic web's pixel size in mm, got none")
        root = make_synthetic_set(root, SyntheticWeb(**vars(config.web), pixel_size=pixel_size))
    rules = Rules(
        fractions=fractions,
        seed=config.split_seed,
        pixel_size=pixel_size,
        duplicates=config.duplicates,
        on_bad=config.on_bad,
        needs_good=needs_good,
    )
    placement = place(root, config.layout, rules, color=config.color)
    for added in config.additions:
        placement = add_images(placement, Path(added), rules)
    check_resolution(coarsest_pixel_size(placement.splits), config.smallest_defect_mm)
    report = replace(placement.report, target_dn=target_dn)
    if model is None:
        return placement.splits, report
    is_pair = getattr(class_of(model), "is_pair", False)
    splits = with_templates(placement.splits, root) if is_pair else without_templates(placement.splits)
    return splits, report
