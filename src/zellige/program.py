"""What every script shares: compose the config, run, and turn a user's mistake into one line and an exit code."""

import errno
import logging
import os
import sys
from collections.abc import Callable

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from zellige.config import PROJECT, register_schemas
from zellige.core.errors import USER_ERRORS

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def run(task: Callable[[DictConfig], None], config_name: str) -> None:
    """Run a script's task under Hydra and exit; errors that a user can mend are one line on standard error."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra re-raises instead of printing its own report
    register_schemas()
    program = hydra.main(version_base="1.3", config_path=str(PROJECT / "configs"), config_name=config_name)(task)
    try:
        program()
    except KeyboardInterrupt:
        _fail("interrupted: nothing was kept of this run", EXIT_INTERRUPTED)
    except USER_ERRORS as error:
        _fail(str(error), EXIT_ERROR)
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_one_line(error), EXIT_ERROR)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        _fail(f"cannot write {error.filename or 'a file'}: {error.strerror}", EXIT_ERROR)


def _fail(message: str, code: int) -> None:
    logging.shutdown()
    print(f"error: {message}", file=sys.stderr)  # noqa: T201  a program's last word
    sys.exit(code)


def _one_line(error: BaseException) -> str:
    """The first lines of a Hydra or OmegaConf error, its cause included, joined; the rest is advice for developers."""
    texts = [str(error)]
    cause = error.__cause__
    if cause is not None and str(cause) not in texts[0]:
        texts.append(str(cause))
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    kept = [
        line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type=", "Set the env"))
    ]
    return "config: " + "; ".join(dict.fromkeys(kept))
