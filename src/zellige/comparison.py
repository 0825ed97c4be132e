"""Compare candidates on one data set: train them, measure them, make one table, and say which to take."""

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table

from zellige.comparison_plan import Child, Plan, make_plan
from zellige.comparison_runs import (
    Outcome,
    check_finished,
    frames_to_measure,
    measure_stations,
    run_children,
    write_templates,
)
from zellige.config import CompareConfig
from zellige.config_data import load_data
from zellige.config_models import build
from zellige.core.errors import USER_ERRORS, ConfigError, InputError
from zellige.core.types import Splits
from zellige.data.report import DataReport
from zellige.evaluation.candidate_table import Candidate, summarize, to_record, write_csv
from zellige.evaluation.comparison_html import cells_of, write_comparison_html
from zellige.evaluation.comparison_plot import plot_quality_speed
from zellige.evaluation.paired import difference_noise, read_scores
from zellige.evaluation.recommendation import RULE, Measured, Noise, Recommendation, recommend
from zellige.release import check_ready
from zellige.run_folder import claimed_folder, git_commit, write_json
from zellige.tracking_comparison import COMPARISON, LoggedComparison, log_comparison

log = logging.getLogger(__name__)

SETTINGS = "comparison.yaml"
_ON_TERMINAL = {
    "image_auroc": "image AUROC",
    "escape_rate": "escapes",
    "false_reject_rate": "false rejects",
    "p50_p95_ms": "ms/frame",
    "mp_per_s": "MP/s",
    "fit_seconds": "fit, s",
    "bundle_mb": "MB",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The outcome: the table, the recommendation, the folder of its files, and one line for each thing that failed."""

    folder: Path
    rows: tuple[Candidate, ...]
    recommendation: Recommendation
    failures: tuple[str, ...]

    def to_table(self) -> Table:
        """The table for a terminal."""
        table = Table("candidate", *_ON_TERMINAL.values(), title=escape(str(self.folder)))
        for row in self.rows:
            cells = cells_of(row)
            marked = f"[bold]{row.name}[/]" if row.name == self.recommendation.name else row.name
            table.add_row(marked, *(cells[key] for key in _ON_TERMINAL))
        return table


def compare(config: CompareConfig, given: Sequence[str]) -> Comparison:
    """Run a comparison to its end; what is finished of an earlier call is kept.

    Args:
        config: the composed settings.
        given: the overrides that the program was called with; they are passed on to each training run.

    Raises:
        ConfigError: a setting is not usable, or a folder of these names holds something else.
        InputError: the images are not usable.
    """
    plan = make_plan(config, given)
    folder, tracking = Path(config.runs_dir) / plan.name, config.tracking
    _check_folder(folder)
    splits, data = load_data(config.data)
    _check_candidates(plan, splits, data)
    finished = check_finished(plan, splits.fingerprint)
    if tracking.enabled:
        COMPARISON.check_name_free(Path(tracking.store), tracking.experiment, plan.name)
    with claimed_folder(folder):
        (folder / "logs").mkdir(exist_ok=True)
        OmegaConf.save(OmegaConf.structured(config), folder / SETTINGS, resolve=True)
        outcomes = run_children(plan.children, finished, folder / "logs", jobs=plan.jobs)
        outcomes = [_on_these_images(outcome, splits.fingerprint) for outcome in outcomes]
        measured = _first_bundles(plan, outcomes)
        templates = write_templates(splits.test, folder / "templates.csv")
        speeds, speed_errors = measure_stations(measured, frames_to_measure(splits.test, data), templates)
        rows = [_row(plan, name, outcomes, speeds, speed_errors) for name in plan.candidates]
        recommendation = _recommend(plan, rows, outcomes)
        failures = [f"{row.name}: {error}" for row in rows for error in row.errors]
        _write(plan, folder, rows, recommendation, outcomes, _facts(config, plan, splits, data, outcomes))
        if tracking.enabled:
            failures += _log(config, plan, folder, rows, recommendation, outcomes)
    return Comparison(folder=folder, rows=tuple(rows), recommendation=recommendation, failures=tuple(failures))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not (folder / SETTINGS).is_file():
        raise ConfigError(f"name: {folder} exists and is not a comparison; choose another name or move it away")


def _check_candidates(plan: Plan, splits: Splits, data: DataReport) -> None:
    """Find now what would end a run before its fit, on the whole set of candidates."""
    for name in plan.candidates:
        config = plan.of(name)[0].config
        try:
            check_ready(config, splits, data)
            build(config.model)
        except USER_ERRORS as error:
            raise type(error)(f"candidate {name}: {error}") from None
        except Exception as error:  # Hydra wraps what a constructor raised
            if isinstance(error.__cause__, USER_ERRORS):
                raise ConfigError(f"candidate {name}: {error.__cause__}") from None
            raise


def _on_these_images(outcome: Outcome, fingerprint: str) -> Outcome:
    """Turn a run that was judged on other images (they changed meanwhile) into a failed one."""
    if outcome.report is None or outcome.report["run"]["data fingerprint"] == fingerprint:
        return outcome
    return replace(outcome, report=None, error="it read other images or splits than the others")


def _first_bundles(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Path]:
    """One bundle per candidate: the seeds differ in the numbers inside, not in the work."""
    bundles: dict[str, Path] = {}
    for outcome in outcomes:
        if outcome.report is not None:
            bundles.setdefault(outcome.child.candidate, outcome.bundle)
    return bundles


def _row(
    plan: Plan, name: str, outcomes: Sequence[Outcome], speeds: Mapping[str, Any], speed_errors: Mapping[str, str]
) -> Candidate:
    own = [outcome for outcome in outcomes if outcome.child.candidate == name]
    good = [outcome for outcome in own if outcome.report is not None]
    errors = [f"seed {outcome.child.seed}: {outcome.error}" for outcome in own if outcome.error]
    return summarize(
        name,
        " ".join(plan.candidates[name]),
        {outcome.child.seed: outcome.report or {} for outcome in good},
        bundle_mb=[outcome.bundle.stat().st_size / 1e6 for outcome in good],
        speed=speeds.get(name),
        errors=errors + ([speed_errors[name]] if name in speed_errors else []),
    )


def _recommend(plan: Plan, rows: Sequence[Candidate], outcomes: Sequence[Outcome]) -> Recommendation:
    """Recommend among the candidates all of whose runs finished and whose speed is known."""
    num_seeds = len(plan.children) // len(plan.candidates)
    whole = [
        Measured(
            name=row.name,
            quality=row.spreads["image_auroc"].mean,
            p50_ms=row.speed.p50_ms,
            p95_ms=row.speed.p95_ms,
            mp_per_s=row.speed.mp_per_s,
        )
        for row in rows
        if row.speed is not None and len(row.seeds) == num_seeds
    ]
    folders = {row.name: [o.folder for o in outcomes if o.child.candidate == row.name] for row in whole}
    return recommend(whole, _noise(folders), plan.budget)


def _noise(folders: Mapping[str, Sequence[Path]]) -> Noise:
    """The noise of each pair's difference, from the scores that the runs gave to the test images."""
    stored = {name: [read_scores(folder / "predictions.csv") for folder in runs] for name, runs in folders.items()}
    noise: dict[tuple[str, str], float] = {}
    for first, second in ((a, b) for a in stored for b in stored if a != b):
        reference = stored[first][0]
        if any(runs.ids != reference.ids for name in (first, second) for runs in stored[name]):
            raise InputError(f"comparison: {first} and {second}: expected scores of the same test images, got others")
        scores = [np.stack([run.scores for run in stored[name]]) for name in (first, second)]
        noise[first, second] = difference_noise(scores[0], scores[1], reference.is_defective, reference.groups)
    return noise


def _facts(
    config: CompareConfig, plan: Plan, splits: Splits, data: DataReport, outcomes: Sequence[Outcome]
) -> dict[str, str]:
    machine = f"{_processor()}, {os.cpu_count()} CPUs"
    commits = sorted({str(o.report["run"]["git commit"]) for o in outcomes if o.report is not None})
    test = data.splits["test"]
    dependent = test.groups < test.good + test.defective
    return {
        "Data": f"{config.data.name}, {data.root}",
        "Test pieces": f"{test.good} good and {test.defective} defective from {test.groups} groups (rolls, lots)",
        "Judged on": "the same pieces for all candidates"
        + ("; pieces of a group resemble each other, so the true intervals of the rates are wider" * dependent),
        "Data fingerprint": splits.fingerprint,
        "Seeds": ", ".join(str(child.seed) for child in plan.of(next(iter(plan.candidates)))),
        "Budget": plan.budget.words() or "none",
        "Machine": machine,
        "Runs at a time": f"{plan.jobs}" + ("" if plan.jobs == 1 else ": they disturbed each other's fit times"),
        "Code (git commit)": ", ".join(commits) + (": NOT THE SAME FOR ALL RUNS" if len(commits) > 1 else ""),
        "Comparison made at commit": git_commit() or "none",
    }


def _processor() -> str:
    """Name the machine's processor as the kernel does."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _run_record(outcome: Outcome) -> dict[str, Any]:
    report = outcome.report or {}
    return {
        "candidate": outcome.child.candidate,
        "seed": outcome.child.seed,
        "run": outcome.child.run_name,
        "state": "failed" if outcome.report is None else "kept from before" if outcome.is_reused else "trained",
        "image_auroc": report.get("image_auroc"),
        "escapes": report.get("escape_rate", {}).get("value"),
        "false_rejects": report.get("false_reject_rate", {}).get("value"),
        "fit_seconds": report.get("fit_seconds"),
        "error": outcome.error,
    }


def _write(
    plan: Plan,
    folder: Path,
    rows: Sequence[Candidate],
    recommendation: Recommendation,
    outcomes: Sequence[Outcome],
    facts: Mapping[str, str],
) -> None:
    name = recommendation.name
    runs = [_run_record(outcome) for outcome in outcomes]
    picture = plot_quality_speed(rows, folder / "quality_speed.png", recommended=name, budget=plan.budget)
    write_csv(rows, folder / "comparison.csv", recommended=name)
    write_comparison_html(
        plan.name, rows, recommendation, runs=runs, facts=facts, picture=picture, out=folder / "comparison.html"
    )
    content = {"name": plan.name, "rule": RULE, "recommendation": asdict(recommendation), "facts": dict(facts)}
    table = [{**to_record(row), "values": {k: _strict(s.values) for k, s in row.spreads.items()}} for row in rows]
    write_json(folder / "comparison.json", {**content, "candidates": table, "runs": runs})


def _strict(values: Sequence[float]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]


def _log(
    config: CompareConfig,
    plan: Plan,
    folder: Path,
    rows: Sequence[Candidate],
    recommendation: Recommendation,
    outcomes: Sequence[Outcome],
) -> list[str]:
    """Log the comparison above its runs; return what went wrong with it, which costs none of the results."""
    keys = (
        "image_auroc",
        "pixel_auroc",
        "aupro",
        "escape_rate",
        "false_reject_rate",
        "station_p50_ms",
        "station_p95_ms",
    )
    numbers = {f"{row.name}/{key}": to_record(row)[key] for row in rows for key in keys}
    first: Child = plan.children[0]
    comparison = LoggedComparison(
        name=plan.name,
        settings={
            "seeds": list(config.seeds),
            "budget": vars(config.budget),
            "candidates": {row.name: row.settings for row in rows},
            "data": dict(first.settings["data"]),
        },
        metrics={key: value for key, value in numbers.items() if value is not None},
        tags={"zellige.recommended": recommendation.name or "none", "zellige.recommendation": recommendation.reason},
        files=[folder / f"comparison.{kind}" for kind in ("html", "csv", "json")] + [folder / "quality_speed.png"],
    )
    names = [outcome.child.run_name for outcome in outcomes if outcome.report is not None]
    store, experiment = Path(config.tracking.store), config.tracking.experiment
    try:
        _, missing = log_comparison(comparison, names, store=store, experiment=experiment)
    except ConfigError as error:
        return [f"MLflow does not have the comparison: {error}"]
    return [f"MLflow does not have run {name}" for name in missing]
