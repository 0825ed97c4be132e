"""Where the lines of a roll lie along the web: lines x pixel size, or the encoder's counts."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zellige.core.encoder import EncoderRule, EncoderTrack, TravelFault
from zellige.core.errors import InputError
from zellige.station.sources import Block, Hole

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_UNDECIDED = (TravelFault.COMPRESSED, TravelFault.STRETCHED, TravelFault.GAP, TravelFault.JUMP)
"""Lines that stood still or ran backwards are left out, which is no fault of the others."""


class Places:
    """The place of each line, mm from the start of the roll. Remembers the last lines only, however long the roll."""

    def __init__(self, pitch_mm: float, num_remembered: int | None) -> None:
        """Start at line 0; `num_remembered` is None where lines x pixel size is the place."""
        self._pitch_mm = pitch_mm
        self._ring = None if num_remembered is None else np.zeros(num_remembered)
        self._next_line, self._end_mm = 0, 0.0

    @property
    def end_mm(self) -> float:
        """Where the last line ends (with an encoder)."""
        return self._end_mm

    def add(self, first_line: int, starts_mm: Floats, stop_line: int, end_mm: float) -> None:
        """Take where lines begin, and where the line before `stop_line` ends.

        Of a hole, only the first line is given: nobody asks for those inside.
        """
        if self._ring is not None:
            self._ring[(first_line + np.arange(len(starts_mm))) % len(self._ring)] = starts_mm
        self._next_line, self._end_mm = stop_line, end_mm

    def start_mm(self, line: int) -> float:
        """Where a line begins; it is one of the last remembered, or the one after them."""
        return float(self.borders_mm(line, line)[0])

    def borders_mm(self, first_line: int, stop_line: int) -> Floats:
        """Borders of the lines from `first_line` up to `stop_line`, (N + 1,), never running back."""
        lines = np.arange(first_line, stop_line + 1)
        if self._ring is None:
            return np.asarray(lines * self._pitch_mm, np.float64)
        beyond = self._end_mm + (lines - self._next_line) * self._pitch_mm
        known = self._ring[lines % len(self._ring)]
        return np.asarray(np.maximum.accumulate(np.where(lines >= self._next_line, beyond, known)), np.float64)


def read_counts(path: Path) -> Counts:
    """Read the encoder's count at each line of a recorded roll: a text file with one whole number a line, or .npy.

    Raises:
        InputError: unreadable, empty, or not whole numbers.
    """
    try:
        if path.suffix == ".npy":
            counts = np.load(path, allow_pickle=False)
        else:
            counts = np.array(path.read_text(encoding="ascii").split(), np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"counts {path}: expected whole numbers, one for each line ({error})") from None
    if counts.ndim != 1 or len(counts) == 0 or not np.issubdtype(counts.dtype, np.integer):
        raise InputError(f"counts {path}: expected whole numbers (N,), got {counts.dtype} {counts.shape}")
    return np.asarray(counts, np.int64)


def place_lines(blocks: Iterable[Block], counts: Counts, rule: EncoderRule, places: Places) -> Iterator[Block]:
    """Give each line the number and the place that the encoder says; lines that are not new are left out.

    Lines of a block whose counts and rows disagree become a hole. There is one count for each line of the source, those
    of missing and unreadable frames included; where the counts end, the rest is a hole.
    """
    track, taken, line, end_mm = EncoderTrack(rule), 0, 0, 0.0
    for block in blocks:
        part = counts[taken : taken + block.num_lines]
        taken += block.num_lines
        if len(part) < block.num_lines:
            stop_mm = end_mm + block.num_lines * rule.pitch_mm
            yield _hole(places, line, end_mm, stop_mm, rule, f"encoder: only {len(counts)} counts")
            line, end_mm = line + block.num_lines, stop_mm
            continue
        travel = track.add(part)
        if not travel.is_new.any():
            continue
        starts = travel.position_mm[travel.is_new]
        stop_mm = float(starts[-1]) + rule.pitch_mm
        faults = [str(fault) for fault in travel.faults if fault in _UNDECIDED]
        if travel.faults == (TravelFault.STRETCHED,) and _is_even(starts, rule):
            faults = []  # the web stood still for a part of the block: those lines are left out, the others are right
        if faults or isinstance(block, Hole):
            reason = f"encoder: {', '.join(faults)}" if faults else ""
            reason = "; ".join(r for r in (block.reason if isinstance(block, Hole) else "", reason) if r)
            hole = _hole(places, line, end_mm, stop_mm, rule, reason)
            yield hole
            line += hole.num_lines
        else:
            places.add(line, starts, line + len(starts), stop_mm)
            yield replace(block, first_line=line, pixels=block.pixels[travel.is_new])
            line += len(starts)
        end_mm = stop_mm


def _is_even(starts_mm: Floats, rule: EncoderRule) -> bool:
    """Whether lines lie one pitch apart on average, to one count."""
    excess = starts_mm[-1] - starts_mm[0] - (len(starts_mm) - 1) * rule.pitch_mm
    return bool(abs(excess) <= rule.pitch_tolerance * len(starts_mm) * rule.pitch_mm + rule.mm_per_count)


def _hole(places: Places, line: int, start_mm: float, stop_mm: float, rule: EncoderRule, reason: str) -> Hole:
    num_lines = max(1, round((stop_mm - start_mm) / rule.pitch_mm))
    places.add(line, np.array([start_mm]), line + num_lines, stop_mm)
    return Hole(first_line=line, num_lines=num_lines, reason=reason, along_mm=(start_mm, stop_mm))
