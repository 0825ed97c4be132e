"""A cheap look at a frame before the net: small cells whose statistics good material does not have.

The net at full resolution keeps up with a megapixel or two per second and core, a line camera gives ten to thirty. So
the screen looks at every pixel first, and the net sees only tiles that hold an unusual cell. What is unusual was
learned from good images (`training.learn_screen`), and that the screen loses no defect which the net would find was
shown on labelled ones (`evaluation.screen_proof`); a screen for which that was not shown is not in the bundle.

Statistics of a cell, each with a lowest and a highest usual value:

    mean, std           of its pixels, gray levels
    gradient, edge      mean and largest |step across| + |step along|, gray levels (the sum ends at 255)
    darkest, brightest  its extreme pixels, less the mean of the 5 x 5 cells around it, as the next ones
    step                its mean
    dark_spot, bright_spot  the lowest and the highest mean of 5 x 5 px: a faint spot
    stain               the mean of 3 x 3 cells less that of 11 x 11: a large faint stain
    line_along, line_across  the largest difference of a column's, of a line's mean from the cell's: a faint scratch
"""

import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import BundleError, ConfigError, InputError
from zellige.core.roi import fill
from zellige.core.tiling import Layout
from zellige.core.types import Pixels

MEMBER = "screen.json"
"""The bundle's member; a bundle without it has no screen."""
STATISTICS = (
    *("mean", "std", "gradient", "edge", "darkest", "brightest"),
    *("step", "stain", "dark_spot", "bright_spot", "line_along", "line_across"),
)
CELL_PX = (8, 64)
"""Smallest and largest side of a cell. Sums of squares of the largest still fit into 32 bits."""
_AROUND, _SPOT = 5, 5
_STAIN, _AROUND_STAIN = 3, 11
_SCHEMA = 1

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screen:
    """What cells of good material look like: limits float32 (S, K), S statistics of each channel after the other.

    K is 1, or the number of cells across where the limits depend on the column; then `width_px` is the width of the
    frames that they were learned from, and no other fits.
    """

    cell_px: int
    low: Floats
    high: Floats
    width_px: int | None = None

    def __post_init__(self) -> None:
        smallest, largest = CELL_PX
        if not smallest <= self.cell_px <= largest:
            raise ConfigError(f"screen cell_px: expected {smallest} to {largest}, got {self.cell_px}")
        columns = 1 if self.width_px is None else -(-self.width_px // self.cell_px)
        shapes = [(len(STATISTICS) * channels, columns) for channels in (1, 3)]
        if self.low.shape != self.high.shape or self.low.shape not in shapes:
            raise InputError(f"screen: expected limits of shape {shapes[0]} or {shapes[1]}, got {self.low.shape}")
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self.low <= self.high).all()):
            raise InputError("screen: expected finite limits, each low one at most the high one")

    @property
    def num_channels(self) -> int:
        return len(self.low) // len(STATISTICS)

    def check_fits(self, size: tuple[int, int], num_channels: int, where: str) -> None:
        """Refuse frames (H, W) that the limits say nothing about.

        Raises:
            InputError: another number of channels, or another width where limits depend on the column.
        """
        if num_channels != self.num_channels:
            raise InputError(f"{where}: expected {self.num_channels} channel(s) as the screen's, got {num_channels}")
        if self.width_px not in (None, size[1]):
            raise InputError(f"{where}: expected a width of {self.width_px} px as the screen's limits, got {size[1]}")

    def to_bytes(self) -> bytes:
        """Return the content of screen.json."""
        content = {
            "schema": _SCHEMA,
            "statistics": list(STATISTICS),
            "cell_px": self.cell_px,
            "width_px": self.width_px,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }
        return (json.dumps(content, sort_keys=True, allow_nan=False) + "\n").encode()


def parse_screen(data: bytes, where: str) -> Screen:
    """Read screen.json.

    Raises:
        BundleError: not JSON, of another schema, or limits that cannot be.
    """
    try:
        content = json.loads(data.decode())
        known = (content["schema"], tuple(content["statistics"]))
        if known != (_SCHEMA, STATISTICS):
            raise BundleError(f"bundle {where}: {MEMBER}: expected schema {_SCHEMA} with {', '.join(STATISTICS)}")
        width = content["width_px"]
        return Screen(
            cell_px=int(content["cell_px"]),
            low=np.array(content["low"], np.float32),
            high=np.array(content["high"], np.float32),
            width_px=None if width is None else int(width),
        )
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError, InputError) as error:
        raise BundleError(f"bundle {where}: {MEMBER} is damaged ({' '.join(str(error).split())[:200]})") from None


def cell_statistics(pixels: Pixels, cell_px: int) -> Floats:
    """Measure every cell, float32 (S, R, K): R and K cells along and across, the last ones mirrored to full size.

    Args:
        pixels: uint8 (H, W), or (H, W, 3) for three times as many statistics.
        cell_px: side of a cell.

    Example:
        >>> line = np.full((8, 16), 100, np.uint8); line[4, 12] = 130
        >>> found = cell_statistics(line, 8)
        >>> dict(zip(STATISTICS, found[:, 0, 1].round(2).tolist()))["edge"], found.shape
        (60.0, (12, 1, 2))
    """
    planes = [pixels] if pixels.ndim == 2 else list(cv2.split(pixels))
    return np.concatenate([_measure(_padded(np.asarray(plane, np.uint8), cell_px), cell_px) for plane in planes])


def _padded(plane: Pixels, cell: int) -> Pixels:
    height, width = plane.shape
    below, right = -height % cell, -width % cell
    if not below and not right:
        return plane
    return np.asarray(cv2.copyMakeBorder(plane, 0, below, 0, right, cv2.BORDER_REFLECT), np.uint8)


def _measure(plane: Pixels, cell: int) -> Floats:
    height, width = plane.shape
    grid = _Grid(rows=height // cell, columns=width // cell, cell=cell)
    gradient, along = np.zeros((2, height, width), np.uint8)
    cv2.absdiff(plane[:, 1:], plane[:, :-1], dst=gradient[:, :-1])
    cv2.absdiff(plane[1:], plane[:-1], dst=along[:-1])
    cv2.add(gradient, along, dst=gradient)
    by_column = grid.column_means(plane)
    mean = by_column.mean(axis=2)
    by_line = grid.line_means(plane)
    around = _blurred(mean, _AROUND)
    # Sums of 5 x 5 px, exact in 16 bits.
    spots = np.asarray(cv2.boxFilter(plane, cv2.CV_16U, (_SPOT, _SPOT), normalize=False, borderType=cv2.BORDER_REFLECT))
    return np.stack(
        [
            mean,
            np.sqrt(np.maximum(grid.mean_squares(plane) - mean * mean, 0)),
            grid.column_means(gradient).mean(axis=2),
            grid.highest(gradient),
            255.0 - grid.highest(np.asarray(cv2.bitwise_not(plane))) - around,
            grid.highest(plane) - around,
            mean - around,
            _blurred(mean, _STAIN) - _blurred(mean, _AROUND_STAIN),
            grid.lowest(spots) / _SPOT**2 - around,
            grid.highest(spots) / _SPOT**2 - around,
            np.abs(by_column - mean[:, :, None]).max(axis=2),
            np.abs(by_line - mean[:, None, :]).max(axis=1),
        ]
    ).astype(np.float32)


def _blurred(means: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    return np.asarray(cv2.blur(means, (side, side), borderType=cv2.BORDER_REFLECT), np.float64).reshape(means.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Sums over the cells of an image of whole cells."""

    rows: int
    columns: int
    cell: int

    def column_means(self, image: Pixels) -> NDArray[np.float64]:
        """Mean of each column of each cell, (R, K, cell)."""
        return self._by_column(image, is_squared=False)

    def mean_squares(self, image: Pixels) -> NDArray[np.float64]:
        """Mean of the squares of each cell, (R, K)."""
        return np.asarray(self._by_column(image, is_squared=True).mean(axis=2))

    def _by_column(self, image: Pixels, *, is_squared: bool) -> NDArray[np.float64]:
        width = self.columns * self.cell
        sums = np.empty((self.rows, width), np.float32)  # exact: at most 64 x 255^2, which is below 2^24
        strip = np.empty((self.cell, width), np.uint16)
        for row in range(self.rows):  # cv2.reduce adds lines several times faster than numpy
            part: NDArray[np.uint8 | np.uint16] = image[row * self.cell : (row + 1) * self.cell]
            if is_squared:  # a strip at a time stays in the cache
                part = np.multiply(part, part, out=strip, dtype=np.uint16)
            cv2.reduce(part, 0, cv2.REDUCE_SUM, dst=sums[row : row + 1], dtype=cv2.CV_32F)
        return np.asarray(sums.reshape(self.rows, self.columns, self.cell) / np.float64(self.cell))

    def line_means(self, image: Pixels) -> NDArray[np.float64]:
        """Mean of each line of each cell, (R, cell, K)."""
        pieces = np.ascontiguousarray(image).reshape(-1, self.cell)
        sums = np.asarray(cv2.reduce(pieces, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32F), np.float64)
        return sums.reshape(self.rows, self.cell, self.columns) / self.cell

    def highest(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """Largest value of each cell, (R, K)."""
        lines = image.reshape(self.rows, self.cell, -1).max(axis=1)
        return np.asarray(lines.reshape(self.rows, self.columns, self.cell).max(axis=2), np.float64)

    def lowest(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """Smallest value of each cell, (R, K)."""
        lines = image.reshape(self.rows, self.cell, -1).min(axis=1)
        return np.asarray(lines.reshape(self.rows, self.columns, self.cell).min(axis=2), np.float64)


def unusual_cells(screen: Screen, pixels: Pixels, inspected: Mask | None = None) -> Mask:
    """Tell which cells good material does not have, bool (R, K).

    Args:
        screen: what was learned.
        pixels: uint8 (H, W) or (H, W, 3), as the net would see them (`shown_pixels`).
        inspected: (H, W) bool; a cell without an inspected pixel is never unusual. None: all are.

    Raises:
        InputError: pixels that the limits say nothing about.
    """
    screen.check_fits(pixels.shape[:2], 1 if pixels.ndim == 2 else 3, "frame")
    found = cell_statistics(pixels, screen.cell_px)
    low, high = screen.low[:, None, :], screen.high[:, None, :]
    unusual = np.asarray(((found < low) | (found > high)).any(axis=0))
    return unusual if inspected is None else unusual & inspected_cells(inspected, screen.cell_px)


def inspected_cells(inspected: Mask, cell_px: int) -> Mask:
    """Tell which cells hold an inspected pixel, bool (R, K)."""
    padded = _padded(inspected.view(np.uint8), cell_px)
    rows, columns = padded.shape[0] // cell_px, padded.shape[1] // cell_px
    return np.asarray(padded.reshape(rows, cell_px, columns, cell_px).max(axis=(1, 3)) > 0)


def shown_pixels(pixels: Pixels, layout: Layout) -> Pixels:
    """What the net would see of a frame: with the region that is not inspected filled, as `core.tiling` does it."""
    return pixels if layout.roi is None else fill(pixels, layout.roi.inspected)


def pick_tiles(screen: Screen, pixels: Pixels, layout: Layout) -> Mask:
    """Tell of each tile of a layout whether the net has to see it, bool (N,): those that hold an unusual cell.

    Args:
        screen: what was learned.
        pixels: the frame's, as the net would see them (`shown_pixels`).
        layout: of the same frame.
    """
    unusual = unusual_cells(screen, pixels, None if layout.roi is None else layout.roi.inspected)
    picked = np.zeros(len(layout.parts), bool)
    if not unusual.any():
        return picked
    cell, height, width = screen.cell_px, layout.geometry.height, layout.geometry.width
    for number, (y, x) in enumerate(layout.corners):
        cells = unusual[y // cell : -(-(y + height) // cell), x // cell : -(-(x + width) // cell)]
        picked[number] = cells.any()
    return picked
