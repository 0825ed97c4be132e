"""A progress bar on long work: drawn on a terminal, a line of the log each minute elsewhere."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_SHOWN_AFTER_S = 1.0
_LOGGED_EVERY_S = 60.0


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error once the work has taken a second, and give a function that advances it by one.

    The function may be given a note, such as a loss, which stands behind the bar until the next one. Where standard
    error is no terminal, the log gets a line in its stead, once a minute at most. `done` of the `total` steps were made
    before.
    """
    if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun started
        yield lambda note="": None
        return
    if not sys.stderr.isatty():
        yield _logged(title, total, done)
        return
    # Only here: a station without a terminal does not load it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, visible=False, note="")
        start = time.monotonic()

        def advance(note: str = "") -> None:
            bar.update(task, advance=1, visible=time.monotonic() - start > _SHOWN_AFTER_S, note=note)

        yield advance


def _logged(title: str, total: int, before: int) -> Callable[..., None]:
    start = said = time.monotonic()
    done = before

    def advance(note: str = "") -> None:
        nonlocal said, done
        done += 1
        now = time.monotonic()
        if now - said < _LOGGED_EVERY_S or done >= total:
            return
        said = now
        left_min = (now - start) / (done - before) * (total - done) / 60
        log.info("%s: %d of %d%s, about %.0f min left", title, done, total, f", {note}" if note else "", left_min)

    return advance
