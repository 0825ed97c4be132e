"""A GigE Vision camera as an endless record of frames: incomplete, missing and lost ones are entries like any other.

Nothing here decides on a product. What is not COMPLETE must become UNDECIDED, and the reason is in the entry.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from zellige.core.errors import ConfigError, StationError
from zellige.station.aravis import Aravis
from zellige.station.camera_frames import CameraFrame, FrameSequence
from zellige.station.gige_stream import CameraSettings, GigeStream

_log = logging.getLogger(__name__)
_POP_TIMEOUT_S = 0.3
_FIRST_BACK_OFF_S = 0.25
_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


class GigeCamera:
    """An open camera; a context manager. One thread reads it.

    Example:
        with GigeCamera("192.168.7.2", CameraSettings(width_px=2048, height_px=1024)) as camera:
            for frame in camera.frames():
                if frame.status is FrameStatus.COMPLETE:
                    ...
    """

    def __init__(
        self,
        name: str | None = None,
        settings: CameraSettings | None = None,
        *,
        max_silence_s: float | None = None,
        max_back_off_s: float = 10.0,
        first_line: int = 0,
    ) -> None:
        """Say which camera, by id, serial, IP or MAC address; None is the first found.

        Args:
            name: see above.
            settings: what is asked of the camera.
            max_silence_s: seconds without a frame after which a camera that still answers counts as lost and is opened
                anew; None for a triggered camera, whose web may stand still for hours.
            max_back_off_s: longest pause between two attempts to reopen the camera.
            first_line: absolute number of the first line.

        Raises:
            ConfigError: a time that is not above 0.
        """
        for what, value in (("max_silence_s", max_silence_s), ("max_back_off_s", max_back_off_s)):
            if value is not None and not value > 0:
                raise ConfigError(f"camera {what}: expected more than 0 s, got {value}")
        self._name, self._settings = name, settings or CameraSettings()
        self._max_silence_s, self._max_back_off_s, self._first_line = max_silence_s, max_back_off_s, first_line
        self._aravis: Aravis | None = None
        self._stream: GigeStream | None = None
        self._sequence: FrameSequence | None = None
        self._counters: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Open and start the camera.

        Raises:
            StationError: no Aravis, no such camera, a setting that it refuses.
        """
        self._aravis = Aravis()
        stream = self._stream = GigeStream(self._aravis, self._name, self._settings)
        # A camera that restarts has forgotten its settings: what holds now is asked of it again.
        self._settings = replace(self._settings, width_px=stream.width_px, height_px=stream.height_px)
        self._sequence = FrameSequence(
            height_px=stream.height_px, start_ns=time.monotonic_ns(), first_line=self._first_line
        )
        self.width_px, self.height_px = stream.width_px, stream.height_px
        self.packet_size_bytes = stream.packet_size_bytes
        self._warn_of_network()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def counters(self) -> dict[str, int]:
        """Return the packets resent, missing, asked for again, and those that found no free buffer."""
        now = self._stream.counters() if self._stream else {}
        return {name: self._counters[name] + now.get(name, 0) for name in (*self._counters, *now)}

    def frames(self, is_ended: Callable[[], bool] = lambda: False) -> Iterator[CameraFrame]:
        """Give the record, entry by entry, until the caller stops. A lost camera is an entry, not an exception.

        Args:
            is_ended: asked before each wait for a frame, about three times a second where none come. What has arrived
                by then is given still.

        Raises:
            StationError: the camera has not been opened.
        """
        if self._sequence is None:
            raise StationError("camera: expected an open one; use it in a with statement")
        last_ns, num_failed = time.monotonic_ns(), 0
        while not is_ended():
            if self._stream is None:
                reason = self._reopen(num_failed)
                if reason:
                    num_failed += 1
                    yield self._sequence.lost(reason, time.monotonic_ns())
                last_ns = time.monotonic_ns()
                continue
            arrival = self._stream.pop(_POP_TIMEOUT_S)
            if arrival is not None:
                last_ns, num_failed = arrival.received_ns, 0
                yield from self._sequence.arrived(arrival)
                continue
            is_dead = bool(reason := self._stream.why_dead())
            if reason := reason or self._why_too_silent(last_ns):
                _log.warning("camera %s is lost: %s", self._name, reason)
                entry = self._sequence.lost(reason, time.monotonic_ns())
                self._close(is_dead=is_dead)
                yield entry
        yield from self._remaining(self._sequence)

    def _remaining(self, sequence: FrameSequence) -> Iterator[CameraFrame]:
        """Give what is in the ring; where the camera is away, that it was."""
        if self._stream is None:
            yield sequence.lost("camera was away when the record ended", time.monotonic_ns())
            return
        for _ in range(self._settings.num_buffers):  # no more: it is still sending
            arrival = self._stream.pop(0)
            if arrival is None:
                return
            yield from sequence.arrived(arrival)

    def _why_too_silent(self, last_ns: int) -> str:
        silence_s = (time.monotonic_ns() - last_ns) / 1e9
        if self._max_silence_s is None or silence_s < self._max_silence_s:
            return ""
        return f"camera answers, and no frame came for {silence_s:.1f} s"

    def _reopen(self, num_failed: int) -> str:
        """Wait, then open the camera; return why it failed, or nothing."""
        assert self._aravis is not None
        time.sleep(min(self._max_back_off_s, _FIRST_BACK_OFF_S * 2.0 ** min(num_failed, 16)))
        try:
            self._stream = GigeStream(self._aravis, self._name, self._settings)
        except StationError as error:
            return f"camera is away, attempt {num_failed + 1} failed: {error}"
        _log.warning("camera %s is back", self._name)
        return ""

    def _close(self, *, is_dead: bool = False) -> None:
        if self._stream is not None:
            self._counters.update(self._stream.counters())
            self._stream.close(is_dead=is_dead)
            self._stream = None

    def _warn_of_network(self) -> None:
        wanted = self._settings
        if wanted.packet_size_bytes not in (None, self.packet_size_bytes):
            _log.warning(
                "camera packet size: asked for %s bytes, has %d", wanted.packet_size_bytes, self.packet_size_bytes
            )
        if _RMEM_MAX.exists() and (limit := int(_RMEM_MAX.read_text())) < wanted.socket_buffer_bytes:
            _log.warning(
                "camera socket buffer: asked for %d bytes, the kernel gives at most %d (sysctl net.core.rmem_max)",
                wanted.socket_buffer_bytes,
                limit,
            )
