"""How far torch and ONNX Runtime agree on the named defects of one image."""

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.boxes import box_iou
from zellige.core.named import FoundBoxes, KindMap, Named
from zellige.core.regions import majority_kind
from zellige.core.types import AnomalyMap


def defects_iou(
    ours: Named, our_map: AnomalyMap, theirs: Named, their_map: AnomalyMap, *, threshold: float, slack: float
) -> float:
    """Lowest IoU over the defects of an image; 1 where neither side has one, 0 where one side alone does.

    Boxes are compared with the best of their kind on the other side. Regions are compared kind by kind, all pixels of
    the regions of a kind with those of the other side. What is nearer to the threshold than `slack` may be on either
    side of it, and says nothing.
    """
    if isinstance(ours, FoundBoxes) and isinstance(theirs, FoundBoxes):
        return min(_boxes_iou(ours, theirs, threshold, slack), _boxes_iou(theirs, ours, threshold, slack))
    if not (isinstance(ours, KindMap) and isinstance(theirs, KindMap)):
        return 0.0
    is_sure = abs(our_map - threshold) > slack
    first, second = (
        np.where(is_sure, region_numbers(anomaly_map, threshold, named), 0)
        for anomaly_map, named in ((our_map, ours), (their_map, theirs))
    )
    ious = [1.0]
    for number in np.union1d(np.unique(first), np.unique(second)):
        if number:
            a, b = first == number, second == number
            ious.append(float((a & b).sum() / (a | b).sum()))
    return min(ious)


def region_numbers(anomaly_map: AnomalyMap, threshold: float, kind_map: KindMap) -> NDArray[np.int64]:
    """The kind of each pixel's region as `core.regions.find_defects` names it, (H, W): 0 outside of regions.

    k is `kinds[k - 1]`; a region of an unknown kind has the number after the last.
    """
    above = (anomaly_map > threshold).view(np.uint8)
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    numbers = np.zeros(labels.shape, np.int64)
    for label in range(1, num_labels):
        x, y, w, h = (int(value) for value in stats[label, :4])
        window = (slice(y, y + h), slice(x, x + w))
        region = labels[window] == label
        kind = majority_kind(kind_map.numbers[window][region], anomaly_map[window][region])
        numbers[window][region] = kind or len(kind_map.kinds) + 1
    return numbers


def _boxes_iou(ours: FoundBoxes, theirs: FoundBoxes, threshold: float, slack: float) -> float:
    """Lowest IoU of one side's boxes that are surely above the threshold with the best of the other's."""
    first = ours.boxes[ours.boxes[:, 4] > threshold + slack].astype(np.float64)
    second = theirs.boxes[theirs.boxes[:, 4] > threshold - slack].astype(np.float64)
    if len(first) == 0:
        return 1.0
    if len(second) == 0:
        return 0.0
    iou = box_iou(first[:, :4], second[:, :4]) * (first[:, 5:] == second[:, 5][None])
    return float(iou.max(axis=1).min())
