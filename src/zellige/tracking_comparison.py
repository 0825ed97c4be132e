"""One MLflow run for a whole comparison or cross-validation, with its training runs nested under it.

Written when all is known, and all or nothing: the training runs are logged by themselves while the comparison goes
on, and what an interrupted comparison leaves in the store are ordinary runs. Logged again under the same name, the
comparison takes the place of the older one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zellige.tracking import (
    MlflowClient,
    Run,
    discard_runs,
    experiment_id_of,
    locked,
    open_client,
    runs_named,
    store_errors,
)
from zellige.tracking_parent import PARENT, ParentKind, create_run, in_words

logger = logging.getLogger(__name__)

COMPARISON = ParentKind(tag="zellige.comparison", word="comparison", other="a training run")
CROSS_VALIDATION = ParentKind(tag="zellige.folds", word="cross-validation", other="another run")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedComparison:
    """What MLflow gets: settings by dotted key, numbers and tags by name, files to store."""

    name: str
    settings: Mapping[str, object]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Sequence[Path]


def log_comparison(
    comparison: LoggedComparison,
    run_names: Sequence[str],
    *,
    store: Path,
    experiment: str,
    kind: ParentKind = COMPARISON,
) -> tuple[str, list[str]]:
    """Log the comparison and put its training runs under it.

    Args:
        comparison: what to log.
        run_names: names of the training runs, logged to the same experiment before.
        store: folder of the MLflow store.
        experiment: name of the experiment.
        kind: what it is.

    Returns:
        The MLflow run id of the comparison, and the names of the training runs that the store does not have.

    Raises:
        ConfigError: the name is taken by a run of another kind, or the store cannot be written.
    """
    client = open_client(store)
    with store_errors(store), locked(store):
        experiment_id = experiment_id_of(client, store, experiment)
        older = kind.runs(client, experiment_id, comparison.name, in_words(store, experiment))
        named = {name: runs_named(client, experiment_id, name) for name in run_names}
        children = [runs[0] for runs in named.values() if runs]
        tags = {**comparison.tags, kind.tag: comparison.name}
        settings, metrics = comparison.settings, comparison.metrics
        parent = create_run(client, experiment_id, comparison.name, settings=settings, tags=tags, metrics=metrics)
        try:
            for path in comparison.files:
                client.log_artifact(parent.info.run_id, str(path))
            for child in children:
                client.set_tag(child.info.run_id, PARENT, parent.info.run_id)
            client.set_terminated(parent.info.run_id, "FINISHED")
        except BaseException:
            logger.warning("taking the unfinished %s %s back from the MLflow store", kind.word, comparison.name)
            _restore_parents(client, children)
            discard_runs(client, [parent])
            raise
        discard_runs(client, older)
    return str(parent.info.run_id), [name for name, runs in named.items() if not runs]


def _restore_parents(client: MlflowClient, children: Sequence[Run]) -> None:
    for child in children:
        before = child.data.tags.get(PARENT)
        if before is not None:
            client.set_tag(child.info.run_id, PARENT, before)
        elif PARENT in client.get_run(child.info.run_id).data.tags:
            client.delete_tag(child.info.run_id, PARENT)
