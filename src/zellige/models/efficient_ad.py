"""EfficientAD: where a small student that saw good pieces alone cannot follow its teacher, there is a defect.

Batzner, Heckler, König: "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024,
arXiv:2303.14535. Kept: the loss on the hardest features, the penalty on images that are not the product, the
autoencoder and the student's second half that follows it, the light that is changed for both, and the joining of the
maps by quantiles of good images that were not learned from. Deviations, as there is no ImageNet and time for minutes:

- the teacher is the frozen backbone itself, one map per stage; the paper distils a net of four convolutions from a
  WideResNet-101 on ImageNet first. The student keeps to plain convolutions and sees less than the teacher;
- the penalty is taken on dead leaves (see dead_leaves.py), the paper's on ImageNet;
- the autoencoder's narrowest grid has one place per 32 px, the paper's one for the whole image of fixed size;
- the student's second half follows the autoencoder, and the autoencoder does not follow the student;
- it learns from the hardest tenth of the differences, the paper from the hardest thousandth over 70,000 steps, and the
  autoencoder's map weighs a tenth, in the paper half: after minutes it has learned little;
- of a normalized map 0.1 (M - q_a) / (q_b - q_a) the constant is left out: no order changes and no value is negative;
- an image's score is the mean of its worst patches, as that of every patch-wise detector here; the paper's is the peak.

Shapes: B tiles, C channels, H x W px; S stages of the teacher, each a grid of h x w patches with D features.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.dead_leaves import dead_leaves
from zellige.models.detector import DetectorOutput, Features, Targets
from zellige.models.efficient_ad_nets import Autoencoder, FeatureScale, Student, begin
from zellige.models.patch_features import PatchFeatures
from zellige.models.patch_scores import PatchScores

_LEAST_SPREAD = 1e-2
_MOST_SPREADS = 8.0
_LOW_QUANTILE, _HIGH_QUANTILE = 0.9, 0.995
"""q_a and q_b of the paper."""
_HIGH_IS = 0.1
"""What the paper's normalized maps are at q_b, above what they are at q_a."""
_LEAST_RANGE = 1e-4
_LIGHT = 0.2
"""Largest relative change of brightness, contrast or saturation."""
_LEAST_SIDE, _MOST_SIDE = 32, 256
"""px of a picture that the penalty is taken on: half the tile's side within these bounds."""

Gaps = tuple[Tensor, Tensor]
"""Mean squared differences (B, 1, h, w) of a stage: student to teacher, student's second half to autoencoder."""


class EfficientAd(nn.Module):
    """A frozen teacher, a student and an autoencoder."""

    low: Tensor
    high: Tensor

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (2, 3),
        grid_stride: int = 8,
        top_share: float = 0.01,
        smoothing_patches: float = 1.0,
        width: int = 64,
        latent: int = 16,
        hard_quantile: float = 0.9,
        autoencoder_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing yet.

        Args:
            backbone, stages, grid_stride: of the teacher; see `PatchFeatures`.
            top_share, smoothing_patches: how patches become a score and a map; see `PatchScores`.
            width: channels of student and autoencoder.
            latent: numbers for each 32 x 32 px that the autoencoder draws from.
            hard_quantile: the student learns from differences at or above this quantile of all; 0 is all of them.
            autoencoder_share: weight of the autoencoder's map, from 0 to 1; the teacher's has the rest.
            seed: of the first weights.

        Raises:
            ConfigError: a number out of range; see `PatchFeatures` and `PatchScores` too.
        """
        super().__init__()
        for name, value in (("width", width), ("latent", latent)):
            if not 1 <= value <= 1024:
                raise ConfigError(f"{name}: expected 1 to 1024, got {value}")
        if not 0 <= hard_quantile < 1:
            raise ConfigError(f"hard_quantile: expected a number in [0, 1), got {hard_quantile}")
        if not 0 <= autoencoder_share <= 1:
            raise ConfigError(f"autoencoder_share: expected a number from 0 to 1, got {autoencoder_share}")
        self.patches = PatchFeatures(backbone, stages, grid_stride)
        self.pool = PatchScores(top_share, smoothing_patches)
        self.hard_quantile = hard_quantile
        self.autoencoder_share = autoencoder_share
        channels = self.patches.num_channels
        strides = [max(stride, grid_stride) for stride in self.patches.backbone.strides]
        self.scales = nn.ModuleList(FeatureScale(d, _MOST_SPREADS) for d in channels)
        self.student = Student(strides, channels, width)
        self.autoencoder = Autoencoder(strides, channels, width, latent)
        self.register_buffer("low", torch.zeros(len(channels), 2))
        self.register_buffer("high", torch.ones(len(channels), 2))
        generator = torch.Generator().manual_seed(seed)
        begin(self.student, generator)
        begin(self.autoencoder, generator)

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into what never changes: the pixels (B, H, W, C) and the teacher's stages."""
        return (images.permute(0, 2, 3, 1).float(), *self.patches(images))

    def measure(self, features: Iterable[Features]) -> None:
        """Take center and spread of each of the teacher's channels over all patches of the good images.

        Raises:
            InputError: no batch came.
        """
        count = [0] * len(self.scales)
        total, square = ([torch.zeros((), dtype=torch.float64) for _ in self.scales] for _ in range(2))
        for _, *stages in features:
            for index, stage in enumerate(stages):
                vectors = stage.flatten(0, 2).double()
                count[index] += len(vectors)
                total[index] = total[index].to(vectors.device) + vectors.sum(0)
                square[index] = square[index].to(vectors.device) + vectors.square().sum(0)
        if not count[0]:
            raise InputError("fit: expected at least one good training image, got none")
        for index, scale in enumerate(self.scales):
            center = total[index] / count[index]
            variance = square[index] / count[index] - center.square()
            scale.center = center.float()
            scale.spread = variance.clamp(min=_LEAST_SPREAD**2).sqrt().float()

    def objective(self) -> "EfficientAdObjective":
        """Make the loss that this detector is fitted by."""
        return EfficientAdObjective(self)

    def settle(self, features: Iterable[Features]) -> None:
        """Take the quantiles that make the maps comparable from good images that were not learned from.

        Raises:
            InputError: no batch came.
        """
        seen: list[list[Gaps]] = []
        for pixels, *stages in features:
            seen.append(self.gaps(pixels.permute(0, 3, 1, 2), self.scaled(stages)))
        if not seen:
            raise InputError("fit: expected at least one good image in VAL, got none")
        for stage in range(len(self.scales)):
            for part in (0, 1):
                values = torch.cat([gaps[stage][part].flatten() for gaps in seen]).cpu().numpy()
                low, high = np.quantile(values, (_LOW_QUANTILE, _HIGH_QUANTILE))
                self.low[stage, part], self.high[stage, part] = float(low), float(high)

    def scaled(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Turn the teacher's stages (B, h, w, D) into (B, D, h, w) in units of what good patches show."""
        return [scale(stage) for scale, stage in zip(self.scales, stages, strict=True)]

    def gaps(self, images: Tensor, wanted: Sequence[Tensor]) -> list[Gaps]:
        """Say for each stage how far the student is from teacher and autoencoder.

        Args:
            images: (B, C, H, W), gray levels from 0 to 255.
            wanted: what the teacher says of them, scaled.
        """
        pixels = self.patches.backbone.scale(images)
        guessed, drawn = self.student(pixels), self.autoencoder(pixels)
        return [
            (_distance(of_teacher, teacher), _distance(of_autoencoder, autoencoder))
            for (of_teacher, of_autoencoder), teacher, autoencoder in zip(guessed, wanted, drawn, strict=True)
        ]

    def joined(self, gaps: Sequence[Gaps]) -> list[Tensor]:
        """Join the two gaps of each stage into one (B, 1, h, w), each in units of its quantiles' distance."""
        units, share = _HIGH_IS / (self.high - self.low).clamp(min=_LEAST_RANGE), self.autoencoder_share
        return [
            (1 - share) * unit[0] * teacher + share * unit[1] * drawn
            for (teacher, drawn), unit in zip(gaps, units, strict=True)
        ]

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        return self.score_features(self.embed(images), images.shape[-2:])

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage."""
        return self.patches.num_channels

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them; with it this is `forward`."""
        pixels, *stages = features
        gaps = self.gaps(pixels.permute(0, 3, 1, 2), self.scaled(stages))
        output: DetectorOutput = self.pool(self.joined(gaps), size)
        return output


class EfficientAdObjective(nn.Module):
    """Lets the student follow the teacher where that is hardest, and the autoencoder; only good tiles teach.

    While training, light is changed for the autoencoder and what follows it; otherwise the loss is taken of the tiles
    as they are.
    """

    def __init__(self, detector: EfficientAd) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: Features, targets: Targets, seed: int) -> Tensor:
        """Return the loss, the mean over the stages; `seed` decides the changes of light and the dead leaves."""
        detector, generator = self.detector, torch.Generator().manual_seed(seed)
        pixels, *stages = (part[~targets.is_defective] for part in features)
        if not len(pixels):
            return sum((w.sum() for w in detector.parameters() if w.requires_grad), pixels.new_zeros(())) * 0
        images, wanted = pixels.permute(0, 3, 1, 2), detector.scaled(stages)
        seen, wanted_there = images, wanted
        if self.training:
            seen = in_other_light(images, generator)
            with torch.no_grad():
                wanted_there = detector.scaled(detector.patches(seen))
        scale, count = detector.patches.backbone.scale, len(images)
        height, width = (min(max(side // 2, _LEAST_SIDE), _MOST_SIDE) for side in images.shape[-2:])
        leaves = dead_leaves(count, images.shape[1], height, width, generator=generator).to(images.device)
        guessed = detector.student(scale(torch.cat([images, seen]) if self.training else images))
        drawn, of_leaves = detector.autoencoder(scale(seen)), detector.student(scale(leaves))
        losses = []
        for stage, (of_teacher, of_autoencoder) in enumerate(guessed):
            hard = hard_loss(of_teacher[:count] - wanted[stage], detector.hard_quantile)
            penalty = of_leaves[stage][0].square().mean()
            to_teacher = (drawn[stage] - wanted_there[stage]).square().mean()
            to_drawn = (of_autoencoder[-count:] - drawn[stage].detach()).square().mean()
            losses.append(hard + penalty + to_teacher + to_drawn)
        return torch.stack(losses).mean()


def hard_loss(differences: Tensor, quantile: float) -> Tensor:
    """Mean of the squared differences that are at or above their quantile, interpolated as numpy does.

    Source: arXiv:2303.14535, section 3.2.
    """
    squares = differences.square().flatten()
    hardest = len(squares) - math.ceil(quantile * (len(squares) - 1))
    return squares.topk(hardest).values.mean()


def in_other_light(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast or saturation of each image (B, C, H, W) by a factor from 0.8 to 1.2.

    A gray image has no saturation and stays as it is where that was drawn.

    Source: arXiv:2303.14535, algorithm 1.
    """
    shape = (len(images), 1, 1, 1)
    factor = (1 - _LIGHT + 2 * _LIGHT * torch.rand(shape, generator=generator)).to(images.device)
    kind = torch.randint(3, shape, generator=generator).to(images.device)
    contrast, saturation = images.mean((1, 2, 3), keepdim=True), images.mean(1, keepdim=True)
    fixed = torch.where(kind == 1, contrast, torch.where(kind == 2, saturation, 0.0))
    return (fixed + factor * (images - fixed)).clamp(0, 255)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().mean(1, keepdim=True)
