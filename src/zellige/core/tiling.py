"""From a frame to the net's tiles and back: one declared geometry for training, evaluation and the station."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from zellige.core.errors import InputError
from zellige.core.types import AnomalyMap, Frame, Geometry, GeometryMode, Pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """The tiles of one frame. `pixels` is uint8 (N, C, h, w); `ys` and `xs` are the grid's top and left edges, px."""

    pixels: Pixels
    ys: tuple[int, ...]
    xs: tuple[int, ...]
    frame_size: tuple[int, int]
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where the tiles of one frame lie, before any is copied: for large frames, whose tiles are run a few at a time.

    `parts` are views (h, w) or (h, w, 3) of the frame's pixels; the rest is as in `Tiles`.
    """

    parts: tuple[Pixels, ...]
    ys: tuple[int, ...]
    xs: tuple[int, ...]
    frame_size: tuple[int, int]
    geometry: Geometry

    def stack(self, start: int, stop: int) -> Pixels:
        """Copy the tiles from `start` up to `stop` into the net's order, uint8 (N, C, h, w)."""
        parts = self.parts[start:stop]
        num_channels = 1 if parts[0].ndim == 2 else 3
        pixels = np.empty((len(parts), num_channels, *parts[0].shape[:2]), np.uint8)
        for tile, part in zip(pixels, parts, strict=True):
            # cv2.split is several times faster than a transposed copy.
            tile[:] = part if part.ndim == 2 else cv2.split(part)
        return pixels


def tile_starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Starts of the fewest tiles that cover `length` with at least `overlap` px in common, evenly spread.

    Example:
        >>> tile_starts(600, 256, 64)
        (0, 172, 344)
        >>> tile_starts(200, 256, 64)
        (0,)
    """
    if length <= tile:
        return (0,)
    count = 1 + -(-(length - tile) // (tile - overlap))
    return tuple(round(i * (length - tile) / (count - 1)) for i in range(count))


def cut(frame: Frame, geometry: Geometry) -> Tiles:
    """Cut a frame into the net's input tiles, all of them at once.

    A resize averages over areas along an axis that shrinks and interpolates linearly along one that grows.

    Raises:
        InputError: tiles without `pad_small`, and a frame smaller than a tile.

    Example:
        >>> import numpy as np
        >>> f = Frame(pixels=np.zeros((300, 500), np.uint8), pixel_size=None, source_id="x")
        >>> g = Geometry(mode=GeometryMode.TILES, height=256, width=256, overlap_px=32)
        >>> cut(f, g).pixels.shape
        (6, 1, 256, 256)
    """
    layout = lay_out(frame, geometry)
    pixels = layout.stack(0, len(layout.parts))
    return Tiles(pixels=pixels, ys=layout.ys, xs=layout.xs, frame_size=layout.frame_size, geometry=geometry)


def lay_out(frame: Frame, geometry: Geometry) -> Layout:
    """Lay the tiles of a frame out as `cut` does, without copying them.

    Raises:
        InputError: as `cut`.
    """
    th, tw = geometry.height, geometry.width
    image = frame.pixels
    if geometry.mode is GeometryMode.RESIZE:
        return Layout(parts=(_resize(image, th, tw),), ys=(0,), xs=(0,), frame_size=frame.size, geometry=geometry)
    height, width = frame.size
    if height < th or width < tw:
        if not geometry.pad_small:
            raise InputError(
                f"frame {frame.source_id}: expected at least one tile of {th} x {tw} px, got {height} x {width}; "
                "set geometry.pad_small=true or a smaller tile"
            )
        image = _mirror(image, max(th, height), max(tw, width))
    ys = tile_starts(image.shape[0], th, geometry.overlap_px)
    xs = tile_starts(image.shape[1], tw, geometry.overlap_px)
    parts = tuple(image[y : y + th, x : x + tw] for y in ys for x in xs)
    return Layout(parts=parts, ys=ys, xs=xs, frame_size=frame.size, geometry=geometry)


def join(maps: Iterable[AnomalyMap], tiles: Tiles | Layout) -> AnomalyMap:
    """Join the tiles' maps into one map (H, W) float32 of the frame's size, blended where tiles overlap.

    Each tile weighs linearly less towards an edge that it shares, so no seam shows; a single tile is returned as it
    is. The result is a convex mean: joining the tiles of an image gives that image back.

    Args:
        maps: N maps (h, w) float32 in the order of the tiles: an array (N, h, w), or an iterator that makes each map
            when it is its turn, so that they need not all be in memory.
    """
    height, width = tiles.frame_size
    geometry = tiles.geometry
    if geometry.mode is GeometryMode.RESIZE:
        (only,) = maps
        return _enlarge(only, height, width)
    corners = [(i, j) for i in range(len(tiles.ys)) for j in range(len(tiles.xs))]
    if len(corners) == 1:
        (only,) = maps
        return only[:height, :width]
    wy = _edge_weights(tiles.ys, geometry.height)
    wx = _edge_weights(tiles.xs, geometry.width)
    out = np.zeros((tiles.ys[-1] + geometry.height, tiles.xs[-1] + geometry.width), np.float32)
    for (i, j), part in zip(corners, maps, strict=True):
        y, x = tiles.ys[i], tiles.xs[j]
        out[y : y + geometry.height, x : x + geometry.width] += part * (wy[i][:, None] * wx[j][None, :])
    return out[:height, :width]


def _edge_weights(starts: tuple[int, ...], tile: int) -> list[AnomalyMap]:
    """Per tile, weights along one axis that ramp over shared pixels and sum to one over all tiles."""
    ramps = []
    position = np.arange(tile, dtype=np.float64)
    for i, start in enumerate(starts):
        ramp = np.full(tile, np.inf)
        if i > 0:
            shared = starts[i - 1] + tile - start
            ramp = np.minimum(ramp, (position + 0.5) / max(shared, 0.5))
        if i + 1 < len(starts):
            shared = start + tile - starts[i + 1]
            ramp = np.minimum(ramp, (tile - position - 0.5) / max(shared, 0.5))
        ramps.append(np.minimum(ramp, 1.0))
    total = np.zeros(starts[-1] + tile)
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + tile] += ramp
    return [(ramp / total[start : start + tile]).astype(np.float32) for start, ramp in zip(starts, ramps, strict=True)]


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    """Shrink the axes that shrink by area averaging, then stretch the others linearly; neither aliases."""
    old_height, old_width = image.shape[:2]
    shrunk = (min(height, old_height), min(width, old_width))
    if shrunk != (old_height, old_width):
        image = np.asarray(cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    if shrunk != (height, width):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def _enlarge(anomaly_map: AnomalyMap, height: int, width: int) -> AnomalyMap:
    if anomaly_map.shape == (height, width):
        return anomaly_map
    return np.asarray(cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _mirror(image: Pixels, height: int, width: int) -> Pixels:
    """Extend at the bottom and the right by mirroring, as often as it takes."""
    rows = np.pad(np.arange(image.shape[0]), (0, height - image.shape[0]), mode="symmetric")
    columns = np.pad(np.arange(image.shape[1]), (0, width - image.shape[1]), mode="symmetric")
    return np.ascontiguousarray(image[rows][:, columns])
