"""The record of a camera: one entry per frame, numbered without a gap, whatever happened to the frame.

A camera counts its frames, and the count tells what the network or a slow reader swallowed. It does not tell how long a
camera was away. So what the count shows as missing is exact, and what passed while the camera was lost is an estimate.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from zellige.core.errors import InputError
from zellige.core.types import Frame, Pixels, PixelSize

_log = logging.getLogger(__name__)
_MAX_MISSING = 1000
"""A larger step of the camera's counter is no loss of packets: the counter was set anew, or the camera was away."""
_LAST_16_BIT_ID = 0xFFFF


class FrameStatus(StrEnum):
    """What became of a frame. Only a COMPLETE one may be judged."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    """Some of its packets did not come. Its pixels are for people to look at; what did not come is 0."""
    MISSING = "missing"
    """The camera counted it, nothing of it arrived or no buffer was free."""
    LOST = "lost"
    """The camera was away, or its counter was set anew: any number of lines, estimated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraFrame:
    """One entry of the camera's record: a block of lines, or why there is none."""

    number: int
    """0, 1, 2 and so on over the whole record, without a gap."""
    status: FrameStatus
    pixels: Pixels | None
    """uint8 (H, W); None where MISSING or LOST, or where an incomplete frame has not the declared size."""
    frame_id: int | None
    """The camera's own count; None where LOST, and where the packet that tells it did not come."""
    timestamp_ns: int | None
    """The camera's clock at the frame; None where MISSING or LOST, and where the packet that tells it did not come."""
    received_ns: int
    """The station's monotonic clock when the entry was made."""
    first_line: int
    """Absolute number of the first line. After a LOST entry it rests on that entry's estimate."""
    num_lines: int
    reason: str = ""
    """Why the frame is not COMPLETE."""

    def to_frame(self, *, source_id: str, pixel_size: PixelSize | None = None) -> Frame:
        """Return the block of lines that can be judged.

        Raises:
            InputError: the frame is not COMPLETE.
        """
        if self.status is not FrameStatus.COMPLETE or self.pixels is None:
            raise InputError(f"frame {source_id}@{self.first_line}: {self.status}, expected complete ({self.reason})")
        return Frame(
            pixels=self.pixels,
            pixel_size=pixel_size,
            first_line=self.first_line,
            source_id=f"{source_id}@{self.first_line}",
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """A frame as it came out of the stream; a `reason` says that it is not complete."""

    frame_id: int | None
    timestamp_ns: int | None
    received_ns: int
    pixels: Pixels | None
    reason: str


class FrameSequence:
    """Turns arrivals and losses into entries without a gap."""

    def __init__(self, *, height_px: int, start_ns: int, first_line: int = 0) -> None:
        """Begin with the first frame that arrives; `start_ns` is the monotonic clock now."""
        self._height_px, self._next_line, self._next_number = height_px, first_line, 0
        self._last_id: int | None = None
        self._until_ns = start_ns
        """Monotonic time up to which the record accounts for the lines."""
        self._is_lost = False
        self._recent: deque[tuple[int, int]] = deque(maxlen=64)
        """(received_ns, frames counted by the camera so far in this connection), to know the rate."""
        self._line_rate_hz = 0.0

    def arrived(self, arrival: Arrival) -> Iterator[CameraFrame]:
        """Give the entries up to and with this frame: a pause after a loss, what is missing, the frame itself."""
        last, num_missing = self._last_id, self._num_missing(arrival.frame_id)
        if self._is_lost:
            if self._estimate_lines(arrival.received_ns) >= 2 * self._height_px:
                yield self._lost_entry("camera is back; lines passed until its first frame", arrival.received_ns, 1)
            num_missing = 0
        elif num_missing is None:
            reason = f"the camera's frame count went from {last} to {arrival.frame_id}"
            yield self.lost(reason, arrival.received_ns)
            num_missing = 0
        for _ in range(num_missing):
            self._last_id = self._next_id(arrival.frame_id)
            reason = "counted by the camera, not received"
            yield self._entry(FrameStatus.MISSING, arrival.received_ns, self._last_id, reason)
        status = FrameStatus.INCOMPLETE if arrival.reason else FrameStatus.COMPLETE
        yield self._entry(status, arrival.received_ns, arrival.frame_id, arrival.reason, arrival)
        # Frames come in order, so one that does not tell its count has the next one, or one of the next few.
        self._last_id, self._is_lost = arrival.frame_id or self._next_id(None), False
        self._measure_rate(arrival.received_ns, num_missing + 1)

    def lost(self, reason: str, now_ns: int) -> CameraFrame:
        """Give the entry for a camera that is away; its lines are those that the time since the last entry allows."""
        entry = self._lost_entry(reason, now_ns)
        self._is_lost, self._last_id = True, None
        self._recent.clear()
        return entry

    def _lost_entry(self, reason: str, now_ns: int, num_frames_apart: int = 0) -> CameraFrame:
        num_lines = max(self._height_px, self._estimate_lines(now_ns) - num_frames_apart * self._height_px)
        reason = f"{reason} (about {num_lines} lines, by the clock)"
        return self._entry(FrameStatus.LOST, now_ns, None, reason, num_lines=num_lines)

    def _entry(
        self,
        status: FrameStatus,
        now_ns: int,
        frame_id: int | None,
        reason: str,
        arrival: Arrival | None = None,
        num_lines: int | None = None,
    ) -> CameraFrame:
        entry = CameraFrame(
            number=self._next_number,
            status=status,
            pixels=None if arrival is None else arrival.pixels,
            frame_id=frame_id,
            timestamp_ns=None if arrival is None else arrival.timestamp_ns,
            received_ns=now_ns,
            first_line=self._next_line,
            num_lines=self._height_px if num_lines is None else num_lines,
            reason=reason,
        )
        self._next_number += 1
        self._next_line += entry.num_lines
        self._until_ns = now_ns
        if status is not FrameStatus.COMPLETE:
            _log.info("frame %d is %s: %s", entry.number, status, reason)
        return entry

    def _next_id(self, up_to: int | None) -> int | None:
        """Return the count after the last one; `up_to`, a later one, tells whether 16 bits wrap."""
        if self._last_id is None:
            return None
        is_wrap = self._last_id == _LAST_16_BIT_ID and (up_to is None or up_to <= _LAST_16_BIT_ID)
        return 1 if is_wrap else self._last_id + 1

    def _num_missing(self, frame_id: int | None) -> int | None:
        """Count the frames between the last one and this; None where the count ran backwards or far ahead.

        Source: GigE Vision 2: block ids run from 1 to 65535 and wrap to 1; extended ids of 64 bits do not wrap.
        """
        if self._last_id is None or frame_id is None:
            return 0
        step = frame_id - self._last_id
        if max(frame_id, self._last_id) <= _LAST_16_BIT_ID:
            step %= _LAST_16_BIT_ID
        return step - 1 if 1 <= step <= _MAX_MISSING + 1 else None

    def _estimate_lines(self, now_ns: int) -> int:
        return round(self._line_rate_hz * (now_ns - self._until_ns) / 1e9)

    def _measure_rate(self, now_ns: int, num_frames: int) -> None:
        count = self._recent[-1][1] + num_frames if self._recent else 0
        self._recent.append((now_ns, count))
        first_ns, first_count = self._recent[0]
        if now_ns > first_ns:
            self._line_rate_hz = (count - first_count) * self._height_px / ((now_ns - first_ns) / 1e9)
