"""What Optuna does for a sweep: decide what to try, and remember it in a database of the sweep's folder.

What trial k is depends on the seed, on k and on the results before it, so that a killed sweep that goes on makes the
same trials as one that never stopped.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from zellige.comparison_runs import differences
from zellige.core.errors import ConfigError
from zellige.sweep_space import Dimension, SweepPlan

DATABASE = "optuna.db"

_IDENTITY = "zellige"


def open_study(plan: SweepPlan, folder: Path, fingerprint: str) -> optuna.Study:
    """Open the folder's study or make it; a half-made database is never left.

    Raises:
        ConfigError: it was made with other settings or from other images.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database = folder.absolute() / DATABASE
    if set(str(database)) & set("?#%"):
        raise ConfigError(f"runs_dir: a sweep's path cannot hold any of ? # %, got {folder}")
    space = {dimension.key: repr(dimension) for dimension in plan.dimensions}
    wanted = {**plan.settings, "space": space, "sampler": plan.sampler, "images": fingerprint}
    if not database.exists():
        partial = database.with_name(f".{DATABASE}.partial")
        partial.unlink(missing_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{partial}")
        made = optuna.create_study(storage=storage, study_name=plan.name, direction="maximize")
        made.set_user_attr(_IDENTITY, wanted)
        storage.remove_session()
        storage.engine.dispose()
        partial.replace(database)
    study = optuna.load_study(storage=f"sqlite:///{database}", study_name=plan.name)
    differing = differences(study.user_attrs.get(_IDENTITY), json.loads(json.dumps(wanted)))
    if differing:
        raise ConfigError(
            f"name: {folder} was made with other settings ({'; '.join(differing[:3])}); choose another name or move "
            "it away"
        )
    return study


def next_batch(plan: SweepPlan, study: optuna.Study) -> list[FrozenTrial]:
    """List the trials to make next: those that an interrupted call left open, filled up to `plan.jobs` with new ones.

    Empty when all are made.
    """
    distributions = {dimension.key: _distribution(dimension) for dimension in plan.dimensions}
    trials = study.get_trials(deepcopy=False)
    num_told = sum(trial.state.is_finished() for trial in trials)
    stop = min((num_told // plan.jobs + 1) * plan.jobs, plan.trials)
    for number in range(len(trials), stop):
        seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
        study.sampler = (
            optuna.samplers.TPESampler(seed=seed) if plan.sampler == "tpe" else optuna.samplers.RandomSampler(seed=seed)
        )
        study.ask(distributions)
    return [trial for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]


def tell(study: optuna.Study, number: int, criterion: float | None) -> None:
    """Say how good a trial is; None where it failed."""
    if criterion is None:
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, criterion)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what goes wrong in the database (a full disk, a damaged file) into one line for the user."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ConfigError(f"{folder / DATABASE} must be usable, got {type(error).__name__}: {reason}") from error


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return IntDistribution(dimension.low, dimension.high, log=dimension.is_log, step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log, step=dimension.step)
