"""Frames of a folder by their names alone: their order, and what the numbers in them say is missing."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from zellige.core.errors import InputError
from zellige.station.frame_record import RecordedFrame


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key: numbers in a name count as numbers, so frame_2 comes before frame_10.

    Example:
        >>> [p.name for p in sorted(map(Path, ("f10.png", "f2.png", "f1.png")), key=natural_order)]
        ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def frames_by_name(paths: Sequence[Path], height: int) -> tuple[tuple[RecordedFrame, ...], tuple[str, ...]]:
    """List the frames and holes of a folder without a record, and what is to be said of them.

    Args:
        paths: in natural order.
        height: lines of a frame that is missing or incomplete.

    Raises:
        InputError: two frames of one number.
    """
    missing, notes = _missing_lines(paths, height)
    frames, num_incomplete = [], 0
    for path, lines_before in zip(paths, missing, strict=True):
        if lines_before:
            reason = f"missing: no frames before {path.name}"
            frames.append(RecordedFrame(path=None, num_lines=lines_before, reason=reason))
        if path.stem.endswith("_incomplete"):
            reason = f"incomplete: {path.name}: some of its packets did not come"
            frames.append(RecordedFrame(path=None, num_lines=height, reason=reason))
            num_incomplete += 1
        else:
            frames.append(RecordedFrame(path=path))
    if num_incomplete:
        notes = (*notes, f"of {len(paths)} frames {num_incomplete} incomplete: their lines are undecided")
    return tuple(frames), notes


def _missing_lines(paths: Sequence[Path], height: int) -> tuple[list[int], tuple[str, ...]]:
    """Lines that are missing before each frame, from the last number in its name: a frame's number, or its first line.

    Raises:
        InputError: two frames of one number.
    """
    none = [0] * len(paths)
    found = [re.findall(r"\d+", path.stem) for path in paths]
    if not all(found):
        return none, ("names without numbers: a missing frame cannot be seen",)
    numbers = [int(digits[-1]) for digits in found]
    steps = [after - before for before, after in pairwise(numbers)]
    for step, (before, after) in zip(steps, pairwise(paths), strict=True):
        if step == 0:
            raise InputError(f"roll {after.parent}: doubled: {before.name} and {after.name} have the same number")
    common = Counter(steps).most_common(1)[0][0] if steps else 1
    unit = height if common == height else 1
    if sum(step != unit for step in steps) * 2 > len(steps):
        return none, ("the numbers in the names do not count frames or lines: a missing frame cannot be seen",)
    return [0, *(max(0, step - unit) * (height // unit) for step in steps)], ()
