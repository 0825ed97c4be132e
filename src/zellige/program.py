"""What every script shares: compose the config, run, and turn a user's mistake into one line and an exit code."""

import errno
import logging
import os
import re
import signal
import sys
import weakref
from collections.abc import Callable
from functools import wraps
from types import FrameType

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from zellige.config import PROJECT, register_schemas
from zellige.core.errors import USER_ERRORS
from zellige.training.processes import is_lost_process

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_AGAIN_S = 0.05
NOTHING_KEPT = "interrupted: nothing was kept of this run"
LOST_PROCESS = "another process of this run has ended, and its own message says why; this one cannot go on without it"

_PATH_ARGUMENT = re.compile(r"(?P<key>[\w.]+)=(?P<path>[^'\"\[{$]*/.*)", re.DOTALL)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./:+%@?|*-]*")
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)
_FOR_DEVELOPERS = ("full_key:", "object_type=", "reference_type=", "Set the env", "Config search path", "provider=")


def run(
    task: Callable[[DictConfig], None],
    config_name: str,
    *,
    interrupted: str = NOTHING_KEPT,
) -> None:
    """Run a script's task under Hydra and exit; errors that a user can mend are one line on standard error.

    `interrupted` is what Ctrl-C makes it say.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra re-raises instead of printing its own report
    if not {"-m", "--multirun"} & set(sys.argv):  # there a comma separates the values of a sweep
        sys.argv[1:] = [quote_path(argument) for argument in sys.argv[1:]]
    register_schemas()
    failures: list[Exception] = []
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)  # remembered: a library may turn the exception into one of its own
        if frame is not None and frame.f_code.co_filename == weakref.__file__:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)  # what is raised in a weak reference's callback is ignored
            return
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGALRM, interrupt)

    @wraps(task)
    def kept_quiet(config: DictConfig) -> None:
        try:
            task(config)
        except Exception as error:  # raised again below: Hydra would print a line of its own about it
            failures.append(error)

    program = hydra.main(version_base="1.3", config_path=str(PROJECT / "configs"), config_name=config_name)(kept_quiet)
    try:
        program()
        if failures and interrupts:
            raise KeyboardInterrupt
        if failures:
            raise failures[0]
    except KeyboardInterrupt:
        _fail(interrupted, EXIT_INTERRUPTED)
    except USER_ERRORS as error:
        _fail(str(error), EXIT_ERROR)
    except (HydraException, OmegaConfBaseException) as error:
        _fail(one_line(error), EXIT_ERROR)
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        _fail(LOST_PROCESS, EXIT_ERROR)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        _fail(f"cannot write {error.filename or 'a file'}: {error.strerror}", EXIT_ERROR)


def quote_path(argument: str) -> str:
    """Quote the path of a `key=path` argument where Hydra's grammar would stumble over it: `ñ`, `(`, `,`, `=`, `'`.

    Example:
        >>> quote_path("data.root=/data/Rollo ñ (2)")
        "data.root='/data/Rollo ñ (2)'"
    """
    found = _PATH_ARGUMENT.fullmatch(argument)
    if not found or _PLAIN_PATH.fullmatch(found["path"]):
        return argument
    # Hydra takes a backslash for itself except before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), found["path"])
    return f"{found['key']}='{escaped}'"


def _fail(message: str, code: int) -> None:
    logging.shutdown()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  a program's last word
    sys.exit(code)


def one_line(error: BaseException) -> str:
    """Join the first lines of a Hydra or OmegaConf error, its cause included; the rest is advice for developers.

    Where one of our own errors was raised while Hydra built an object, that error's message says it all.
    """
    cause = error.__cause__
    if isinstance(cause, USER_ERRORS):
        return str(cause)
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        by_itself = isinstance(error, MissingMandatoryValue)
        key = error.full_key if by_itself else str(error).splitlines()[0].rsplit(": ", 1)[-1]
        return f"config: {key}: expected a value, got none; set {key}=... on the command line"
    where = f"{error.override}: " if isinstance(error, OverrideParseException) else ""
    texts = [where + str(error)]
    if cause is not None and str(cause) not in texts[0]:
        texts.append(str(cause))
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return "config: " + "; ".join(dict.fromkeys(line for line in lines if not line.startswith(_FOR_DEVELOPERS)))
