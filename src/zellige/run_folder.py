"""The folder of one run: made beside its final place, moved there when all is done, gone when anything fails.

What a fit can go on from (RESUME_FILE) outlives a process that was killed or failed, for the next run of that name.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from zellige.core.errors import ConfigError
from zellige.training.resume import RESUME_FILE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def plain_name(text: str, most: int = 60) -> str:
    """Turn any text into what a folder may be called; "" where nothing of it is left.

    Example:
        >>> plain_name("stages=[2,3]"), plain_name("Floor (2)")
        ('stages_2_3', 'Floor_2')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:most]


def new_run_name(data_name: str, model_name: str) -> str:
    """Name a run that the user did not name, by what it is and when it began."""
    plain = plain_name(data_name) or "data"
    return f"{plain}-{model_name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def check_folder_name(setting: str, name: str) -> None:
    """Refuse a name that cannot be a folder's.

    Raises:
        ConfigError: odd characters, or too long; `setting` is who is to blame.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{setting}: expected letters, digits, '.', '_', '-' (at most 100), got {name!r}")


def check_run_name(runs_dir: Path, name: str) -> None:
    """Refuse a name that cannot be a folder's or is taken.

    Raises:
        ConfigError: odd characters, or the run folder exists.
    """
    check_folder_name("run_name", name)
    if (runs_dir / name).exists():
        raise ConfigError(f"run_name: {runs_dir / name} exists already; choose another name or move it away")


@contextmanager
def run_folder(runs_dir: Path, name: str) -> Iterator[Path]:
    """Give a folder to fill; on success it becomes `runs_dir/name`, on any exception it is removed.

    After an error or a kill, but not after Ctrl-C, a RESUME_FILE in it is left for the next run of that name.

    Raises:
        ConfigError: see `check_run_name`; another process is making this run; `runs_dir` cannot be written.
    """
    check_run_name(runs_dir, name)
    partial = runs_dir / f".{name}.partial"
    handle = _claim(partial)
    try:
        _empty(partial)  # of what a killed process left
        yield partial
        (partial / RESUME_FILE).unlink(missing_ok=True)
        partial.rename(runs_dir / name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or not (partial / RESUME_FILE).exists():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            _empty(partial)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(partial)  # a full disk does not say where
        raise
    finally:
        os.close(handle)


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Make a folder that stays, such as a comparison's, and keep other processes out of it.

    Raises:
        ConfigError: another process is at it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"runs_dir: {folder.parent} cannot be written ({error.strerror})") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"name: another process is making {folder}; choose another name") from None
        yield
    finally:
        os.close(handle)


def _claim(folder: Path) -> int:
    """Make a folder that belongs to this process until the returned handle is closed; a living one's is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"runs_dir: {folder.parent} cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_taken = not folder.exists() or os.fstat(handle).st_ino != folder.stat().st_ino
    except BlockingIOError:
        is_taken = True
    if is_taken:
        os.close(handle)
        raise ConfigError(f"run_name: another process is making {folder}; choose another name")
    return handle


def _empty(folder: Path) -> None:
    """Remove all but a RESUME_FILE."""
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        elif left.name != RESUME_FILE:
            left.unlink()


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
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # installed inside somebody else's checkout, it is not of it
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
