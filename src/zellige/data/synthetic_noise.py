"""Random numbers that are a pure function of a position, so an endless web needs no state and has no seams.

Only integer arithmetic and single float additions and products are used: the same seed gives the same values on any
machine, whatever part of the web is asked for first.
"""

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zellige.core.types import PixelSize

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_GAUSS_BITS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class WebWindow:
    """A rectangle of the web in pixels: absolute column and line of its first pixel (columns may be negative)."""

    first_column: int
    first_line: int
    width: int
    height: int
    pixel_size: PixelSize

    @property
    def columns(self) -> Integers:
        return np.arange(self.first_column, self.first_column + self.width, dtype=np.int64)

    @property
    def lines(self) -> Integers:
        return np.arange(self.first_line, self.first_line + self.height, dtype=np.int64)

    @property
    def x_mm(self) -> NDArray[np.float64]:
        """Cross-web position of each column's center, (W,) mm."""
        return (self.columns.astype(np.float64) + 0.5) * self.pixel_size.cross_web_mm

    @property
    def y_mm(self) -> NDArray[np.float64]:
        """Down-web position of each line's center, (H,) mm."""
        return (self.lines.astype(np.float64) + 0.5) * self.pixel_size.down_web_mm


def hashed(seed: int, *coordinates: Integers | int) -> NDArray[np.uint64]:
    """Hash integer coordinates (broadcast together) to 64 random bits each.

    Source: SplitMix64 finalizer (Steele, Lea, Flood, OOPSLA 2014).
    """
    state = np.full(1, seed % (1 << 64), np.uint64)
    for coordinate in coordinates:
        value = np.atleast_1d(np.asarray(coordinate, np.int64)).view(np.uint64)
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15) * (value + np.uint64(1)))
    return state


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def child_seed(seed: int, *keys: int) -> int:
    """Derive an independent seed from a seed and integer keys."""
    return int(hashed(seed, *keys)[0])


def uniform(seed: int, *coordinates: Integers | int) -> Floats:
    """Draw a float32 in [-1, 1) for each coordinate."""
    bits = (hashed(seed, *coordinates) >> np.uint64(40)).astype(np.float32)
    return np.asarray(bits * np.float32(2.0**-23) - np.float32(1.0), np.float32)


def draw(seed: int, low: float, high: float, *keys: int) -> float:
    """Draw one number in [low, high)."""
    return low + (high - low) * (float(uniform(seed, *keys)[0]) + 1.0) / 2.0


@lru_cache(maxsize=1)
def _gauss_table() -> Floats:
    size = 1 << _GAUSS_BITS
    normal = NormalDist()
    return np.array([round(normal.inv_cdf((i + 0.5) / size), 5) for i in range(size)], np.float32)


def gauss(seed: int, *coordinates: Integers | int, channels: int = 1) -> Floats:
    """Draw standard normal values, float32, of the broadcast shape plus a last axis of 1 to 4 channels."""
    bits, table = hashed(seed, *coordinates), _gauss_table()
    mask = np.uint64((1 << _GAUSS_BITS) - 1)
    drawn = [table[((bits >> np.uint64(16 * c)) & mask).astype(np.intp)] for c in range(channels)]
    return np.stack(drawn, axis=-1)


def smooth_noise(seed: int, positions_mm: NDArray[np.float64], knot_mm: float) -> Floats:
    """Draw a smooth curve in [-1, 1], (N,) float32: a cubic B-spline with one random knot per `knot_mm`."""
    first, weights = _spline(positions_mm, knot_mm)
    knots = np.arange(int(first.min()), int(first.max()) + 4, dtype=np.int64)
    values = uniform(seed, knots)
    index = first - knots[0]
    return np.asarray(sum(values[index + k] * weights[k] for k in range(4)), np.float32)


def smooth_field(seed: int, window: WebWindow, knot_mm: tuple[float, float]) -> Floats:
    """Draw a smooth field over a window, (H, W) float32 in [-1, 1] with a spread of about 0.27.

    Args:
        seed: what to draw.
        window: the part of the web.
        knot_mm: size of a feature, (cross-web, down-web) mm.
    """
    first_x, weights_x = _spline(window.x_mm, knot_mm[0])
    first_y, weights_y = _spline(window.y_mm, knot_mm[1])
    columns = np.arange(int(first_x[0]), int(first_x[-1]) + 4, dtype=np.int64)
    rows = np.arange(int(first_y[0]), int(first_y[-1]) + 4, dtype=np.int64)
    values = uniform(seed, rows[:, None], columns[None, :])
    across = _interpolate(values, first_x - columns[0], weights_x)
    return np.ascontiguousarray(_interpolate(across.T, first_y - rows[0], weights_y).T)


def _interpolate(values: Floats, index: Integers, weights: list[Floats]) -> Floats:
    """Spline along the last axis: values (n, knots) -> (n, len(index))."""
    out = values[:, index] * weights[0]
    for k in range(1, 4):
        out += values[:, index + k] * weights[k]
    return np.asarray(out, np.float32)


def _spline(positions_mm: NDArray[np.float64], knot_mm: float) -> tuple[Integers, list[Floats]]:
    """First knot index (N,) and the four uniform cubic B-spline weights (N,) each; they are positive and sum to one."""
    scaled = positions_mm / knot_mm
    base = np.floor(scaled)
    f = scaled - base
    g = 1.0 - f
    weights = [g * g * g / 6, (3 * f * f * f - 6 * f * f + 4) / 6, (3 * g * g * g - 6 * g * g + 4) / 6, f * f * f / 6]
    return base.astype(np.int64) - 1, [w.astype(np.float32) for w in weights]
