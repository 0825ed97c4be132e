"""Which parts of every frame are declared to be of no interest: shapes, a drawn mask, and the background of a part."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError

Mask = NDArray[np.bool_]

_MAX_CORNERS = 1000
_MAX_PIXELS = 1 << 28
_MAX_RUNS = 1_000_000
"""About 5 MB in a manifest. A mask with more is speckled, and probably not meant."""


class Foreground(StrEnum):
    """Whether the part is told from its background in each frame."""

    NONE = "none"
    """The whole frame is inspected, but for what is declared to be ignored."""
    AUTO = "auto"
    """What lies around the part is not inspected; see `core.foreground`."""


class LengthUnit(StrEnum):
    """What the numbers of a shape count."""

    PX = "px"
    """Pixels of the full frame."""
    MM = "mm"
    """Millimetres from the frame's upper left corner, by the frame's pixel size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredShape:
    """A region that must never cause a reject: exactly one of a box, a polygon or a band of columns.

    Coordinates run from the upper left corner of the frame; a pixel is ignored when its center lies inside.
    """

    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1; x1 and y1 are exclusive."""
    polygon: tuple[tuple[float, float], ...] | None = None
    """Corners (x, y); even-odd where the outline crosses itself."""
    columns: tuple[float, float] | None = None
    """x0 and x1 (exclusive), over the whole height of a frame, however high it is."""
    unit: LengthUnit = LengthUnit.PX

    def __post_init__(self) -> None:
        given = [name for name in ("box", "polygon", "columns") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ConfigError(f"geometry.ignore: expected one of box, polygon or columns per shape, got {found}")
        corners = self.corners(1.0)
        if self.polygon is not None and not 3 <= len(self.polygon) <= _MAX_CORNERS:
            raise ConfigError(f"geometry.ignore {self}: expected 3 to {_MAX_CORNERS} corners, got {len(self.polygon)}")
        if not all(math.isfinite(value) and value >= 0 for corner in corners for value in corner):
            raise ConfigError(f"geometry.ignore {self}: expected finite numbers >= 0")
        (x0, y0), (x1, y1) = corners[0], corners[len(corners) // 2]
        if self.polygon is None and not (x0 < x1 and y0 < y1):
            raise ConfigError(f"geometry.ignore {self}: expected each first edge below its second, x0 < x1 and y0 < y1")

    def corners(self, frame_height: float) -> tuple[tuple[float, float], ...]:
        """The outline's corners (x, y), in the shape's unit; `frame_height`, in the same unit, is for columns."""
        if self.polygon is not None:
            return self.polygon
        if self.columns is not None:
            x0, x1 = self.columns
            y0, y1 = 0.0, frame_height
        else:
            assert self.box is not None
            x0, y0, x1, y1 = self.box
        return (x0, y0), (x1, y0), (x1, y1), (x0, y1)

    def __str__(self) -> str:
        """Say the shape as a setting does.

        Example:
            >>> print(IgnoredShape(columns=(0, 12.5), unit=LengthUnit.MM))
            columns [0, 12.5] mm
        """
        if self.polygon is not None:
            shown = ", ".join(f"[{x:g}, {y:g}]" for x, y in self.polygon[:8])
            return f"polygon [{shown}{', ...' if len(self.polygon) > 8 else ''}] {self.unit}"
        name, numbers = ("columns", self.columns) if self.box is None else ("box", self.box)
        return f"{name} [{', '.join(f'{value:g}' for value in numbers or ())}] {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredMask:
    """A drawn mask of the pixels to ignore, for frames of exactly its size.

    `runs` are lengths along the rows, one row after the other, separated by spaces: first of pixels that are
    inspected (perhaps 0), then of ignored ones, and so on in turns.

    Example:
        >>> mask = IgnoredMask.of(np.array([[False, True, True], [True, False, False]]))
        >>> mask.runs
        '1 3 2'
        >>> mask.decode().tolist()
        [[False, True, True], [True, False, False]]
    """

    height: int
    width: int
    runs: str

    def __post_init__(self) -> None:
        where = f"geometry.ignore_mask of {self.height} x {self.width} px"
        if self.height < 1 or self.width < 1 or self.height * self.width > _MAX_PIXELS:
            raise ConfigError(f"{where}: expected 1 to {_MAX_PIXELS} px")
        texts = self.runs.split(" ", _MAX_RUNS)
        if len(texts) > _MAX_RUNS:
            raise ConfigError(f"{where}: expected at most {_MAX_RUNS} runs, got more; draw it without speckles")
        if not all(text.isascii() and text.isdecimal() and len(text) <= 9 for text in texts):
            raise ConfigError(f"{where}: expected run lengths separated by spaces")
        total = sum(map(int, texts))
        if total != self.height * self.width:
            raise ConfigError(f"{where}: expected runs over {self.height * self.width} px, got {total}")

    @classmethod
    def of(cls, mask: Mask) -> "IgnoredMask":
        """Encode a mask (H, W) bool, true where pixels are ignored.

        Raises:
            ConfigError: too large, or too many runs.
        """
        flat = mask.ravel()
        bounds = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
        runs: Sequence[int] = np.diff(bounds).tolist()
        if flat[0]:
            runs = [0, *runs]
        height, width = mask.shape
        return cls(height=height, width=width, runs=" ".join(map(str, runs)))

    def decode(self) -> Mask:
        """Decode to (H, W) bool, true where pixels are ignored."""
        runs = np.array(self.runs.split(" "), np.int64)
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(self.height, self.width)
