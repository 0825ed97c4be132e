"""A head that draws boxes without anchors, its loss, and the step from its raw output to boxes that are kept.

Each place of a grid says how surely it sees each kind and how far the four sides of the box are: Tian et al., "FCOS:
Fully Convolutional One-Stage Object Detection", ICCV 2019, arXiv:1904.01355. There is no other head that is as simple
and as cheap on a CPU: no anchors to choose for each product, two small convolutions for all levels, and all that
follows is a sort and a matrix of overlaps. What is done otherwise than in FCOS:

- places are assigned to boxes by `box_assignment` (TOOD), so that no size ranges per level have to be set;
- no branch for center-ness: the probability of the kind is trained to be the overlap of the box, by the quality focal
  loss of Li et al., "Generalized Focal Loss", NeurIPS 2020, arXiv:2006.04388, equation 2;
- kinds and sides share their convolutions, as both are small;
- boxes of all kinds suppress each other: one fault has one name.

Shapes: B tiles of H x W px, K kinds, A places of all grids, N boxes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.box_assignment import assign
from zellige.models.boxes import generalized_iou, keep_best
from zellige.models.detector import BoxOutput, KindTargets
from zellige.models.feature_pyramid import begin, conv_norm
from zellige.models.kind_names import check_kinds

NUM_BOXES = 100
"""Rows of `BoxOutput.boxes`."""

_NUM_CANDIDATES = 500
_LEAST_SCORE = 0.01
_FIRST_PROBABILITY = 0.01
_FIRST_SIDE = 3.0
_MOST_LOG_SIDE = 6.0
_FOCUS = 2.0
_BOX_WEIGHT = 2.0
_BEHIND_ALL = -1e4


class Places(NamedTuple):
    """What the head says of each place; the grids follow each other, the finest first, each row by row.

    `logits` (B, A, K); `boxes` (B, A, 4) in px, not clipped; `centers` (A, 2), x and y in px; `grids` (h, w) of each.
    """

    logits: Tensor
    boxes: Tensor
    centers: Tensor
    grids: tuple[tuple[int, int], ...]


class BoxHead(nn.Module):
    """The same convolutions over every level of a pyramid, with a scale of its own for each level."""

    def __init__(self, *, num_kinds: int, width: int, depth: int, strides: Sequence[int]) -> None:
        """Make a head.

        Args:
            num_kinds: K.
            width: channels of the levels and of the head.
            depth: 3 x 3 convolutions before the last one.
            strides: px between the places of each level, the finest first.
        """
        super().__init__()
        self.strides = tuple(strides)
        self.tower = nn.Sequential(*(conv_norm(width, width) for _ in range(depth)))
        self.kinds = nn.Conv2d(width, num_kinds, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(self.strides)))

    def begin(self, generator: torch.Generator) -> None:
        """Draw the first weights: every place is sure of nothing and draws a box of six strides."""
        begin(self, generator)
        with torch.no_grad():
            for last in (self.kinds, self.sides):
                nn.init.normal_(last.weight, std=0.01, generator=generator)
            assert self.kinds.bias is not None
            self.kinds.bias.fill_(math.log(_FIRST_PROBABILITY / (1 - _FIRST_PROBABILITY)))

    def forward(self, levels: Sequence[Tensor]) -> Places:
        """Look at levels (B, width, h_i, w_i), the finest first."""
        logits, boxes, centers, grids = [], [], [], []
        for number, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            features = self.tower(level)
            height, width = int(level.shape[-2]), int(level.shape[-1])
            # In full precision whatever the net runs in: half has steps of a pixel beyond 256.
            center = _centers(height, width, stride, level.device)  # (h * w, 2)
            raw = self.sides(features).float().flatten(2).transpose(1, 2)  # (B, h * w, 4)
            log_sides = (raw * self.scales[number]).clamp(-_MOST_LOG_SIDE, _MOST_LOG_SIDE)
            sides = log_sides.exp() * (_FIRST_SIDE * stride)
            logits.append(self.kinds(features).float().flatten(2).transpose(1, 2))
            boxes.append(torch.cat([center - sides[..., :2], center + sides[..., 2:]], dim=-1))
            centers.append(center)
            grids.append((height, width))
        return Places(torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(centers), tuple(grids))


class LooksAtPlaces(Protocol):
    """A detector that ends in a `BoxHead`; `finest` is the stride of its finest level."""

    finest: int

    def look(self, images: Tensor) -> Places:
        """Look at uint8 images (B, C, H, W)."""
        ...


class BoxObjective(nn.Module):
    """What a fit of a detector with a `BoxHead` makes small: the kinds' quality focal loss and the boxes' GIoU loss.

    Tiles whose boxes nobody knows do not count.
    """

    def __init__(self, detector: LooksAtPlaces) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, truth: KindTargets, seed: int) -> Tensor:
        """Return the loss of uint8 images (B, C, H, W) per certain place; nothing in it is random, so no `seed`."""
        places = self.detector.look(images)
        boxes = truth.boxes * truth.has_boxes[:, None, None]
        goal = assign(places.logits.sigmoid(), places.boxes, places.centers, boxes, self.detector.finest)
        counts = truth.has_boxes[:, None, None].to(places.logits.dtype)
        total = goal.certainty.sum().clamp(min=1.0)
        kinds = (quality_focal(places.logits, goal.certainty) * counts).sum()
        sides = (1 - generalized_iou(places.boxes, goal.boxes)) * goal.certainty.sum(-1)
        return (kinds + _BOX_WEIGHT * sides.sum()) / total


def quality_focal(logits: Tensor, certainty: Tensor) -> Tensor:
    """Loss of each logit that should mean a certainty in [0, 1]; both of any one shape, which is the result's."""
    entropy = F.binary_cross_entropy_with_logits(logits, certainty, reduction="none")
    return (certainty - logits.sigmoid()).abs().pow(_FOCUS) * entropy


def to_output(places: Places, size: tuple[int, int], overlap: float) -> BoxOutput:
    """Turn what a head says of a tile of `size` (H, W) px into its map and its kept boxes.

    Of boxes that overlap by more than `overlap` the best is kept, whatever their kinds.
    """
    logits, kind = places.logits.max(-1)  # (B, A)
    top, index = logits.topk(min(_NUM_CANDIDATES, logits.shape[1]), dim=1)
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32, device=logits.device)
    drawn = places.boxes.gather(1, index[..., None].expand(-1, -1, 4)).clamp(min=0).minimum(limit)
    score = top.sigmoid()
    is_kept = (keep_best(drawn, overlap) > 0.5) & (score >= _LEAST_SCORE)
    number = (kind.gather(1, index) + 1).to(score.dtype)
    rows = torch.cat([drawn, score[..., None], number[..., None]], dim=-1) * is_kept[..., None]
    # Ranked by logits: probabilities near 1 are equal more often, and the runtimes break ties differently.
    count = min(NUM_BOXES, rows.shape[1])
    order = torch.where(is_kept, top, _BEHIND_ALL).topk(count, dim=1).indices
    rows = F.pad(rows.gather(1, order[..., None].expand(-1, -1, 6)), (0, 0, 0, NUM_BOXES - count))
    return BoxOutput(anomaly_map=_map(logits.sigmoid(), places.grids, size), score=rows[:, 0, 4], boxes=rows)


def check_box_settings(kinds: Sequence[str], *, width: int, depth: int, overlap: float) -> tuple[str, ...]:
    """Check what every detector with a `BoxHead` takes, and return the kinds.

    Raises:
        ConfigError: a name of a kind that cannot be, or a number out of range.
    """
    if not 16 <= width <= 1024 or width % 16:
        raise ConfigError(f"model.width: expected a multiple of 16 from 16 to 1024, got {width}")
    if not 1 <= depth <= 8:
        raise ConfigError(f"model.depth: expected 1 to 8, got {depth}")
    if not 0 < overlap < 1:
        raise ConfigError(f"model.overlap: expected a number between 0 and 1, got {overlap}")
    return check_kinds(kinds, 0.0)  # a box always has its likeliest kind


def _centers(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Middle of each place, row by row, x and y in px: (h * w, 2)."""
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) * stride,
        (torch.arange(width, device=device) + 0.5) * stride,
        indexing="ij",
    )
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _map(scores: Tensor, grids: Sequence[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """The highest probability at each pixel (B, 1, H, W), from that of each place (B, A) of all grids."""
    levels: list[Tensor] = []
    parts = torch.split(scores, [height * width for height, width in grids], dim=1)
    for part, grid in zip(parts, grids, strict=True):
        level = part.reshape(-1, 1, *grid)
        levels.append(level if not levels else F.interpolate(level, size=list(grids[0]), mode="nearest"))
    highest = levels[0]
    for level in levels[1:]:
        highest = torch.maximum(highest, level)
    return F.interpolate(highest, size=list(size), mode="bilinear", align_corners=False)
