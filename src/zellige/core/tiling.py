"""From a frame to the net's tiles and back: one declared geometry for training, evaluation and the station."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.registration import Shift, place_template
from zellige.core.roi import Roi, fill, find_roi, hide
from zellige.core.types import AnomalyMap, Frame, Geometry, GeometryMode, Pixels

KindNumbers = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """The tiles of one frame: `pixels` uint8 (N, C, h, w), row by row over a grid; `ys` and `xs` are its edges, px.

    `roi` is what of the frame is inspected; tiles without a pixel of it are left out. None: there is a tile at every
    place of the grid. Of a frame with a template they are (N, 2 C, h, w), the image's channels first; `shift` is how
    far the template was moved to lie on the image, None where it was not registered.
    """

    pixels: Pixels
    ys: tuple[int, ...]
    xs: tuple[int, ...]
    frame_size: tuple[int, int]
    geometry: Geometry
    roi: Roi | None = None
    shift: Shift | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where the tiles of one frame lie, before any is copied: for large frames, whose tiles are run a few at a time.

    `whole` is the frame as the net sees it, filled where it is not inspected, resized or mirrored up to a tile; `parts`
    are views (h, w) or (h, w, 3) of it. `template_whole` and `template_parts` are the same of its template, None and
    none without one. The rest is as in `Tiles`.
    """

    whole: Pixels
    parts: tuple[Pixels, ...]
    ys: tuple[int, ...]
    xs: tuple[int, ...]
    frame_size: tuple[int, int]
    geometry: Geometry
    roi: Roi | None = None
    template_whole: Pixels | None = None
    template_parts: tuple[Pixels, ...] = ()
    shift: Shift | None = None

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """Row and column, px, of each tile's first pixel, in the order of `parts`."""
        return tile_corners(self)

    def stack(self, start: int, stop: int) -> Pixels:
        """Copy the tiles from `start` up to `stop` into the net's order, uint8 (N, C or 2 C, h, w)."""
        pictures = [picture[start:stop] for picture in (self.parts, self.template_parts) if picture]
        first = pictures[0][0]
        num_channels = 1 if first.ndim == 2 else 3
        pixels = np.empty((len(pictures[0]), num_channels * len(pictures), *first.shape[:2]), np.uint8)
        for number, parts in enumerate(pictures):
            channels = slice(number * num_channels, (number + 1) * num_channels)
            for tile, part in zip(pixels[:, channels], parts, strict=True):
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


def tile_corners(tiles: "Tiles | Layout") -> tuple[tuple[int, int], ...]:
    """Row and column, px of the frame, of each tile's first pixel, in the order of the tiles."""
    places = _places(tiles.ys, tiles.xs, tiles.geometry, tiles.roi)
    return tuple((tiles.ys[i], tiles.xs[j]) for i, j in places)


def cut(frame: Frame, geometry: Geometry, *, shift: Shift | None = None) -> Tiles:
    """Cut a frame into the net's input tiles, all of them at once.

    A resize averages over areas along an axis that shrinks and interpolates linearly along one that grows. Where a
    region of interest is declared, the rest of the frame is filled first (`core.roi.fill`). A template is registered
    as the geometry says, then treated as the frame is.

    Args:
        frame: the frame.
        geometry: how it is cut.
        shift: of its template, where it is known already; it is not searched then.

    Raises:
        InputError: tiles without `pad_small` and a frame smaller than a tile; a frame that does not fit the regions; a
            template that does not fit the frame (`core.registration.find_shift`).

    Example:
        >>> import numpy as np
        >>> f = Frame(pixels=np.zeros((300, 500), np.uint8), pixel_size=None, source_id="x")
        >>> g = Geometry(mode=GeometryMode.TILES, height=256, width=256, overlap_px=32)
        >>> cut(f, g).pixels.shape
        (6, 1, 256, 256)
    """
    layout = lay_out(frame, geometry, shift=shift)
    return Tiles(
        pixels=layout.stack(0, len(layout.parts)),
        ys=layout.ys,
        xs=layout.xs,
        frame_size=layout.frame_size,
        geometry=geometry,
        roi=layout.roi,
        shift=layout.shift,
    )


def cut_alike(image: Pixels, tiles: Tiles) -> Pixels:
    """Cut another picture of the same frame, such as a defect mask, as the tiles were; (N, C, h, w) uint8, C its own.

    Nothing in it is filled; `image` has the frame's size.
    """
    layout = _grid(image, tiles.geometry, tiles.roi)
    return layout.stack(0, len(layout.parts))


def seen_alike(image: Pixels, layout: Layout) -> Pixels:
    """Bring another picture of the same frame, such as a defect mask, to `layout.whole`'s size; nothing is filled."""
    return _grid(image, layout.geometry, layout.roi).whole


def lay_out(frame: Frame, geometry: Geometry, *, shift: Shift | None = None) -> Layout:
    """Lay the tiles of a frame out as `cut` does, without copying them.

    Raises:
        InputError: as `cut`.
    """
    th, tw = geometry.height, geometry.width
    height, width = frame.size
    is_small = geometry.mode is GeometryMode.TILES and (height < th or width < tw)
    if is_small and not geometry.pad_small:
        raise InputError(
            f"frame {frame.source_id}: expected at least one tile of {th} x {tw} px, got {height} x {width}; "
            "set geometry.pad_small=true or a smaller tile"
        )
    roi = find_roi(frame, geometry)
    pixels = frame.pixels if roi is None else fill(frame.pixels, roi.inspected)
    layout = _grid(pixels, geometry, roi)
    template, shift = place_template(frame, pixels, geometry, roi, shift)
    if template is None:
        return layout
    placed = _grid(template, geometry, roi)
    return replace(layout, template_whole=placed.whole, template_parts=placed.parts, shift=shift)


def _grid(image: Pixels, geometry: Geometry, roi: Roi | None) -> Layout:
    th, tw = geometry.height, geometry.width
    height, width = image.shape[:2]
    size = (height, width)
    if geometry.mode is GeometryMode.RESIZE:
        whole = _resize(image, th, tw)
        return Layout(whole=whole, parts=(whole,), ys=(0,), xs=(0,), frame_size=size, geometry=geometry, roi=roi)
    if height < th or width < tw:
        image = _mirror(image, max(th, height), max(tw, width))
    ys = tile_starts(image.shape[0], th, geometry.overlap_px)
    xs = tile_starts(image.shape[1], tw, geometry.overlap_px)
    parts = tuple(image[ys[i] : ys[i] + th, xs[j] : xs[j] + tw] for i, j in _places(ys, xs, geometry, roi))
    return Layout(whole=image, parts=parts, ys=ys, xs=xs, frame_size=size, geometry=geometry, roi=roi)


def _places(ys: tuple[int, ...], xs: tuple[int, ...], geometry: Geometry, roi: Roi | None) -> list[tuple[int, int]]:
    """Row and column in the grid of each tile that there is: those with a pixel to inspect."""
    places = [(i, j) for i in range(len(ys)) for j in range(len(xs))]
    if roi is None:
        return places
    th, tw = geometry.height, geometry.width
    return [(i, j) for i, j in places if roi.inspected[ys[i] : ys[i] + th, xs[j] : xs[j] + tw].any()]


def join(maps: Iterable[AnomalyMap], tiles: Tiles | Layout) -> AnomalyMap:
    """Join the tiles' maps into one map (H, W) float32 of the frame's size, blended where tiles overlap.

    Each tile weighs linearly less towards an edge that it shares, so no seam shows; a single tile is returned as it
    is. The result is a convex mean: joining the tiles of an image gives that image back, except where a region of
    interest is declared: outside it the map is at `core.roi.IGNORED` or `BACKGROUND`, below every threshold.

    Args:
        maps: N maps (h, w) float32 in the order of the tiles: an array (N, h, w), or an iterator that makes each map
            when it is its turn, so that they need not all be in memory.
    """
    height, width = tiles.frame_size
    geometry = tiles.geometry
    if geometry.mode is GeometryMode.RESIZE:
        (only,) = maps
        return _masked(_enlarge(only, height, width), tiles.roi)
    if len(tiles.ys) == len(tiles.xs) == 1:
        (only,) = maps
        return _masked(only[:height, :width], tiles.roi)
    wy = edge_weights(tiles.ys, geometry.height)
    wx = edge_weights(tiles.xs, geometry.width)
    out = np.zeros((tiles.ys[-1] + geometry.height, tiles.xs[-1] + geometry.width), np.float32)
    places = _places(tiles.ys, tiles.xs, geometry, tiles.roi)
    for (i, j), part in zip(places, maps, strict=True):
        y, x = tiles.ys[i], tiles.xs[j]
        out[y : y + geometry.height, x : x + geometry.width] += part * (wy[i][:, None] * wx[j][None, :])
    return _masked(out[:height, :width], tiles.roi)


def join_kind_maps(kind_maps: Iterable[KindNumbers], tiles: Tiles | Layout) -> KindNumbers:
    """Join the tiles' maps of kinds into one (H, W) uint8 of the frame's size; numbers cannot be blended.

    Where tiles overlap, the one that weighs most there wins (the first of equals); a resized map is enlarged by its
    nearest pixel; where nothing is inspected the number is 0.

    Args:
        kind_maps: N maps (h, w) uint8 in the order of the tiles.
    """
    height, width = tiles.frame_size
    geometry = tiles.geometry
    if geometry.mode is GeometryMode.RESIZE:
        (only,) = kind_maps
        rows, columns = (_nearest(new, old) for new, old in zip((height, width), only.shape, strict=True))
        return _without_hidden(only[rows][:, columns], tiles.roi)
    wy = edge_weights(tiles.ys, geometry.height)
    wx = edge_weights(tiles.xs, geometry.width)
    size = (tiles.ys[-1] + geometry.height, tiles.xs[-1] + geometry.width)
    out, highest = np.zeros(size, np.uint8), np.zeros(size, np.float32)
    for (i, j), part in zip(_places(tiles.ys, tiles.xs, geometry, tiles.roi), kind_maps, strict=True):
        window = np.s_[tiles.ys[i] : tiles.ys[i] + geometry.height, tiles.xs[j] : tiles.xs[j] + geometry.width]
        weight = wy[i][:, None] * wx[j][None, :]
        is_heavier = weight > highest[window]
        out[window][is_heavier] = part[is_heavier]
        highest[window][is_heavier] = weight[is_heavier]
    return _without_hidden(out[:height, :width], tiles.roi)


def _nearest(new: int, old: int) -> NDArray[np.int64]:
    """Index of the old pixel in which the center of each new one lies."""
    return np.asarray((2 * np.arange(new) + 1) * old // (2 * new), np.int64)


def _without_hidden(numbers: KindNumbers, roi: Roi | None) -> KindNumbers:
    return numbers if roi is None else np.where(roi.inspected, numbers, np.uint8(0))


def _masked(anomaly_map: AnomalyMap, roi: Roi | None) -> AnomalyMap:
    return anomaly_map if roi is None else hide(anomaly_map, roi)


def edge_weights(starts: tuple[int, ...], tile: int) -> list[AnomalyMap]:
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
