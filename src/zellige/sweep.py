"""Search settings: many fits, each judged on held-out good images, and the command that trains with the best ones.

Everything is in one folder: the results are files (`trials/`), what to try next is Optuna's matter (sweep_study.py).
Called again, a sweep goes on where it stopped.
"""

import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table

from zellige.config import SweepConfig
from zellige.config_data import load_data
from zellige.core.errors import ConfigError
from zellige.core.progress import progress
from zellige.core.types import Splits
from zellige.release import check_ready
from zellige.run_folder import claimed_folder, write_json
from zellige.sweep_space import SweepPlan, Values, plan_sweep
from zellige.sweep_study import next_batch, open_study, storage_errors, tell
from zellige.sweep_trial import Task, TrialResult, interrupts_ignored, run_trial, workers
from zellige.tracking_sweep import SWEEP, LoggedSweep, LoggedTrial, log_sweep
from zellige.training.held_out import HeldOutScore, behind, check_enough

log = logging.getLogger(__name__)

SETTINGS = "sweep.yaml"

_SHOWN = 15
_ON_TERMINAL = ("held-out", "behind", "image AUROC", "AUPRO", "fit, s", "ms/tile")

Results = Mapping[int, TrialResult]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Swept:
    """The outcome: the trials with their scores, the best first, the failed ones, and how to train with the best.

    `untracked` says why MLflow does not have it; empty where it does.
    """

    folder: Path
    ranked: tuple[tuple[TrialResult, HeldOutScore], ...]
    failed: tuple[TrialResult, ...]
    command: str
    untracked: str

    def to_table(self) -> Table:
        """The best trials, for a terminal; ~ marks those that these images cannot tell from the best."""
        best, first = self.ranked[0]
        table = Table("trial", *best.values, *_ON_TERMINAL, title=escape(str(self.folder)))
        for result, score in self.ranked[:_SHOWN]:
            gap, error = behind(first, score)
            mark = "~" if gap <= error else ""
            table.add_row(
                str(result.number),
                *(escape(_shown(result.values[key])) for key in best.values),
                f"{score.criterion:.4f}",
                "best" if result is best else f"{mark}{gap:.4f} ± {error:.4f}",
                f"{score.image_auroc:.4f}",
                f"{score.aupro:.4f}",
                f"{result.fit_seconds:.1f}",
                f"{score.ms_per_tile:.1f}",
            )
        return table


def sweep(config: SweepConfig, given: Sequence[str]) -> Swept:
    """Run a sweep to its end; what is finished of an earlier call is kept.

    Args:
        config: the composed settings.
        given: the overrides that the program was called with; they hold for every trial.

    Raises:
        ConfigError: a setting is not usable, the folder holds something else, or no trial succeeded.
        InputError: the images are not usable.
    """
    plan = plan_sweep(config, given)
    folder, tracking = Path(config.runs_dir) / plan.name, config.tracking
    if folder.exists() and not (folder / SETTINGS).is_file():
        raise ConfigError(f"name: {folder} exists and is not a sweep; choose another name or move it away")
    splits, data = load_data(config.data, config.model)
    check_ready(config, splits, data)
    check_enough(splits.train)
    if tracking.enabled:
        SWEEP.check_name_free(Path(tracking.store), tracking.experiment, plan.name)
    untracked = ""

    def track(results: Results) -> None:
        nonlocal untracked
        if tracking.enabled and not untracked:
            untracked = _track(plan, results, store=Path(tracking.store), experiment=tracking.experiment)

    with claimed_folder(folder), storage_errors(folder):
        for name in ("trials", "logs"):
            (folder / name).mkdir(exist_ok=True)
        OmegaConf.save(OmegaConf.structured(config), folder / SETTINGS, resolve=True)
        results = _search(plan, folder, splits, track)
        swept = _conclude(plan, folder, results, untracked)
        _write(plan, swept)
    return swept


def _search(plan: SweepPlan, folder: Path, splits: Splits, track: Callable[[Results], None]) -> dict[int, TrialResult]:
    """Make the trials that are left, `plan.jobs` at a time, and return all results by number."""
    study = open_study(plan, folder, splits.fingerprint)
    results = _stored(folder)
    if results:
        log.info("%d trials are finished already and are kept", len(results))
    with workers(plan.jobs, folder / "logs") as pool, progress("sweep", plan.trials) as advance:
        for _ in results:
            advance()
        while batch := next_batch(plan, study):
            tasks = []
            for trial in batch:
                if trial.number not in results:
                    task = _task(plan, trial.number, trial.params, results, splits, folder)
                    if isinstance(task, Task):
                        tasks.append(task)
                    else:
                        _keep(task, results, folder)
                        advance()
            with interrupts_ignored():
                running = [pool.submit(run_trial, task) for task in tasks]
            try:
                for future in running:
                    _keep(future.result(), results, folder)
                    advance()
            except BrokenProcessPool:
                raise ConfigError(
                    f"a trial's process was killed, perhaps for memory; {folder / 'logs'} has what it said. Call it "
                    "again to go on, with a smaller jobs=... where there were several"
                ) from None
            for trial in batch:
                score = results[trial.number].score
                tell(study, trial.number, None if score is None else score.criterion)
            track(results)
    return results


def _task(
    plan: SweepPlan, number: int, values: Values, results: Results, splits: Splits, folder: Path
) -> Task | TrialResult:
    """Say what a trial is to do, or its result where that is known: the same settings as before, or none that fit."""
    if set(values) != {dimension.key for dimension in plan.dimensions}:
        return TrialResult(number=number, values=values, error="the sweep was killed while this trial was drawn")
    same = next((result for result in results.values() if result.values == values), None)
    if same is not None:
        return replace(same, number=number)
    try:
        config = plan.trial_config(values)
    except ConfigError as error:
        return TrialResult(number=number, values=values, error=str(error))
    if plan.jobs > 1 and config.engine.num_threads is None:
        config.engine.num_threads = max(1, (os.cpu_count() or 1) // plan.jobs)
    return Task(
        number=number, values=values, config=config, splits=splits, folder=folder / "trials" / f"{number:04}.partial"
    )


def _keep(result: TrialResult, results: dict[int, TrialResult], folder: Path) -> None:
    """Write a result; what its fit could have gone on from is not needed any more."""
    results[result.number] = result
    path = folder / "trials" / f"{result.number:04}.json"
    write_json(path, result.to_json())
    shutil.rmtree(path.with_suffix(".partial"), ignore_errors=True)
    if result.score is None:
        log.info("trial %d failed: %s", result.number, result.error)
    elif not sys.stderr.isatty():  # there a bar is shown
        best = max(other.score.criterion for other in results.values() if other.score is not None)
        words = " ".join(f"{key}={_shown(value)}" for key, value in result.values.items())
        log.info("trial %d: %.4f (best %.4f) %s", result.number, result.score.criterion, best, words)


def _stored(folder: Path) -> dict[int, TrialResult]:
    results = {}
    for path in sorted((folder / "trials").glob("*.json")):
        try:
            result = TrialResult.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"trial {path}: expected the result of a trial, got another file ({error})") from None
        results[result.number] = result
        shutil.rmtree(path.with_suffix(".partial"), ignore_errors=True)  # of a sweep that was killed right after it
    return results


def _conclude(plan: SweepPlan, folder: Path, results: Results, untracked: str) -> Swept:
    done = [(result, result.score) for result in results.values() if result.score is not None]
    failed = tuple(result for result in results.values() if result.score is None)
    if not done:
        raise ConfigError(f"{folder}: none of {len(failed)} trials succeeded, the first: {failed[0].error}")
    ranked = tuple(sorted(done, key=lambda pair: (-pair[1].criterion, pair[0].number)))
    command = shlex.join(["python", "scripts/train.py", *plan.arguments(ranked[0][0].values)])
    return Swept(folder=folder, ranked=ranked, failed=failed, command=command, untracked=untracked)


def _write(plan: SweepPlan, swept: Swept) -> None:
    rows = [_record(result) for result in (*(result for result, _ in swept.ranked), *swept.failed)]
    content = {"name": plan.name, "best": swept.ranked[0][0].number, "command": swept.command, "trials": rows}
    write_json(swept.folder / "sweep.json", content)


def _record(result: TrialResult) -> dict[str, object]:
    row = result.to_json()
    score = row.pop("score") or {}
    return {**row, **{key: value for key, value in score.items() if key not in ("values", "weights", "sources")}}


def _track(plan: SweepPlan, results: Results, *, store: Path, experiment: str) -> str:
    """Log the sweep with its trials so far; return what went wrong with it, which costs none of the results."""
    done = [(result, result.score) for result in results.values() if result.score is not None]
    best = max(done, key=lambda pair: pair[1].criterion, default=None)
    trials = [
        LoggedTrial(
            name=f"{plan.name}-t{result.number:04}",
            settings=dict(result.values),
            metrics={
                "held_out": score.criterion,
                "held_out_image_auroc": score.image_auroc,
                "held_out_aupro": score.aupro,
                "fit_seconds": result.fit_seconds,
                "ms_per_tile": score.ms_per_tile,
            },
        )
        for result, score in done
    ]
    logged = LoggedSweep(
        name=plan.name,
        settings=plan.settings,
        metrics={} if best is None else {"held_out": best[1].criterion},
        tags={} if best is None else {"zellige.best_trial": str(best[0].number)},
        trials=trials,
    )
    try:
        log_sweep(logged, store=store, experiment=experiment)
    except ConfigError as error:
        return str(error)
    return ""


def _shown(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
