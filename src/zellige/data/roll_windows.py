"""Cut windows out of a roll that is read once, block by block, whatever its length."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zellige.core.types import Pixels
from zellige.station.sources import Lines, RollSource


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """A part of a roll: `first_line` and `left_px` of its first pixel, and its size in px."""

    first_line: int
    left_px: int
    height: int
    width: int

    @property
    def stop_line(self) -> int:
        return self.first_line + self.height


def whole_runs(source: RollSource) -> list[tuple[int, int]]:
    """Lines that follow each other without a hole: first line and the line after the last, of each run."""
    runs: list[tuple[int, int]] = []
    for block in source.blocks():
        stop = block.first_line + block.num_lines
        if not isinstance(block, Lines):
            continue
        if runs and runs[-1][1] == block.first_line:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((block.first_line, stop))
    return runs


def inside_run(runs: Sequence[tuple[int, int]], middle: float, height: int) -> int | None:
    """First line of the window of so many lines nearest to a middle, in the run that holds it; None where none fits."""
    for first, stop in runs:
        if first <= middle < stop and stop - first >= height:
            return int(min(max(first, round(middle - height / 2)), stop - height))
    return None


def cut_windows(source: RollSource, windows: Sequence[Window]) -> Iterator[tuple[Window, Pixels]]:
    """Give each window with its pixels, uint8 (h, w) or (h, w, 3), in the order of their last lines.

    Memory: the lines of the tallest window and one block.

    Args:
        source: of the roll, read from its beginning.
        windows: each inside a run of `whole_runs`.
    """
    pending = deque(sorted(windows, key=lambda w: (w.stop_line, w)))
    tallest = max((window.height for window in pending), default=0)
    held: deque[Lines] = deque()
    for block in source.blocks():
        if not isinstance(block, Lines):
            continue
        held.append(block)
        seen = block.first_line + block.num_lines
        while pending and pending[0].stop_line <= seen:
            window = pending.popleft()
            yield window, _cut(held, window)
        while held and held[0].first_line + held[0].num_lines <= seen - tallest:
            held.popleft()


def _cut(held: Sequence[Lines], window: Window) -> Pixels:
    columns = slice(window.left_px, window.left_px + window.width)
    parts = []
    for block in held:
        start, stop = window.first_line - block.first_line, window.stop_line - block.first_line
        if stop > 0 and start < block.num_lines:
            parts.append(block.pixels[max(0, start) : stop, columns])
    return np.concatenate(parts)
