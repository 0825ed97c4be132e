"""A recorded roll as a stream of line blocks: a folder of frames, one tall image, or a raw file.

Lines have absolute numbers from 0. Lines that are not there, or cannot be used, come as a hole with its reason, so that
every line of the roll is accounted for. Raw files, PGM and PPM are read block by block; a PNG, TIFF or JPEG is decoded
whole, because the decoder knows no other way: at most `MAX_PIXELS` (2^28). Longer rolls: frames, raw or PGM.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zellige.core.errors import InputError
from zellige.core.image_files import IMAGE_SUFFIXES, in_color, read_frame
from zellige.core.types import Color, Pixels
from zellige.station.frame_names import frames_by_name, natural_order
from zellige.station.frame_record import RECORD, read_frame_record

RAW_SUFFIXES = frozenset({".raw", ".bin"})
_NETPBM_SUFFIXES = frozenset({".pgm", ".ppm"})
_BLOCK_LINES = 256
_NETPBM_HEADER = re.compile(rb"(P[56])(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lines:
    """Lines of the web that follow each other: uint8 (N, W) or (N, W, 3 RGB)."""

    first_line: int
    pixels: Pixels
    absent: tuple[tuple[int, str], ...] = ()
    """Of several cameras side by side: those that did not give these lines, by number from the left, and why. Their
    columns are filled with what they gave last."""

    @property
    def num_lines(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Lines that nobody can judge."""

    first_line: int
    num_lines: int
    reason: str
    along_mm: tuple[float, float] | None = None
    """Where it lies along the web, where an encoder says it; None is lines x pixel size."""


Block = Lines | Hole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RollSource:
    """A roll. `blocks` starts it from its beginning; `num_blocks` is for a progress bar, 0 where nobody knows."""

    name: str
    width_px: int
    num_blocks: int
    blocks: Callable[[], Iterator[Block]]
    notes: tuple[str, ...] = ()
    """What cannot be seen in this recording."""
    final_notes: Callable[[], tuple[str, ...]] = tuple
    """What is to be said when the roll has ended."""
    is_live: bool = False
    """Whether its lines come when they come: waiting for them is no work."""
    first_estimated_line: int | None = None
    """From here on the numbers of lines rest on an estimate: the camera was away. None: all are exact."""


def open_source(path: Path, *, width_px: int | None, color: Color) -> RollSource:
    """Open a recorded roll.

    Args:
        path: a folder of frames; a raw file (.raw, .bin: 8-bit lines without header, channels interleaved as RGB); or
            an image as tall as the roll.
        width_px: columns of the camera; None takes those of the recording, which a raw file does not tell.
        color: what the bundle wants; it says how many channels a raw file has.

    Raises:
        InputError: missing, empty, of another width, truncated, or an image that is not usable.
    """
    if not path.exists():
        raise InputError(f"roll {path}: expected a folder or a file, found none")
    if path.is_dir():
        return _open_folder(path, width_px, color)
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        return _open_raw(path, width_px, color)
    if suffix in _NETPBM_SUFFIXES:
        return _open_netpbm(path, width_px, color)
    if suffix not in IMAGE_SUFFIXES:
        expected = ", ".join(sorted(IMAGE_SUFFIXES | RAW_SUFFIXES))
        raise InputError(f"roll {path}: expected a folder of frames or a file ending in {expected}")
    pixels = read_frame(path, color=color).pixels
    width = _check_width(pixels.shape[1], width_px, path)
    starts = range(0, len(pixels), _BLOCK_LINES)

    def blocks() -> Iterator[Block]:
        for start in starts:
            yield Lines(first_line=start, pixels=pixels[start : start + _BLOCK_LINES])

    return RollSource(name=str(path), width_px=width, num_blocks=len(starts), blocks=blocks)


def in_blocks(blocks: Iterable[Block], max_lines: int) -> Iterator[Block]:
    """Cut lines into blocks of at most `max_lines`; holes stay whole."""
    for block in blocks:
        if isinstance(block, Hole):
            yield block
            continue
        for start in range(0, block.num_lines, max_lines):
            yield replace(block, first_line=block.first_line + start, pixels=block.pixels[start : start + max_lines])


def paced(
    blocks: Iterable[Block],
    line_rate_hz: float,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Block]:
    """Give each block when a camera of this line rate would have: once its last line has been scanned."""
    start, num_lines = now(), 0
    for block in blocks:
        num_lines += block.num_lines
        early_s = start + num_lines / line_rate_hz - now()
        if early_s > 0:
            sleep(early_s)
        yield block


def _check_width(width: int, expected: int | None, path: Path) -> int:
    if expected not in (None, width):
        raise InputError(f"roll {path}: expected lines of {expected} px (the profile's width_px), got {width} px")
    return width


# One file, block by block. Read, not mapped: a mapped file that shrinks kills the process.


def _open_raw(path: Path, width: int | None, color: Color) -> RollSource:
    if width is None:
        raise InputError(f"roll {path}: expected width_px in the profile, a raw file does not tell its width")
    line_bytes, size = width * color.num_channels, path.stat().st_size
    if size == 0 or size % line_bytes:
        raise InputError(
            f"roll {path}: expected whole lines of {width} px x {color.num_channels} channel(s), {line_bytes} bytes "
            f"each, got {size} bytes"
        )
    return _strips(path, 0, size // line_bytes, (width,) if color.num_channels == 1 else (width, 3), color)


def _open_netpbm(path: Path, expected_width: int | None, color: Color) -> RollSource:
    """Source: Netpbm's specifications of PGM and PPM (binary, maximum value 255)."""
    with path.open("rb") as file:
        found = _NETPBM_HEADER.match(file.read(4096))
    if found is None:
        raise InputError(f"roll {path}: expected a binary PGM (P5) or PPM (P6) file")
    magic, (columns, height, highest) = found[1], (int(group) for group in found.groups()[1:])
    if highest != 255:
        raise InputError(f"roll {path}: expected 8 bits per channel (maximum 255), got {highest}")
    width = _check_width(columns, expected_width, path)
    shape = (width,) if magic == b"P5" else (width, 3)
    expected = found.end() + height * int(np.prod(shape))
    if height < 1 or path.stat().st_size != expected:
        raise InputError(f"roll {path}: expected {expected} bytes for its {height} lines, got {path.stat().st_size}")
    return _strips(path, found.end(), height, shape, color)


def _strips(path: Path, offset: int, num_lines: int, line_shape: tuple[int, ...], color: Color) -> RollSource:
    starts = range(0, num_lines, _BLOCK_LINES)

    def blocks() -> Iterator[Block]:
        with path.open("rb") as file:
            file.seek(offset)
            for start in starts:
                count = min(_BLOCK_LINES, num_lines - start)
                data = file.read(count * int(np.prod(line_shape)))
                if len(data) != count * int(np.prod(line_shape)):
                    raise InputError(f"roll {path}: expected {count} lines at line {start}, the file ends before")
                pixels = np.frombuffer(data, np.uint8).reshape(count, *line_shape)
                yield Lines(first_line=start, pixels=in_color(pixels, color, f"roll {path}"))

    return RollSource(name=str(path), width_px=line_shape[0], num_blocks=len(starts), blocks=blocks)


# A folder of frames


def _open_folder(folder: Path, expected_width: int | None, color: Color) -> RollSource:
    found = [path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise InputError(f"roll {folder}: expected at least one frame ({', '.join(sorted(IMAGE_SUFFIXES))})")
    paths = sorted(found, key=natural_order)
    height, width = _usual_size(paths, expected_width, color, folder)
    first_estimated_line = None
    if (folder / RECORD).exists():
        record = read_frame_record(folder, paths, height)
        frames, notes, first_estimated_line = record.frames, record.notes, record.first_estimated_line
    else:
        frames, notes = frames_by_name(paths, height)

    def blocks() -> Iterator[Block]:
        line, before = 0, None
        for frame in frames:
            block: Block
            if frame.path is None:
                block = Hole(first_line=line, num_lines=frame.num_lines, reason=frame.reason)
            else:
                block, before = _read_block(frame.path, frame.num_lines, line, height, before, width, color)
            yield block
            line += block.num_lines

    return RollSource(
        name=str(folder),
        width_px=width,
        num_blocks=len(frames),
        blocks=blocks,
        notes=notes,
        first_estimated_line=first_estimated_line,
    )


def _read_block(
    path: Path, num_lines: int, line: int, height: int, before: Pixels | None, width: int, color: Color
) -> tuple[Block, Pixels | None]:
    """Read a frame, or say why its lines are a hole; returns its pixels too, for the comparison with the next one."""
    try:
        pixels = read_frame(path, color=color).pixels
    except InputError as error:
        return Hole(first_line=line, num_lines=num_lines or height, reason=str(error)), None
    reason = ""
    if pixels.shape[1] != width:
        reason = f"wrong width: {path.name}: expected {width} px, got {pixels.shape[1]} px"
    elif num_lines not in (0, len(pixels)):
        reason = f"wrong height: {path.name}: expected the {num_lines} lines of {RECORD}, got {len(pixels)}"
    elif before is not None and np.array_equal(pixels, before) and int(pixels.min()) != int(pixels.max()):
        # No camera sees the same noise twice: it gave the buffer again, and the lines of this one were never seen.
        reason = f"doubled: {path.name} is the frame before it again"
    if reason:
        return Hole(first_line=line, num_lines=num_lines or len(pixels), reason=reason), pixels
    return Lines(first_line=line, pixels=pixels), pixels


def _usual_size(paths: Sequence[Path], width: int | None, color: Color, folder: Path) -> tuple[int, int]:
    """(H, W) of the first usable frame: H is what a frame that is missing or cannot be read is counted as."""
    reason = ""
    for path in paths:
        try:
            pixels = read_frame(path, color=color).pixels
            return len(pixels), _check_width(pixels.shape[1], width, path)
        except InputError as error:
            reason = reason or str(error)
    raise InputError(f"roll {folder}: expected at least one usable frame, got none; the first: {reason}")
