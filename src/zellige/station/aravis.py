"""The few functions of Aravis that a GigE Vision stream needs, through ctypes: no PyGObject, no compiler.

Aravis is C with GObject: an object is a pointer that has to be given back once, an error is a `GError` that has to be
freed. Both are done here; nothing above this file sees a pointer that it has to free except through `unref`.

Source: headers of Aravis 0.8 (arvcamera.h, arvstream.h, arvbuffer.h, arvgvdevice.h). The soname is pinned.
"""

import ctypes
from ctypes import (
    CDLL,
    POINTER,
    byref,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_size_t,
    c_uint,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any

from zellige.core.errors import StationError

LIBRARY = "libaravis-0.8.so.0"
DEBIAN_PACKAGE = "libaravis-0.8-0"
MONO8 = 0x01080001
"""Source: GigE Vision pixel format naming convention, Mono8."""

_CAMERA, _STREAM, _BUFFER, _INT_OUT = c_void_p, c_void_p, c_void_p, POINTER(c_int)

# name: (result, arguments); those in the first table end with a GError**.
_MAY_FAIL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_camera_new": (_CAMERA, (c_char_p,)),
    "arv_camera_create_stream": (_STREAM, (_CAMERA, c_void_p, c_void_p)),
    "arv_camera_start_acquisition": (None, (_CAMERA,)),
    "arv_camera_stop_acquisition": (None, (_CAMERA,)),
    "arv_camera_set_acquisition_mode": (None, (_CAMERA, c_int)),
    "arv_camera_get_region": (None, (_CAMERA, _INT_OUT, _INT_OUT, _INT_OUT, _INT_OUT)),
    "arv_camera_set_region": (None, (_CAMERA, c_int, c_int, c_int, c_int)),
    "arv_camera_set_pixel_format_from_string": (None, (_CAMERA, c_char_p)),
    "arv_camera_set_frame_rate": (None, (_CAMERA, c_double)),
    "arv_camera_get_payload": (c_uint, (_CAMERA,)),
    "arv_camera_gv_get_packet_size": (c_uint, (_CAMERA,)),
    "arv_camera_gv_set_packet_size": (None, (_CAMERA, c_int)),
    "arv_camera_gv_set_packet_delay": (None, (_CAMERA, c_int64)),
    "arv_device_read_register": (c_int, (c_void_p, c_uint64, POINTER(c_uint32))),
}
_CANNOT_FAIL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_disable_interface": (None, (c_char_p,)),
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (c_uint, ()),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_device_address": (c_char_p, (c_uint,)),
    "arv_get_device_vendor": (c_char_p, (c_uint,)),
    "arv_get_device_model": (c_char_p, (c_uint,)),
    "arv_get_device_serial_nbr": (c_char_p, (c_uint,)),
    "arv_camera_get_device": (c_void_p, (_CAMERA,)),
    "arv_gv_device_is_controller": (c_int, (c_void_p,)),
    "arv_camera_gv_set_stream_options": (None, (_CAMERA, c_int)),
    "arv_stream_push_buffer": (None, (_STREAM, _BUFFER)),
    "arv_stream_timeout_pop_buffer": (_BUFFER, (_STREAM, c_uint64)),
    "arv_stream_get_info_uint64_by_name": (c_uint64, (_STREAM, c_char_p)),
    "arv_stream_get_statistics": (None, (_STREAM, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint64))),
    "arv_buffer_new_allocate": (_BUFFER, (c_size_t,)),
    "arv_buffer_get_data": (c_void_p, (_BUFFER, POINTER(c_size_t))),
    "arv_buffer_get_status": (c_int, (_BUFFER,)),
    "arv_buffer_get_payload_type": (c_int, (_BUFFER,)),
    "arv_buffer_get_frame_id": (c_uint64, (_BUFFER,)),
    "arv_buffer_set_frame_id": (None, (_BUFFER, c_uint64)),
    "arv_buffer_set_timestamp": (None, (_BUFFER, c_uint64)),
    "arv_buffer_get_timestamp": (c_uint64, (_BUFFER,)),
    "arv_buffer_get_image_width": (c_int, (_BUFFER,)),
    "arv_buffer_get_image_height": (c_int, (_BUFFER,)),
    "arv_buffer_get_image_pixel_format": (c_uint32, (_BUFFER,)),
    "arv_buffer_get_image_padding": (None, (_BUFFER, _INT_OUT, _INT_OUT)),
}


class _GError(ctypes.Structure):
    _fields_ = [("domain", c_uint32), ("code", c_int), ("message", c_char_p)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraInfo:
    """A camera that answered on the network."""

    id: str
    """What `GigeCamera` takes, beside the address: VENDOR-SERIAL."""
    address: str
    vendor: str
    model: str
    serial: str


class Aravis:
    """The loaded library. `call` runs a function by its name in C and turns a GError into a StationError."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            StationError: it is not installed; the message names the Debian package.
        """
        try:
            library, self._glib, self._gobject = CDLL(LIBRARY), CDLL("libglib-2.0.so.0"), CDLL("libgobject-2.0.so.0")
        except OSError as error:
            raise StationError(
                f"camera: expected the library {LIBRARY}, found none that loads ({error}); on Debian: "
                f"apt install {DEBIAN_PACKAGE}"
            ) from None
        self._functions = {}
        for table, last in ((_MAY_FAIL, (POINTER(POINTER(_GError)),)), (_CANNOT_FAIL, ())):
            for name, (result, arguments) in table.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, (*arguments, *last)
                self._functions[name] = function
        self._glib.g_error_free.argtypes = [c_void_p]
        self._gobject.g_object_unref.argtypes = [c_void_p]
        self._gobject.g_object_set.argtypes = [c_void_p, c_char_p]
        for interface in (b"Fake", b"USB3Vision"):
            self.call("arv_disable_interface", interface)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function without its GError argument.

        Raises:
            StationError: the function set an error; the message is that of Aravis.
        """
        if name in _CANNOT_FAIL:
            return self._functions[name](*arguments)
        error = POINTER(_GError)()
        result = self._functions[name](*arguments, byref(error))
        if error:
            message = (error.contents.message or b"unknown error").decode("utf-8", "replace")
            self._glib.g_error_free(error)
            raise StationError(message.replace("\n", " "))
        return result

    def set_integer_property(self, instance: int, name: str, value: int) -> None:
        """Set a GObject property of a 32-bit integer or enumeration type."""
        self._gobject.g_object_set(instance, name.encode(), c_int(value), c_void_p(None))

    def unref(self, instance: int) -> None:
        """Give an object back."""
        self._gobject.g_object_unref(instance)


def list_cameras() -> list[CameraInfo]:
    """Ask on every network interface which GigE Vision cameras there are; takes about a second.

    Raises:
        StationError: Aravis is not installed.
    """
    aravis = Aravis()
    aravis.call("arv_update_device_list")

    def text(field: str, index: int) -> str:
        return (aravis.call(f"arv_get_device_{field}", index) or b"").decode("utf-8", "replace")

    return [
        CameraInfo(
            id=text("id", i),
            address=text("address", i),
            vendor=text("vendor", i),
            model=text("model", i),
            serial=text("serial_nbr", i),
        )
        for i in range(aravis.call("arv_get_n_devices"))
    ]
