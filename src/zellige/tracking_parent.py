"""A run of the MLflow store that stands for several others: its name, which must be free or its own, and its making."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zellige.core.errors import ConfigError
from zellige.tracking import (
    MlflowClient,
    Run,
    flatten,
    key_of,
    locked,
    open_client,
    runs_named,
    shortened,
    store_errors,
)

PARENT = "mlflow.parentRunId"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentKind:
    """What a run stands for: the tag that tells it, and in words what it is and what others are."""

    tag: str
    word: str
    other: str

    def runs(self, client: MlflowClient, experiment_id: str, name: str, where: str) -> list[Run]:
        """Find the runs of this kind and name.

        Raises:
            ConfigError: a run of another kind has the name.
        """
        found = runs_named(client, experiment_id, name)
        if any(self.tag not in run.data.tags for run in found):
            raise ConfigError(f"name must be new or that of a {self.word}, {name} is {self.other}: {where}")
        return found

    def check_name_free(self, store: Path, experiment: str, name: str) -> None:
        """Refuse a name that a run of another kind has; makes the store on first use.

        Raises:
            ConfigError: the name is taken, or the store cannot be used.
        """
        client = open_client(store)
        with store_errors(store), locked(store):
            found = client.get_experiment_by_name(experiment)
            if found is not None:
                self.runs(client, found.experiment_id, name, in_words(store, experiment))


def in_words(store: Path, experiment: str) -> str:
    """Say where a run is looked for."""
    return f"experiment {experiment} of {store}"


def create_run(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    *,
    settings: Mapping[str, object],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Run:
    """Create a run, still running, with settings by dotted key and numbers by name."""
    source = {"mlflow.source.type": "LOCAL", "mlflow.source.name": Path(sys.argv[0]).name}
    run = client.create_run(experiment_id, run_name=name, tags={**source, **tags})
    for key, value in flatten(settings).items():
        client.log_param(run.info.run_id, key, shortened(value))
    for key, number in metrics.items():
        client.log_metric(run.info.run_id, key_of(key), number)
    return run
