"""Task-aligned assignment: which places of the net's grids answer for which true box, and how sure they should be.

Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, arXiv:2108.07755, section 3.2: a place answers
for a box if it is among the few that at present both name it and outline it best; it should be as sure as its box is
good. So one rule chooses the level too, and no size ranges have to be set. Deviation: a box that is narrower than two
places of the finest grid counts as that wide when places are looked for, as a thin scratch may lie between all of them.

Shapes: B tiles, M true boxes of each (rows of 0 fill up), A places of all grids, K kinds.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zellige.models.boxes import pairwise_iou

NUM_PLACES = 10
"""Most places that answer for one box."""
_KIND_POWER, _BOX_POWER = 1.0, 6.0
_LEAST_IOU = 1e-3


class Assigned(NamedTuple):
    """What the net should have said: `certainty` (B, A, K) in [0, 1], and `boxes` (B, A, 4) where any is above 0."""

    certainty: Tensor
    boxes: Tensor


@torch.no_grad()
def assign(probabilities: Tensor, boxes: Tensor, centers: Tensor, truth: Tensor, finest: float) -> Assigned:
    """Give each true box its places.

    Args:
        probabilities: (B, A, K) that the net says now.
        boxes: (B, A, 4), px, that the net draws now.
        centers: (A, 2), x and y of each place, px.
        truth: (B, M, 5): x0, y0, x1, y1, px, and the number of the kind from 1; 0 in rows that fill up.
        finest: px between places of the finest grid.
    """
    true_boxes, kinds = truth[..., :4], truth[..., 4].long()
    iou = pairwise_iou(true_boxes, boxes)  # (B, M, A)
    alignment = _alignment(probabilities, iou, kinds) * _candidates(true_boxes, kinds, centers, finest)
    best, index = alignment.topk(min(NUM_PLACES, alignment.shape[-1]), dim=-1)
    chosen = torch.zeros_like(alignment).scatter_(-1, index, (best > 0).float())
    # A place that several boxes chose answers for the one that it overlaps most.
    owner = (iou + _LEAST_IOU).mul(chosen).argmax(dim=1, keepdim=True)  # (B, 1, A)
    chosen = chosen * torch.zeros_like(chosen).scatter_(1, owner, 1.0)
    alignment = alignment * chosen
    # The best aligned place of a box should be as sure as the best box drawn for it is good.
    top = alignment.amax(-1, keepdim=True).clamp(min=torch.finfo(alignment.dtype).tiny)
    certainty = (alignment / top * (iou * chosen).amax(-1, keepdim=True)).sum(1)  # (B, A)
    owner = owner[:, 0]
    kind = kinds.gather(1, owner).sub(1).clamp(min=0)
    named = F.one_hot(kind, probabilities.shape[-1]).to(certainty.dtype) * certainty[..., None]
    return Assigned(certainty=named, boxes=true_boxes.gather(1, owner[..., None].expand(-1, -1, 4)))


def _alignment(probabilities: Tensor, iou: Tensor, kinds: Tensor) -> Tensor:
    """How well each place names and outlines each box: (B, M, A), above 0."""
    index = (kinds - 1).clamp(min=0)[..., None].expand(-1, -1, probabilities.shape[1])
    named = probabilities.transpose(1, 2).gather(1, index)
    return named.pow(_KIND_POWER) * iou.clamp(min=_LEAST_IOU).pow(_BOX_POWER)


def _candidates(boxes: Tensor, kinds: Tensor, centers: Tensor, finest: float) -> Tensor:
    """Whether a place lies in a true box: bool (B, M, A)."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=finest)
    away = (centers - middle[:, :, None]).abs()  # (B, M, A, 2)
    return (away < half[:, :, None]).all(-1) & (kinds > 0)[..., None]
