"""Defects of stated size on the synthetic web, with exact masks.

A defect is an outline in mm. Its stated size is the largest diameter of a hole or a stain, and of the others the longer
side of the smallest rotated rectangle. The mask holds the pixels that the outline covers by half or
more. Strength, 0 to 1, goes from hardly visible to obvious.
"""

from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.types import PixelSize
from zellige.data.synthetic_camera import (
    SyntheticWeb,
    grown,
    roll_window,
    see,
    surface_seed,
    wander_margin,
    wandered,
)
from zellige.data.synthetic_materials import WARP_PITCH_MM, WEFT_PITCH_MM, Material, yarn_color
from zellige.data.synthetic_mosaic import MosaicTile, mosaic_surface, mosaic_tiles, tile_coverage
from zellige.data.synthetic_noise import Floats, child_seed, draw, smooth_noise, uniform

Outline = NDArray[np.float64]
Mask = NDArray[np.bool_]

_KINDS = {
    Material.ZELLIGE: ("scratch", "hole", "stain", "missing_tile"),
    Material.FABRIC: ("scratch", "hole", "stain", "thick_yarn"),
    Material.STEEL: ("scratch", "hole", "stain"),
}
_SIZES_MM = {"scratch": (10.0, 45.0), "hole": (2.5, 8.0), "stain": (5.0, 18.0), "thick_yarn": (12.0, 40.0)}
_HOLE_BOTTOM = {
    Material.ZELLIGE: (0.30, 0.20, 0.13),
    Material.FABRIC: (0.03, 0.03, 0.03),
    Material.STEEL: (0.06, 0.06, 0.06),
}
_STAIN_TINT = {
    Material.ZELLIGE: (0.36, 0.29, 0.20),
    Material.FABRIC: (0.38, 0.30, 0.20),
    Material.STEEL: (0.62, 0.48, 0.34),
}
_BARE_CLAY = np.array([0.74, 0.52, 0.37], np.float32)
_HAZE = np.array([0.62, 0.61, 0.58], np.float32)
_SUPERSAMPLE = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenDefect:
    """A defective frame before exposure: reflectance as from `see`, its mask (H, W) and what is stated about it."""

    reflectance: Floats
    mask: Mask
    size_mm: float
    """Length of a scratch or a yarn, diameter of a hole or a stain, longer side of a tile."""
    width_mm: float
    """Width across, for scratch and yarn; shorter side of a tile; the diameter again for hole and stain."""
    contrast: float
    """Measured: mean absolute change of reflectance inside the mask, relative to the good surface's mean there."""


def defect_kinds(material: Material) -> tuple[str, ...]:
    """List the kinds of defect that a material can have."""
    return _KINDS[material]


def see_defect(web: SyntheticWeb, roll: int, first_line: int, kind: str, strength: float) -> SeenDefect:
    """Look at a frame that has one defect; place and size follow from the seed, the roll and the line."""
    seed = child_seed(web.seed, roll, first_line, 31 + _KINDS[web.material].index(kind))
    good = see(web, roll, first_line, web.height)
    if kind == "missing_tile":
        return _without_tile(good, web, roll, first_line, seed)
    frame_mm = web.width * web.pixel_size.cross_web_mm, web.height * web.pixel_size.down_web_mm
    low, high = _SIZES_MM[kind]
    high = min(high, 0.6 * min(frame_mm))
    size_mm = round(low * (high / low) ** ((float(uniform(seed, 1)[0]) + 1) / 2), 2)
    width_mm, outline = _outline(kind, size_mm, strength, web.pixel_size, seed)
    center = _place(outline, frame_mm, seed)
    outline = outline + center
    coverage = _coverage(outline, web)
    painted = _paint(kind, good, coverage, outline, web, strength, seed)
    mask = coverage[1:-1, 1:-1] >= 0.5
    contrast = _contrast(good, painted, mask)
    return SeenDefect(reflectance=painted, mask=mask, size_mm=size_mm, width_mm=width_mm, contrast=contrast)


def _outline(kind: str, size_mm: float, strength: float, pixel_size: PixelSize, seed: int) -> tuple[float, Outline]:
    """Width in mm and outline (N, 2) mm around the origin, of the stated size."""
    turn = (cos(a := pi * draw(seed, -0.42, 0.42, 2)), sin(a))
    if kind == "hole":
        return size_mm, _to_diameter(_blob(seed, 0.03), size_mm)
    if kind == "stain":
        return size_mm, _to_diameter(_blob(seed, 0.16), size_mm)
    if kind == "scratch":
        width = round(max(draw(seed, 0.4, 0.9, 3), 1.8 * max(pixel_size.cross_web_mm, pixel_size.down_web_mm)), 2)
        bend = size_mm * draw(seed, -0.06, 0.06, 4)
        stroke = _stroke(size_mm, width, bend)
        return width, _to_length(stroke @ np.array([[-turn[1], turn[0]], [turn[0], turn[1]]]), size_mm)
    is_weft = _is_weft(seed)
    width = round((WEFT_PITCH_MM if is_weft else WARP_PITCH_MM) * (1.3 + strength), 2)
    slub = _stroke(size_mm, width, 0.0, taper=0.35)
    return width, slub if is_weft else slub[:, ::-1]


def _is_weft(seed: int) -> bool:
    return draw(seed, 0, 1, 5) < 0.65


def _stroke(length: float, width: float, bend: float, taper: float = 0.03) -> Outline:
    """A bar along x, bent by `bend` mm at its middle; the higher `taper`, the more it thins towards its ends."""
    along = np.sin(np.linspace(-pi / 2, pi / 2, 65)) / 2
    middle, half = bend * (1 - 4 * along * along), width / 2 * (1 - 4 * along * along).clip(0) ** taper
    top, bottom = np.stack([along * length, middle - half], axis=1), np.stack([along * length, middle + half], axis=1)
    return np.concatenate([top, bottom[::-1]])


def _blob(seed: int, lobes: float) -> Outline:
    angle = np.arange(96) * (2 * pi / 96)
    radius = np.ones(96)
    for k in (2, 3, 5, 8):
        radius += lobes / (k - 1) * draw(seed, 0.3, 1, 6, k) * np.cos(k * angle + draw(seed, 0, 2 * pi, 7, k))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _sides(outline: Outline) -> tuple[float, float]:
    """Longer and shorter side of the smallest rotated rectangle around an outline, mm."""
    corner = outline.min(axis=0)
    _, (a, b), _ = cv2.minAreaRect((outline - corner).astype(np.float32))
    return float(max(a, b)), float(min(a, b))


def _to_length(outline: Outline, size_mm: float) -> Outline:
    """Scale such that the longer side of the smallest rotated rectangle is the stated size."""
    return _centered(outline) * (size_mm / _sides(outline)[0])


def _to_diameter(outline: Outline, size_mm: float) -> Outline:
    """Scale such that the largest distance of two points of the outline is the stated size."""
    apart = outline[:, None, :] - outline[None, :, :]
    largest = float(np.sqrt((apart * apart).sum(axis=2)).max())
    return _centered(outline) * (size_mm / largest)


def _centered(outline: Outline) -> Outline:
    return np.asarray(outline - (outline.min(axis=0) + outline.max(axis=0)) / 2, np.float64)


def _place(outline: Outline, frame_mm: tuple[float, float], seed: int) -> tuple[float, float]:
    """Draw a center such that the whole outline lies in the frame, 1 mm off its border."""
    low, high = outline.min(axis=0) - 1, outline.max(axis=0) + 1
    x, y = (draw(seed, -low[a], frame_mm[a] - high[a], 8, a) for a in range(2))
    return x, y


def _coverage(outline_mm: Outline, web: SyntheticWeb) -> Floats:
    """Share of each pixel that an outline (frame coordinates, mm) covers, (H + 2, W + 2) float32 as from `see`."""
    points = outline_mm / (web.pixel_size.cross_web_mm, web.pixel_size.down_web_mm) + 1
    low = np.floor(points.min(axis=0)).astype(int)
    width, height = (int(v) for v in np.ceil(points.max(axis=0)).astype(int) - low)
    canvas = np.zeros((height * _SUPERSAMPLE, width * _SUPERSAMPLE), np.uint8)
    fixed = np.round(((points - low) * _SUPERSAMPLE - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(canvas, [fixed[:, None, :]], 255, shift=8)
    share = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    out = np.zeros((web.height + 2, web.width + 2), np.float32)
    out[low[1] : low[1] + height, low[0] : low[0] + width] = share.astype(np.float32) / 255
    return out


def _paint(
    kind: str, good: Floats, coverage: Floats, outline_mm: Outline, web: SyntheticWeb, strength: float, seed: int
) -> Floats:
    material, share = web.material, coverage[..., None] * np.float32(strength)
    if kind == "scratch":
        return np.asarray(good + (_scratched(good, material, seed) - good) * share, np.float32)
    if kind == "hole":
        return _with_hole(good, coverage, material, web, strength)
    if kind == "stain":
        return _with_stain(good, coverage, material, web, strength)
    return _with_yarn(good, coverage, outline_mm, web, strength, seed)


def _with_hole(good: Floats, coverage: Floats, material: Material, web: SyntheticWeb, strength: float) -> Floats:
    """A pit in glaze or steel has a bottom and a rim, lit below and shaded above; a thin fabric still shows yarns."""
    around = good[coverage > 0].mean(axis=0)
    is_dark_glaze = material is Material.ZELLIGE and float(around.mean()) < 0.35
    bottom = _BARE_CLAY if is_dark_glaze else np.array(_HOLE_BOTTOM[material], np.float32)
    soft = _soft(coverage, web, 0.35)
    rim = np.clip(soft - coverage, 0, 1) * np.float32(0.6 * strength)
    if material is Material.FABRIC:
        dug = good + (bottom - good) * (coverage * np.float32(strength))[..., None]
    else:
        dug = (
            good + (around + (bottom - around) * np.float32(strength) - good) * (coverage * np.float32(0.9))[..., None]
        )
    lit = np.zeros_like(soft)
    lit[1:-1] = (soft[:-2] - soft[2:]) * np.float32(0.22 / web.pixel_size.down_web_mm)
    return np.asarray(dug * (1 - rim + lit * np.float32(strength))[..., None], np.float32)


def _with_stain(good: Floats, coverage: Floats, material: Material, web: SyntheticWeb, strength: float) -> Floats:
    """Dried oil darkens, and most at its rim; on dark glaze it is scale, a pale haze."""
    soft = _soft(coverage, web, 0.3)
    ring = np.clip(4 * soft * (1 - soft), 0, 1) * np.float32(0.35)
    share = ((soft * np.float32(0.65) + ring) * np.float32(strength))[..., None]
    if float(good[coverage > 0].mean()) < 0.35:
        return np.asarray(good + (_HAZE - good) * share, np.float32)
    return np.asarray(good * (1 - (1 - np.array(_STAIN_TINT[material], np.float32)) * share), np.float32)


def _scratched(good: Floats, material: Material, seed: int) -> Floats:
    """What a full scratch leaves: bright on dark ground, dark on bright ground, burnished or dirty on steel."""
    if material is Material.STEEL:
        return good * np.float32(1.55 if draw(seed, 0, 1, 9) < 0.6 else 0.45)
    if material is Material.FABRIC:
        return good * np.float32(0.35) + np.float32(0.72)
    brightness = good.mean(axis=2, keepdims=True)
    return np.where(brightness > 0.45, good * np.float32(0.52), good * np.float32(0.6) + np.float32(0.38))


def _soft(coverage: Floats, web: SyntheticWeb, sigma_mm: float) -> Floats:
    whole = np.round(coverage * 65535).astype(np.uint16)
    size = web.pixel_size
    blurred = cv2.GaussianBlur(whole, (0, 0), sigmaX=sigma_mm / size.cross_web_mm, sigmaY=sigma_mm / size.down_web_mm)
    return np.asarray(blurred.astype(np.float32) / np.float32(65535), np.float32)


def _with_yarn(
    good: Floats, coverage: Floats, outline_mm: Outline, web: SyntheticWeb, strength: float, seed: int
) -> Floats:
    """A slub: one yarn too thick over some length, crossed by its neighbors, a shadow along its sides."""
    is_weft = _is_weft(seed)
    low, high = outline_mm.min(axis=0), outline_mm.max(axis=0)
    axis = 1 if is_weft else 0
    place = [(np.arange(n) - 0.5) * s for n, s in zip(good.shape[1::-1], _pair(web.pixel_size), strict=True)]
    across = np.clip((2 * place[axis] - low[axis] - high[axis]) / (high[axis] - low[axis]), -1, 1)
    pitch = WARP_PITCH_MM if is_weft else WEFT_PITCH_MM
    phase = place[1 - axis] / (2 * pitch) % 1.0
    over = np.clip(np.abs(phase - 0.5) / 0.16 - 0.5, 0, 1)  # 0 where a neighbor crosses above the slub
    twist = 1 + 0.22 * smooth_noise(seed + 11, place[1 - axis], 0.7)
    profile = (1.08 - 0.55 * across * across).astype(np.float32)
    along = (twist * (0.8 + 0.2 * over)).astype(np.float32)
    light = profile[:, None] * along[None, :] if is_weft else profile[None, :] * along[:, None]
    yarn = yarn_color(is_weft=is_weft) * light[..., None]
    shadow = np.clip(_soft(coverage, web, 0.45) - coverage, 0, 1)[..., None] * np.float32(0.9 * strength)
    above = (0.30 + 0.30 * strength + (0.70 - 0.30 * strength) * over).astype(np.float32)
    share = (coverage * (above[None, :] if is_weft else above[:, None]))[..., None] * np.float32(0.6 + 0.4 * strength)
    return np.asarray((good + (yarn - good) * share) * (1 - shadow), np.float32)


def _pair(size: PixelSize) -> tuple[float, float]:
    return size.cross_web_mm, size.down_web_mm


def _without_tile(good: Floats, web: SyntheticWeb, roll: int, first_line: int, seed: int) -> SeenDefect:
    margin = wander_margin(web)
    window = grown(roll_window(web, roll, first_line, web.height), margin + 1, 1)
    material_seed = surface_seed(web, roll)
    inside = [t for t in mosaic_tiles(window, material_seed) if _is_inside(t, web, roll, first_line)]
    tile = inside[int(draw(seed, 0, len(inside), 10))]
    bare = wandered(mosaic_surface(window, material_seed, missing=tile), web, roll, first_line - 1)
    x, y, drawn = tile_coverage(tile, window)
    share = np.zeros((window.height, window.width), np.float32)
    share[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn.astype(np.float32) / 255
    mask = wandered(share, web, roll, first_line - 1)[1:-1, 1:-1] >= 0.5
    longer, shorter = _sides(tile.outline_mm)
    return SeenDefect(
        reflectance=bare,
        mask=mask,
        size_mm=round(longer, 2),
        width_mm=round(shorter, 2),
        contrast=_contrast(good, bare, mask),
    )


def _is_inside(tile: MosaicTile, web: SyntheticWeb, roll: int, first_line: int) -> bool:
    """Tell whether a tile lies in the frame, 3.5 mm (more than the wander) off its sides."""
    window = roll_window(web, roll, first_line, web.height)
    (width, height), corner = _pair(web.pixel_size), np.array([window.first_column, first_line])
    low = tile.outline_mm.min(axis=0) - corner * (width, height)
    high = tile.outline_mm.max(axis=0) - corner * (width, height)
    limit = np.array([web.width * width, web.height * height])
    clear = np.array([2.0, 0.5])
    return bool((low > clear).all() and (high < limit - clear).all())


def _contrast(good: Floats, bad: Floats, mask: Mask) -> float:
    before, after = good[1:-1, 1:-1][mask], bad[1:-1, 1:-1][mask]
    return round(float(np.abs(after - before).mean() / before.mean()), 3)
