"""From an anomaly map to defects: threshold, connected regions, sizes in px and, where calibrated, in mm."""

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.named import UNKNOWN_KIND, KindMap
from zellige.core.types import ANOMALY, AnomalyMap, Defect, PixelSize

Points = NDArray[np.float64]
MAX_DEFECTS = 1000
"""Most defects listed for one frame: the largest. A frame of noise has a million regions and must not stall a line."""


def find_defects(
    anomaly_map: AnomalyMap,
    *,
    pixel_threshold: float,
    min_area_px: float = 0.0,
    pixel_size: PixelSize | None = None,
    first_line: int = 0,
    kind_map: KindMap | None = None,
) -> tuple[Defect, ...]:
    """List the connected regions (8-neighborhood) where the map exceeds the threshold, the worst first.

    Where there are more than `MAX_DEFECTS`, only the largest so many are listed.

    Args:
        anomaly_map: (H, W) float32, higher = worse.
        pixel_threshold: a pixel belongs to a defect when its value is greater than this.
        min_area_px: regions with fewer pixels are dropped.
        pixel_size: mm per pixel; None leaves the mm fields of each defect None.
        first_line: absolute number of the map's first line on the web; shifts `box_mm` down-web.
        kind_map: of the same size; a region has the kind that most of its pixels have, weighted by the map, and
            `UNKNOWN_KIND` where that is none. Without it the kind is "anomaly".

    Example:
        >>> import numpy as np
        >>> m = np.zeros((8, 8), np.float32); m[2:4, 1:6] = 0.9
        >>> [(d.box_px, d.area_px) for d in find_defects(m, pixel_threshold=0.5)]
        [((1, 2, 6, 4), 10)]
    """
    above = (anomaly_map > pixel_threshold).view(np.uint8)
    if not above.any():
        return ()
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    # A minimum in mm2 divided by a pixel's area may come out a hair above the whole number it stands for.
    large = np.flatnonzero(areas >= min_area_px * (1 - 1e-9)) + 1
    if len(large) > MAX_DEFECTS:
        large = large[np.argsort(-stats[large, cv2.CC_STAT_AREA], kind="stable")[:MAX_DEFECTS]]
    defects = []
    for label in large:
        x, y, w, h, area = (int(v) for v in stats[label])
        window = (slice(y, y + h), slice(x, x + w))
        region = labels[window] == label
        peak = float(anomaly_map[window][region].max())
        kind = ANOMALY if kind_map is None else _kind_of(kind_map, window, region, anomaly_map[window])
        defects.append(_defect((x, y, x + w, y + h), area, region, peak, pixel_size, first_line, kind))
    return tuple(sorted(defects, key=lambda d: (-d.peak_score, d.box_px)))


def majority_kind(numbers: NDArray[np.uint8], weights: AnomalyMap) -> int:
    """Number of the kind with the greatest sum of weights, the lowest of equal ones; both (N,), N >= 1.

    Example:
        >>> majority_kind(np.array([2, 2, 1], np.uint8), np.array([0.3, 0.3, 0.5], np.float32))
        2
    """
    return int(np.bincount(numbers, weights=weights.astype(np.float64).clip(0)).argmax())


def _kind_of(kind_map: KindMap, window: tuple[slice, slice], region: NDArray[np.bool_], anomaly_map: AnomalyMap) -> str:
    number = majority_kind(kind_map.numbers[window][region], anomaly_map[region])
    return kind_map.kinds[number - 1] if number else UNKNOWN_KIND


def _defect(
    box_px: tuple[int, int, int, int],
    area_px: int,
    region: NDArray[np.bool_],
    peak_score: float,
    pixel_size: PixelSize | None,
    first_line: int,
    kind: str,
) -> Defect:
    length_px = region_length(region)
    if pixel_size is None:
        return Defect(box_px=box_px, area_px=area_px, length_px=length_px, peak_score=peak_score, kind=kind)
    sx, sy = pixel_size.cross_web_mm, pixel_size.down_web_mm
    x0, y0, x1, y1 = box_px
    return Defect(
        box_px=box_px,
        area_px=area_px,
        length_px=length_px,
        peak_score=peak_score,
        box_mm=(x0 * sx, (y0 + first_line) * sy, x1 * sx, (y1 + first_line) * sy),
        area_mm2=area_px * pixel_size.area_mm2,
        length_mm=region_length(region, pixel_size),
        kind=kind,
    )


def region_length(region: NDArray[np.bool_], pixel_size: PixelSize | None = None) -> float:
    """Return the longer side of the smallest rotated rectangle around a region, in px or (with a pixel size) in mm.

    Args:
        region: (h, w) bool, at least one pixel true.

    Example:
        >>> import numpy as np
        >>> region_length(np.ones((1, 7), bool))
        7.0
        >>> region_length(np.ones((1, 7), bool), PixelSize(cross_web_mm=0.5, down_web_mm=0.1))
        3.5
    """
    sx, sy = (1.0, 1.0) if pixel_size is None else (pixel_size.cross_web_mm, pixel_size.down_web_mm)
    return hull_length(convex_hull(outline_corners(region)) * (sx, sy))


def outline_corners(region: NDArray[np.bool_]) -> Points:
    """Corners of the pixels on a region's outline, (N, 2) float64 x, y in px; pixel (0, 0) covers 0 to 1.

    Example:
        >>> import numpy as np
        >>> sorted(set(map(tuple, outline_corners(np.ones((1, 1), bool)).tolist())))
        [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    """
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = np.concatenate(contours)[:, 0, :].astype(np.float64)
    # A pixel is a square, not a point: take the four corners of each outline pixel.
    return np.concatenate([outline + corner for corner in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))])


def convex_hull(points: Points) -> Points:
    """Convex hull (K, 2) of points (N, 2), in order around it. Exact for coordinates that float32 holds."""
    origin = points.min(axis=0)
    hull = cv2.convexHull((points - origin).astype(np.float32))
    return np.asarray(hull[:, 0, :] + origin, np.float64)


def hull_length(hull: Points) -> float:
    """Longer side of the smallest rotated rectangle around a convex hull (K, 2), in the hull's unit.

    Example:
        >>> import numpy as np
        >>> hull_length(convex_hull(np.array([[0, 0], [3, 4], [3.4, 3.7], [0.4, -0.3], [1.5, 2]])))
        5.0
    """
    hull = hull - hull.min(axis=0)
    # One side of the smallest rectangle lies on the hull. Rectangles of equal area may differ in length (a 2 x 4 box
    # and a slanted one around the same staircase): take the longest, so that rounding does not choose. That is why
    # this is not cv2.minAreaRect.
    along = np.roll(hull, -1, axis=0) - hull
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (-1.0, 1.0)
    sides = np.stack([np.ptp(hull @ along.T, axis=0), np.ptp(hull @ across.T, axis=0)])
    areas = sides.prod(axis=0)
    return round(float(sides.max(axis=0)[areas <= areas.min() * (1 + 1e-9)].max()), 6)
