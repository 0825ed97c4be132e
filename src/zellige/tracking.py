"""MLflow tracking: one run folder becomes one MLflow run and one registered model version.

The only file that imports mlflow. The store is a folder: `mlflow.db` (SQLite) and `artifacts/`. Everything is written
under one file lock: two trainings may log to a store at once, and whoever holds the lock and finds a run of ours still
open knows that its process died.
"""

import fcntl
import json
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from zellige.core.errors import ConfigError, InputError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it while it is imported

from mlflow import MlflowClient as MlflowClient  # for tracking_comparison, which does not import mlflow itself
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.entities import Run as Run
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

CANDIDATE = "candidate"
DATABASE = "mlflow.db"
REQUIRED_FILES = ("config.yaml", "report.json", "report.html", "data_report.json")
MORE_FILES = ("predictions.csv", "suspicious_train.json")
QUIET = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}
MAX_PARAM_CHARACTERS = 500
MAX_METRICS_AT_ONCE = 1000  # a limit of MLflow
MAX_DIGEST_CHARACTERS = 36  # a limit of MLflow; the whole fingerprint is in the tag


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What says which run this is, the same in the run folder, in MLflow and in the bundle's manifest.

    `bundle_id` is None where the run made no bundle, `git_commit` where the code is not in a git checkout.
    """

    run_name: str
    data_name: str
    data_fingerprint: str
    git_commit: str | None
    bundle_id: str | None

    def __post_init__(self) -> None:
        _check_name(self.run_name)

    def tags(self) -> dict[str, str]:
        """Return the tags that carry the identity; what is unknown is left out."""
        tags = {
            "zellige.run_name": self.run_name,
            "zellige.data_name": self.data_name,
            "zellige.data_fingerprint": self.data_fingerprint,
            "zellige.bundle_id": self.bundle_id,
            "mlflow.source.git.commit": self.git_commit,
        }
        return {key: value for key, value in tags.items() if value is not None}


def store_uri(store: Path) -> str:
    """Return the tracking URI of a store folder.

    Raises:
        ConfigError: the path holds a character that cannot be in a database URI.
    """
    path = store.absolute() / DATABASE
    if set(str(path)) & set("?#%"):
        raise ConfigError(f"the tracking store's path cannot hold any of ? # %, got {path}")
    return f"sqlite:///{path}"


def make_store(store: Path) -> None:
    """Make the store's database where there is none; takes some seconds the first time.

    It is built beside its final name and then renamed, so an interruption leaves no half-made database.

    Raises:
        ConfigError: the folder cannot be written.
    """
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    with store_errors(store), locked(store):
        if (store / DATABASE).exists():
            return
        logger.info("making the MLflow store %s (once, some seconds)", store / DATABASE)
        partial = store.absolute() / f".{DATABASE}.partial"
        partial.unlink(missing_ok=True)
        uri = f"sqlite:///{partial}"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments()
        partial.replace(store / DATABASE)


def check_run_name_free(store: Path, experiment: str, run_name: str) -> None:
    """Refuse a run name that the experiment already has; makes the store on first use.

    Call it before anything long starts: it also finds a store that cannot be written.

    Raises:
        ConfigError: the name is taken or cannot be a file's name, or the store cannot be used.
    """
    _check_name(run_name)
    client = open_client(store)
    with store_errors(store), locked(store):
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            _leftovers(client, found.experiment_id, run_name, where=f"experiment {experiment} of {store}")


def log_run(
    run_dir: Path,
    *,
    store: Path,
    experiment: str,
    identity: RunIdentity,
    config: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    tags: Mapping[str, str],
    registered_model: str | None,
    curve: Sequence[Mapping[str, float]] = (),
) -> str:
    """Log a finished run folder (settings, metrics, data set, pictures, reports, bundle) and return the MLflow run id.

    A failure or Ctrl-C takes everything back: the run, its files and its model version.

    Args:
        run_dir: The run folder, named `identity.run_name` (or `.NAME.partial` before it gets its name).
        store: Folder of the MLflow store.
        experiment: Name of the experiment, made where it is new.
        identity: Who the run is; see `RunIdentity`.
        config: The resolved settings, nested; logged flat (`data.root`), long values shortened (whole in config.yaml).
        metrics: Name to value; None, NaN and infinities are left out.
        tags: More tags, such as whether sizes are calibrated.
        curve: One entry per epoch, with its "epoch"; the other values become metrics by step.
        registered_model: Model of which the bundle becomes a version, with the alias `candidate`; None: no version.

    Raises:
        InputError: a file of the run folder is missing, or its name is not the run's.
        ConfigError: the name is taken, or the store cannot be written.
    """
    files = _files_to_log(run_dir, identity, registered_model)
    client = open_client(store)
    name = identity.run_name
    with store_errors(store), locked(store):
        experiment_id = experiment_id_of(client, store, experiment)
        discard_runs(client, _leftovers(client, experiment_id, name, where=f"experiment {experiment} of {store}"))
        model_before = _find_model(client, registered_model)
        try:
            source = {"mlflow.source.type": "LOCAL", "mlflow.source.name": Path(sys.argv[0]).name}
            run = client.create_run(experiment_id, run_name=name, tags={**source, **tags, **identity.tags()})
            _log_values(client, run, identity, config, metrics)
            _log_curve(client, run, curve)
            for path, folder in files:
                client.log_artifact(run.info.run_id, str(path), folder)
            _finish(client, run, registered_model, identity)
        except BaseException:
            logger.warning("taking the unfinished run %s back from the MLflow store", name)
            discard_runs(client, runs_named(client, experiment_id, name))
            _restore_model(client, registered_model, model_before)
            raise
    logger.info("logged %s to %s, experiment %s, run %s", name, store, experiment, run.info.run_id)
    return str(run.info.run_id)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as one level of dotted keys with text values (JSON for all but text)."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[key_of(name)] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return flat


def key_of(name: str) -> str:
    """Return a name that MLflow takes as a key: other characters become their code, as in `_2b_`."""
    return re.sub(r"[^\w.\- :/]", lambda match: f"_{ord(match.group()):x}_", name)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.\-]*", name):
        raise ConfigError(f"run_name must be letters, digits and _ . - and begin with no dot or dash, got {name!r}")


def shortened(value: str) -> str:
    """Cut a value that is too long for MLflow and say so."""
    note = f"… ({len(value)} characters, whole in config.yaml)"
    return value if len(value) <= MAX_PARAM_CHARACTERS else value[:MAX_PARAM_CHARACTERS] + note


def _files_to_log(run_dir: Path, identity: RunIdentity, registered_model: str | None) -> list[tuple[Path, str | None]]:
    name = identity.run_name
    if run_dir.name not in (name, f".{name}.partial"):
        raise InputError(f"a run folder carries its run's name, expected {name}, got {run_dir.name}: {run_dir}")
    missing = [file for file in REQUIRED_FILES if not (run_dir / file).is_file()]
    bundle = run_dir / f"{name}.zellige"
    if registered_model is not None and not bundle.is_file():
        missing.append(bundle.name)
    if missing:
        raise InputError(f"the run folder lacks {', '.join(missing)}: {run_dir}")
    files: list[tuple[Path, str | None]] = [(run_dir / file, None) for file in (*REQUIRED_FILES, *MORE_FILES)]
    files += [(picture, "pictures") for picture in sorted((run_dir / "pictures").glob("*.png"))]
    return [(path, folder) for path, folder in [*files, (bundle, "bundle")] if path.exists()]


def _log_values(
    client: MlflowClient,
    run: Run,
    identity: RunIdentity,
    config: Mapping[str, Any],
    metrics: Mapping[str, float | None],
) -> None:
    now = int(time.time() * 1000)
    finite = {key: value for key, value in metrics.items() if value is not None and math.isfinite(value)}
    params = [Param(key, shortened(value)) for key, value in flatten(config).items()]
    client.log_batch(
        run.info.run_id, [Metric(key_of(key), float(value), now, 0) for key, value in finite.items()], params
    )
    # The digest says which data it was; the path of the folder is a setting and is logged with the others.
    dataset = Dataset(
        name=identity.data_name,
        digest=identity.data_fingerprint[:MAX_DIGEST_CHARACTERS],
        source_type="zellige",
        source=json.dumps({"fingerprint": identity.data_fingerprint}),
    )
    client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train, val, test")])])


def _log_curve(client: MlflowClient, run: Run, curve: Sequence[Mapping[str, float]]) -> None:
    now = int(time.time() * 1000)
    points = [
        Metric(key_of(name), float(value), now, int(entry["epoch"]))
        for entry in curve
        for name, value in entry.items()
        if name != "epoch" and math.isfinite(value)
    ]
    for start in range(0, len(points), MAX_METRICS_AT_ONCE):
        client.log_batch(run.info.run_id, points[start : start + MAX_METRICS_AT_ONCE])


def _finish(client: MlflowClient, run: Run, model: str | None, identity: RunIdentity) -> None:
    """Close the run; where a model is named, make a version of the run's bundle and give it the alias last of all."""
    version = None
    if model is not None:
        if _find_model(client, model) is None:
            client.create_registered_model(model)
        source = f"{run.info.artifact_uri}/bundle"
        version = client.create_model_version(model, source, run.info.run_id, tags=identity.tags())
    client.set_terminated(run.info.run_id, "FINISHED")
    if version is not None:
        client.set_registered_model_alias(version.name, CANDIDATE, version.version)


def discard_runs(client: MlflowClient, runs: list[Run]) -> None:
    """Delete runs with their files and model versions."""
    for run in runs:
        # Files first: where the disk is full, the database can be written only after this.
        shutil.rmtree(Path(url2pathname(urlparse(run.info.artifact_uri).path)).parent, ignore_errors=True)
        for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            client.delete_model_version(version.name, version.version)
        client.delete_run(run.info.run_id)


def _leftovers(client: MlflowClient, experiment_id: str, run_name: str, *, where: str) -> list[Run]:
    """Return the unfinished runs of this name, whose processes died (the caller holds the lock).

    Raises:
        ConfigError: there is a finished run of this name, or one that zellige did not make.
    """
    runs = runs_named(client, experiment_id, run_name)
    leftovers = [run for run in runs if run.info.status == "RUNNING" and "zellige.run_name" in run.data.tags]
    if len(leftovers) < len(runs):
        raise ConfigError(f"run_name must be new, {run_name} exists: {where}")
    return leftovers


def _find_model(client: MlflowClient, model: str | None) -> RegisteredModel | None:
    try:
        return None if model is None else client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _restore_model(client: MlflowClient, model: str | None, before: RegisteredModel | None) -> None:
    """Bring the registered model back to what it was before the failed run: absent, or with its alias."""
    if before is not None and CANDIDATE in before.aliases:
        client.set_registered_model_alias(before.name, CANDIDATE, before.aliases[CANDIDATE])
    elif model is not None and before is None and _find_model(client, model) is not None:
        client.delete_registered_model(model)


def runs_named(client: MlflowClient, experiment_id: str, run_name: str) -> list[Run]:
    """List the active runs of a name; names hold no quotes."""
    return list(client.search_runs([experiment_id], f"attributes.run_name = '{run_name}'"))


def experiment_id_of(client: MlflowClient, store: Path, experiment: str) -> str:
    """Find an experiment or make it; its artifacts lie in the store.

    Raises:
        ConfigError: it is deleted.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return str(client.create_experiment(experiment, (store.absolute() / "artifacts").as_uri()))
    if found.lifecycle_stage != "active":
        raise ConfigError(f"experiment must not be deleted, got {experiment}: restore it in the MLflow UI: {store}")
    return str(found.experiment_id)


def open_client(store: Path) -> MlflowClient:
    """Open a store, made on first use."""
    make_store(store)
    with store_errors(store), locked(store):
        return MlflowClient(tracking_uri=store_uri(store), registry_uri=store_uri(store))


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store's lock; the system frees it when the process ends, however it ends."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def store_errors(store: Path) -> Iterator[None]:
    """Turn what goes wrong in the store (full disk, no permission, another schema) into one line for the user."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ConfigError(f"the MLflow store must be usable, got {type(error).__name__}: {reason}: {store}") from error
