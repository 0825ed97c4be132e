"""Sort defective samples by the size of their largest defect, in mm or, where uncalibrated, in px."""

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from zellige.core.errors import ConfigError
from zellige.core.regions import region_length
from zellige.core.types import GOOD, PixelSize, Sample
from zellige.evaluation.pixels import Mask

NO_MASK = "no mask"
"""The class of a defective sample whose size nobody drew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeClasses:
    """Classes by the length of the largest region of the mask; a length on a border is in the upper class.

    Example:
        >>> SizeClasses(edges_mm=(0.5, 2.0), edges_px=(30.0,)).names
        ('< 0.5 mm', '0.5 to 2 mm', '>= 2 mm', '< 30 px', '>= 30 px', 'no mask')
    """

    edges_mm: tuple[float, ...]
    edges_px: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("edges_mm", "edges_px"):
            edges = getattr(self, name)
            if not all(math.isfinite(edge) for edge in edges) or any(a >= b for a, b in pairwise((0.0, *edges))):
                raise ConfigError(f"size_{name}: expected ascending numbers above 0, got {list(edges)}")

    @property
    def names(self) -> tuple[str, ...]:
        """All classes of defective samples, the smallest first."""
        return (*_names(self.edges_mm, "mm"), *_names(self.edges_px, "px"), NO_MASK)

    def name_of(self, sample: Sample, mask: Mask | None) -> str:
        """Name the class of one sample; `mask` is (H, W) bool with a true pixel, or None."""
        if not sample.is_defective:
            return GOOD
        if mask is None:
            return NO_MASK
        edges, unit = (self.edges_px, "px") if sample.pixel_size is None else (self.edges_mm, "mm")
        length = largest_length(mask, sample.pixel_size)
        return _names(edges, unit)[int(np.searchsorted(edges, length, side="right"))]


def largest_length(mask: Mask, pixel_size: PixelSize | None = None) -> float:
    """Measure the longest of the mask's 8-connected regions (`core.regions.region_length`), in px or mm.

    Example:
        >>> mask = np.zeros((6, 9), bool); mask[1, 1:4] = True; mask[4, 2:8] = True
        >>> largest_length(mask)
        6.0
    """
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    boxes = (tuple(int(v) for v in stats[label, :4]) for label in range(1, num_labels))
    windows = ((labels[y : y + h, x : x + w], label) for label, (x, y, w, h) in enumerate(boxes, start=1))
    return max(region_length(window == label, pixel_size) for window, label in windows)


def _names(edges: tuple[float, ...], unit: str) -> tuple[str, ...]:
    if not edges:
        return (f"any size ({unit})",)
    between = (f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges))
    return (f"< {edges[0]:g} {unit}", *between, f">= {edges[-1]:g} {unit}")
