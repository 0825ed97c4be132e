"""Dinomaly: a decoder that rebuilds a transformer's tokens of good images, and fails where something is unusual.

Guo, Lu, Zhang, Chen, Li, Liao: "Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection",
CVPR 2025, arXiv:2405.14325. Deviations:

- four decoder blocks instead of eight, AdamW with this project's schedule instead of StableAdamW with a warm-up and
  clipped gradients, and the share of easy patches is the same from the first step on, not raised to it;
- class and register tokens are left out of the decoder, which sees patches alone;
- the map is smoothed on the grid of patches and the score is the mean of the worst patches, not of the worst pixels;
- any backbone whose stages share one grid will do. The default is one stage of a small convolutional net, as no
  transformer is installed with zellige; the paper has eight blocks of DINOv2 with registers, of size B.

Shapes: B tiles, H x W px; a grid h x w of patches, N = h w tokens with D features each; G groups of stages.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbones import FrozenBackbone
from zellige.models.detector import DetectorOutput, Features, Targets
from zellige.models.patch_scores import gaussian_kernel, smoothed

_HEAD = 64
"""Features per head of the attention, where the width allows it."""
_WIDER = 4
"""Hidden width of every MLP, in widths of the tokens."""
_INITIAL, _MOST_INITIAL = 0.01, 0.03
"""Standard deviation of the first weights, and where they are cut off."""
_EASY_SHARE, _EASY_GRADIENT = 0.9, 0.1
"""Share of the patches that are rebuilt best, and what is left of their gradient."""


class Dinomaly(nn.Module):
    """A frozen encoder, a noisy bottleneck, and a decoder that knows how good tokens go together."""

    blur: Tensor

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (3,),
        num_groups: int = 2,
        decoder_blocks: int = 4,
        dropout: float = 0.2,
        top_share: float = 0.01,
        smoothing_patches: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing yet.

        Args:
            backbone: see `FrozenBackbone`.
            stages: stages of one grid, such as blocks of a vision transformer; their mean is what the decoder is given.
            num_groups: into how many means of neighboring stages they are compared, at most; fewer is looser.
            decoder_blocks: depth of the decoder; its blocks are grouped alike, the last with the first stages.
            dropout: share of the bottleneck's numbers that are dropped while it learns.
            top_share: share of an image's patches whose mean distance is its score, in (0, 1].
            smoothing_patches: sigma of the Gaussian over the map, in patches; 0 is none.
            seed: of the first weights.

        Raises:
            ConfigError: a number out of range, or stages of several grids or widths; see `FrozenBackbone` too.
        """
        super().__init__()
        _check(num_groups, decoder_blocks, dropout, top_share, smoothing_patches)
        self.backbone = FrozenBackbone(backbone, stages)
        if len(set(self.backbone.strides)) > 1 or len(set(self.backbone.num_channels)) > 1:
            raise ConfigError(
                f"dinomaly: expected stages of one grid and width, such as blocks of a vision transformer or one stage "
                f"alone, got strides {self.backbone.strides} of {self.backbone.num_channels} channels"
            )
        self.dropout, self.top_share = dropout, top_share
        num_groups = min(num_groups, len(stages), decoder_blocks)
        self.stage_groups = split_evenly(len(stages), num_groups)
        self.decoder_groups = split_evenly(decoder_blocks, num_groups)
        width = self.backbone.num_channels[0]
        self.bottleneck = NoisyMlp(width)
        self.decoder = nn.ModuleList(DecoderBlock(width) for _ in range(decoder_blocks))
        self.register_buffer("blur", gaussian_kernel(smoothing_patches), persistent=False)
        self._begin(torch.Generator().manual_seed(seed))

    def _begin(self, generator: torch.Generator) -> None:
        for module in (*self.bottleneck.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(
                    module.weight, std=_INITIAL, a=-_MOST_INITIAL, b=_MOST_INITIAL, generator=generator
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into one mean (B, h, w, D) of frozen tokens per group of stages."""
        maps = self.backbone(images)
        return tuple(mean.permute(0, 2, 3, 1) for mean in means_of(maps, self.stage_groups))

    def measure(self, features: Iterable[Features]) -> None:
        """Look at the features once, which keeps them for the fit; there is nothing to measure.

        Raises:
            InputError: no batch came.
        """
        if sum(len(batch[0]) for batch in features) == 0:
            raise InputError("fit: expected at least one good training image, got none")

    def objective(self) -> "DinomalyObjective":
        """Make the loss that this detector is fitted by."""
        return DinomalyObjective(self)

    def rebuild(self, features: Features, generator: torch.Generator | None) -> list[Tensor]:
        """Rebuild the groups' means (B, h, w, D) from the mean of all stages; `generator` draws what is dropped."""
        sizes = [stop - start for start, stop in pairwise(self.stage_groups)]
        joined = torch.stack([group * size for group, size in zip(features, sizes, strict=True)]).sum(0) / sum(sizes)
        tokens = self.bottleneck(joined.flatten(1, 2), self.dropout, generator)  # (B, N, D)
        outputs: list[Tensor] = []
        for block in self.decoder:
            tokens = block(tokens)
            outputs.insert(0, tokens)
        return [mean.view(joined.shape) for mean in means_of(outputs, self.decoder_groups)]

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W); distances are 1 - cosine, from 0 to 2."""
        return self.score_features(self.embed(images), images.shape[-2:])

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage."""
        return self.backbone.num_channels[:1] * (len(self.stage_groups) - 1)

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them; with it this is `forward`."""
        rebuilt = self.rebuild(features, None)
        gaps = [distance(ours, theirs) for ours, theirs in zip(rebuilt, features, strict=True)]
        smooth = smoothed(torch.stack(gaps).mean(0).unsqueeze(1), self.blur)  # (B, 1, h, w)
        worst = max(1, round(self.top_share * smooth.shape[-2] * smooth.shape[-1]))
        return DetectorOutput(
            anomaly_map=F.interpolate(smooth, size=list(size), mode="bilinear", align_corners=False),
            score=smooth.flatten(1).topk(worst).values.mean(1),
        )


class NoisyMlp(nn.Module):
    """An MLP that drops some of its numbers while it learns, so that it cannot simply pass on what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, _WIDER * width)
        self.narrow = nn.Linear(_WIDER * width, width)

    def forward(self, tokens: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
        """Turn tokens (B, N, D) into others; nothing is dropped without a generator."""
        hidden = F.gelu(self.widen(dropped(tokens, share, generator)))
        return dropped(self.narrow(dropped(hidden, share, generator)), share, generator)


class DecoderBlock(nn.Module):
    """A transformer block whose attention is linear: it spreads over all patches and cannot single one out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = width // math.gcd(width, _HEAD)
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, _WIDER * width), nn.GELU(), nn.Linear(_WIDER * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, D) into others."""
        split = self.query_key_value(self.before_attention(tokens)).unflatten(2, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D / heads)
        spread = linear_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.join(spread)
        out: Tensor = tokens + self.mlp(self.before_mlp(tokens))
        return out


class DinomalyObjective(nn.Module):
    """How unlike the rebuilt groups are to the frozen ones, good tiles alone; easy patches hardly pull any more."""

    def __init__(self, detector: Dinomaly) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: Features, targets: Targets, seed: int) -> Tensor:
        """Return the mean loss of the good ones of B tiles, 0 without any; `seed` decides what is dropped."""
        generator = torch.Generator().manual_seed(seed) if self.training else None
        good = tuple(group[~targets.is_defective] for group in features)
        rebuilt = self.detector.rebuild(good, generator)
        losses = [loose_loss(ours, theirs) for ours, theirs in zip(rebuilt, good, strict=True)]
        return torch.stack(losses).mean()


def loose_loss(rebuilt: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of whole tiles (B, h, w, D), averaged; the patches rebuilt best pass on little of their gradient.

    Source: the loose loss of arXiv:2405.14325, with the share and the factor of its code.
    """
    gaps = distance(rebuilt, wanted).detach()
    num_hard = round(gaps.numel() * (1 - _EASY_SHARE)) or min(1, gaps.numel())
    hardest = gaps.flatten().topk(num_hard).values
    pull = torch.where(gaps < hardest[-1], _EASY_GRADIENT, 1.0).unsqueeze(3) if num_hard else torch.ones(())
    fixed = rebuilt.detach()
    eased = fixed + pull * (rebuilt - fixed)  # the same numbers, with another gradient
    unlike = 1 - F.cosine_similarity(eased.flatten(1), wanted.flatten(1))
    return unlike.sum() / max(1, len(unlike))


def distance(rebuilt: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of each patch's features (B, h, w, D): (B, h, w), from 0 to 2."""
    return (1 - F.cosine_similarity(rebuilt, wanted, dim=3)).clamp(min=0)


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention whose weights are products of elu(x) + 1 instead of a softmax; all (B, heads, N, D / heads).

    Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020, arXiv:2006.16236, equations 5 and 7.
    """
    query, key = F.elu(query) + 1, F.elu(key) + 1
    total = query @ key.sum(2).unsqueeze(3)  # (B, heads, N, 1)
    return query @ (key.transpose(2, 3) @ value) / total


def dropped(values: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Set a share of the values to 0 and enlarge the others to keep the mean; all are kept without a generator."""
    if generator is None or share == 0:
        return values
    kept = torch.rand(values.shape, generator=generator).to(values.device) >= share
    return values * kept / (1 - share)


def split_evenly(count: int, parts: int) -> list[int]:
    """Borders of `parts` runs of numbers below `count` whose lengths differ by one at most.

    Example:
        >>> split_evenly(8, 2), split_evenly(5, 2)
        ([0, 4, 8], [0, 2, 5])
    """
    return [part * count // parts for part in range(parts + 1)]


def means_of(maps: Sequence[Tensor], borders: Sequence[int]) -> list[Tensor]:
    """Mean of each run of maps of one shape."""
    return [torch.stack(list(maps[start:stop])).mean(0) for start, stop in pairwise(borders)]


def _check(num_groups: int, decoder_blocks: int, dropout: float, top_share: float, smoothing_patches: float) -> None:
    if num_groups < 1:
        raise ConfigError(f"num_groups: expected 1 or more, got {num_groups}")
    if not 1 <= decoder_blocks <= 64:
        raise ConfigError(f"decoder_blocks: expected 1 to 64, got {decoder_blocks}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout: expected a number in [0, 1), got {dropout}")
    if not 0 < top_share <= 1:
        raise ConfigError(f"top_share: expected a number in (0, 1], got {top_share}")
    if not 0 <= smoothing_patches <= 16:
        raise ConfigError(f"smoothing_patches: expected 0 to 16, got {smoothing_patches}")
