"""What the synthetic materials look like before a camera sees them: reflectance as a pure function of the place.

Each surface takes a window of the web and a roll's seed and returns float32 RGB (H, W, 3), 0 to about 1.2.
"""

from enum import StrEnum

import numpy as np

from zellige.data.synthetic_mosaic import mosaic_surface
from zellige.data.synthetic_noise import (
    Floats,
    Integers,
    WebWindow,
    child_seed,
    draw,
    gauss,
    smooth_field,
    uniform,
)

WARP_PITCH_MM = 1.3
WEFT_PITCH_MM = 1.45

_WARP = np.array([0.31, 0.41, 0.55], np.float32)
_WEFT = np.array([0.74, 0.70, 0.61], np.float32)
_SHADOW = np.array([0.06, 0.06, 0.07], np.float32)
_STEEL = np.array([0.575, 0.585, 0.60], np.float32)


class Material(StrEnum):
    """What runs under the camera."""

    ZELLIGE = "zellige"
    FABRIC = "fabric"
    STEEL = "steel"


def surface(material: Material, window: WebWindow, seed: int) -> Floats:
    """Render a window of a roll's good surface."""
    if material is Material.ZELLIGE:
        return mosaic_surface(window, seed)
    return fabric_surface(window, seed) if material is Material.FABRIC else steel_surface(window, seed)


def fabric_surface(window: WebWindow, seed: int) -> Floats:
    """Render a plain weave: blue warp along the motion, ecru weft across it, spun yarns of uneven thickness."""
    warp, warp_t = _yarns(window, seed + 10, WARP_PITCH_MM * draw(seed, 0.96, 1.04, 1), is_warp=True)
    weft, weft_t = _yarns(window, seed + 20, WEFT_PITCH_MM * draw(seed, 0.96, 1.04, 2), is_warp=False)
    is_warp_up = ((warp + weft) & 1).astype(np.float32)
    warp_arch, weft_arch = 1 - weft_t * weft_t, 1 - warp_t * warp_t
    fluff = smooth_field(seed + 30, window, (0.25, 0.9)), smooth_field(seed + 31, window, (0.9, 0.25))
    warp_height = _height(warp_t, warp, weft, seed + 32) * (0.68 + 0.32 * warp_arch)
    weft_height = _height(weft_t, weft, warp, seed + 33) * (0.68 + 0.32 * weft_arch)
    # Where the upper yarn is thin at its edge, the lower one shows in its shadow.
    warp_share = np.clip((is_warp_up - 0.5) * 1.5 + (warp_height - weft_height) * 1.2 + 0.5, 0, 1)
    warp_light = np.maximum(warp_height, 0) * (1 + 0.45 * fluff[0] + _yarn_tone(warp, seed + 34, 0.10))
    weft_light = np.maximum(weft_height, 0) * (1 + 0.45 * fluff[1] + _yarn_tone(weft, seed + 35, 0.08))
    mottled = 1 + 0.10 * smooth_field(seed + 36, window, (14.0, 18.0))
    color = np.empty((window.height, window.width, 3), np.float32)
    for c in range(3):
        thread = warp_light * _WARP[c] * warp_share + weft_light * _WEFT[c] * (1 - warp_share)
        color[..., c] = (_SHADOW[c] + thread * np.float32(1.05)) * mottled
    return color


def _yarns(window: WebWindow, seed: int, pitch_mm: float, *, is_warp: bool) -> tuple[Integers, Floats]:
    """Number of the nearest yarn (H, W) and the place across it, -1 to 1 at its edges; beyond is a gap."""
    place = window.x_mm[None, :] if is_warp else window.y_mm[:, None]
    long, short = (45.0, 7.0), (9.0, 1.6)
    bow = smooth_field(seed, window, long if not is_warp else long[::-1]) * 0.5
    bow += smooth_field(seed + 1, window, short if not is_warp else short[::-1]) * 0.22
    scaled = place / pitch_mm + bow
    yarn = np.floor(scaled).astype(np.int64)
    across = (2 * (scaled - yarn) - 1).astype(np.float32)
    thickness = 1 + 0.24 * smooth_field(seed + 2, window, (16.0, 1.1) if not is_warp else (1.1, 16.0))
    thickness += np.float32(0.07) * _yarn_tone(yarn, seed + 3, 1.0)
    return yarn, np.asarray(across / thickness, np.float32)


def _yarn_tone(yarn: Integers, seed: int, amount: float) -> Floats:
    first = int(yarn.min())
    tones = uniform(seed, np.arange(first, int(yarn.max()) + 1, dtype=np.int64))
    return np.asarray(tones[yarn - first] * np.float32(amount), np.float32)


def _height(across: Floats, yarn: Integers, crossing: Integers, seed: int) -> Floats:
    """Round profile of a yarn, 1 on its crest, below 0 in the gap; each float stands a little higher or lower."""
    rows = np.arange(int(yarn.min()), int(yarn.max()) + 1, dtype=np.int64)
    columns = np.arange(int(crossing.min()), int(crossing.max()) + 1, dtype=np.int64)
    crest = 1 + np.float32(0.07) * uniform(seed, rows[:, None], columns[None, :])
    return np.asarray(
        crest[yarn - rows[0], crossing - columns[0]] * (1.05 - np.float32(0.72) * across * across), np.float32
    )


def steel_surface(window: WebWindow, seed: int) -> Floats:
    """Render brushed steel: hairlines of all widths along the motion, single bright ones, slow bands across."""
    streaks = np.zeros((window.height, window.width), np.float32)
    for octave, (width_mm, length_mm, amount) in enumerate(
        ((0.16, 28.0, 0.085), (0.16, 9.0, 0.075), (0.34, 55.0, 0.075), (0.8, 90.0, 0.06), (2.6, 160.0, 0.05))
    ):
        streaks += np.float32(amount) * _streaks(window, child_seed(seed, octave), width_mm, length_mm)
    hair = _streaks(window, child_seed(seed, 11), 0.2, 14.0)
    streaks += 0.30 * np.maximum(hair - 0.50, 0) - 0.22 * np.maximum(-hair - 0.55, 0)
    slow = 0.07 * smooth_field(seed + 41, window, (34.0, 110.0)) + 0.05 * smooth_field(seed + 42, window, (9.0, 300.0))
    grain = 0.008 * gauss(seed + 43, window.lines[:, None], window.columns[None, :])[..., 0]
    light = 1 + streaks + slow + grain
    return np.asarray(light[..., None] * _STEEL, np.float32)


def _streaks(window: WebWindow, seed: int, width_mm: float, length_mm: float) -> Floats:
    """Streaks (H, W), about -1 to 1: each lattice column has knots of its own along the motion, at its own phase."""
    scaled = window.x_mm / width_mm
    base = np.floor(scaled)
    columns = np.arange(int(base[0]), int(base[-1]) + 2, dtype=np.int64)
    phase = (uniform(seed, columns).astype(np.float64) + 1) / 2
    along = window.y_mm[:, None] / length_mm + phase
    knot = np.floor(along).astype(np.int64)
    f = (along - knot).astype(np.float32)
    rows = np.arange(int(knot.min()), int(knot.max()) + 2, dtype=np.int64)
    values, column = uniform(seed + 1, rows[:, None], columns[None, :]), np.arange(len(columns))
    start, end = values[knot - rows[0], column], values[knot - rows[0] + 1, column]
    lattice = start + (end - start) * (f * f * (3 - 2 * f))
    index, g = (base - base[0]).astype(np.int64), (scaled - base).astype(np.float32)
    left = lattice[:, index]
    return np.asarray(left + (lattice[:, index + 1] - left) * g, np.float32)


def yarn_color(*, is_weft: bool) -> Floats:
    """Reflectance of the fabric's weft or warp yarn, (3,) RGB."""
    return (_WEFT if is_weft else _WARP).copy()
