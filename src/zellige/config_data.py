"""The schema of the group data, and the step from it to splits of samples."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from zellige.config_models import class_of
from zellige.config_rolls import RollsConfig, cut_rolls
from zellige.core.errors import ConfigError
from zellige.core.types import PixelSize, Splits
from zellige.data.additions import add_images
from zellige.data.folds import Fold
from zellige.data.index import Placement, deal, place
from zellige.data.pairs import with_templates, without_templates
from zellige.data.read_set import Rules, read_set
from zellige.data.report import DataReport
from zellige.data.resolution import check_resolution, coarsest_pixel_size
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
    root, rules = _root_and_rules(config, needs_good=needs_good)
    placement = place(root, config.layout, rules, color=config.color)
    for added in config.additions:
        placement = add_images(placement, Path(added), rules)
    return _for_model(placement, config, model, root)


def load_folds(
    config: DataConfig, num_folds: int, model: Any = None, *, needs_good: bool = True
) -> list[tuple[Splits, DataReport]]:
    """Read a data set once and deal it to each fold of a cross-validation, as `load_data` does for one of them.

    Raises:
        InputError: see `load_data` and `assign_fold`.
        ConfigError: a setting is not usable.
    """
    folds = [Fold(number=number, of=num_folds) for number in range(1, num_folds + 1)]
    root, rules = _root_and_rules(config, needs_good=needs_good)
    whole = read_set(root, config.layout, rules, color=config.color)
    return [_for_model(deal(whole, replace(rules, fold=fold)), config, model, root) for fold in folds]


def _root_and_rules(config: DataConfig, *, needs_good: bool) -> tuple[Path, Rules]:
    """Check the settings, and cut rolls or draw a synthetic web where the images are to be made."""
    pixel_size, fold = to_pixel_size(config.pixel_size_mm), to_fold(config.fold)
    if config.split_seed < 0:
        raise ConfigError(f"data.split_seed: expected 0 or more, got {config.split_seed}")
    if fold is not None and config.additions:
        raise ConfigError("data.additions: expected none where data.fold is set, since TEST must stay what it was")
    if pixel_size is not None:  # before anything is cut or drawn
        check_resolution(pixel_size, config.smallest_defect_mm)
    root, fractions = Path(config.root), Fractions(**vars(config.fractions))
    if config.rolls is not None:
        root = cut_rolls(config.rolls, root, pixel_size, config.color, fractions, seed=config.split_seed)
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
    return root, rules


def _for_model(placement: Placement, config: DataConfig, model: Any, root: Path) -> tuple[Splits, DataReport]:
    check_resolution(coarsest_pixel_size(placement.splits), config.smallest_defect_mm)
    if model is None:
        return placement.splits, placement.report
    is_pair = getattr(class_of(model), "is_pair", False)
    splits = with_templates(placement.splits, root) if is_pair else without_templates(placement.splits)
    return splits, placement.report


def fold_in_words(config: DataConfig) -> dict[str, str]:
    """What a run's report says of its place in a cross-validation; nothing where it has none."""
    fold = to_fold(config.fold)
    return {} if fold is None else {"fold": f"{fold.number} of {fold.of}"}
