"""One connection to a GigE Vision camera: set up, frames out, closed; it dies with the camera and is then made anew."""

import ctypes
import threading
import time
from ctypes import byref, c_int, c_size_t, c_uint32, c_uint64
from dataclasses import dataclass

import numpy as np

from zellige.core.errors import ConfigError, StationError
from zellige.core.types import Pixels
from zellige.station.aravis import MONO8, Aravis
from zellige.station.camera_frames import Arrival

_PACKET_SOCKET_DISABLED, _FIXED_SOCKET_BUFFER, _CONTINUOUS, _IMAGE_PAYLOAD, _SUCCESS = 1, 0, 0, 1, 0
_STATUS_REASONS = {
    -1: "unknown status",
    1: "buffer was cleared",
    2: "timeout: not all packets came in time",
    3: "packets are missing",
    4: "a packet has a wrong id",
    5: "the image does not fit into the declared size",
    6: "still filling",
    7: "aborted",
}
"""Source: ArvBufferStatus in arvbuffer.h of Aravis 0.8."""
_CONTROL_REGISTER, _CONTROL_MASK = 0x0A00, 0b11
"""Source: GigE Vision bootstrap register Control Channel Privilege; 0 is a camera that nobody controls."""
_COUNTERS = ("n_resent_packets", "n_missing_packets", "n_resend_requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSettings:
    """What is asked of a camera. None leaves the camera's own value."""

    width_px: int | None = None
    height_px: int | None = None
    """Lines of one frame."""
    pixel_format: str = "Mono8"
    frame_rate_hz: float | None = None
    packet_size_bytes: int | None = None
    """Whole IP packet; at most the network card's MTU. None: Aravis checks the camera's own and lowers it if needed."""
    packet_delay_ns: int | None = None
    num_buffers: int = 16
    """The ring that frames arrive in; when the reader is so many frames late, frames become MISSING."""
    socket_buffer_bytes: int = 16 << 20
    """Asked of the kernel, which gives at most net.core.rmem_max."""

    def __post_init__(self) -> None:
        if self.pixel_format != "Mono8":
            raise ConfigError(f"camera pixel_format: expected Mono8 (8-bit gray), got {self.pixel_format!r}")
        limits = {
            "width_px": (1, 1 << 16),
            "height_px": (1, 1 << 16),
            "frame_rate_hz": (1e-3, 1e5),
            "packet_size_bytes": (576, 16384),
            "packet_delay_ns": (0, 10**9),
            "num_buffers": (2, 1024),
            "socket_buffer_bytes": (1 << 16, 1 << 30),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"camera {name}: expected {low:g} to {high:g}, got {value}")


class GigeStream:
    """An open camera that sends. Memory: `num_buffers` frames, and each frame is copied once."""

    def __init__(self, aravis: Aravis, name: str | None, settings: CameraSettings) -> None:
        """Open the camera, set it up and start it. `name` is an id, a serial, an IP or MAC address; None: the first.

        Raises:
            StationError: there is no such camera, it refuses a setting, or another program controls it.
        """
        self._aravis, self._settings = aravis, settings
        self._camera = self._stream = 0
        where, is_ours = f"camera {name or '(first found)'}", True
        try:
            self._camera = aravis.call("arv_camera_new", None if name is None else name.encode()) or 0
            if not self._camera:
                raise StationError("not found")
            device = aravis.call("arv_camera_get_device", self._camera)
            is_ours = bool(aravis.call("arv_gv_device_is_controller", device))
            if not is_ours:
                raise StationError("another program controls it")
            self._set_up()
            self._start()
        except StationError as error:
            self.close(is_dead=not is_ours)
            raise StationError(f"{where}: {error}") from None
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        aravis, camera, wanted = self._aravis, self._camera, self._settings
        # Aravis leaves alone what is negative or zero.
        aravis.call("arv_camera_set_region", camera, -1, -1, wanted.width_px or 0, wanted.height_px or 0)
        region = [c_int() for _ in range(4)]
        aravis.call("arv_camera_get_region", camera, *map(byref, region))
        self.width_px, self.height_px = region[2].value, region[3].value
        for what, value, actual in (
            ("width", wanted.width_px, self.width_px),
            ("height", wanted.height_px, self.height_px),
        ):
            if value not in (None, actual):
                raise StationError(f"{what}: expected {value} px, the camera has {actual}")
        aravis.call("arv_camera_set_pixel_format_from_string", camera, wanted.pixel_format.encode())
        if wanted.frame_rate_hz is not None:
            aravis.call("arv_camera_set_frame_rate", camera, wanted.frame_rate_hz)
        if wanted.packet_size_bytes is not None:
            aravis.call("arv_camera_gv_set_packet_size", camera, wanted.packet_size_bytes)
        if wanted.packet_delay_ns is not None:
            aravis.call("arv_camera_gv_set_packet_delay", camera, wanted.packet_delay_ns)
        aravis.call("arv_camera_set_acquisition_mode", camera, _CONTINUOUS)

    def _start(self) -> None:
        aravis, wanted = self._aravis, self._settings
        # A packet socket, which Aravis takes where it may, receives nothing over loopback, without an error.
        aravis.call("arv_camera_gv_set_stream_options", self._camera, _PACKET_SOCKET_DISABLED)
        self._stream = aravis.call("arv_camera_create_stream", self._camera, None, None) or 0
        if not self._stream:
            raise StationError("the stream cannot be made")
        aravis.set_integer_property(self._stream, "socket-buffer", _FIXED_SOCKET_BUFFER)
        aravis.set_integer_property(self._stream, "socket-buffer-size", wanted.socket_buffer_bytes)
        self._payload_bytes = aravis.call("arv_camera_get_payload", self._camera)
        if self._payload_bytes < self.width_px * self.height_px:
            raise StationError(f"payload: expected {self.width_px * self.height_px} bytes, got {self._payload_bytes}")
        self.packet_size_bytes: int = aravis.call("arv_camera_gv_get_packet_size", self._camera)
        for _ in range(wanted.num_buffers):
            self._give_back(aravis.call("arv_buffer_new_allocate", self._payload_bytes))
        aravis.call("arv_camera_start_acquisition", self._camera)

    def pop(self, timeout_s: float) -> Arrival | None:
        """Wait for the next frame, complete or not; None after `timeout_s`."""
        buffer = self._aravis.call("arv_stream_timeout_pop_buffer", self._stream, int(timeout_s * 1e6))
        if not buffer:
            return None
        received_ns = time.monotonic_ns()
        try:
            reason = self._why_incomplete(buffer)
            return Arrival(
                frame_id=self._aravis.call("arv_buffer_get_frame_id", buffer) or None,
                timestamp_ns=self._aravis.call("arv_buffer_get_timestamp", buffer) or None,
                received_ns=received_ns,
                pixels=self._copy(buffer),
                reason=reason,
            )
        finally:
            self._give_back(buffer)

    def why_dead(self) -> str:
        """Ask the camera whether it is there and still ours: the reason why not, or nothing. Takes seconds if not."""
        device, value = self._aravis.call("arv_camera_get_device", self._camera), c_uint32()
        try:
            self._aravis.call("arv_device_read_register", device, _CONTROL_REGISTER, byref(value))
        except StationError as error:
            return f"camera does not answer ({error})"
        return "" if value.value & _CONTROL_MASK else "camera is no longer controlled by this station (restarted?)"

    def counters(self) -> dict[str, int]:
        """Return Aravis's counts, in packets: resent, missing, resend requests, without a free buffer."""
        get = "arv_stream_get_info_uint64_by_name"
        counts = {name: self._aravis.call(get, self._stream, name.encode()) for name in _COUNTERS}
        completed, failures, underruns = c_uint64(), c_uint64(), c_uint64()
        self._aravis.call(
            "arv_stream_get_statistics", self._stream, byref(completed), byref(failures), byref(underruns)
        )
        return {**counts, "n_underruns": underruns.value}

    def close(self, *, is_dead: bool = False) -> None:
        """Stop the camera and free everything; a second call does nothing.

        To free a camera that does not obey takes Aravis up to ten seconds, so a thread does it.
        """
        if not self._camera:
            return
        if self._stream and not is_dead:
            try:
                self._aravis.call("arv_camera_stop_acquisition", self._camera)
            except StationError:  # it has gone since the last frame
                is_dead = True
        if is_dead:
            threading.Thread(target=self._free, args=(self._stream, self._camera), daemon=True).start()
        else:
            self._free(self._stream, self._camera)
        self._stream = self._camera = 0

    def _free(self, stream: int, camera: int) -> None:
        if stream:
            self._aravis.unref(stream)  # ends its thread and frees the buffers that it holds
        self._aravis.unref(camera)

    def _why_incomplete(self, buffer: int) -> str:
        status = self._aravis.call("arv_buffer_get_status", buffer)
        if status != _SUCCESS:
            return _STATUS_REASONS.get(status, f"status {status}")
        payload = self._aravis.call("arv_buffer_get_payload_type", buffer)
        if payload != _IMAGE_PAYLOAD:
            return f"expected an image, got payload type {payload}"
        width, height, pixel_format = (
            self._aravis.call(f"arv_buffer_get_image_{field}", buffer) for field in ("width", "height", "pixel_format")
        )
        if (width, height) != (self.width_px, self.height_px):
            return f"expected {self.width_px} x {self.height_px} px, got {width} x {height}"
        if pixel_format != MONO8:
            return f"expected pixel format Mono8, got {pixel_format:#010x}"
        padding = c_int(), c_int()
        self._aravis.call("arv_buffer_get_image_padding", buffer, *map(byref, padding))
        if padding[0].value or padding[1].value:
            return f"expected lines without padding, got {padding[0].value} bytes after each line"
        return ""

    def _copy(self, buffer: int) -> Pixels:
        address = self._aravis.call("arv_buffer_get_data", buffer, byref(c_size_t()))
        shape = self.height_px, self.width_px
        view = (ctypes.c_uint8 * (shape[0] * shape[1])).from_address(address)
        return np.ctypeslib.as_array(view).reshape(shape).copy()

    def _give_back(self, buffer: int) -> None:
        """Clear the buffer and put it into the ring.

        Aravis leaves what does not come as it was: lines of an older frame, and its id and time where the first packet
        of a frame, the leader, is lost.
        """
        address = self._aravis.call("arv_buffer_get_data", buffer, byref(c_size_t()))
        ctypes.memset(address, 0, self._payload_bytes)
        self._aravis.call("arv_buffer_set_frame_id", buffer, 0)
        self._aravis.call("arv_buffer_set_timestamp", buffer, 0)
        self._aravis.call("arv_stream_push_buffer", self._stream, buffer)
