"""Learn from good images which statistics cells of good material have; see `core.screen`."""

import warnings
from collections.abc import Sequence

import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import read_frame
from zellige.core.progress import progress
from zellige.core.screen import Floats, Mask, Screen, cell_statistics, inspected_cells, shown_pixels
from zellige.core.tiling import lay_out
from zellige.core.types import Color, Geometry, GeometryMode, Sample

MAX_CELLS = 2_000_000
"""Cells that are kept for the quantiles (48 bytes each for gray); of more, every k-th of each image.

With limits by column it is every k-th row of cells, and at least one.
"""
_NEVER_USUAL = -1e6
"""Both limits of a column that no good image shows: no statistic is as low, so a cell there is always passed."""


def check_screen(geometry: Geometry, *, cell_px: int, quantile: float, margin: float) -> None:
    """Refuse settings that no screen can have.

    Raises:
        ConfigError: a geometry without tiles, or a number out of range.
    """
    if geometry.mode is not GeometryMode.TILES:
        raise ConfigError("screen=cells: expected geometry=tiles, got geometry=resize: there are no tiles to pick")
    if not 8 <= cell_px <= min(64, geometry.height, geometry.width):
        raise ConfigError(f"screen.cell_px: expected 8 to 64 and at most a tile, got {cell_px}")
    if not 0.5 < quantile <= 1:
        raise ConfigError(f"screen.quantile: expected above 0.5, at most 1, got {quantile}")
    if not margin >= 0:
        raise ConfigError(f"screen.margin: expected 0 or more, got {margin}")


def learn_screen(
    samples: Sequence[Sample],
    *,
    geometry: Geometry,
    color: Color,
    cell_px: int = 16,
    quantile: float = 0.9999,
    margin: float = 0.1,
    per_column: bool = False,
) -> Screen:
    """Set the limits of each statistic from good images, as they are stored: nothing is augmented.

    The limits are the quantiles 1 - `quantile` and `quantile` of all cells, each then moved outwards by `margin` times
    its distance from the median.

    Args:
        samples: good images.
        geometry: of the detector: what is not inspected is not learned from.
        color: of the detector.
        cell_px: side of a cell; a defect much smaller than a cell hides in its mean, not in its extremes.
        quantile: share of good cells that stay within a limit. A tile holds hundreds of cells, so it is near 1.
        margin: see above; more lets more good tiles pass unseen, and more defects.
        per_column: limits for each column of cells (and its neighbors), for material that differs across the web. All
            images must then be as wide as the line.

    Raises:
        ConfigError: see `check_screen`.
        InputError: images of several widths with `per_column`, or one that cannot be read.
    """
    check_screen(geometry, cell_px=cell_px, quantile=quantile, margin=margin)
    share = max(1, MAX_CELLS // max(1, len(samples)))
    width: int | None = None
    taken: list[Floats] = []
    with progress("learning the screen", len(samples)) as advance:
        for sample in samples:
            found, is_inspected, frame_width = _look(sample, geometry, color, cell_px)
            if per_column:
                if width not in (None, frame_width):
                    raise InputError(
                        f"screen.per_column: expected images of one width, {width} px, got {frame_width} px "
                        f"({sample.id})"
                    )
                width = frame_width
                every = -(-is_inspected.size // share)
                taken.append(np.where(is_inspected, found, np.nan)[:, ::every])
            else:
                cells = found[:, is_inspected]
                taken.append(cells[:, :: -(-cells.shape[1] // share) or 1])
            advance()
    if per_column:
        low, high = _limits(np.concatenate(taken, axis=1), quantile, margin)
        low, high = _with_neighbors(low, np.fmin, np.inf), _with_neighbors(high, np.fmax, -np.inf)
        is_known = np.isfinite(low) & np.isfinite(high)
        low, high = (np.where(is_known, limit, np.float32(_NEVER_USUAL)) for limit in (low, high))
    else:
        low, high = (limit[:, None] for limit in _limits(np.concatenate(taken, axis=1), quantile, margin))
    return Screen(cell_px=cell_px, low=low, high=high, width_px=width)


def _look(sample: Sample, geometry: Geometry, color: Color, cell_px: int) -> tuple[Floats, Mask, int]:
    """Statistics (S, R, K) of an image's cells, which of them (R, K) are inspected, and the image's width."""
    frame = read_frame(sample.image_path, color=color, pixel_size=sample.pixel_size)
    layout = lay_out(frame, geometry)
    found = cell_statistics(shown_pixels(frame.pixels, layout), cell_px)
    if layout.roi is None:
        return found, np.ones(found.shape[1:], bool), frame.size[1]
    return found, inspected_cells(layout.roi.inspected, cell_px), frame.size[1]


def _limits(cells: Floats, quantile: float, margin: float) -> tuple[Floats, Floats]:
    """Lowest and highest usual values over axis 1 of (S, N) or (S, N, K); NaN is not a cell."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # a column that is never inspected
        low, median, high = np.nanquantile(cells, [1 - quantile, 0.5, quantile], axis=1)
    return (
        np.asarray(low - margin * (median - low), np.float32),
        np.asarray(high + margin * (high - median), np.float32),
    )


def _with_neighbors(limit: Floats, wider: np.ufunc, never: float) -> Floats:
    """Let each column (S, K) allow what its neighbors allow: defects wander, and so does the web."""
    padded = np.pad(limit, ((0, 0), (1, 1)), constant_values=never)
    return np.asarray(wider.reduce([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]]), np.float32)
