"""Pixel metrics and pixel thresholds over any number of maps in a fixed amount of memory."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.image_files import read_mask
from zellige.core.roi import BACKGROUND, IGNORED, is_inspected
from zellige.core.types import AnomalyMap, Prediction
from zellige.evaluation import metrics

_DROPPED_BITS = 10
_NUM_BINS = 1 << (32 - _DROPPED_BITS)
"""2^22 bins: a float32 without its last 10 mantissa bits, so levels closer than 1.2e-4 of their value are tied."""

Mask = NDArray[np.bool_]


def read_defect_mask(prediction: Prediction) -> Mask | None:
    """Read the mask of a defective sample at its map's size, without what lies in declared ignore regions.

    None where there is no mask or nothing is left of it.

    Raises:
        InputError: an unreadable mask, or one of another size than the map.
    """
    drawn = _read_drawn(prediction)
    if drawn is None:
        return None
    mask = drawn & (prediction.anomaly_map != IGNORED)
    return mask if mask.any() else None


def is_defect_ignored(prediction: Prediction) -> bool:
    """Whether all that is drawn of a defect lies in declared ignore regions: then it was not to be found.

    A defect that an automatic foreground mask takes for background is not meant: nobody declared that.
    """
    if not prediction.sample.is_defective or not (prediction.anomaly_map == IGNORED).any():
        return False
    drawn = _read_drawn(prediction)
    if drawn is not None:
        return bool((prediction.anomaly_map[drawn] == IGNORED).all())
    boxes = [box.box_px for box in prediction.sample.boxes]
    windows = [np.s_[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] for x0, y0, x1, y1 in boxes]
    return bool(windows) and all(bool((prediction.anomaly_map[window] == IGNORED).all()) for window in windows)


def _read_drawn(prediction: Prediction) -> Mask | None:
    path = prediction.sample.mask_path
    if path is None:
        return None
    height, width = prediction.anomaly_map.shape
    mask = read_mask(path, (height, width))
    return mask if mask.any() else None


class PixelHistogram:
    """Counts of pixels per level of the anomaly map: 96 MiB, whether of 10 maps or of 10,000.

    Good pixels are those of good samples and those outside the mask of a defective one. A defective sample without
    a (non-empty) mask says nothing about pixels: it is left out and counted. Pixels that are not inspected
    (`core.roi`) are left out, but for those of a defect that was taken for background: they count as not found.

    Example:
        >>> h = PixelHistogram()
        >>> h.add(np.array([[0.1, 0.2], [0.3, 0.9]], np.float32), None)
        >>> round(h.good_quantile(0.75), 3)
        0.3
    """

    def __init__(self) -> None:
        self._good = np.zeros(_NUM_BINS, np.int64)
        self._defective = np.zeros(_NUM_BINS, np.int64)
        self._region_shares = np.zeros(_NUM_BINS, np.float64)
        self.num_regions = 0
        self.num_masks = 0
        self.num_left_out = 0

    def add_prediction(self, prediction: Prediction, mask: Mask | None) -> None:
        """Count one prediction's pixels; `mask` is what `read_defect_mask` gave."""
        if prediction.sample.is_defective and mask is None:
            self.num_left_out += 1
        else:
            self.add(prediction.anomaly_map, mask)

    def add(self, anomaly_map: AnomalyMap, mask: Mask | None) -> None:
        """Count the pixels of one map (H, W) float32, finite; `mask` (H, W) bool is true on defects, None if good."""
        bins = _to_bins(anomaly_map)
        if anomaly_map.min() > BACKGROUND:
            _count(self._good, bins.ravel() if mask is None else bins[~mask])
        else:
            inspected = is_inspected(anomaly_map)
            _count(self._good, bins[inspected if mask is None else inspected & ~mask])
        if mask is None:
            return
        self.num_masks += 1
        _count(self._defective, bins[mask])
        num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        self.num_regions += num_labels - 1
        shares = 1.0 / stats[:, cv2.CC_STAT_AREA].clip(1)
        np.add.at(self._region_shares, bins[mask], shares[labels[mask]])

    def good_quantile(self, fraction: float) -> float:
        """Give the lowest level that at most 1 - fraction of the good pixels exceed (upper edge of its bin).

        NaN where no good pixel was counted.
        """
        used = np.flatnonzero(self._good)
        if len(used) == 0:
            return math.nan
        up_to = np.cumsum(self._good[used])
        allowed = (1 - fraction) * up_to[-1]
        return _upper_edge(int(used[np.argmax(up_to[-1] - up_to <= allowed)]))

    def best_f1_threshold(self) -> float:
        """Give the threshold, halfway between two levels, that has the highest pixel F1; NaN without both classes."""
        levels, good, defective, _ = self._filled()
        best = metrics.f1_max(good, defective)
        if math.isnan(best.value):
            return math.nan
        if best.level == 0:
            return float(np.nextafter(np.float32(_lower_edge(int(levels[0]))), np.float32(-np.inf)))
        return (_upper_edge(int(levels[best.level - 1])) + _lower_edge(int(levels[best.level]))) / 2

    def compute_metrics(self, fpr_limit: float = 0.3) -> "PixelMetrics":
        """Compute the pixel metrics of everything counted so far; NaN where undefined."""
        _, good, defective, shares = self._filled()
        return PixelMetrics(
            auroc=metrics.auroc(good, defective),
            average_precision=metrics.average_precision(good, defective),
            aupro=metrics.aupro(good, shares, fpr_limit),
            num_masks=self.num_masks,
            num_regions=self.num_regions,
            num_left_out=self.num_left_out,
        )

    def _filled(self) -> tuple[NDArray[np.int64], metrics.Counts, metrics.Counts, metrics.Counts]:
        """Indices of the bins in use, ascending, and the three counts there."""
        used = np.flatnonzero((self._good > 0) | (self._defective > 0))
        return (
            used,
            self._good[used].astype(np.float64),
            self._defective[used].astype(np.float64),
            self._region_shares[used],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelMetrics:
    """How well the maps find the pixels of defects; NaN where undefined."""

    auroc: float
    average_precision: float
    aupro: float
    num_masks: int
    """Defective samples with a mask that is not empty."""
    num_regions: int
    num_left_out: int
    """Defective samples without such a mask: in none of these numbers."""


def _to_bins(anomaly_map: AnomalyMap) -> NDArray[np.uint32]:
    """Map float32 to bins so that the order stays: flip all bits of negatives, the sign bit of the others."""
    bits = np.ascontiguousarray(anomaly_map + np.float32(0)).view(np.uint32)  # + 0 turns -0.0 into 0.0
    flip = np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return (bits ^ flip) >> np.uint32(_DROPPED_BITS)


def _lower_edge(index: int) -> float:
    return _from_key(index << _DROPPED_BITS)


def _upper_edge(index: int) -> float:
    """The largest float32 of the bin."""
    return _from_key(((index + 1) << _DROPPED_BITS) - 1)


def _from_key(key: int) -> float:
    bits = key ^ (0x80000000 if key >> 31 else 0xFFFFFFFF)
    return float(np.array(bits, np.uint32).view(np.float32))


def _count(histogram: NDArray[np.int64], bins: NDArray[np.uint32]) -> None:
    if bins.size == 0:
        return
    low = int(bins.min())
    counts = np.bincount(bins - np.uint32(low))
    histogram[low : low + len(counts)] += counts
