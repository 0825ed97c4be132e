"""A progress bar on long work: shown on a terminal, silent elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHOWN_AFTER_S = 1.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error once the work has taken a second, and give a function that advances it by one."""
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if not (sys.stderr.isatty() and is_first):
        yield lambda: None
        return
    # Only here: a station without a terminal does not load it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, visible=False)
        start = time.monotonic()

        def advance() -> None:
            bar.update(task, advance=1, visible=time.monotonic() - start > _SHOWN_AFTER_S)

        yield advance
