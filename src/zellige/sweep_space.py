"""From the settings of a sweep to what is searched and what stays: typed and checked before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from zellige.auto_stages import AUTO, check_stages
from zellige.comparison_plan import check_jobs, compose_run, key_of
from zellige.config import SweepConfig, TrainConfig
from zellige.core.errors import ConfigError
from zellige.program import one_line
from zellige.run_folder import check_folder_name, plain_name

SAMPLERS = ("tpe", "random")
OWN_KEYS = ("name", "space", "trials", "sampler", "jobs", "search")

_SEARCHED = ("model", "trainer")
_MOST_TRIALS = 10_000
_EXAMPLE = "'space=[model.bank_size=choice(512,2048),model.top_share=tag(log,interval(0.001,0.1))]'"
_NOT_OF_THE_TRIAL = ("run_name", "runs_dir", "tracking", "calibration", "export")

Number = int | float
Values = Mapping[str, str | Number]
"""A value per searched setting; choices as they are typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One setting that is searched: among `choices` (as typed), or else between `low` and `high`, both included."""

    key: str
    choices: tuple[str, ...] = ()
    low: Number = 0
    high: Number = 0
    step: Number | None = None
    is_log: bool = False

    def ends(self) -> tuple[str, ...]:
        """All choices, or both ends, as they are typed."""
        return self.choices or (repr(self.low), repr(self.high))

    def argument(self, value: str | Number) -> str:
        """The setting with a value, as it is typed for scripts/train.py."""
        return f"{self.key}={value if isinstance(value, str) else repr(value)}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepPlan:
    """What a sweep does. `shared` are the settings that all trials have, `settings` the same, resolved."""

    name: str
    dimensions: tuple[Dimension, ...]
    shared: tuple[str, ...]
    settings: Mapping[str, Any]
    trials: int
    sampler: str
    jobs: int
    seed: int

    def arguments(self, values: Values) -> tuple[str, ...]:
        """The settings of a trial, as they are typed for scripts/train.py; what is searched comes last."""
        return (*self.shared, *(dimension.argument(values[dimension.key]) for dimension in self.dimensions))

    def trial_config(self, values: Values) -> TrainConfig:
        """Compose the settings of a trial.

        Raises:
            ConfigError: they do not fit each other, as where a setting is not one of the chosen model.
        """
        return _config_of(self.arguments(values), "trial")


def plan_sweep(config: SweepConfig, given: Sequence[str]) -> SweepPlan:
    """Read the search space and compose its ends; a mistake is found before anything is read.

    Args:
        config: of the sweep.
        given: the overrides that the sweep was called with; all but its own hold for every trial.

    Raises:
        ConfigError: an empty space, a setting that may not be searched, a number out of range.
    """
    name = f"{plain_name(config.data.name) or 'data'}-sweep" if config.name is None else config.name
    check_folder_name("name", name)
    check_jobs(config.jobs)
    if not 1 <= config.trials <= _MOST_TRIALS:
        raise ConfigError(f"trials: expected 1 to {_MOST_TRIALS}, got {config.trials}")
    if config.sampler not in SAMPLERS:
        raise ConfigError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {config.sampler!r}")
    if config.folds is not None:
        raise ConfigError("folds: scripts/train.py alone takes it")
    if any(key_of(text, "run_name") == "run_name" for text in given):
        raise ConfigError("run_name: a sweep names its trials itself; give name=...")
    dimensions = read_space(config.space)
    keys = [dimension.key for dimension in dimensions]
    own = (*OWN_KEYS, *keys)
    shared = tuple(text for text in given if key_of(text, "sweep") not in own)
    composed = compose_run(shared, "sweep")
    settings = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    plan = SweepPlan(
        name=name,
        dimensions=dimensions,
        shared=shared,
        settings={key: value for key, value in settings.items() if key not in _NOT_OF_THE_TRIAL},
        trials=config.trials,
        sampler=config.sampler,
        jobs=config.jobs,
        seed=config.seed,
    )
    _check_ends(plan)
    return plan


def read_space(space: Sequence[str]) -> tuple[Dimension, ...]:
    """Read entries such as `model.bank_size=choice(512,2048)`: `choice`, `range` and `interval` of Hydra's grammar.

    `interval(0.1,0.9)` is a real number, `int(interval(1,9))` a whole one, `tag(log,interval(...))` is searched by
    its logarithm; both ends are included. `range(16,64,16)` leaves out its end.

    Raises:
        ConfigError: no entry, one that is none of these, a setting twice or one that may not be searched.

    Example:
        >>> read_space(["model.bank_size=tag(log,int(interval(64,512)))"])
        (Dimension(key='model.bank_size', choices=(), low=64, high=512, step=None, is_log=True),)
    """
    if not space:
        raise ConfigError(f"space: expected what to search, such as {_EXAMPLE}, got an empty list")
    dimensions = tuple(_dimension(str(text)) for text in space)
    keys = [dimension.key for dimension in dimensions]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ConfigError(f"space: expected each setting once, got {twice} twice")
    return dimensions


def _dimension(text: str) -> Dimension:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(f"space: {text}: expected something such as {_EXAMPLE} ({one_line(error)})") from None
    key = override.key_or_group
    is_searched = key.split(".")[0] in _SEARCHED and not key.endswith(".seed")
    if not is_searched and key != "data.augment":
        raise ConfigError(
            f"space: expected settings of model or trainer (no seeds) or data.augment, got {key}: another "
            "geometry, image or seed would be another test, and all else does not change what is measured"
        )
    value = override.value()
    if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
        return _bounded(Dimension(key=key, low=value.start, high=value.end, is_log="log" in value.tags))
    if isinstance(value, RangeSweep):
        return _ranged(key, value)
    if override.is_choice_sweep():
        return Dimension(key=key, choices=_choices(override))
    raise ConfigError(f"space: {text}: expected choice(...), range(...) or interval(...), such as {_EXAMPLE}")


def _bounded(dimension: Dimension) -> Dimension:
    if not dimension.low < dimension.high or (dimension.is_log and dimension.low <= 0):
        low = "a number above 0 and then a larger one" if dimension.is_log else "a number and then a larger one"
        raise ConfigError(f"space: {dimension.key}: expected {low}, got {dimension.low} and {dimension.high}")
    return dimension


def _ranged(key: str, value: RangeSweep) -> Dimension:
    numbers = list(value.range()) if value.step else []
    if len(numbers) < 2 or numbers[0] > numbers[-1]:
        raise ConfigError(f"space: {key}: expected a range that rises by at least one step, got {value}")
    return Dimension(key=key, low=numbers[0], high=numbers[-1], step=value.step)


def _choices(override: Override) -> tuple[str, ...]:
    choices = tuple(override.sweep_string_iterator())
    if len(set(choices)) < len(choices) or not choices:
        raise ConfigError(f"space: {override.key_or_group}: expected different choices, got {', '.join(choices)}")
    return choices


def _check_ends(plan: SweepPlan) -> None:
    """Compose the ends of all settings, the first of each together and so on: they must exist and take these values."""
    keys = [dimension.key for dimension in plan.dimensions]
    of_a_model = next((key for key in keys if key.startswith("model.")), None)
    if "model" in keys and of_a_model is not None:
        raise ConfigError(
            f"space: expected no {of_a_model} beside model, as models differ in their settings; sweep each by itself"
        )
    ends = [dimension.ends() for dimension in plan.dimensions]
    for place in range(max(map(len, ends))):
        values = dict(zip(keys, (own[min(place, len(own) - 1)] for own in ends), strict=True))
        config = _config_of(plan.arguments(values), "space")
        check_stages(config.model)
        if getattr(config.model, "stages", None) == AUTO:
            raise ConfigError(
                "space: model.stages=auto chooses once, from images that a sweep judges on; search "
                "model.stages=choice([1,2,3],[2,3]) instead"
            )


def _config_of(arguments: Sequence[str], where: str) -> TrainConfig:
    return cast(TrainConfig, OmegaConf.to_object(compose_run(arguments, where)))
