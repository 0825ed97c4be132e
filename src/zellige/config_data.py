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
from zellige.data.folds import Fold
from zellige.data.index import Placement, deal, place
from zellige.data.pairs import with_templates, without_templates
from zellige.data.read_set import Rules, read_set
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
    fold: list[int] | None = None  # number and count; see zellige.data.folds


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


def to_fold(value: list[int] | None) -> Fold | None:
    """Turn the setting data.fold (null, or its number and how many there are) into a fold.

    Raises:
        ConfigError: anything else.
    """
    if value is None:
        return None
    if len(value) != 2:
        raise ConfigError(f"data.fold: expected its number and how many there are, such as [1,5], got {value}")
    return Fold(number=value[0], of=value[1])


def load_data(config: DataConfig, model: Any = None, *, needs_good: bool = True) -> tuple[Splits, DataReport]:
    """Read and split the data set of a data group, then let its additions join; a synthetic web is made where absent.

    Templates are for a `model` (its config node) that compares with them; for another one the samples have none.
    Without a model they have what the set has. A set without good images is refused where `needs_good`.

    Raises:
        InputError: the images are not usable, see `load_splits` and `add_images`, or lack such a model's templates.
        ConfigError: a setting is not usable.
    """
    made = _make(config, needs_good=needs_good)
    placement = place(made.root, config.layout, made.rules, color=config.color)
    for added in config.additions:
        placement = add_images(placement, Path(added), made.rules)
    return _for_model(placement, config, model, made)


def load_folds(
    config: DataConfig, num_folds: int, model: Any = None, *, needs_good: bool = True
) -> list[tuple[Splits, DataReport]]:
    """Read a data set once and deal it to each fold of a cross-validation, as `load_data` does for one of them.

    Raises:
        InputError: see `load_data` and `assign_fold`.
        ConfigError: a setting is not usable.
    """
    folds = [Fold(number=number, of=num_folds) for number in range(1, num_folds + 1)]
    made = _make(config, needs_good=needs_good)
    whole = read_set(made.root, config.layout, made.rules, color=config.color)
    return [_for_model(deal(whole, replace(made.rules, fold=fold)), config, model, made) for fold in folds]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Where the images are, how they are read and split, and which target level they have."""

    root: Path
    rules: Rules
    target_dn: float | None


def _make(config: DataConfig, *, needs_good: bool) -> _Made:
    """Check the settings, and cut rolls or draw a synthetic web where the images are to be made."""
    pixel_size, fold = to_pixel_size(config.pixel_size_mm), to_fold(config.fold)
    if config.split_seed < 0:
        raise ConfigError(f"data.split_seed: expected 0 or more, got {config.split_seed}")
    if fold is not None and config.additions:
        raise ConfigError("data.additions: expected none where data.fold is set, since TEST must stay what it was")
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
        fold=fold,
    )
    return _Made(root=root, rules=rules, target_dn=target_dn)


def _for_model(placement: Placement, config: DataConfig, model: Any, made: _Made) -> tuple[Splits, DataReport]:
    check_resolution(coarsest_pixel_size(placement.splits), config.smallest_defect_mm)
    report = replace(placement.report, target_dn=made.target_dn)
    if model is None:
        return placement.splits, report
    is_pair = getattr(class_of(model), "is_pair", False)
    splits = with_templates(placement.splits, made.root) if is_pair else without_templates(placement.splits)
    return splits, report


def fold_in_words(config: DataConfig) -> dict[str, str]:
    """What a run's report says of its place in a cross-validation; nothing where it has none."""
    fold = to_fold(config.fold)
    return {} if fold is None else {"fold": f"{fold.number} of {fold.of}"}
