"""The folder of one run: made beside its final place, moved there when all is done, gone when anything fails."""

import json
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from zellige.core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new_run_name(data_name: str, model_name: str) -> str:
    """Name a run that the user did not name, by what it is and when it began."""
    return f"{data_name}-{model_name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def check_run_name(runs_dir: Path, name: str) -> None:
    """Refuse a name that cannot be a folder's or is taken.

    Raises:
        ConfigError: odd characters, or the run folder exists.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"run_name: expected letters, digits, '.', '_', '-' (at most 100), got {name!r}")
    if (runs_dir / name).exists():
        raise ConfigError(f"run_name: {runs_dir / name} exists already; choose another name or move it away")


@contextmanager
def run_folder(runs_dir: Path, name: str) -> Iterator[Path]:
    """Give a folder to fill; on success it becomes `runs_dir/name`, on any exception it is removed.

    Raises:
        ConfigError: see `check_run_name`.
    """
    check_run_name(runs_dir, name)
    partial = runs_dir / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(runs_dir / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON (no NaN), readable, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, with "-dirty" after it where files differ; None outside git."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
