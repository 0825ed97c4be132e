"""SuperSimpleNet: tell good patch features from noisy ones, and from real defects where they are labelled.

Rolih, Fucka, Skocaj: "SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface
Defect Detection", ICPR 2024, arXiv:2408.03143. Deviations, for a small backbone on a CPU:

- features are centered and scaled per channel before the adaptor, which begins as the identity; the paper's layers
  hold batch norms instead, which depend on the other images of a batch;
- the synthetic mask is where Perlin noise is highest, with a share drawn up to a quarter, so that none is empty; the
  paper cuts at a fixed level;
- the score head sees the map and the features, but its loss does not change them; the paper lets it where labels exist;
- heads are narrower, and the grid is the finest stage's own, where the paper doubles it.

Shapes: B tiles, H x W px; a grid h x w of patches with D features each, from all stages.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.detector import DetectorOutput, Features, Targets
from zellige.models.patch_features import PatchFeatures
from zellige.models.patch_scores import gaussian_kernel, smoothed
from zellige.models.perlin import perlin_masks

_MARGIN = 0.5
_FOCUS = 4.0
_LEAST_SPREAD = 1e-2
_MOST_SPREADS = 8.0
_SLOPE = 0.2
_LITTLE = 1e-3


class SuperSimpleNet(nn.Module):
    """A frozen backbone, a linear adaptor, a head for the map and a head for the score."""

    center: Tensor
    spread: Tensor
    blur: Tensor

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (2, 3),
        grid_stride: int = 8,
        hidden: int = 256,
        score_channels: int = 32,
        noise: float = 1.0,
        smoothing_patches: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing yet.

        Args:
            backbone, stages, grid_stride: see `PatchFeatures`; coarser stages are enlarged onto the finest one's grid.
            hidden: width of the map's head.
            score_channels: channels of the score's head.
            noise: standard deviation of the synthetic anomalies, in spreads of the good features.
            smoothing_patches: sigma of the Gaussian over the map, in patches; 0 is none.
            seed: of the first weights.

        Raises:
            ConfigError: a number out of range; see `PatchFeatures` too.
        """
        super().__init__()
        for name, value in (("hidden", hidden), ("score_channels", score_channels)):
            if not 1 <= value <= 4096:
                raise ConfigError(f"{name}: expected 1 to 4096, got {value}")
        if not 0 < noise <= 100:
            raise ConfigError(f"noise: expected a number above 0, at most 100, got {noise}")
        if not 0 <= smoothing_patches <= 16:
            raise ConfigError(f"smoothing_patches: expected 0 to 16, got {smoothing_patches}")
        self.embed_patches = PatchFeatures(backbone, stages, grid_stride)
        self.noise = noise
        width = sum(self.embed_patches.num_channels)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("blur", gaussian_kernel(smoothing_patches), persistent=False)
        self.adaptor = nn.Conv2d(width, width, 1)
        self.map_head = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.LeakyReLU(_SLOPE), nn.Conv2d(hidden, 1, 1))
        self.score_head = ScoreHead(width, score_channels)
        self._begin(torch.Generator().manual_seed(seed))

    def _begin(self, generator: torch.Generator) -> None:
        """Set the first weights: the adaptor changes nothing, the score is the map's peak."""
        with torch.no_grad():
            nn.init.dirac_(self.adaptor.weight)
            first, _, last = self.map_head
            assert isinstance(first, nn.Conv2d)
            assert isinstance(last, nn.Conv2d)
            nn.init.kaiming_normal_(first.weight, a=_SLOPE, generator=generator)
            # Small, so that it is learning that decides of what lies far from all that was learned from.
            nn.init.normal_(last.weight, std=_LITTLE, generator=generator)
            self.score_head.begin(generator)
            for module in (self.adaptor, first, last, self.score_head.context, self.score_head.join):
                assert module.bias is not None
                module.bias.zero_()

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into the frozen backbone's patch features, one grid per stage."""
        features: Features = self.embed_patches(images)
        return features

    def measure(self, features: Iterable[Features]) -> None:
        """Take each channel's center and spread over all patches of the good images.

        Raises:
            InputError: no batch came.
        """
        count, total, square = 0, torch.zeros(()), torch.zeros(())
        for batch in features:
            patches = _joined(batch).double()
            count += patches.shape[0] * patches.shape[2] * patches.shape[3]
            total = total.to(patches.device) + patches.sum((0, 2, 3))
            square = square.to(patches.device) + patches.square().sum((0, 2, 3))
        if count == 0:
            raise InputError("fit: expected at least one good training image, got none")
        center = total / count
        self.center = center.float()
        self.spread = (square / count - center.square()).clamp(min=_LEAST_SPREAD**2).sqrt().float()

    def objective(self) -> "SuperSimpleNetObjective":
        """Make the loss that this detector is fitted by."""
        return SuperSimpleNetObjective(self)

    def adapt(self, features: Features) -> Tensor:
        """Bring features of all stages onto one grid, in units of their spread, and adapt them: (B, D, h, w)."""
        patches = (_joined(features) - self.center.view(1, -1, 1, 1)) / self.spread.view(1, -1, 1, 1)
        adapted: Tensor = self.adaptor(patches.clamp(-_MOST_SPREADS, _MOST_SPREADS))
        return adapted

    def judge(self, adapted: Tensor) -> tuple[Tensor, Tensor]:
        """Give the logits of a map (B, 1, h, w) and of scores (B,) from adapted features (B, D, h, w)."""
        logits: Tensor = self.map_head(adapted)
        score: Tensor = self.score_head(adapted.detach(), logits.detach())
        return logits, score

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        return self.score_features(self.embed(images), images.shape[-2:])

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage."""
        return self.embed_patches.num_channels

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them; with it this is `forward`.

        Softplus keeps the order of the logits and their distances above zero, and makes map and score positive, as
        those of every detector are: thresholds and relative differences need no sign.
        """
        logits, score = self.judge(self.adapt(features))
        smooth = F.softplus(smoothed(logits, self.blur))
        return DetectorOutput(
            anomaly_map=F.interpolate(smooth, size=list(size), mode="bilinear", align_corners=False),
            score=F.softplus(score),
        )


class ScoreHead(nn.Module):
    """One score per tile from its features and its map, each pooled by maximum and mean."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.context = nn.Conv2d(width + 1, channels, 5, padding=2)
        self.join = nn.Linear(2 * channels + 2, 1)

    def begin(self, generator: torch.Generator) -> None:
        """Begin as the maximum of the map, with little of anything else."""
        nn.init.kaiming_normal_(self.context.weight, generator=generator)
        nn.init.normal_(self.join.weight, std=_LITTLE, generator=generator)
        self.join.weight[0, 0] = 1.0

    def forward(self, adapted: Tensor, logits: Tensor) -> Tensor:
        """Scores (B,) from features (B, D, h, w) and map logits (B, 1, h, w)."""
        context = self.context(torch.cat([adapted, logits], dim=1)).relu()
        pooled = [part(grid) for grid in (logits, context) for part in (_peak, _mean)]
        score: Tensor = self.join(torch.cat(pooled, dim=1))[:, 0]
        return score


class SuperSimpleNetObjective(nn.Module):
    """Adds synthetic anomalies to good features and tells them, and the labelled defects, from the good patches.

    Each tile is seen twice, as it is and with noise where a Perlin mask is and no real defect. The loss of the map is
    taken where the mask is known; a tile of which only the label is known counts once, for the score.
    """

    def __init__(self, detector: SuperSimpleNet) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: Features, targets: Targets, seed: int) -> Tensor:
        """Return the mean loss of B tiles; `seed` decides where the anomalies are and what they are."""
        generator = torch.Generator().manual_seed(seed)
        adapted = self.detector.adapt(features)
        count, _, height, width = adapted.shape
        device = adapted.device
        real = masks_on_grid(targets.masks, height, width)
        synthetic = perlin_masks(count, height, width, generator=generator).to(device) & ~real
        noise = torch.randn(adapted.shape, generator=generator).to(device) * self.detector.noise
        logits, scores = self.detector.judge(torch.cat([adapted, adapted + noise * synthetic]))
        masks = torch.cat([real, real | synthetic])
        is_defective = torch.cat([targets.is_defective, torch.ones_like(targets.is_defective)])
        is_judged = torch.cat([torch.ones_like(targets.has_mask), targets.has_mask])
        has_mask = targets.has_mask.repeat(2)
        return map_loss(logits, masks, has_mask) + score_loss(scores, is_defective, is_judged)


def masks_on_grid(masks: Tensor, height: int, width: int) -> Tensor:
    """Bring masks (B, 1, H, W) bool onto a grid (B, 1, h, w): a patch is defective where any of its pixels is."""
    return F.adaptive_max_pool2d(masks.float(), (height, width)) > 0


def map_loss(logits: Tensor, masks: Tensor, has_mask: Tensor) -> Tensor:
    """Truncated L1 and focal loss of map logits where a tile's mask, both (B, 1, h, w), is known, `has_mask` (B,).

    The truncated L1 pushes good patches below -0.5 and defective ones above 0.5, good and defective weighing the same.

    Source: the loss of arXiv:2408.03143.
    """
    known = has_mask.view(-1, 1, 1, 1)
    gap = torch.where(masks, _MARGIN - logits, _MARGIN + logits).relu()
    truncated = _mean_where(gap, known & masks) + _mean_where(gap, known & ~masks)
    return truncated + _mean_where(focal(logits, masks), known.expand_as(masks))


def score_loss(scores: Tensor, is_defective: Tensor, is_judged: Tensor) -> Tensor:
    """Focal loss of score logits (B,) over the tiles that `is_judged` (B,) names."""
    return _mean_where(focal(scores, is_defective), is_judged)


def focal(logits: Tensor, is_defective: Tensor) -> Tensor:
    """Focal loss of each logit, focus 4, both classes weighing the same.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, equation 4.
    """
    wrong = torch.where(is_defective, -logits, logits)
    return torch.sigmoid(wrong).pow(_FOCUS) * F.softplus(wrong)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _joined(features: Features) -> Tensor:
    """Bring features (B, h_i, w_i, D_i) of all stages onto the finest one's grid: (B, D, h, w)."""
    grids = [stage.permute(0, 3, 1, 2) for stage in features]
    size = grids[0].shape[-2:]
    placed = [grids[0]]
    placed += [F.interpolate(grid, size=size, mode="bilinear", align_corners=False) for grid in grids[1:]]
    return torch.cat(placed, dim=1)


def _peak(grid: Tensor) -> Tensor:
    return grid.amax((2, 3))


def _mean(grid: Tensor) -> Tensor:
    return grid.mean((2, 3))
