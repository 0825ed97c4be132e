"""A finished run and more good images make a new run: what scripts/extend.py does around the detector."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from lightning_fabric import Fabric
from omegaconf import OmegaConf

from zellige.config_extend import ExtendConfig
from zellige.config_naming import NamingConfig
from zellige.core.decision import decide
from zellige.core.errors import ConfigError
from zellige.core.types import Calibration, Decision, Rate, Sample
from zellige.data.additions import added_prefix
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.evaluation.intervals import rate
from zellige.evaluation.predictions import PredictionSet
from zellige.export.build_bundle import Optics
from zellige.finished_run import CHECKPOINT, FinishedRun
from zellige.run_folder import check_run_name, git_commit, new_run_name
from zellige.tracking import locked, open_client, runs_named, store_errors
from zellige.training.checkpoint import save_checkpoint
from zellige.training.feature_passes import FitReport
from zellige.training.one_pass import check_extendable, extend
from zellige.training.predict import predict

TRAINER_SETTINGS = ("batch_size", "seed", "rank_suspicious")
"""Settings of a fit that an extension has too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The images of VAL that joined, how often the parent rejects them, which has never seen them, and what it cost."""

    val: tuple[Sample, ...]
    rejected_before: Rate
    cost: FitReport


def added_argument(argument: str) -> str:
    """Say `added=` for `data=`, which Hydra would take for the choice of a config group.

    Example:
        >>> added_argument("data=floor/new"), added_argument("run=runs/a")
        ('added=floor/new', 'run=runs/a')
    """
    return "added=" + argument.removeprefix("data=") if argument.startswith("data=") else argument


def new_place(settings: ExtendConfig | NamingConfig, what: str = "extended") -> tuple[Path, str]:
    """Say where the new run goes, by default beside its parent, and what it is called: NAME-`what`-DATE.

    Raises:
        ConfigError: the name cannot be a folder's or is taken.
    """
    run = Path(settings.run).absolute()
    runs_dir = run.parent if settings.runs_dir is None else Path(settings.runs_dir)
    name = new_run_name(run.name, what) if settings.run_name is None else settings.run_name
    check_run_name(runs_dir, name)
    return runs_dir, name


def save_settings(parent: FinishedRun, runs_dir: Path, name: str, run_dir: Path) -> dict[str, Any]:
    """Write config.yaml, the parent's with the images that joined, and return its content."""
    stored = OmegaConf.load(parent.folder / "config.yaml")
    changes = {
        "run_name": name,
        "runs_dir": str(runs_dir),
        "data": {"additions": parent.config.data.additions, "on_bad": parent.config.data.on_bad},
    }
    settings = OmegaConf.merge(stored, changes)
    OmegaConf.save(settings, run_dir / "config.yaml")
    return cast(dict[str, Any], OmegaConf.to_container(settings))


def join(parent: FinishedRun, optics: Optics, *, fabric: Fabric, run_dir: Path) -> Joined:
    """Let the parent judge the new images in VAL, then let its detector learn from those in train, and store it.

    Args:
        parent: opened with the images that join; its detector is changed.
        optics: how images are seen.
        fabric: where to run.
        run_dir: of the new run; gets the checkpoint, fit.json and, in parent/, the parent's scores.

    Raises:
        ConfigError: a detector that cannot take in more images.
    """
    detector, config = check_extendable(parent.detector), parent.config
    prefix = added_prefix(len(parent.data.additions))
    train, val = (
        tuple(sample for sample in samples if sample.id.startswith(prefix))
        for samples in (parent.splits.train, parent.splits.val)
    )
    rejected = rate(0, 0)
    if val:
        data = TileDataset(val, geometry=optics.geometry, color=optics.color)
        size = config.engine.batch_size
        seen = predict(parent.detector, data, "val", fabric=fabric, out_dir=run_dir / "parent", batch_size=size)
        rejected = rejected_rate(seen, parent.calibration, val)
        seen.drop_maps()
    augment = Augment(config.data.augment, seed=config.seed)
    more = TileDataset(train, geometry=optics.geometry, color=optics.color, augment=augment)
    settings = {key: value for key, value in config.trainer.items() if key in TRAINER_SETTINGS}
    cost = extend(detector, more, fabric=fabric, run_dir=run_dir, **settings)
    save_checkpoint(parent.detector, run_dir / CHECKPOINT)
    return Joined(val=val, rejected_before=rejected, cost=cost)


def rejected_rate(predictions: PredictionSet, calibration: Calibration, samples: Sequence[Sample]) -> Rate:
    """Share of some of the predicted samples that an operating point rejects."""
    wanted = {sample.id for sample in samples}
    num_rejected = 0
    for index in (i for i, sample in enumerate(predictions.samples) if sample.id in wanted):
        found = predictions[index]
        size = found.sample.pixel_size
        decision, _, _ = decide(found.score, found.anomaly_map, calibration, pixel_size=size, named=found.named)
        num_rejected += decision is Decision.REJECT
    return rate(num_rejected, len(wanted))


def lineage(
    name: str, parent: FinishedRun, joined: Joined, calibration: Calibration, rejected_after: Rate
) -> tuple[dict[str, str], dict[str, Any]]:
    """What a report says of who the new run is: its identity in words, its origin with it, and the origin as values."""
    run, added = parent.report["run"], parent.data.additions[-1]
    before, after = joined.rejected_before, rejected_after
    identity = {
        "name": name,
        "data fingerprint": parent.splits.fingerprint,
        "git commit": git_commit() or "none",
        "extends run": parent.name,
        "extends bundle": str(run["bundle"]),
        "added images": f"{added.root}: {added.train} in train, {added.val} in val, {added.left_out} left out",
        "added VAL images rejected": (
            f"{_words(before)} by the parent, {_words(after)} now; the new threshold was chosen on VAL with them"
        ),
    }
    values = {
        "parent": parent.name,
        "parent_bundle": run["bundle"],
        "added": {**asdict(added), "left_out": added.left_out},
        "reject_score": {"before": parent.calibration.reject_score, "after": calibration.reject_score},
        "added_val_rejected": {"before": _values(before), "after": _values(after)},
    }
    return identity, values


def parent_tags(parent: FinishedRun) -> dict[str, str]:
    """MLflow tags that name the parent: its run, its bundle and, where the store has it, its MLflow run id."""
    tracking = parent.config.tracking
    tags = {"zellige.parent_run": parent.name, "zellige.parent_bundle_id": str(parent.report["run"]["bundle"])}
    if not tracking.enabled:
        return tags
    store = Path(tracking.store)
    try:
        client = open_client(store)
        with store_errors(store), locked(store):
            experiment = client.get_experiment_by_name(tracking.experiment)
            found = runs_named(client, experiment.experiment_id, parent.name) if experiment is not None else []
    except ConfigError:
        return tags  # logging the run meets the same store and reports it
    return {**tags, "mlflow.parentRunId": str(found[0].info.run_id)} if found else tags


def _words(value: Rate) -> str:
    return f"{round(value.value * value.n)} of {value.n}" if value.n else "none"


def _values(value: Rate) -> dict[str, float | int | None]:
    return {**asdict(value), "value": None if math.isnan(value.value) else value.value}
