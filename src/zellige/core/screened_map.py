"""The map of a frame of which the net saw some tiles only: blended as ever where it saw, one low level elsewhere."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zellige.core.roi import hide
from zellige.core.tiling import Layout, edge_weights
from zellige.core.types import AnomalyMap

SCREENED = np.float32(-(2.0**101))
"""The map's level, and the score, where the net saw nothing: below every threshold, finite, exact in float32."""
_WHOLE = np.float32(1 - 1e-4)


def join_seen(maps: Mapping[int, AnomalyMap], layout: Layout) -> AnomalyMap:
    """Join the maps of some tiles into one map (H, W) float32 of the frame's size.

    Where all tiles over a pixel were seen, it has the value that `core.tiling.join` gives it, to the bit; where some
    were, the mean of these; where none was, `SCREENED`.

    Args:
        maps: (h, w) float32 by the tile's number in `layout`.
        layout: of the frame; tiles, not a resize.

    Example:
        >>> from zellige.core.tiling import lay_out
        >>> from zellige.core.types import Frame, Geometry, GeometryMode
        >>> frame = Frame(pixels=np.zeros((32, 64), np.uint8), pixel_size=None, source_id="f")
        >>> layout = lay_out(frame, Geometry(mode=GeometryMode.TILES, height=32, width=32))
        >>> m = join_seen({1: np.full((32, 32), 0.5, np.float32)}, layout)
        >>> bool(m[0, 31] == SCREENED), float(m[0, 32])
        (True, 0.5)
    """
    height, width = layout.geometry.height, layout.geometry.width
    wy, wx = edge_weights(layout.ys, height), edge_weights(layout.xs, width)
    size = (layout.ys[-1] + height, layout.xs[-1] + width)
    total, weight = np.zeros(size, np.float32), np.zeros(size, np.float32)
    corners = layout.corners
    for number in sorted(maps):
        y, x = corners[number]
        ramp = wy[layout.ys.index(y)][:, None] * wx[layout.xs.index(x)][None, :]
        window = (slice(y, y + height), slice(x, x + width))
        total[window] += maps[number] * ramp
        weight[window] += ramp
    for y, x in (corners[number] for number in maps):
        window = (slice(y, y + height), slice(x, x + width))
        shared = (weight[window] < _WHOLE) & (weight[window] > 0)
        total[window][shared] /= weight[window][shared]
        weight[window][shared] = 1
    total[weight == 0] = SCREENED
    rows, columns = layout.frame_size
    joined = total[:rows, :columns]
    return joined if layout.roi is None else hide(joined, layout.roi)


def reached_tiles(above: NDArray[np.bool_], number: int, layout: Layout) -> list[int]:
    """List the other tiles that a tile's regions reach: where these touch or overlap it.

    Args:
        above: (h, w) bool, where the map of tile `number` is above the pixel threshold.
        number: the tile's, in `layout`.
        layout: of the frame.
    """
    if not above.any():
        return []
    height, width = above.shape
    corners = layout.corners
    y, x = corners[number]
    found = []
    for other, (oy, ox) in enumerate(corners):
        # One pixel further than the other tile: regions are joined over corners too.
        rows = slice(max(0, oy - 1 - y), max(0, min(height, oy + height + 1 - y)))
        columns = slice(max(0, ox - 1 - x), max(0, min(width, ox + width + 1 - x)))
        if other != number and above[rows, columns].any():
            found.append(other)
    return found
