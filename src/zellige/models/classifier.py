"""A classifier: of which kind an image is, or that it is good, learned from labels of whole images.

A pretrained backbone that is tuned, one hidden layer and one class layer at every place, and their mean over the image;
without a layer behind the mean, the class layer says where the evidence lies (Zhou et al., "Learning Deep Features for
Discriminative Localization", CVPR 2016, arXiv:1512.04150). Probabilities are brought to the error rates seen on VAL by
one temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599).

Shapes: B tiles, H x W px, K kinds; a grid h x w at the stride of the finest stage; N classes: good, where the training
data has any, and the kinds.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.detector import KindTargets, NamedOutput
from zellige.models.kind_names import check_kinds, name_kinds
from zellige.models.tuned_backbone import TunedBackbone

_TEMPERATURES = (1.0, 10.0)
"""Never below 1: a few images of VAL that are all right would make it as certain as it may be."""
_NO_CLASS = -1


class Classifier(nn.Module):
    """A backbone that is tuned and the evidence for each class at each place.

    Where it has learned without good images it cannot tell good ones: the score of every image is 1, and the map shows
    where the evidence for the named kind lies.
    """

    temperature: Tensor

    def __init__(
        self,
        *,
        kinds: Sequence[str] = (),
        has_good: bool = True,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (3, 4),
        frozen_stages: int = 2,
        hidden: int = 256,
        least_confidence: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing yet.

        Args:
            kinds: names of the kinds of defects; empty is one kind without a name.
            has_good: whether good is one of the classes; scripts/train.py sets it from the training split.
            backbone, stages, frozen_stages: see `TunedBackbone`; coarser stages are enlarged onto the finest grid.
            hidden: width of the hidden layer.
            least_confidence: a kind that is less probable is not said.
            seed: of the first weights.

        Raises:
            ConfigError: a setting out of range; see `TunedBackbone` too.
            InputError: see `TunedBackbone`.
        """
        super().__init__()
        if not 1 <= hidden <= 4096:
            raise ConfigError(f"hidden: expected 1 to 4096, got {hidden}")
        self.kinds = check_kinds(kinds, least_confidence)
        self.has_good, self.least_confidence = has_good, least_confidence
        self.backbone = TunedBackbone(backbone, stages, frozen_stages)
        self.hidden = nn.Conv2d(sum(self.backbone.num_channels), hidden, 1)
        self.classes = nn.Conv2d(hidden, max(1, len(self.kinds)) + has_good, 1)
        self.register_buffer("temperature", torch.ones(()))
        self._begin(torch.Generator().manual_seed(seed))

    def _begin(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            nn.init.kaiming_normal_(self.hidden.weight, generator=generator)
            nn.init.normal_(self.classes.weight, std=0.01, generator=generator)
            for layer in (self.hidden, self.classes):
                assert layer.bias is not None
                layer.bias.zero_()

    def objective(self) -> "ClassifierObjective":
        """Make the loss that this detector is fitted by."""
        return ClassifierObjective(self)

    def evidence(self, images: Tensor) -> Tensor:
        """Logits (B, N, h, w) of the classes at each place of uint8 images (B, C, H, W)."""
        first, *others = self.backbone(images)
        size = first.shape[-2:]
        placed = [F.interpolate(grid, size=size, mode="bilinear", align_corners=False) for grid in others]
        logits: Tensor = self.classes(self.hidden(torch.cat([first, *placed], dim=1)).relu())
        return logits

    def classes_of(self, truth: KindTargets) -> Tensor:
        """The class (B,) of each tile, -1 where it is none of them or nobody knows it."""
        return truth.kind if self.has_good else (truth.kind - 1).clamp(min=_NO_CLASS)

    def settle(self, batches: Iterable[tuple[Tensor, KindTargets]]) -> None:
        """Choose the temperature that makes the labels of images, which were not learned from, the most likely.

        Args:
            batches: uint8 images (B, C, H, W) and what is known of them; they are consumed once.

        Raises:
            InputError: no batch came.
        """
        seen = [(self.evidence(images).mean((2, 3)), self.classes_of(truth)) for images, truth in batches]
        if not seen:
            raise InputError("fit: expected at least one image in VAL, got none")
        logits, labels = (torch.cat(parts).cpu() for parts in zip(*seen, strict=True))
        if not (labels != _NO_CLASS).any():
            return
        choices = torch.linspace(*_TEMPERATURES, steps=181, dtype=torch.float64)
        losses = torch.stack(
            [
                F.cross_entropy(logits.double() / choice, labels, ignore_index=_NO_CLASS, reduction="sum")
                for choice in choices
            ]
        )
        self.temperature.copy_(choices[losses.argmin()])

    def forward(self, images: Tensor) -> NamedOutput:
        """Score uint8 images (B, C, H, W); the score is 1 - p(good), the kind is the same at every pixel."""
        evidence = self.evidence(images) / self.temperature
        pooled = evidence.mean((2, 3), keepdim=True)
        if self.has_good:
            places, is_defective = _defective(evidence), _defective(pooled)
            kinds = pooled[:, 1:]
        else:
            kinds, is_defective = pooled, torch.ones_like(pooled[:, :1])
            places = evidence.softmax(1).gather(1, pooled.argmax(1, keepdim=True).expand_as(evidence[:, :1]))
        size = list(images.shape[-2:])
        numbers = name_kinds(kinds, is_defective, self.least_confidence)
        return NamedOutput(
            anomaly_map=F.interpolate(places, size=size, mode="bilinear", align_corners=False),
            score=is_defective[:, 0, 0, 0],
            kind_map=numbers.expand(-1, -1, *size).contiguous(),
        )


class ClassifierObjective(nn.Module):
    """Cross-entropy of the classes."""

    def __init__(self, detector: Classifier) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, truth: KindTargets, seed: int) -> Tensor:
        """Scalar loss of uint8 images (B, C, H, W); nothing in it is random."""
        logits, labels = self.detector.evidence(images).mean((2, 3)).float(), self.detector.classes_of(truth)
        total = F.cross_entropy(logits, labels, ignore_index=_NO_CLASS, reduction="sum")
        return total / (labels != _NO_CLASS).sum().clamp(min=1)


def _defective(logits: Tensor) -> Tensor:
    """Probability (B, 1, h, w) of any kind, from logits (B, 1 + K, h, w) of good and the kinds."""
    return (logits[:, 1:].logsumexp(1, keepdim=True) - logits[:, :1]).sigmoid()
