"""Cross-validate the settings of a run: a run for each fold, one after the other, and the numbers of all images.

Each fold is an ordinary run of scripts/train.py, NAME-foldN, with `data.fold=[N,FOLDS]`. Called again, a
cross-validation goes on where it stopped.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from zellige.comparison_plan import Child, compose_run, key_of
from zellige.comparison_runs import Outcome, check_same, run_children
from zellige.config import TrainConfig
from zellige.config_data import load_folds
from zellige.config_models import learns_from_labels
from zellige.core.errors import USER_ERRORS, ConfigError, InputError
from zellige.core.types import Splits
from zellige.data.folds import Fold
from zellige.data.report import DataReport
from zellige.evaluation.folds_html import NAMES, pooled_lines, write_folds_html
from zellige.evaluation.named_plots import plot_confusion
from zellige.evaluation.pooled import JudgedFold, PooledReport, mean_and_range, pool
from zellige.evaluation.predictions_csv import read_predictions_csv
from zellige.release import check_ready
from zellige.run_folder import check_folder_name, claimed_folder, git_commit, plain_name, write_json
from zellige.run_report import metrics_of
from zellige.tracking_comparison import CROSS_VALIDATION, LoggedComparison, log_comparison
from zellige.training.processes import group_settings

SETTINGS = "folds.yaml"
INTERRUPTED = "interrupted: the finished folds are kept; call it again with the same settings to go on"

_OWN_KEYS = ("folds", "run_name")
_NEXT = (
    "The folds say how good the settings are. None of their bundles is meant for a station: each has learned from a "
    "part of the images. Take the bundle of a run without folds, which may learn from more of them (data.fractions)."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossValidation:
    """The outcome. `content` is that of folds.json; `untracked` says why MLflow does not have it, else it is empty."""

    folder: Path
    content: Mapping[str, Any]
    untracked: str

    def lines(self) -> list[str]:
        """The result for a terminal."""
        following = self.content["next"]
        return [
            f"{self.folder}:",
            *pooled_lines(self.content["pooled"]),
            f"page: {self.folder / 'folds.html'}",
            following["words"],
            following["command"],
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldPlan:
    """The runs of a cross-validation; `shared` are the settings that the user gave and all of them have."""

    name: str
    shared: tuple[str, ...]
    children: tuple[Child, ...]


def cross_validate(config: TrainConfig, given: Sequence[str]) -> CrossValidation:
    """Run all folds and put their numbers together; what is finished of an earlier call is kept.

    Args:
        config: the composed settings, with `folds`.
        given: the overrides that the program was called with; all but its own are passed on to each fold.

    Raises:
        ConfigError: a setting is not usable, a folder of these names holds something else, or a fold failed.
        InputError: the images are not usable.
    """
    plan = plan_folds(config, given)
    folder, tracking = Path(config.runs_dir) / plan.name, config.tracking
    if folder.exists() and not (folder / SETTINGS).is_file():
        raise ConfigError(
            f"run_name: {folder} exists and is not a cross-validation; choose another name or move it away"
        )
    needs_good = not learns_from_labels(config.trainer)
    folds = load_folds(config.data, len(plan.children), config.model, needs_good=needs_good)
    for number, (splits, data) in enumerate(folds, 1):
        try:
            check_ready(config, splits, data)
        except USER_ERRORS as error:
            raise type(error)(f"fold {number} of {len(folds)}: {error}") from None
    finished = _finished(plan.children, folds)
    if tracking.enabled:
        CROSS_VALIDATION.check_name_free(Path(tracking.store), tracking.experiment, plan.name)
    with claimed_folder(folder):
        (folder / "logs").mkdir(exist_ok=True)
        OmegaConf.save(OmegaConf.structured(config), folder / SETTINGS, resolve=True)
        outcomes = run_children(plan.children, finished, folder / "logs", stops_at_failure=True)
        _check_all_there(outcomes, folds)
        content = _conclude(plan, config, outcomes, folds[0][1], folder)
        untracked = _log(content, plan, folder, config) if tracking.enabled else ""
    return CrossValidation(folder=folder, content=content, untracked=untracked)


def plan_folds(config: TrainConfig, given: Sequence[str]) -> FoldPlan:
    """Compose the run of every fold, and name the whole.

    Raises:
        ConfigError: a number of folds out of range, a setting that does not go with folds, or torchrun.
    """
    num_folds = cast(int, config.folds)
    Fold(number=1, of=num_folds)
    if config.data.fold is not None:
        raise ConfigError("data.fold: folds=... sets it; give one of them")
    if config.data.additions:
        raise ConfigError("data.additions: expected none with folds=..., since TEST must stay what it was")
    if group_settings() != {"devices": 1}:
        raise ConfigError("folds: expected one process, which starts the folds, got several by torchrun")
    model = config.model.name
    name = f"{plain_name(config.data.name) or 'data'}-{model}-folds" if config.run_name is None else config.run_name
    check_folder_name("run_name", name)
    shared = tuple(text for text in given if key_of(text, "folds") not in _OWN_KEYS)
    children = tuple(_child(name, shared, number, num_folds) for number in range(1, num_folds + 1))
    return FoldPlan(name=name, shared=shared, children=children)


def _child(name: str, shared: Sequence[str], number: int, num_folds: int) -> Child:
    run_name = f"{name}-fold{number}"
    check_folder_name("run_name", run_name)
    own = ["folds=null", f"data.fold=[{number},{num_folds}]", f"run_name={run_name}", "tracking.registered_model=null"]
    composed = compose_run([*shared, *own], f"fold {number}")
    config = cast(TrainConfig, OmegaConf.to_object(composed))
    return Child(
        candidate=f"fold{number}",
        seed=config.seed,
        run_name=run_name,
        arguments=(*shared, *own),
        settings=cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True)),
        config=config,
    )


def _finished(children: Sequence[Child], folds: Sequence[tuple[Splits, DataReport]]) -> set[str]:
    """Names of the folds that are there; one that was made otherwise is refused."""
    finished = set()
    for child, (splits, _) in zip(children, folds, strict=True):
        folder = Path(child.config.runs_dir) / child.run_name
        if folder.exists():
            check_same(folder, child, splits.fingerprint, "run_name")
            finished.add(child.run_name)
    return finished


def _check_all_there(outcomes: Sequence[Outcome], folds: Sequence[tuple[Splits, DataReport]]) -> None:
    for outcome, (splits, _) in zip(outcomes, folds, strict=False):
        if outcome.report is None:
            raise ConfigError(f"{outcome.child.run_name} failed, finished folds are kept: {outcome.error}")
        if outcome.report["run"]["data fingerprint"] != splits.fingerprint:
            raise InputError(f"{outcome.child.run_name}: the images changed while the folds were made; move it away")


def _conclude(
    plan: FoldPlan,
    config: TrainConfig,
    outcomes: Sequence[Outcome],
    data: DataReport,
    folder: Path,
) -> dict[str, Any]:
    """Pool what the folds say, and write folds.json and folds.html."""
    reports = [cast(Mapping[str, Any], outcome.report) for outcome in outcomes]
    judged = [
        JudgedFold(samples=read_predictions_csv(outcome.folder / "predictions.csv"), two_class_threshold=_two(report))
        for outcome, report in zip(outcomes, reports, strict=True)
    ]
    pooled = pool(judged)
    records = [_record(n, *pair) for n, pair in enumerate(zip(outcomes, reports, strict=True), 1)]
    shared = [*plan.shared, *_for_one_run(config)]
    command = shlex.join(["python", "scripts/train.py", *shared, f"run_name={plan.name}-final"])
    content = {
        "name": plan.name,
        "pooled": pooled.to_json(),
        "mean": {key: mean_and_range([record[key] for record in records]) for key in NAMES},
        "folds": records,
        "facts": _facts(config, data, reports),
        "next": {"words": _NEXT, "command": command},
    }
    write_json(folder / "folds.json", content)
    _draw(pooled, folder)
    write_folds_html(content, folder, folder / "folds.html")
    return content


def _for_one_run(config: TrainConfig) -> list[str]:
    """Settings that a run without folds needs, and the folds do not: which labelled defects are learned from."""
    if not learns_from_labels(config.trainer) or config.data.fractions.train_defects > 0:
        return []
    return ["data.fractions.train_defects=0.6", "data.fractions.val_defects=0.2"]


def _two(report: Mapping[str, Any]) -> float | None:
    """The threshold between good and defective of a fold whose detector names kinds."""
    return report["kinds"]["good_or_defective"]["threshold"] if "kinds" in report else None


def _record(number: int, outcome: Outcome, report: Mapping[str, Any]) -> dict[str, Any]:
    metrics = metrics_of(report)
    return {
        "fold": number,
        "run": outcome.child.run_name,
        "num_images": report["num_images"],
        **{key: metrics.get(key) for key in NAMES},
        "data_fingerprint": report["run"]["data fingerprint"],
    }


def _draw(pooled: PooledReport, folder: Path) -> None:
    whole = pooled.whole
    if whole is not None and whole.confusion.counts.size:
        words = f"{whole.accuracy.n} images of all folds; in brackets how many of each, each row adds up to 100 %"
        plot_confusion(whole.confusion, "Kinds of whole images", words, folder / "kinds_images.png")


def _facts(config: TrainConfig, data: DataReport, reports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    duplicates = data.duplicates
    commits = sorted({str(report["run"]["git commit"]) for report in reports})
    return {
        "Data": f"{config.data.name}, {data.root}",
        "Model": config.model.name,
        "Near-duplicates": f"{duplicates.exact_pairs} exact and {duplicates.near_pairs} near pairs; setting: "
        f"{duplicates.setting}",
        "Deal": "alike by kind, groups whole; about a fifth of what is not TEST is VAL; "
        f"data.split_seed={config.data.split_seed}",
        "Code (git commit)": ", ".join(commits) + (": NOT THE SAME FOR ALL FOLDS" if len(commits) > 1 else ""),
        "Pooled at commit": git_commit() or "none",
    }


def _log(content: Mapping[str, Any], plan: FoldPlan, folder: Path, config: TrainConfig) -> str:
    """Log the cross-validation above its folds; return what went wrong with it, which costs none of the results."""
    pooled = content["pooled"]
    numbers = {
        "image_auroc": pooled["image_auroc_within_folds"],
        "escape_rate": pooled["escape_rate"]["value"],
        "false_reject_rate": pooled["false_reject_rate"]["value"],
    }
    if pooled["kinds"] is not None:
        whole, two = pooled["kinds"]["whole"], pooled["kinds"]["good_or_defective"]["accuracy"]
        numbers |= {"accuracy": whole["accuracy"]["value"], "macro_f1": whole["macro_f1"]["value"]}
        numbers["good_or_defective"] = two["value"]
    settings = {**plan.children[0].settings, "run_name": plan.name, "folds": len(plan.children)}
    settings["data"] = {**settings["data"], "fold": None}
    logged = LoggedComparison(
        name=plan.name,
        settings=settings,
        metrics={key: value for key, value in numbers.items() if value is not None},
        tags={},
        files=[folder / "folds.json", folder / "folds.html"],
    )
    names, tracking = [child.run_name for child in plan.children], config.tracking
    try:
        _, missing = log_comparison(
            logged, names, store=Path(tracking.store), experiment=tracking.experiment, kind=CROSS_VALIDATION
        )
    except ConfigError as error:
        return str(error)
    return f"it lacks {', '.join(missing)}" if missing else ""
