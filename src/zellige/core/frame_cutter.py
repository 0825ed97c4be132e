"""Cut the camera's endless lines into frames, each with some lines of its neighbors for context.

A net judges what is near the border of its image worse than what is inside. So frames overlap by twice the context,
and of each map only the lines count that are at least the context away from a border inside the web. These lines
follow each other without gap or repetition: every line counts exactly once.
"""

from dataclasses import dataclass

import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Frame, Pixels, PixelSize


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CutFrame:
    """A frame and the rows of its map that count: from `keep_start` up to `keep_stop`, exclusive."""

    frame: Frame
    keep_start: int
    keep_stop: int

    @property
    def first_kept_line(self) -> int:
        """Absolute number of the first line that counts."""
        return self.frame.first_line + self.keep_start


class FrameCutter:
    """Collects lines and gives frames of one height. Its memory is two frames.

    Example:
        >>> import numpy as np
        >>> cutter = FrameCutter(height_px=8, context_px=1, width_px=4, source_id="camera")
        >>> frames = cutter.add(np.zeros((21, 4), np.uint8)) + cutter.finish()
        >>> [(f.first_kept_line, f.keep_stop - f.keep_start) for f in frames]
        [(0, 7), (7, 6), (13, 6), (19, 2)]
    """

    def __init__(
        self,
        *,
        height_px: int,
        context_px: int,
        width_px: int,
        source_id: str,
        num_channels: int = 1,
        pixel_size: PixelSize | None = None,
        first_line: int = 0,
    ) -> None:
        """Start at an absolute line number.

        Raises:
            ConfigError: the context leaves nothing of a frame that counts.
        """
        if not 0 <= 2 * context_px < height_px:
            raise ConfigError(
                f"frame context_px: expected 0 to less than half of the height {height_px}, got {context_px}"
            )
        self._shape = (height_px, width_px) if num_channels == 1 else (height_px, width_px, num_channels)
        self._context, self._source_id, self._pixel_size = context_px, source_id, pixel_size
        self._lines = np.empty(self._shape, np.uint8)
        self._num_lines = 0
        self._first_line = first_line
        """Absolute number of the first line that is collected."""
        self._kept_line = first_line
        """Absolute number of the first line that does not count yet."""
        self._last_frame: Frame | None = None

    def add(self, lines: Pixels) -> list[CutFrame]:
        """Take the next lines, uint8 (N, W) or (N, W, C), and return the frames that are full, in order.

        Raises:
            InputError: lines of another length, depth or number of channels.
        """
        if lines.dtype != np.uint8 or lines.shape[1:] != self._shape[1:]:
            raise InputError(
                f"frame {self._source_id}: expected 8-bit lines of shape {self._shape[1:]} at line "
                f"{self._first_line + self._num_lines}, got {lines.dtype} {lines.shape[1:]}"
            )
        frames, start, height = [], 0, self._shape[0]
        while start < len(lines):
            count = min(height - self._num_lines, len(lines) - start)
            self._lines[self._num_lines : self._num_lines + count] = lines[start : start + count]
            self._num_lines, start = self._num_lines + count, start + count
            if self._num_lines == height:
                frames.append(self._full_frame())
        return frames

    def finish(self) -> list[CutFrame]:
        """Return the frame with the lines that do not count yet, if there are any; nothing can be added after it.

        It reaches back so far that it has the full height, where the web is that long.
        """
        stop = self._first_line + self._num_lines
        if self._kept_line == stop:
            return []
        pixels = self._lines[: self._num_lines].copy()
        first_line = self._first_line
        if self._last_frame is not None:
            new = self._num_lines - 2 * self._context
            pixels = np.concatenate([self._last_frame.pixels[new:], pixels[2 * self._context :]])
            first_line = stop - len(pixels)
        frame = self._frame(pixels, first_line)
        cut = CutFrame(frame=frame, keep_start=self._kept_line - first_line, keep_stop=len(pixels))
        self._kept_line = stop
        return [cut]

    def _full_frame(self) -> CutFrame:
        frame, overlap = self._frame(self._lines.copy(), self._first_line), 2 * self._context
        height = self._shape[0]
        stop = height - self._context
        cut = CutFrame(frame=frame, keep_start=self._kept_line - self._first_line, keep_stop=stop)
        self._kept_line = self._first_line + stop
        self._lines[:overlap] = frame.pixels[height - overlap :]
        self._num_lines, self._first_line = overlap, self._first_line + height - overlap
        self._last_frame = frame
        return cut

    def _frame(self, pixels: Pixels, first_line: int) -> Frame:
        return Frame(
            pixels=pixels,
            pixel_size=self._pixel_size,
            source_id=f"{self._source_id}@{first_line}",
            first_line=first_line,
        )
