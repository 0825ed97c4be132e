"""Read finished runs back from an MLflow store, for notebooks: it writes nothing and makes no store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from zellige.core.errors import InputError
from zellige.tracking import DATABASE, Run, locked, open_client, store_errors
from zellige.tracking_comparison import COMPARISON
from zellige.tracking_parent import PARENT

_TRAINED = "zellige.run_name"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedRun:
    """One finished run. `settings` are flat texts (`model.name`), `parent` is the name of the run above."""

    name: str
    experiment: str
    kind: str
    """training or comparison."""
    parent: str | None
    settings: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: Path

    def report(self) -> dict[str, Any]:
        """Read the run's report.json.

        Raises:
            InputError: it is not there or damaged.
        """
        path = self.artifacts / "report.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"run {self.name}: expected its report in {path}, got none that is readable ({error})"
            ) from None
        assert isinstance(content, dict)
        return content


def read_runs(store: Path, experiment: str | None = None) -> list[LoggedRun]:
    """List the finished training runs and comparisons, the newest first; empty where there is no store.

    Args:
        store: folder of the MLflow store.
        experiment: name of the experiment; None means all.

    Raises:
        ConfigError: the store cannot be read.
    """
    if not (store / DATABASE).is_file():
        return []
    client = open_client(store)
    with store_errors(store), locked(store):
        names = {found.experiment_id: found.name for found in client.search_experiments()}
        wanted = [number for number, name in names.items() if experiment in (None, name)]
        found: list[Run] = []
        token: str | None = None
        while wanted:
            page = client.search_runs(wanted, "attributes.status = 'FINISHED'", page_token=token)
            found += page
            token = page.token
            if not token:
                break
    by_id = {run.info.run_id: run.info.run_name for run in found}
    return [
        LoggedRun(
            name=run.info.run_name,
            experiment=names[run.info.experiment_id],
            kind="training" if _TRAINED in run.data.tags else "comparison",
            parent=by_id.get(run.data.tags.get(PARENT)),
            settings=run.data.params,
            metrics=run.data.metrics,
            tags=run.data.tags,
            artifacts=Path(url2pathname(urlparse(run.info.artifact_uri).path)),
        )
        for run in found
        if {_TRAINED, COMPARISON.tag} & set(run.data.tags)
    ]
