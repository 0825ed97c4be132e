"""A progress bar on long work: shown on a terminal, silent elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHOWN_AFTER_S = 1.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error once the work has taken a second, and give a function that advances it by one.

    The function may be given a note, such as a loss, which stands behind the bar until the next one.
    """
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if not (sys.stderr.isatty() and is_first):
        yield lambda note="": None
        return
    # Only here: a station without a terminal does not load it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, visible=False, note="")
        start = time.monotonic()

        def advance(note: str = "") -> None:
            bar.update(task, advance=1, visible=time.monotonic() - start > _SHOWN_AFTER_S, note=note)

        yield advance
