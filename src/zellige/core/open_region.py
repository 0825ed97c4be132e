"""A region of the endless web while it grows, and the record that it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.regions import Points, convex_hull, hull_length, outline_corners
from zellige.core.types import AnomalyMap, PixelSize


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDefect:
    """One defect of an endless web. The mm fields are None where the pixel size is unknown."""

    box_px: tuple[int, int, int, int]
    """x0, first line, x1, last line + 1: columns of the camera row and absolute lines."""
    area_px: int
    length_px: float
    """Longer side of the smallest rotated rectangle, px."""
    peak_score: float
    box_mm: tuple[float, float, float, float] | None = None
    """The same box in mm: across from column 0, along from the start of the web."""
    area_mm2: float | None = None
    length_mm: float | None = None
    kind: str = "anomaly"
    is_continuing: bool = False
    """Closed at the maximum length; the streak goes on in a further record."""
    is_continuation: bool = False
    """Goes on from a record that was closed at the maximum length."""
    is_cut: bool = False
    """The lines before or after it are missing: the defect may have been longer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenRegion:
    """What has been seen of a region so far. The mm fields are None where the pixel size is unknown."""

    box_px: tuple[int, int, int, int]
    area_px: int
    peak_score: float
    hull_px: Points
    """(K, 2) x and absolute line."""
    along_mm: tuple[float, float] | None
    """Start and end along the web."""
    area_mm2: float | None
    hull_mm: Points | None
    """Where the lines' borders are known: lines of unequal pitch. Else the hull in px is scaled, which is exact."""
    is_continuation: bool = False
    is_cut: bool = False
    votes: NDArray[np.float64] | None = None
    """(1 + K,) sum of the map over its pixels by number of the kind; None where the model names none."""

    @property
    def first_line(self) -> int:
        return self.box_px[1]


def measure(
    region: NDArray[np.bool_],
    anomaly_map: AnomalyMap,
    x: int,
    y: int,
    first_line: int,
    pixel_size: PixelSize | None,
    borders_mm: NDArray[np.float64] | None,
) -> OpenRegion:
    """Measure a region of a block of lines.

    Args:
        region: (h, w) bool, its pixels within a window of the block; some may be empty rows or columns.
        anomaly_map: (h, w) float32, the same window of the map.
        x: the window's first column.
        y: the window's first row in the block.
        first_line: absolute number of the block's first line.
        pixel_size: None leaves the mm fields None.
        borders_mm: (H + 1,) borders of the block's lines along the web; None takes lines x pixel size.
    """
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    corners = outline_corners(region)
    top = first_line + y
    box = (x + int(columns[0]), top + int(rows[0]), x + int(columns[-1]) + 1, top + int(rows[-1]) + 1)
    along, area_mm2, hull_mm = None, None, None
    if pixel_size is not None:
        height, across = len(region), pixel_size.cross_web_mm
        if borders_mm is None:
            borders = np.arange(top, top + height + 1) * pixel_size.down_web_mm
        else:
            borders = borders_mm[y : y + height + 1]
        along = (float(borders[rows[0]]), float(borders[rows[-1] + 1]))
        area_mm2 = float((region.sum(axis=1) * np.diff(borders)).sum() * across)
        if borders_mm is not None:
            line_mm = borders[corners[:, 1].astype(np.intp)]
            hull_mm = convex_hull(np.stack([(corners[:, 0] + x) * across, line_mm], axis=1))
    return OpenRegion(
        box_px=box,
        area_px=int(region.sum()),
        peak_score=float(anomaly_map[region].max()),
        hull_px=convex_hull(corners + np.array([x, top])),
        along_mm=along,
        area_mm2=area_mm2,
        hull_mm=hull_mm,
    )


def merge(parts: Sequence[OpenRegion], *, is_continuation: bool = False) -> OpenRegion:
    """Make one region of parts that touch; at least one, none of them empty."""
    boxes = np.array([part.box_px for part in parts])
    low, high = boxes.min(axis=0), boxes.max(axis=0)
    alongs = [part.along_mm for part in parts if part.along_mm is not None]
    areas = [part.area_mm2 for part in parts if part.area_mm2 is not None]
    hulls = [part.hull_mm for part in parts if part.hull_mm is not None]
    votes = [part.votes for part in parts if part.votes is not None]
    return OpenRegion(
        box_px=(int(low[0]), int(low[1]), int(high[2]), int(high[3])),
        area_px=sum(part.area_px for part in parts),
        peak_score=max(part.peak_score for part in parts),
        hull_px=_hull([part.hull_px for part in parts]),
        along_mm=(min(a[0] for a in alongs), max(a[1] for a in alongs)) if alongs else None,
        area_mm2=sum(areas) if areas else None,
        hull_mm=_hull(hulls) if hulls else None,
        is_continuation=is_continuation or any(part.is_continuation for part in parts),
        is_cut=any(part.is_cut for part in parts),
        votes=np.sum(votes, axis=0) if votes else None,
    )


def close(region: OpenRegion, pixel_size: PixelSize | None, *, is_continuing: bool, is_cut: bool) -> WebDefect:
    """Turn a region that has ended into its record."""
    x0, _, x1, _ = region.box_px
    box_mm, length_mm = None, None
    if pixel_size is not None and region.along_mm is not None:
        across, along = pixel_size.cross_web_mm, pixel_size.down_web_mm
        box_mm = (x0 * across, region.along_mm[0], x1 * across, region.along_mm[1])
        length_mm = hull_length(region.hull_px * (across, along) if region.hull_mm is None else region.hull_mm)
    return WebDefect(
        box_px=region.box_px,
        area_px=region.area_px,
        length_px=hull_length(region.hull_px),
        peak_score=region.peak_score,
        box_mm=box_mm,
        area_mm2=region.area_mm2,
        length_mm=length_mm,
        is_continuing=is_continuing,
        is_continuation=region.is_continuation,
        is_cut=is_cut or region.is_cut,
    )


def _hull(hulls: Sequence[Points]) -> Points:
    return hulls[0] if len(hulls) == 1 else convex_hull(np.concatenate(hulls))
