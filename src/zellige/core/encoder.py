"""Where each line lies along the web: from the encoder's counts, never from rows times pitch.

Above the camera's highest line rate triggers are missed and the image is compressed along the motion without any
error. Only the counts show it, so rows and counts that disagree make a frame UNDECIDED. An encoder may also stop, run
backwards when the operator jogs the web, or jump when a pulse or the cable is lost.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class TravelFault(StrEnum):
    """Why lines may not be judged as they are."""

    STOPPED = "stopped"
    """The counts stand still while lines come in."""
    REVERSED = "reversed"
    """The web ran backwards: lines that were seen before are not new."""
    COMPRESSED = "compressed"
    """More travel than lines: over-speed, triggers were missed."""
    STRETCHED = "stretched"
    """Less travel than lines: the camera runs freely and the web is slow."""
    GAP = "gap"
    """Lines are missing at one place; the position goes on from the counts."""
    JUMP = "jump"
    """The counts moved further than the web can: the position after it is off by an unknown amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRule:
    """The encoder of one station. `counts_per_line` may be a fraction."""

    mm_per_count: float
    counts_per_line: float
    """Counts from one line to the next at the declared pixel size."""
    pitch_tolerance: float = 0.02
    """Largest relative difference of a frame's travel from its lines; the bundle's pixel size tolerance."""
    max_gap_lines: int = 4096
    """More travel than this between two lines is a jump, not a gap: the web cannot move so far unseen."""
    counter_bits: int | None = None
    """Width of a counter that wraps; None where the counts never do."""

    def __post_init__(self) -> None:
        if not (0 < self.mm_per_count < 1000 and 0 < self.counts_per_line < 1e6):
            raise ConfigError(
                f"encoder: expected mm_per_count in (0, 1000) and counts_per_line in (0, 1e6), got "
                f"{self.mm_per_count} and {self.counts_per_line}"
            )
        if not 0 < self.pitch_tolerance < 0.5:
            raise ConfigError(f"encoder pitch_tolerance: expected a number in (0, 0.5), got {self.pitch_tolerance}")
        if self.counter_bits is not None and not 8 <= self.counter_bits <= 62:
            raise ConfigError(f"encoder counter_bits: expected 8 to 62, got {self.counter_bits}")
        if self.max_gap_lines < 2:
            raise ConfigError(f"encoder max_gap_lines: expected at least 2, got {self.max_gap_lines}")
        if self.counter_bits is not None and self.max_gap_lines * self.counts_per_line >= 2 ** (self.counter_bits - 1):
            raise ConfigError(
                f"encoder: expected a gap of {self.max_gap_lines} lines to be less than half of a counter of "
                f"{self.counter_bits} bits"
            )

    @property
    def pitch_mm(self) -> float:
        """Travel from one line to the next at the declared pixel size, mm."""
        return self.mm_per_count * self.counts_per_line


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Travel:
    """Where a block of lines lies along the web."""

    position_mm: Floats
    """(N,) start of each line, mm from the first line of the roll."""
    is_new: NDArray[np.bool_]
    """(N,) false where the web had been seen already (standing still, running backwards and forwards again)."""
    faults: tuple[TravelFault, ...]
    """Why the block is UNDECIDED; empty where rows and counts agree."""


class EncoderTrack:
    """Turns the counts that come with the lines into positions. Its memory is a few numbers, however long the roll."""

    def __init__(self, rule: EncoderRule) -> None:
        self.rule = rule
        self._last_count: int | None = None
        self._travelled = 0
        """Counts from the start of the roll to the last line, jumps taken out."""
        self._furthest = -1
        self.num_jumps = 0

    def add(self, counts: Counts) -> Travel:
        """Place lines along the web.

        Args:
            counts: (N,) int64, the encoder's count at each line, N >= 1, in the order of the lines.

        Raises:
            InputError: no line, not whole numbers, or a count outside the counter's range.
        """
        if counts.ndim != 1 or len(counts) == 0 or not np.issubdtype(counts.dtype, np.integer):
            raise InputError(f"encoder: expected whole counts (N,), got {counts.dtype} {counts.shape}")
        bits = self.rule.counter_bits
        if bits is not None and not (int(counts.min()) >= 0 and int(counts.max()) < 2**bits):
            raise InputError(f"encoder: expected counts in [0, 2^{bits}), got {counts.min()} to {counts.max()}")
        is_first = self._last_count is None
        before = int(counts[0]) if self._last_count is None else self._last_count
        steps = self._steps(np.asarray(np.diff(counts, prepend=before), np.int64))
        is_jump = np.abs(steps) > self.rule.max_gap_lines * self.rule.counts_per_line
        # What the counts say of a jump is not believed: the lines go on at the declared pitch.
        steps[is_jump] = round(self.rule.counts_per_line)
        travelled = self._travelled + np.cumsum(steps)
        furthest = np.maximum.accumulate(np.concatenate([[self._furthest], travelled]))
        faults = self._faults(steps[1:] if is_first else steps, travelled, bool(is_jump.any()))
        self._last_count, self._travelled, self._furthest = int(counts[-1]), int(travelled[-1]), int(furthest[-1])
        self.num_jumps += int(is_jump.sum())
        return Travel(
            position_mm=np.asarray(travelled * self.rule.mm_per_count, np.float64),
            is_new=travelled > furthest[:-1],
            faults=tuple(faults),
        )

    def _steps(self, differences: Counts) -> Counts:
        """Counts from line to line, the shorter way round a counter that wraps."""
        bits = self.rule.counter_bits
        if bits is None:
            return differences
        half = 1 << (bits - 1)
        return (differences + half) % (1 << bits) - half

    def _faults(self, steps: Counts, travelled: Counts, has_jump: bool) -> list[TravelFault]:
        if len(steps) == 0:
            return []
        nominal = self.rule.counts_per_line
        found = {
            TravelFault.JUMP: has_jump,
            TravelFault.REVERSED: bool((steps < 0).any()) or bool(travelled[-1] < self._furthest),
            TravelFault.STOPPED: int(np.abs(steps).sum()) == 0 and len(steps) * nominal >= 1,
            # One line late by a count is the encoder's own coarseness.
            TravelFault.GAP: bool((steps > 1.5 * nominal + 1).any()),
        }
        faults = [fault for fault, is_found in found.items() if is_found]
        # A line late and the next one early is jitter; over all lines the travel must be theirs, to one count.
        excess = int(steps.sum()) - len(steps) * nominal
        allowed = self.rule.pitch_tolerance * len(steps) * nominal + 1
        if not faults and abs(excess) > allowed:
            faults.append(TravelFault.COMPRESSED if excess > 0 else TravelFault.STRETCHED)
        return faults


def line_borders_mm(position_mm: Floats, pitch_mm: float) -> Floats:
    """Turn the starts of N lines into their N + 1 borders: the last line is as long as the one before it.

    A line alone is one pitch long.

    Example:
        >>> import numpy as np
        >>> line_borders_mm(np.array([0.0, 0.5, 1.5]), 0.5).tolist()
        [0.0, 0.5, 1.5, 2.5]
    """
    last = pitch_mm if len(position_mm) < 2 else position_mm[-1] - position_mm[-2]
    return np.append(position_mm, position_mm[-1] + last)
