"""Run the training runs of a comparison and measure their bundles, each in a process of its own."""

import csv
import json
import logging
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from zellige.auto_stages import AUTO
from zellige.comparison_plan import Child, Plan
from zellige.config import PROJECT
from zellige.core.errors import ConfigError
from zellige.core.types import Sample
from zellige.data.report import DataReport
from zellige.evaluation.candidate_table import StationSpeed, speed_of
from zellige.station.templates import COLUMNS

log = logging.getLogger(__name__)

TRAIN = PROJECT / "scripts" / "train.py"
SPEED = "zellige.station.speed"
ROUNDS = 3
"""Times that each candidate's bundle is measured, in turns with the others."""

_MOST_FRAMES, _FEWEST_FRAMES = 20, 3
_MOST_MEGAPIXELS = 60.0
"""Of all frames of one measurement together: large frames are measured less often."""
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What became of one training run. `report` is its report.json; None where it failed, and `error` says why."""

    child: Child
    folder: Path
    report: Mapping[str, Any] | None
    seconds: float
    is_reused: bool
    error: str

    @property
    def bundle(self) -> Path:
        return self.folder / f"{self.child.run_name}.zellige"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: float


def check_finished(plan: Plan, fingerprint: str) -> set[str]:
    """List the runs (by name) that are finished already and need not be made again.

    Raises:
        ConfigError: a folder of that name holds something else: other settings or other images.
    """
    finished = set()
    for child in plan.children:
        folder = Path(child.config.runs_dir) / child.run_name
        if folder.exists():
            check_same(folder, child, fingerprint)
            finished.add(child.run_name)
    return finished


def run_children(
    children: Sequence[Child], finished: set[str], logs: Path, *, jobs: int = 1, stops_at_failure: bool = False
) -> list[Outcome]:
    """Train what is not finished yet, `jobs` at a time, and return the outcomes in the order of the runs.

    Ctrl-C is passed on to the running ones, which take back what they did; what is finished stays.

    Args:
        children: the runs.
        finished: names of the runs to take as they are.
        logs: folder for what each run prints.
        jobs: most runs at a time.
        stops_at_failure: start no other run after one has failed; those have no outcome.
    """
    outcomes = {
        name: _outcome(child, 0.0, "", is_reused=True) for child in children if (name := child.run_name) in finished
    }
    if finished:
        log.info("%d of %d runs are finished already and are kept", len(finished), len(children))
    waiting = [child for child in children if child.run_name not in finished]
    running: list[_Running] = []
    started, total = time.monotonic(), len(waiting)
    with _interrupts_remembered() as pressed:
        try:
            while waiting or running:
                while waiting and len(running) < jobs and not pressed:
                    running.append(_start(waiting.pop(0), logs))
                if pressed:
                    raise KeyboardInterrupt
                time.sleep(_POLL_S)
                for ended in [one for one in running if one.process.poll() is not None]:
                    running.remove(ended)
                    outcomes[ended.child.run_name] = outcome = _end(ended)
                    done = total - len(waiting) - len(running)
                    log.info("%s", _progress_words(outcome, done, total, time.monotonic() - started))
                    if outcome.report is None and stops_at_failure:
                        waiting.clear()
            if pressed:
                raise KeyboardInterrupt
        finally:
            _interrupt(running, pressed)
    return [outcomes[child.run_name] for child in children if child.run_name in outcomes]


def measure_stations(
    bundles: Mapping[str, Path], images: Sequence[Path], templates: Path | None = None
) -> tuple[dict[str, StationSpeed], dict[str, str]]:
    """Measure each candidate's bundle in torch-free processes, in turns, and return speeds and errors by candidate.

    `templates` is a table for candidates that compare; see `zellige.station.templates`.
    """
    frames: dict[str, list[dict[str, Any]]] = {name: [] for name in bundles}
    errors: dict[str, str] = {}
    for number in range(ROUNDS):
        log.info("measuring the station's speed, round %d of %d", number + 1, ROUNDS)
        for name, bundle in bundles.items():
            if name in errors:
                continue
            command = [sys.executable, "-m", SPEED, str(bundle), *map(str, images)]
            command += [] if templates is None else ["--template", str(templates)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                errors[name] = f"station: {_last_line(done.stderr, done.returncode)}"
            else:
                frames[name].append(json.loads(done.stdout))
    speeds = {name: _pooled(frames[name]) for name in bundles if name not in errors}
    return speeds, errors


def frames_to_measure(test: Sequence[Sample], data: DataReport) -> list[Path]:
    """Pick test images evenly over the split: up to 20, fewer where they are large, the same for all candidates."""
    largest_mp = data.height_px[1] * data.width_px[1] / 1e6
    most = min(_MOST_FRAMES, max(_FEWEST_FRAMES, int(_MOST_MEGAPIXELS / largest_mp)), len(test))
    return [test[position * len(test) // most].image_path for position in range(most)]


def write_templates(test: Sequence[Sample], path: Path) -> Path | None:
    """Write which template each test image has, for the station; None where they have none."""
    rows = [(s.image_path.resolve(), s.template_path.resolve()) for s in test if s.template_path is not None]
    if not rows:
        return None
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return path


def _start(child: Child, logs: Path) -> _Running:
    output = (logs / f"{child.candidate}-s{child.seed}.log").open("wb")
    log.info("training %s, seed %d", child.candidate, child.seed)
    # A session of its own: Ctrl-C on the terminal reaches this process alone, which passes it on once.
    process = subprocess.Popen(
        [sys.executable, str(TRAIN), *child.arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return _Running(child=child, process=process, output=output, started=time.monotonic())


@contextmanager
def _interrupts_remembered() -> Iterator[list[int]]:
    """Remember Ctrl-C: raised while a process is being started it would leave that process to itself."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(running: Sequence[_Running], pressed: list[int]) -> None:
    """Let runs take back what they did and wait for them; Ctrl-C that comes meanwhile is passed on too."""
    pressed.append(signal.SIGINT)
    while any(one.process.poll() is None for one in running):
        if pressed:
            pressed.clear()
            for one in running:
                one.process.send_signal(signal.SIGINT)
        time.sleep(_POLL_S)
    for one in running:
        one.output.close()


def _end(ended: _Running) -> Outcome:
    ended.output.close()
    code = ended.process.returncode
    text = Path(ended.output.name).read_text(encoding="utf-8", errors="replace") if code else ""
    error = _last_line(text, code) if code else ""
    return _outcome(ended.child, time.monotonic() - ended.started, error, is_reused=False)


def _outcome(child: Child, seconds: float, error: str, *, is_reused: bool) -> Outcome:
    """A run counts as finished when its folder is there, even where MLflow could not take it."""
    folder = Path(child.config.runs_dir) / child.run_name
    report = json.loads((folder / "report.json").read_text(encoding="utf-8")) if folder.exists() else None
    return Outcome(child=child, folder=folder, report=report, seconds=seconds, is_reused=is_reused, error=error)


def _progress_words(outcome: Outcome, done: int, total: int, elapsed: float) -> str:
    left = elapsed / done * (total - done)
    what = f"  {done} of {total}: {outcome.child.candidate}, seed {outcome.child.seed}"
    if outcome.report is None:
        result = f"FAILED: {outcome.error}"
    else:
        auroc = outcome.report["image_auroc"]
        result = f"{outcome.seconds:.0f} s, image AUROC {'not defined' if auroc is None else f'{auroc:.4f}'}"
    return f"{what}: {result} (elapsed {_clock(elapsed)}, about {_clock(left)} left)"


def _clock(seconds: float) -> str:
    """Say a duration as minutes and seconds, or with hours."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _last_line(text: str, code: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + (f" after: {lines[-1][:200]}" if lines else "")
    return lines[-1].removeprefix("error: ")[:500] if lines else f"ended with code {code} and said nothing"


def _pooled(measured: Sequence[Mapping[str, Any]]) -> StationSpeed:
    return speed_of(
        [time_ms for one in measured for time_ms in one["frame_ms"]],
        [megapixels for one in measured for megapixels in one["frame_mp"]],
        max(one["peak_memory_mb"] for one in measured),
        measured[0]["num_threads"],
    )


def check_same(folder: Path, child: Child, fingerprint: str, setting: str = "name") -> None:
    """Refuse a finished run that is not the one that is wanted; `setting` is who is to blame.

    Raises:
        ConfigError: no finished run, other settings or other images.
    """
    try:
        stored = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        made_from = report["run"]["data fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException):
        raise ConfigError(
            f"{setting}: {folder} exists and is not a finished run; choose another name or move it away"
        ) from None
    differing = differences(_as_asked(stored, child.settings), child.settings)
    if made_from != fingerprint:
        differing.append("other images, labels or splits")
    if differing:
        raise ConfigError(
            f"{setting}: {folder} exists and was made with other settings ({'; '.join(differing[:3])}); choose another "
            f"name or move it away"
        )


def _as_asked(stored: Any, wanted: Mapping[str, Any]) -> Any:
    """Put back what a run settles by itself (auto_stages.py, auto_kinds.py), where it was left to the run."""
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        return stored
    asked = wanted["model"]
    back = {key: asked[key] for key, left in (("stages", AUTO), ("kinds", [])) if asked.get(key) == left}
    if "has_good" in asked:
        back["has_good"] = asked["has_good"]
    return {**stored, "model": {**stored["model"], **back}}


def differences(stored: Any, wanted: Any, where: str = "") -> list[str]:
    """Say each setting that differs, with its value there and the one wanted."""
    if isinstance(stored, dict) and isinstance(wanted, Mapping):
        keys = sorted({*stored, *wanted}, key=str)
        parts = [differences(stored.get(key), wanted.get(key), f"{where}.{key}".lstrip(".")) for key in keys]
        return [line for part in parts for line in part]
    return [] if stored == wanted else [f"{where}: {stored} there, {wanted} now"]
