"""Found defects as labels that a person may correct: a box each, and an outline where the map shows a region."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.types import AnomalyMap, Defect
from zellige.data.annotations import AnnotatedDefect, Polygon

MOST_PROPOSED = 100
"""Most labels for one image, the worst defects: a person would rather draw anew than look through more."""
_TOLERANCE_PX = 1.0
"""How far an outline may lie from its region, so that it has few corners to drag."""


def propose(defects: Sequence[Defect], anomaly_map: AnomalyMap, pixel_threshold: float) -> tuple[AnnotatedDefect, ...]:
    """Turn the defects of one image into labels, holes filled.

    Args:
        defects: the worst first.
        anomaly_map: (H, W) float32 that they were found in.
        pixel_threshold: level above which a pixel belongs to a region.
    """
    labels = []
    for defect in defects[:MOST_PROPOSED]:
        x0, y0, x1, y1 = defect.box_px
        region = _region_of(defect, np.ascontiguousarray(anomaly_map[y0:y1, x0:x1] > pixel_threshold))
        polygons = () if region is None else (outline(region, x0, y0),)
        labels.append(
            AnnotatedDefect(kind=defect.kind, box=(float(x0), float(y0), float(x1), float(y1)), polygons=polygons)
        )
    return tuple(labels)


def outline(region: NDArray[np.uint8], left: int = 0, top: int = 0) -> Polygon:
    """Draw a polygon around a connected region (h, w), not 0 inside; its first pixel is at (left, top) of the image.

    It runs a quarter of a pixel inside the region's edge, so that pixels that touch at a corner hang together.
    """
    enlarged = cv2.resize(region, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    exact = (contours[0].astype(np.float32) + 0.5) / 2
    simple = cv2.approxPolyDP(exact, _TOLERANCE_PX, True)
    # A thin region would collapse to a line.
    is_kept = len(simple) > 2 and cv2.contourArea(simple) > 0.5 * cv2.contourArea(exact)
    corners = np.asarray(simple if is_kept else exact, np.float64)[:, 0, :]
    return tuple((float(x + left), float(y + top)) for x, y in corners)


def _region_of(defect: Defect, above: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """The one region of the window that has the defect's area and fills its box; None where the map has no such."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    for label, found in enumerate(stats[1:].tolist(), start=1):
        if found == [0, 0, above.shape[1], above.shape[0], defect.area_px]:
            return np.asarray(labels == label, np.uint8)
    return None
