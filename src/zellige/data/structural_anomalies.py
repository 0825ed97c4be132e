"""Synthetic anomalies that are drawn: scratch, spot, stain, smudge, missing structure.

Their contrast is given in spreads (standard deviations of the gray level) of what surrounds them, so that they are
neither invisible on a rough surface nor glaring on a smooth one. Their size is log-uniform from a few px (more for the
soft ones, which cannot be seen otherwise) to a quarter of the tile's shorter side.

Shapes: tiles (H, W) or (H, W, 3) uint8. Each function returns the changed tile and the region (H, W) bool outside
which nothing changed.
"""

from collections.abc import Callable
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.perlin_noise import Floats, perlin_noise
from zellige.core.types import Pixels

Mask = NDArray[np.bool_]
Change = tuple[Pixels, Mask]

LEAST_SIZE_PX = 4
LEAST_SOFT_SIZE_PX = 12
"""Of stains, smudges and missing structure: smaller ones cannot be seen at all."""
LEAST_SPREAD_DN, MOST_SPREAD_DN = 6.0, 30.0
"""Bounds of the surroundings' spread, gray levels: a flat tile has none, the edge of an object has too much."""

_SCRATCH_CONTRAST = (1.5, 4.0)
_SPOT_CONTRAST = (1.5, 4.0)
_STAIN_CONTRAST = (0.7, 2.0)
_ALPHA_FLOOR = 0.1


def scratch(pixels: Pixels, rng: np.random.Generator) -> Change:
    """Draw a thin, slightly bent line, lighter or darker than what it crosses."""
    length = _size(pixels, rng, LEAST_SIZE_PX)
    thickness = max(1, round(_log_uniform(rng, 1.0, max(1.0, length / 8))))
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    step = np.linspace(-0.5, 0.5, 6)[:, None] * length
    bend = np.cumsum(rng.normal(0, 0.04 * length, 6))[:, None]
    points = _center(pixels, length, rng) + step * along + (bend - bend.mean()) * across
    canvas = np.zeros(pixels.shape[:2], np.uint8)
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, shift=4)
    return _shaded(pixels, np.asarray(canvas / np.float32(255), np.float32), _SCRATCH_CONTRAST, rng)


def spot(pixels: Pixels, rng: np.random.Generator) -> Change:
    """Draw an ellipse with a sharp edge, lighter or darker; the surface's structure fades in it, as in a hole."""
    alpha = _ellipse(pixels, rng, LEAST_SIZE_PX, softness=0.0)
    flattened = _mixed(pixels, _local_mean(pixels, alpha > 0), alpha * np.float32(rng.uniform(0, 1)))
    return _shaded(pixels, alpha, _SPOT_CONTRAST, rng, base=flattened)


def stain(pixels: Pixels, rng: np.random.Generator) -> Change:
    """Draw a smooth, uneven blob of low contrast."""
    return _shaded(pixels, _ellipse(pixels, rng, LEAST_SOFT_SIZE_PX, softness=0.6), _STAIN_CONTRAST, rng)


def smudge(pixels: Pixels, rng: np.random.Generator) -> Change:
    """Blur the surface within a soft ellipse, as grease or a lack of focus does."""
    alpha = _ellipse(pixels, rng, LEAST_SOFT_SIZE_PX, softness=0.25)
    sigma = _log_uniform(rng, 1.0, max(1.5, min(pixels.shape[:2]) / 32))
    return _rounded(_mixed(pixels, cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.float32), alpha)), alpha > 0


def missing(pixels: Pixels, rng: np.random.Generator) -> Change:
    """Replace what is inside an ellipse by its mean: the structure is gone, the brightness stays."""
    alpha = _ellipse(pixels, rng, LEAST_SOFT_SIZE_PX, softness=0.0)
    return _rounded(_mixed(pixels, _local_mean(pixels, alpha > 0), alpha)), alpha > 0


STRUCTURAL: MappingProxyType[str, Callable[[Pixels, np.random.Generator], Change]] = MappingProxyType(
    {"scratch": scratch, "spot": spot, "stain": stain, "smudge": smudge, "missing": missing}
)


def _size(pixels: Pixels, rng: np.random.Generator, least: float) -> float:
    """Draw a size from `least`, less on a small tile, to a quarter of the tile, px."""
    most = min(pixels.shape[:2]) / 4
    return _log_uniform(rng, min(least, most / 2), most)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _center(pixels: Pixels, size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw (x, y) such that something of `size` px around it lies in the tile."""
    height, width = pixels.shape[:2]
    return rng.uniform(size / 2, np.array([width, height]) - size / 2)


def _ellipse(pixels: Pixels, rng: np.random.Generator, least: float, *, softness: float) -> Floats:
    """Draw an ellipse's coverage (H, W) in [0, 1]; `softness` 0 is a sharp edge, above it an uneven one that fades."""
    size = _size(pixels, rng, least)
    center = np.rint(_center(pixels, size, rng))  # on a pixel, which is then covered however small the ellipse
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    dx, dy = x - center[0], y - center[1]
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    half = size / 2
    radius = np.hypot(u / half, v / (half * aspect))
    if softness == 0:
        coverage = (1.0 - radius) * half * aspect + 0.5  # a ramp of one px
    else:
        cells = tuple(max(1, round(2 * n / size)) for n in pixels.shape[:2])
        coverage = (1.0 + 0.3 * perlin_noise(pixels.shape[:2], (cells[0], cells[1]), rng) - radius) / softness
    alpha = np.clip(coverage, 0.0, 1.0)
    return np.asarray(np.where(alpha > _ALPHA_FLOOR, alpha, 0.0), np.float32)


def _shaded(
    pixels: Pixels,
    alpha: Floats,
    contrast: tuple[float, float],
    rng: np.random.Generator,
    base: Floats | None = None,
) -> Change:
    """Lighten or darken `base` (None is the tile itself) by `contrast` spreads of the surroundings, as alpha says."""
    shift = _log_uniform(rng, *contrast) * _spread(pixels, alpha > 0)
    level = float(pixels[alpha > 0].mean())
    room = {1.0: 255.0 - level, -1.0: level}
    sign = float(rng.choice([-1.0, 1.0]))
    if room[sign] < shift and room[-sign] > room[sign]:
        sign = -sign
    tint = 1.0 + 0.1 * rng.standard_normal(3).clip(-2, 2) if pixels.ndim == 3 else 1.0
    ground = pixels.astype(np.float32) if base is None else base
    changed = ground + _like(alpha, pixels) * np.asarray(sign * shift * tint, np.float32)
    return _rounded(changed), alpha > 0


def _spread(pixels: Pixels, region: Mask) -> float:
    """Spread of the gray level around a region: in its bounding box, grown by half its size and at least 4 px."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    grown = max(4, len(rows) // 2, len(columns) // 2)
    top, left = max(0, rows[0] - grown), max(0, columns[0] - grown)
    window = pixels[top : rows[-1] + grown + 1, left : columns[-1] + grown + 1].astype(np.float32)
    gray = window if window.ndim == 2 else window.mean(axis=2)
    return float(np.clip(gray.std(), LEAST_SPREAD_DN, MOST_SPREAD_DN))


def _local_mean(pixels: Pixels, region: Mask) -> Floats:
    """A tile of the region's mean, of the shape of `pixels`."""
    return np.broadcast_to(pixels[region].mean(axis=0, dtype=np.float64), pixels.shape).astype(np.float32)


def _mixed(pixels: Pixels, other: Floats, alpha: Floats) -> Floats:
    share = _like(alpha, pixels)
    return np.asarray(pixels * (1 - share) + other * share, np.float32)


def _like(alpha: Floats, pixels: Pixels) -> Floats:
    return alpha if pixels.ndim == 2 else alpha[..., None]


def _rounded(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
