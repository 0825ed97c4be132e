"""How near a detector that names kinds was to another name, as far as its output tells.

Boxes: another kind's box at the same place, its score over the first one's. A map of kinds: within the largest region
above the pixel threshold, the share of the second kind over that of the first, pixels weighted by the map.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from zellige.models.detector import BoxOutput, DetectorOutput, NamedOutput

_SAME_PLACE = 0.5
"""Overlap (intersection over union) above which two boxes are of one defect."""


def kind_doubt(output: DetectorOutput, pixel_threshold: float) -> list[float]:
    """Doubt of the kind in each of B tiles, 0 (one name, or none at all) to 1 (two names alike)."""
    if isinstance(output, BoxOutput):
        return [_of_boxes(boxes, pixel_threshold) for boxes in output.boxes.cpu()]
    if isinstance(output, NamedOutput):
        maps, kinds = output.anomaly_map[:, 0].cpu(), output.kind_map[:, 0].cpu()
        return [_of_region(one, kind, pixel_threshold) for one, kind in zip(maps, kinds, strict=True)]
    return [0.0] * len(output.score)


def _of_boxes(boxes: Tensor, threshold: float) -> float:
    """The largest ratio of a box (N, 6) to a better one of another kind at its place, which is above the threshold."""
    boxes = boxes[boxes[:, 4] > 0]
    scores, kinds = boxes[:, 4], boxes[:, 5]
    is_rival = (box_iou(boxes[:, :4], boxes[:, :4]) > _SAME_PLACE) & (kinds[:, None] != kinds[None])
    is_rival &= (scores[:, None] > threshold) & (scores[None] <= scores[:, None])
    ratios = torch.where(is_rival, scores[None] / scores[:, None], 0.0)
    return float(ratios.max()) if len(boxes) else 0.0


def _of_region(anomaly_map: Tensor, kinds: Tensor, threshold: float) -> float:
    above = (anomaly_map > threshold).numpy().astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    if len(stats) < 2:
        return 0.0
    region = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    votes = np.bincount(kinds.numpy()[region], weights=anomaly_map.numpy()[region], minlength=2)
    second, first = np.sort(votes)[-2:]
    return float(second / first) if first > 0 else 0.0
