"""Geometry of boxes as tensors: how much they overlap, and which of several that overlap are kept.

Shapes: B tiles, N or M boxes of each; a box is x0, y0, x1, y1 in px of the tile.
"""

import torch
from torch import Tensor

_ROUNDS = 24
_TINY = 1e-7


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap of all pairs of boxes (B, N, 4) and (B, M, 4), as intersection over union in [0, 1]: (B, N, M)."""
    a, b = first[:, :, None], second[:, None]
    shared = _shared(a, b)
    union = _area(a) + _area(b) - shared
    return shared / union.clamp(min=_TINY)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap of boxes (..., 4) with those of the same place in the other tensor, in (-1, 1]: (...).

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, arXiv:1902.09630, algorithm 1.
    """
    shared = _shared(first, second)
    union = (_area(first) + _area(second) - shared).clamp(min=_TINY)
    around = torch.cat(
        [torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])], dim=-1
    )
    hull = _area(around).clamp(min=_TINY)
    return shared / union - (hull - union) / hull


def keep_best(boxes: Tensor, overlap: float) -> Tensor:
    """Say which boxes (B, N, 4), ranked best first, stay when each removes those behind it that overlap it by more.

    This is greedy non-maximum suppression without a loop over boxes, so that it can be exported: a box stays if no
    better box that stays removes it. Repeating that sentence from "all stay" settles the first boxes first; after k
    rounds every box is right whose chain of removals is shorter than k. Longer chains than the 24 rounds done here were
    not met; their boxes would be kept or dropped by the parity of the chain.

    Returns:
        float32 (B, N), 1 where a box stays and 0 elsewhere.

    Source: Zheng et al., "Enhancing Geometric Factors in Model Learning and Inference for Object Detection and Instance
    Segmentation", IEEE Trans. Cybernetics 2022, arXiv:2005.03572, algorithm 2 (Cluster-NMS).
    """
    count = boxes.shape[1]
    better = torch.ones((count, count), dtype=torch.float32, device=boxes.device).triu(1)
    removes = (pairwise_iou(boxes, boxes) > overlap).float() * better
    stays = torch.ones_like(boxes[:, None, :, 0])
    for _ in range(min(_ROUNDS, count)):
        stays = (torch.matmul(stays, removes) < 0.5).float()
    return stays[:, 0]


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Area that boxes (..., 4) share."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    sides = (high - low).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def _area(boxes: Tensor) -> Tensor:
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]
