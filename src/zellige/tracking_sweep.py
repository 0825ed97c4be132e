"""One MLflow run for a whole sweep, with its trials nested under it; it grows with every batch of trials.

The parent is closed as soon as it is made: an open run of ours means that its process died (see tracking.py), and a
sweep takes hours. What is logged again is left as it is, so a sweep that goes on adds what is missing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zellige.tracking import (
    MlflowClient,
    Run,
    discard_runs,
    experiment_id_of,
    key_of,
    locked,
    open_client,
    store_errors,
)
from zellige.tracking_parent import PARENT, ParentKind, create_run, in_words

SWEEP = ParentKind(tag="zellige.sweep", word="sweep", other="another run")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedTrial:
    """What MLflow gets of one trial: what was searched, by dotted key, and numbers by name."""

    name: str
    settings: Mapping[str, object]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedSweep:
    """What MLflow gets of a sweep: the settings of all trials, numbers and tags of the best, and the trials so far."""

    name: str
    settings: Mapping[str, object]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    trials: Sequence[LoggedTrial]


def log_sweep(sweep: LoggedSweep, *, store: Path, experiment: str) -> None:
    """Log a sweep, or what is new of it.

    Raises:
        ConfigError: the name is taken by a run that is no sweep, or the store cannot be written.
    """
    client = open_client(store)
    with store_errors(store), locked(store):
        experiment_id = experiment_id_of(client, store, experiment)
        before = SWEEP.runs(client, experiment_id, sweep.name, in_words(store, experiment))
        if before:
            parent = before[0]
        else:
            parent = _create(client, experiment_id, sweep.name, sweep.settings, {SWEEP.tag: sweep.name}, {})
        own = f"tags.`{PARENT}` = '{parent.info.run_id}'"
        logged = {run.info.run_name: run for run in _all_runs(client, experiment_id, own)}
        for trial in sweep.trials:
            found = logged.get(trial.name)
            if found is not None and found.info.status == "FINISHED":
                continue
            if found is not None:  # of a process that died
                discard_runs(client, [found])
            _create(client, experiment_id, trial.name, trial.settings, {PARENT: parent.info.run_id}, trial.metrics)
        for key, number in sweep.metrics.items():
            client.log_metric(parent.info.run_id, key_of(key), number)
        for key, text in sweep.tags.items():
            client.set_tag(parent.info.run_id, key, text)


def _create(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    settings: Mapping[str, object],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Run:
    run = create_run(client, experiment_id, name, settings=settings, tags=tags, metrics=metrics)
    client.set_terminated(run.info.run_id, "FINISHED", end_time=int(time.time() * 1000))
    return run


def _all_runs(client: MlflowClient, experiment_id: str, condition: str) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], condition, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
