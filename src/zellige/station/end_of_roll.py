"""Whoever runs a live roll ends it with an interrupt: the first one ends the roll in order, the second the program."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import Any


@contextmanager
def ended_by_signal() -> Iterator[Callable[[], bool]]:
    """Take the first SIGINT or SIGTERM as the roll's end, which the function given tells of.

    From then on, and afterwards, they do what they did before.
    """
    end = Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def take(number: int, frame: FrameType | None) -> None:
        end.set()
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, take)
    try:
        yield end.is_set
    finally:
        restore()
