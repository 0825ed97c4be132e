"""Read one image file into a frame, or say in one line why not. Never guesses a depth, an alpha or a color.

Pixels are read as they are stored: an EXIF orientation is never applied, so a mask drawn on the stored pixels fits.
A file that stops too early is refused. Damage inside the data is noticed where the format has a checksum (PNG) or its
decoder complains; a changed byte inside an otherwise complete JPEG, BMP, TIFF or PNM cannot be seen.
"""

import re
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.types import Color, Frame, Pixels, PixelSize, Sample

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
MAX_PIXELS = 1 << 28
"""Largest image that is decoded, px; a header that claims more is refused before any memory is taken.

OpenCV's own limit, for the formats whose header is not read here, is set to the same in `zellige.core`.
"""

Mask = NDArray[np.bool_]
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_JPEG_START = b"\xff\xd8\xff"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MASK_LEVEL = 128
_MASK_COLOR_STEP = 32


def read_pixels(path: Path) -> Pixels:
    """Read an image file as it is stored: uint8, (H, W) gray or (H, W, 3) RGB.

    Raises:
        InputError: missing or unreadable, or see `decode_pixels`.
    """
    return decode_pixels(read_bytes(path), f"image {path}")


def read_bytes(path: Path, what: str = "image") -> bytes:
    """Read the bytes of an image file; `what` it is opens the message.

    Raises:
        InputError: missing, a folder, not permitted.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read ({error.strerror})") from None


def decode_pixels(data: bytes, where: str) -> Pixels:
    """Decode an image file's bytes: uint8, (H, W) gray or (H, W, 3) RGB, never rotated.

    A palette is resolved to its colors. An alpha channel that is opaque everywhere is dropped. A color file whose
    three channels are equal everywhere comes back as gray, which is what it shows. `where` opens every message.

    Raises:
        InputError: empty, truncated, corrupt, 16-bit or float, really transparent, or above `MAX_PIXELS`.
    """
    return _to_gray_or_rgb(_decode(data, where), where)


def _decode(data: bytes, where: str) -> Pixels:
    """Decode to what OpenCV calls unchanged: (H, W), (H, W, 3 BGR) or (H, W, 4 BGRA), uint8."""
    if not data:
        raise InputError(f"{where}: expected an image, got an empty file")
    _check_header(data, where)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise _too_large(where) from None
        raise InputError(f"{where}: not a readable image (corrupt)") from None
    if image is None:
        raise InputError(f"{where}: not a readable image (corrupt, truncated or not an image)")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise _too_large(where)
    if image.dtype != np.uint8:
        raise InputError(f"{where}: expected 8 bits per channel, got {image.dtype}; convert it first")
    return np.asarray(image, np.uint8)


def _too_large(where: str) -> InputError:
    return InputError(f"{where}: expected at most {MAX_PIXELS} pixels, the file claims more")


def _check_header(data: bytes, where: str) -> None:
    """Refuse a PNG or JPEG that claims too many pixels or stops before its end marker."""
    if data.startswith(_PNG_SIGNATURE):
        pixels, is_complete = _walk_png(data)
    elif data.startswith(_JPEG_START):
        pixels, is_complete = _walk_jpeg(data)
    else:
        if data.startswith(_TIFF_SIGNATURES) and _has_second_tiff_page(data):
            raise InputError(f"{where}: expected one picture, got a TIFF of several pages; split it")
        return
    if pixels > MAX_PIXELS:
        raise _too_large(where)
    if not is_complete:
        raise InputError(f"{where}: truncated, expected an end marker, the data stops after {len(data)} bytes")


def _has_second_tiff_page(data: bytes) -> bool:
    """Whether a second image directory follows the first; false where the file is cut off, the decoder says that.

    Source: TIFF 6.0, section 2 (image file header, image file directory), and the BigTIFF layout of 8-byte offsets.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:4] in (b"+\x00", b"\x00+")
    count, entry, offset, first = ("Q", 20, "Q", 8) if is_big else ("H", 12, "I", 4)
    try:
        (at,) = struct.unpack_from(order + offset, data, first)
        (num_entries,) = struct.unpack_from(order + count, data, at)
        (following,) = struct.unpack_from(order + offset, data, at + struct.calcsize(count) + num_entries * entry)
    except struct.error:
        return False
    return bool(following)


def _walk_png(data: bytes) -> tuple[int, bool]:
    """Claimed pixels, and whether the chunks lead to the end chunk.

    Source: W3C PNG specification (third edition), sections 5.3 (chunk layout) and 11.2.1 (IHDR).
    """
    pixels = int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return pixels, True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return pixels, False


def _walk_jpeg(data: bytes) -> tuple[int, bool]:
    """Claimed pixels, and whether the segments lead to the end marker (bytes after it are allowed).

    Source: ITU-T T.81, annex B: marker segments, stuffed zero bytes and restart markers in entropy-coded data.
    """
    pixels, at = 0, 2
    while found := _JPEG_MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return pixels, True
        if marker in _JPEG_FRAME_HEADERS:
            pixels = int.from_bytes(data[at + 3 : at + 5], "big") * int.from_bytes(data[at + 5 : at + 7], "big")
        if marker != 0x01:
            at += int.from_bytes(data[at : at + 2], "big")
    return pixels, False


def _to_gray_or_rgb(image: Pixels, where: str) -> Pixels:
    image = _without_opaque_alpha(image)
    if image.ndim == 2:
        return image
    if image.shape[2] == 4:
        raise InputError(f"{where}: expected an opaque image, got transparent pixels (alpha channel)")
    blue, green, red = image[..., 0], image[..., 1], image[..., 2]
    if np.array_equal(green, red) and np.array_equal(blue, red):
        return np.ascontiguousarray(red)
    return np.ascontiguousarray(image[..., ::-1])


def _without_opaque_alpha(image: Pixels) -> Pixels:
    if image.ndim == 3 and image.shape[2] == 4 and int(image[..., 3].min()) == 255:
        return image[..., :3]
    return image


def in_color(pixels: Pixels, color: Color, where: str) -> Pixels:
    """Bring pixels into the declared color mode: (H, W) for gray and luma, (H, W, 3) for RGB.

    Raises:
        InputError: color where gray is declared, or gray where RGB is declared.
    """
    is_gray = pixels.ndim == 2
    if color is Color.RGB:
        if is_gray:
            raise InputError(f"{where}: expected a color image, got gray; use color=gray or color=luma")
        return pixels
    if is_gray:
        return pixels
    if color is Color.LUMA:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    raise InputError(f"{where}: expected a gray image, got color; use color=rgb, or color=luma to convert")


def read_frame(path: Path, *, color: Color, pixel_size: PixelSize | None = None) -> Frame:
    """Read an image file as a frame in the declared color mode; its source id is the file's path.

    Raises:
        InputError: see `read_pixels` and `in_color`.
    """
    pixels = in_color(read_pixels(path), color, f"image {path}")
    return Frame(pixels=pixels, pixel_size=pixel_size, source_id=str(path))


def read_template(path: Path, like: Pixels | None = None, *, color: Color | None = None) -> Pixels:
    """Read a template, an image of a product without defects: uint8 (H, W) or (H, W, 3).

    Args:
        path: the file.
        like: the pixels of its image, whose size it must have; None: any size.
        color: the declared mode; None: as it is stored.

    Raises:
        InputError: see `read_pixels` and `in_color`; or of another size than its image.
    """
    where = f"template {path}"
    pixels = decode_pixels(read_bytes(path, "template"), where)
    if color is not None:
        pixels = in_color(pixels, color, where)
    if like is not None and pixels.shape[:2] != like.shape[:2]:
        expected, got = (f"{one.shape[0]} x {one.shape[1]}" for one in (like, pixels))
        raise InputError(f"{where}: expected its image's size {expected} px, got {got}")
    return pixels


def read_sample(sample: Sample, *, color: Color) -> Frame:
    """Read the image of a sample as a frame in the declared color mode, with its template where it has one.

    Raises:
        InputError: see `read_frame` and `read_template`.
    """
    frame = read_frame(sample.image_path, color=color, pixel_size=sample.pixel_size)
    if sample.template_path is None:
        return frame
    return replace(frame, template=read_template(sample.template_path, frame.pixels, color=color))


def read_mask(path: Path, size: tuple[int, int] | None) -> Mask:
    """Read a defect mask as (H, W) bool, true on the defect. An empty mask is returned, not refused.

    The rules, in this order (a palette is resolved to its colors and its transparency first):
    - a file with transparent pixels: defective where it is at least half opaque (alpha >= 128), whatever the color;
    - a gray file that holds nothing but 0 and 1: a label image, defective where 1;
    - any other gray file: defective from 128 up;
    - a color file: the background is black, or white where no pixel is black; defective is what differs from it by
      32 or more in a channel. A color file with both black and white pixels, or with neither, is refused.

    Raises:
        InputError: unreadable, of another size than its image (`size`, H x W; None: any), or color without a clear
            background.
    """
    where = f"mask {path}"
    image = _without_opaque_alpha(_decode(read_bytes(path), where))
    if size is not None and image.shape[:2] != size:
        raise InputError(
            f"{where}: expected its image's size {size[0]} x {size[1]} px, got {image.shape[0]} x {image.shape[1]}"
        )
    if image.ndim == 3 and image.shape[2] == 4:
        return np.asarray(image[..., 3] >= _MASK_LEVEL)
    pixels = _to_gray_or_rgb(image, where)
    if pixels.ndim == 2:
        return np.asarray(pixels >= (1 if int(pixels.max()) <= 1 else _MASK_LEVEL))
    return _differs_from_background(pixels, where)


def _differs_from_background(pixels: Pixels, where: str) -> Mask:
    has_black, has_white = bool((pixels.max(axis=2) == 0).any()), bool((pixels.min(axis=2) == 255).any())
    if has_black == has_white:
        found = "both" if has_black else "neither"
        raise InputError(f"{where}: expected a black or a white background behind the colored defect, got {found}")
    distance = pixels.max(axis=2) if has_black else 255 - pixels.min(axis=2)
    return np.asarray(distance >= _MASK_COLOR_STEP)
