"""The zellige mosaic: an eight-fold star pattern of hand-cut, glazed tiles set in grout.

Each period of the pattern is an octagon with an eight-pointed star (khatam) and its eight kites, one four-pointed star
and four lozenges with their wings between them. Lines are laid by the polygons-in-contact method on the 4.8.8 tiling.

Source: E. H. Hankin, "The Drawing of Geometric Patterns in Saracenic Art", 1925; C. S. Kaplan, "Islamic Star Patterns
from Polygons in Contact", 2005.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, cos, floor, pi, sin, sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.types import PixelSize
from zellige.data.synthetic_noise import Floats, WebWindow, draw, smooth_field, uniform

PERIOD_MM = 56.0
GROUT_MM = 0.7
_SUPERSAMPLE = 4
_ROUGHNESS_MM = 0.05
_DRAWS = ("shift_x", "shift_y", "turn", "light", "red", "green", "blue", "tilt_x", "tilt_y", "depth")
_KHATAM, _KITES, _FOUR_STAR, _LOZENGES = 0, range(1, 9), 9, range(10, 22, 3)

# Glazes: reflectance (RGB) where the glaze runs thin and where it pools.
_GLAZES = np.array(
    [
        ((0.13, 0.27, 0.60), (0.04, 0.10, 0.36)),
        ((0.19, 0.57, 0.58), (0.05, 0.34, 0.40)),
        ((0.16, 0.44, 0.27), (0.03, 0.22, 0.13)),
        ((0.83, 0.58, 0.18), (0.62, 0.34, 0.06)),
        ((0.22, 0.13, 0.11), (0.08, 0.05, 0.05)),
        ((0.88, 0.84, 0.74), (0.76, 0.72, 0.60)),
    ],
    np.float32,
)
_COBALT, _TURQUOISE, _GREEN, _HONEY, _AUBERGINE, _CREAM = range(6)
# Star with its two kites, and lozenge with its wings.
_STAR_SCHEMES = ((_COBALT, _TURQUOISE, _COBALT), (_AUBERGINE, _GREEN, _HONEY), (_GREEN, _HONEY, _TURQUOISE))
_SPOT_SCHEMES = ((_COBALT, _CREAM), (_TURQUOISE, _CREAM))
_BISCUIT = np.array([0.70, 0.48, 0.33], np.float32)
_GROUT = np.array([0.66, 0.62, 0.55], np.float32)
_BED = np.array([0.50, 0.45, 0.38], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicTile:
    """One tile of the mosaic: its place in the pattern and its outline as cut, (N, 2) mm on the web."""

    cell: tuple[int, int]
    index: int
    outline_mm: NDArray[np.float64]
    glaze: int
    """Row of the table of glazes."""
    drawn: dict[str, float]
    """What chance gave this tile, each in -1 to 1, see `_DRAWS`."""


@lru_cache(maxsize=1)
def _templates() -> tuple[NDArray[np.float64], ...]:
    """Outlines (N, 2) mm of one period's 22 tiles, around the octagon's center, inset by half a grout line."""
    r = PERIOD_MM / 2
    dent, tip = (sqrt(2) - 1) * r, r * cos(3 * pi / 8) / cos(pi / 4)
    khatam = [_polar(dent if k % 2 == 0 else tip, k * pi / 8) for k in range(16)]
    kites = [
        [_polar(dent, a), _polar(tip, a - pi / 8), _polar(r, a), _polar(tip, a + pi / 8)]
        for a in (k * pi / 4 for k in range(8))
    ]
    a = dent
    four_star = [(r + x, r + y) for x, y in (_polar(a if k % 2 else (sqrt(2) - 1) * a, k * pi / 4) for k in range(8))]
    s = sqrt(0.5)
    lozenge = [(1, 0), (1.2, 0.414), (1, 0.828), (0.8, 0.414)]
    wing = [(1, 0), (1.5, s - 0.5), (2 - s, s), (1, 0.828), (1.2, 0.414)]
    other = [(2 - x, y) for x, y in reversed(wing)]
    up = [np.array(p) * r for p in (lozenge, wing, other)]
    down = [p[::-1] * (1, -1) for p in up]
    between = [*up, *down, *(p[::-1, ::-1] for p in up), *(p[::-1, ::-1] for p in down)]
    return tuple(_subdivide(_inset(np.array(p), GROUT_MM / 2)) for p in (khatam, *kites, four_star, *between))


def _polar(radius: float, angle: float) -> tuple[float, float]:
    return radius * cos(angle), radius * sin(angle)


def _inset(polygon: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Move every edge of a counterclockwise polygon inwards and join neighbors at their crossing."""
    edge = np.roll(polygon, -1, axis=0) - polygon
    normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1) / np.hypot(edge[:, 0], edge[:, 1])[:, None]
    before = np.roll(normal, 1, axis=0)
    miter = (before + normal) / (1 + (before * normal).sum(axis=1))[:, None]
    return np.asarray(polygon + distance * miter, np.float64)


def _subdivide(polygon: NDArray[np.float64], step_mm: float = 0.9) -> NDArray[np.float64]:
    parts = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        count = max(1, round(float(np.hypot(*(end - start))) / step_mm))
        parts.append(start + (end - start) * (np.arange(count) / count)[:, None])
    return np.concatenate(parts)


def mosaic_tiles(window: WebWindow, seed: int) -> list[MosaicTile]:
    """List the tiles that touch a window, as the mason cut and set them: none has straight sides or sits quite true."""
    size, period, templates = window.pixel_size, PERIOD_MM, _templates()
    low = np.array([window.first_column * size.cross_web_mm, window.first_line * size.down_web_mm])
    high = low + np.array([window.width * size.cross_web_mm, window.height * size.down_web_mm])
    i, j = np.meshgrid(
        *(np.arange(floor(a / period) - 1, ceil(b / period) + 1) for a, b in zip(low, high, strict=True))
    )
    cells = np.stack([i.ravel(), j.ravel()], axis=1)
    keys = cells[:, 0, None], cells[:, 1, None]
    shape = len(cells), len(templates), len(_DRAWS)
    draws = uniform(seed + 1, *keys, np.arange(shape[1] * shape[2])).reshape(shape)
    starts = np.cumsum([0, *(len(t) for t in templates)])
    rough = uniform(seed, *keys, np.arange(2 * starts[-1])).reshape(len(cells), -1, 2)
    outlines = _as_cut(draws, rough) + cells[:, None, :] * period
    lows = np.minimum.reduceat(outlines, starts[:-1], axis=1)
    highs = np.maximum.reduceat(outlines, starts[:-1], axis=1)
    of_cell = uniform(seed + 6, *keys, np.arange(5))
    seen = ((highs > low) & (lows < high)).all(axis=2)
    return [
        MosaicTile(
            cell=(int(cells[c, 0]), int(cells[c, 1])),
            index=int(index),
            outline_mm=outlines[c, starts[index] : starts[index + 1]],
            glaze=_glaze_of(int(index), of_cell[c]),
            drawn=dict(zip(_DRAWS, draws[c, index].tolist(), strict=True)),
        )
        for c, index in np.argwhere(seen)
    ]


def _glaze_of(index: int, of_cell: Floats) -> int:
    """Pick a glaze: star and kites vary from period to period, lozenge and wings from spot to spot."""
    choice = (of_cell + 1) / 2
    star, *kites = _STAR_SCHEMES[int(choice[0] * len(_STAR_SCHEMES))]
    if index == _KHATAM:
        return star
    if index in _KITES:
        return kites[index % 2]
    if index == _FOUR_STAR:
        return _HONEY
    spot = (index - _LOZENGES[0]) // 3
    lozenge, wing = _SPOT_SCHEMES[int(choice[1 + spot] * len(_SPOT_SCHEMES))]
    return lozenge if index in _LOZENGES else wing


def _as_cut(draws: Floats, rough: Floats) -> NDArray[np.float64]:
    """Shift, turn and roughen the templates: draws (n, 22, draws) and rough (n, points, 2) -> (n, points, 2) mm."""
    templates = _templates()
    owner = np.repeat(np.arange(len(templates)), [len(t) for t in templates])
    center = np.array([t.mean(axis=0) for t in templates])[owner]
    x, y = (np.concatenate(templates) - center).T
    own = draws[:, owner].astype(np.float64)
    turn = 0.018 * own[..., _DRAWS.index("turn")]
    turned = np.stack([x - turn * y, y + turn * x], axis=2)
    return np.asarray(turned + center + 0.13 * own[..., :2] + _ROUGHNESS_MM * rough.astype(np.float64), np.float64)


def tile_coverage(tile: MosaicTile, window: WebWindow) -> tuple[int, int, NDArray[np.uint8]]:
    """Draw one tile: column and line of its box relative to the window, and the share 0 to 255 covered per pixel.

    The box is placed by the tile alone, so that any two windows agree on every pixel.
    """
    size = window.pixel_size
    points = tile.outline_mm / (size.cross_web_mm, size.down_web_mm)
    low = np.floor(points.min(axis=0)).astype(np.int64)
    high = np.ceil(points.max(axis=0)).astype(np.int64) + 1
    width, height = (int(v) for v in high - low)
    canvas = np.zeros((height * _SUPERSAMPLE, width * _SUPERSAMPLE), np.uint8)
    fixed = np.round(((points - low) * _SUPERSAMPLE - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(canvas, [fixed[:, None, :]], 255, shift=8)
    coverage = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return int(low[0]) - window.first_column, int(low[1]) - window.first_line, np.asarray(coverage, np.uint8)


def mosaic_surface(window: WebWindow, seed: int, missing: MosaicTile | None = None) -> Floats:
    """Render the mosaic's reflectance, (H, W, 3) float32 RGB in 0 to 1; a `missing` tile leaves its mortar bed."""
    margin = ceil(1.6 / min(window.pixel_size.cross_web_mm, window.pixel_size.down_web_mm)) + 2
    wide = WebWindow(
        first_column=window.first_column - margin,
        first_line=window.first_line - margin,
        width=window.width + 2 * margin,
        height=window.height + 2 * margin,
        pixel_size=window.pixel_size,
    )
    tiles = [
        t for t in mosaic_tiles(wide, seed) if missing is None or (t.cell, t.index) != (missing.cell, missing.index)
    ]
    coverage, label = _draw(tiles, wide)
    inner = (slice(margin, margin + window.height), slice(margin, margin + window.width))
    soft = _soften(coverage, wide)
    relief = _relief(soft, window.pixel_size)[margin - 1 : 1 - margin, margin - 1 : 1 - margin]
    texture = smooth_field(seed + 4, window, (0.9, 0.9)), smooth_field(seed + 5, window, (0.35, 0.35))
    tile_color = _glaze(tiles, label[inner], soft[inner], relief, texture, window, seed)
    ground = _ground(soft[inner], relief, texture, window, seed)
    share = (coverage[inner].astype(np.float32) / np.float32(255))[..., None]
    return np.asarray(ground + (tile_color - ground) * share, np.float32)


def _draw(tiles: list[MosaicTile], window: WebWindow) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Coverage (H, W) 0 to 255 and the 1-based number of the tile at each pixel (0 = none)."""
    coverage = np.zeros((window.height, window.width), np.uint8)
    label = np.zeros((window.height, window.width), np.int32)
    for number, tile in enumerate(tiles, start=1):
        x, y, drawn = tile_coverage(tile, window)
        top, left = max(y, 0), max(x, 0)
        part = drawn[top - y : max(window.height - y, 0), left - x : max(window.width - x, 0)]
        if part.size == 0:
            continue
        box = (slice(top, top + part.shape[0]), slice(left, left + part.shape[1]))
        label[box] = np.where(part > coverage[box], number, label[box])
        coverage[box] = np.maximum(coverage[box], part)
    return coverage, label


def _soften(coverage: NDArray[np.uint8], window: WebWindow) -> Floats:
    """Coverage 0 to 1 seen through a blur of 0.4 mm: how near the rim a pixel lies (integer arithmetic, exact)."""
    size = window.pixel_size
    wide = coverage.astype(np.uint16) * np.uint16(257)
    sigma_x, sigma_y = max(0.4 / size.cross_web_mm, 0.5), max(0.4 / size.down_web_mm, 0.5)
    kernel = (2 * ceil(3 * sigma_x) + 1, 2 * ceil(3 * sigma_y) + 1)
    blurred = cv2.GaussianBlur(wide, kernel, sigmaX=sigma_x, sigmaY=sigma_y)
    return np.asarray(blurred.astype(np.float32) / np.float32(65535), np.float32)


def _relief(soft: Floats, size: PixelSize) -> Floats:
    """How much a lamp above and to the left lights each slope of a rim, (H - 2, W - 2), positive = towards the lamp."""
    down = (soft[2:, 1:-1] - soft[:-2, 1:-1]) * np.float32(0.16 / size.down_web_mm)
    return np.asarray(down + (soft[1:-1, 2:] - soft[1:-1, :-2]) * np.float32(0.09 / size.cross_web_mm), np.float32)


def _glaze(
    tiles: list[MosaicTile],
    label: NDArray[np.int32],
    soft: Floats,
    relief: Floats,
    texture: tuple[Floats, Floats],
    window: WebWindow,
    seed: int,
) -> Floats:
    """Color of the tiles, (H, W, 3): cloudy glaze, thin and worn at the rim, each tile tilted its own way."""
    thin, pooled, tilt = _tile_tables(tiles, seed)
    cloud = smooth_field(seed + 2, window, (4.0, 4.0)) * 0.65 + texture[0] * 0.38
    x = window.x_mm.astype(np.float32) - tilt[:, 2][label]
    y = (window.y_mm[:, None] - _centers(tiles)[:, 1][label]).astype(np.float32)
    slope = tilt[:, 0][label] * x + tilt[:, 1][label] * y
    rim = np.minimum((1.0 - soft) * np.float32(2.2), 1)
    depth = np.clip(cloud + 0.6 * slope - 0.75 * rim * rim + tilt[:, 3][label], 0, 1)
    speck = texture[1]
    gloss = 1.0 + 0.12 * slope + 0.55 * relief - 2.2 * np.clip(speck - 0.62, 0, 0.25)
    worn = np.clip((rim - 0.62 - 0.55 * texture[0] + 0.33 * speck) * 4, 0, 1) * np.float32(0.8)
    biscuit = worn * (1 + 0.25 * speck)
    shine = (gloss * (1 - worn), 0.5 * np.maximum(relief - 0.10, 0) * (1 - worn))
    color = np.empty((*label.shape, 3), np.float32)
    for c in range(3):
        glaze = thin[:, c][label] + (pooled - thin)[:, c][label] * depth
        color[..., c] = glaze * shine[0] + shine[1] + _BISCUIT[c] * biscuit
    return color


def _centers(tiles: list[MosaicTile]) -> NDArray[np.float64]:
    return np.array([(0.0, 0.0), *(t.outline_mm.mean(axis=0) for t in tiles)])


def _tile_tables(tiles: list[MosaicTile], seed: int) -> tuple[Floats, Floats, Floats]:
    """Per tile number, row 0 unused: thin and pooled color (n, 3); tilt per mm x, y, center x mm, depth (n, 4)."""
    batch = np.array([draw(seed, 0.97, 1.03, 77, c) for c in range(3)], np.float32)
    drawn = {name: np.array([0.0, *(t.drawn[name] for t in tiles)], np.float32) for name in _DRAWS}
    tint = 1 + 0.014 * np.stack([drawn["red"], drawn["green"], drawn["blue"]], axis=1)
    color = (1 + 0.07 * drawn["light"])[:, None] * tint * batch
    glaze = _GLAZES[[0, *(t.glaze for t in tiles)]] * color[:, None, :]
    center_x = _centers(tiles)[:, 0].astype(np.float32)
    tilt = np.stack([drawn["tilt_x"] * 0.035, drawn["tilt_y"] * 0.035, center_x, 0.5 + 0.16 * drawn["depth"]], axis=1)
    return glaze[:, 0], glaze[:, 1], tilt


def _ground(soft: Floats, relief: Floats, texture: tuple[Floats, Floats], window: WebWindow, seed: int) -> Floats:
    """Grout between the tiles and the mortar bed where one is missing, (H, W, 3): sandy, shaded by the rims."""
    sand = texture[1] * 0.9 + texture[0] * 0.5
    stained = smooth_field(seed + 3, window, (22.0, 22.0))
    bed = np.clip(1.0 - soft * 5.0, 0, 1)[..., None]
    color = _GROUT + (_BED - _GROUT) * bed
    shade = (1 + 0.16 * sand + 0.10 * stained) * (1.0 - 0.28 * np.clip(soft * 1.6, 0, 1)) - 0.5 * np.abs(relief)
    return np.asarray(color * shade[..., None], np.float32)
