"""A segmenter: a probability of a defect per pixel, and which kind it is, learned from masks.

A feature pyramid (Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144) on a
pretrained backbone, with separable convolutions and group norms (Wu, He, arXiv:1803.08494), which do not see the batch.
The loss joins cross-entropy and Dice (Milletari et al., "V-Net", 3DV 2016, arXiv:1606.04797), which keeps thin and rare
defects from being outweighed by good pixels.

Shapes: B tiles, H x W px, K kinds; a grid h x w at the stride of the finest stage.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.detector import KindTargets, NamedOutput
from zellige.models.kind_names import check_kinds, name_kinds
from zellige.models.tuned_backbone import TunedBackbone

_GROUPS = 8
_FIRST_LOGIT = -2.2
"""Of a defect before the fit: a tenth of all pixels. Source of the idea: Lin et al., arXiv:1708.02002, section 3.3."""


class Segmenter(nn.Module):
    """A backbone that is tuned, a feature pyramid, and a head for defects and one for their kinds."""

    learns_outlines: Literal[True] = True
    """Boxes without masks teach it where nothing ends."""

    def __init__(
        self,
        *,
        kinds: Sequence[str] = (),
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (1, 2, 3, 4),
        frozen_stages: int = 2,
        width: int = 64,
        top_share: float = 0.001,
        least_confidence: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing yet.

        Args:
            kinds: names of the kinds of defects; empty is one kind without a name.
            backbone, stages, frozen_stages: see `TunedBackbone`; the map has the stride of the finest stage.
            width: channels of the pyramid, a multiple of 8.
            top_share: share of the map's places whose mean is the score.
            least_confidence: a kind that has less of the probability is not said.
            seed: of the first weights.

        Raises:
            ConfigError: a setting out of range; see `TunedBackbone` too.
            InputError: see `TunedBackbone`.
        """
        super().__init__()
        if not (_GROUPS <= width <= 1024 and width % _GROUPS == 0):
            raise ConfigError(f"width: expected a multiple of {_GROUPS}, at most 1024, got {width}")
        if not 0 < top_share <= 1:
            raise ConfigError(f"top_share: expected a number in (0, 1], got {top_share}")
        self.kinds = check_kinds(kinds, least_confidence)
        self.top_share, self.least_confidence = top_share, least_confidence
        self.backbone = TunedBackbone(backbone, stages, frozen_stages)
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in self.backbone.num_channels)
        self.smooth = nn.ModuleList(_separable(width) for _ in self.backbone.num_channels)
        self.last = _separable(width)
        self.defect_head = nn.Conv2d(width, 1, 1)
        self.kind_head = nn.Conv2d(width, max(1, len(self.kinds)), 1).requires_grad_(len(self.kinds) > 1)
        self._begin(torch.Generator().manual_seed(seed))

    def _begin(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for module in (*self.lateral, *self.smooth, self.last):
                for layer in module.modules():
                    if isinstance(layer, nn.Conv2d):
                        nn.init.kaiming_normal_(layer.weight, generator=generator)
                        if layer.bias is not None:
                            layer.bias.zero_()
            for head, bias in ((self.defect_head, _FIRST_LOGIT), (self.kind_head, 0.0)):
                assert head.bias is not None
                nn.init.normal_(head.weight, std=0.05, generator=generator)
                head.bias.fill_(bias)

    def objective(self) -> "SegmenterObjective":
        """Make the loss that this detector is fitted by."""
        return SegmenterObjective(self)

    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits of a defect (B, 1, h, w) and of the kinds (B, K, h, w) of uint8 images (B, C, H, W)."""
        maps = self.backbone(images)
        joined: Tensor | None = None
        for grid, lateral, smooth in zip(reversed(maps), reversed(self.lateral), reversed(self.smooth), strict=True):
            placed = lateral(grid)
            if joined is not None:
                placed = placed + F.interpolate(joined, size=placed.shape[-2:], mode="bilinear", align_corners=False)
            joined = smooth(placed)
        features = self.last(joined)
        return self.defect_head(features), self.kind_head(features)

    def top(self, defect: Tensor) -> Tensor:
        """Mean (B,) of the highest logits of a grid (B, 1, h, w)."""
        count = max(1, round(self.top_share * defect.shape[-2] * defect.shape[-1]))
        return defect.flatten(1).topk(count).values.mean(1)

    def forward(self, images: Tensor) -> NamedOutput:
        """Score uint8 images (B, C, H, W); the score is the probability at the top of the map."""
        defect, kinds = self.judge(images)
        size = list(images.shape[-2:])
        probability = defect.sigmoid()
        numbers = name_kinds(kinds, probability, self.least_confidence)
        return NamedOutput(
            anomaly_map=F.interpolate(probability, size=size, mode="bilinear", align_corners=False),
            score=self.top(defect).sigmoid(),
            kind_map=F.interpolate(numbers.float(), size=size, mode="nearest").to(torch.uint8),
        )


class SegmenterObjective(nn.Module):
    """Cross-entropy and Dice of the pixels, cross-entropy of the kinds and of the score.

    Tiles without a mask teach the score and the kind alone. While it does not learn, kinds do not count: the loss on
    VAL says when to stop, and that of the names rises, as they are said ever more surely, while defects are still found
    better from epoch to epoch.
    """

    def __init__(self, detector: Segmenter) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, truth: KindTargets, seed: int) -> Tensor:
        """Scalar loss of uint8 images (B, C, H, W); nothing in it is random."""
        defect, kinds = self.detector.judge(images)
        defect, kinds = defect.float(), kinds.float()
        size = list(images.shape[-2:])
        large, kinds_large = (
            F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in (defect, kinds)
        )
        is_known, is_defective = truth.kind >= 0, truth.kind > 0
        right = F.binary_cross_entropy_with_logits(self.detector.top(defect), is_defective.float(), reduction="none")
        loss = pixel_loss(large[:, 0], truth.kind_masks > 0, truth.has_mask) + _mean_where(right, is_known)
        if self.training and kinds.shape[1] > 1:
            loss = loss + kind_loss(kinds_large, truth.kind_masks, truth.has_mask)
            # As a region is named: by what most of the map says.
            weights = defect.detach().sigmoid()
            pooled = (weights * kinds).sum((2, 3)) / weights.sum((2, 3)).clamp(min=1e-6)
            named = F.cross_entropy(pooled, (truth.kind - 1).clamp(min=0), reduction="none")
            loss = loss + _mean_where(named, is_defective)
        return loss


def pixel_loss(logits: Tensor, masks: Tensor, has_mask: Tensor) -> Tensor:
    """Cross-entropy and Dice of logits (B, H, W) against masks bool where `has_mask` (B,) says that they are known.

    Dice is of the tiles that show a defect: of one without it is 1 whatever is found, and a batch of such tiles would
    count as a bad one.
    """
    known = has_mask.view(-1, 1, 1).expand_as(masks)
    target = masks.float()
    crossed = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    shows = (has_mask & masks.flatten(1).any(1)).view(-1, 1, 1)
    found = logits.sigmoid() * shows
    dice = 1 - (2 * (found * target).sum() + 1) / (found.sum() + (target * shows).sum() + 1)
    return _mean_where(crossed, known) + dice


def kind_loss(kind_logits: Tensor, kind_masks: Tensor, has_mask: Tensor) -> Tensor:
    """Cross-entropy of (B, K, H, W) on the defective pixels, each defective tile with a mask weighing the same."""
    masks = kind_masks.long()
    crossed = F.cross_entropy(kind_logits, (masks - 1).clamp(min=0), reduction="none")
    counted = (masks > 0) & has_mask.view(-1, 1, 1)
    areas = counted.sum((1, 2))
    return _mean_where((crossed * counted).sum((1, 2)) / areas.clamp(min=1), areas > 0)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _separable(width: int) -> nn.Sequential:
    """A 3 x 3 convolution per channel and one across channels, normalized."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(_GROUPS, width),
        nn.ReLU(),
    )
