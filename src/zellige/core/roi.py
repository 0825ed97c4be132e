"""What of a frame is inspected: without the declared ignore regions and, where asked for, without the background.

What is not inspected has no influence, by construction: before the net sees the frame, its pixels are replaced by a
smooth continuation of the inspected ones (`fill`), and afterwards its place in the anomaly map is set to a level below
every threshold (`hide`). `core.tiling` does both, so training, evaluation and the station cannot differ.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.foreground import find_foreground
from zellige.core.ignore import Foreground, IgnoredShape, LengthUnit, Mask
from zellige.core.types import AnomalyMap, Frame, Geometry, Pixels, PixelSize

IGNORED = np.float32(-(2.0**100))
"""The anomaly map's level in a declared ignore region: below every score, finite, exact in float32."""
BACKGROUND = np.float32(-(2.0**99))
"""The map's level in what was taken for background."""

_CELL_PX = 16
_SLACK_PX = 0.5
"""How far a shape in mm may reach over the frame's edge: rounding of the pixel size is no mistake."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roi:
    """The region of interest of one frame: masks (H, W) bool.

    `inspected` is true where defects are looked for; of the rest `ignored` was declared, the others are background.
    `warning` says why the background is inspected although it should not be; "" otherwise.
    """

    inspected: Mask
    ignored: Mask
    warning: str = ""


def find_roi(frame: Frame, geometry: Geometry) -> Roi | None:
    """Find what of a frame is inspected; None where nothing is declared, which costs nothing.

    Raises:
        InputError: the frame does not fit the declared regions, or nothing of it is left.

    Example:
        >>> from zellige.core.types import GeometryMode
        >>> frame = Frame(pixels=np.zeros((40, 60), np.uint8), pixel_size=None, source_id="f")
        >>> belt = IgnoredShape(columns=(0, 15))
        >>> roi = find_roi(frame, Geometry(mode=GeometryMode.RESIZE, height=32, width=32, ignore=(belt,)))
        >>> int(roi.ignored.sum()), float(roi.inspected.mean())
        (600, 0.75)
    """
    if not geometry.has_roi:
        return None
    try:
        ignored = ignored_pixels(geometry, frame.size, frame.pixel_size)
    except InputError as error:
        raise InputError(f"frame {frame.source_id}: {error}") from None
    if geometry.foreground is Foreground.NONE:
        return Roi(inspected=~ignored, ignored=ignored)
    # Filled first: what is ignored must not decide either where the part is.
    pixels = fill(frame.pixels, ~ignored) if ignored.any() else frame.pixels
    part, reason = find_foreground(pixels, ignored)
    if part is not None and (part & ~ignored).any():
        return Roi(inspected=part & ~ignored, ignored=ignored)
    reason = reason or "all of the part is ignored"
    return Roi(inspected=~ignored, ignored=ignored, warning=f"the background is inspected too: {reason}")


def ignored_pixels(geometry: Geometry, size: tuple[int, int], pixel_size: PixelSize | None) -> Mask:
    """Draw the declared ignore regions on a frame of `size` (H, W); (H, W) bool, read-only, true where ignored.

    Raises:
        InputError: a mask of another size, a shape beyond the frame, a shape in mm without a pixel size, or nothing
            left to inspect.
    """
    return _ignored_pixels(geometry, size, pixel_size)


@lru_cache(maxsize=4)
def _ignored_pixels(geometry: Geometry, size: tuple[int, int], pixel_size: PixelSize | None) -> Mask:
    """The drawing, kept for the next frame: a station sees frames of one size."""
    mask = geometry.ignore_mask
    if mask is not None and (mask.height, mask.width) != size:
        raise InputError(
            f"geometry.ignore_mask: expected frames of the mask's size {mask.height} x {mask.width} px, "
            f"got {size[0]} x {size[1]}"
        )
    ignored = np.zeros(size, np.bool_) if mask is None else mask.decode()
    for shape in geometry.ignore:
        ignored |= _inside(_corners_px(shape, size, pixel_size), size)
    if ignored.all():
        raise InputError(
            f"geometry.ignore: expected something left to inspect, got regions over the whole frame of "
            f"{size[0]} x {size[1]} px"
        )
    ignored.flags.writeable = False
    return ignored


def _corners_px(shape: IgnoredShape, size: tuple[int, int], pixel_size: PixelSize | None) -> NDArray[np.float64]:
    """Corners (N, 2) x and y in px of the frame."""
    height, width = size
    scale, slack = (1.0, 1.0), 0.0
    if shape.unit is LengthUnit.MM:
        if pixel_size is None:
            raise InputError(f"geometry.ignore {shape}: expected a pixel size, got none; set data.pixel_size_mm")
        scale, slack = (pixel_size.cross_web_mm, pixel_size.down_web_mm), _SLACK_PX
    corners = np.array(shape.corners(height * scale[1])) / scale
    if (corners > (width + slack, height + slack)).any():
        x, y = corners.max(axis=0)
        raise InputError(
            f"geometry.ignore {shape}: expected it inside the frame of {height} x {width} px, "
            f"got one that reaches to x {x:g} and y {y:g} px"
        )
    return corners


def _inside(corners: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """Pixels (H, W) whose centers lie inside an outline, by the even-odd rule."""
    inside = np.zeros(size, np.bool_)
    centers_x = np.arange(size[1]) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        rows = slice(max(0, int(np.ceil(low - 0.5))), max(0, int(np.ceil(high - 0.5))))
        centers_y = np.arange(rows.start, min(rows.stop, size[0])) + 0.5
        if len(centers_y):
            crossing = x0 + (centers_y - y0) * (x1 - x0) / (y1 - y0)
            inside[rows] ^= centers_x >= crossing[:, None]
    return inside


def fill(pixels: Pixels, inspected: Mask) -> Pixels:
    """Replace what is not inspected by a smooth continuation of what is, which alone decides the result.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.
        inspected: (H, W) bool, at least one pixel true; there the pixels stay as they are.

    Example:
        >>> left = np.tile(np.array([True, False]), (4, 1))
        >>> fill(np.array([[80, 255]] * 4, np.uint8), left)[0].tolist()
        [80, 80]
    """
    height, width = inspected.shape
    mask = inspected.view(np.uint8)
    cells = (-(-width // _CELL_PX), -(-height // _CELL_PX))
    kept = cv2.copyTo(pixels, mask)
    sums = np.asarray(cv2.resize(kept, cells, interpolation=cv2.INTER_AREA), np.float32)
    weights = np.asarray(cv2.resize(mask * 255, cells, interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)
    mean = np.array(cv2.mean(pixels, mask)[:3], np.float32)
    coarse = _spread(sums, weights, mean if sums.ndim == 3 else mean[:1])
    rounded = np.rint(coarse).clip(0, 255).astype(np.uint8)
    smooth = np.asarray(cv2.resize(rounded, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.copyTo(pixels, mask, smooth), np.uint8)


def _spread(sums: Floats, weights: Floats, mean: Floats) -> Floats:
    """Blend each cell's share of inspected pixels with the level around it, from ever larger neighborhoods.

    Args:
        sums: (h, w) or (h, w, 3), the mean level of a cell times its share of inspected pixels.
        weights: (h, w), that share.
        mean: (1,) or (3,), the level of the largest neighborhood.
    """
    height, width = weights.shape
    around = mean
    if height > 1 or width > 1:
        half = ((width + 1) // 2, (height + 1) // 2)
        fewer = np.asarray(cv2.resize(sums, half, interpolation=cv2.INTER_AREA), np.float32)
        shares = np.asarray(cv2.resize(weights, half, interpolation=cv2.INTER_AREA), np.float32)
        coarse = _spread(fewer, shares, mean)
        around = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    missing = 1 - weights
    return np.asarray(sums + (missing if sums.ndim == 2 else missing[..., None]) * around, np.float32)


def hide(anomaly_map: AnomalyMap, roi: Roi) -> AnomalyMap:
    """Return the map (H, W) with what is not inspected at a level below every threshold."""
    hidden = np.where(roi.inspected, anomaly_map, BACKGROUND)
    hidden[roi.ignored] = IGNORED
    return hidden


def is_inspected(anomaly_map: AnomalyMap) -> Mask:
    """Where a map (H, W) was inspected, as `hide` left it; all of it where no region was declared.

    Example:
        >>> is_inspected(np.array([[0.5, BACKGROUND, IGNORED]], np.float32)).tolist()
        [[True, False, False]]
    """
    return np.asarray(~(anomaly_map <= BACKGROUND))  # so that a NaN is not hidden


def to_draw(anomaly_map: AnomalyMap) -> AnomalyMap:
    """Return a map (H, W) for pictures: what is not inspected at the lowest level of what is, or at 0 where nothing is.

    Example:
        >>> to_draw(np.array([[0.5, 2.0, IGNORED]], np.float32)).tolist()
        [[0.5, 2.0, 0.5]]
    """
    inspected = is_inspected(anomaly_map)
    if not inspected.any():
        return np.zeros_like(anomaly_map)
    if inspected.all():
        return anomaly_map
    return np.where(inspected, anomaly_map, anomaly_map[inspected].min())
