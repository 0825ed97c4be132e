"""PatchCore: distance of each patch to the nearest patch of the good images, at several scales.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022,
arXiv:2106.08265. Deviations:

- each stage of the backbone has a bank and a grid of its own and the distances are added, where the paper joins the
  stages' features on the finest grid: joined, the stage with the most channels decides alone;
- the coreset is chosen in one pass over the stream (see coreset.py);
- an image's score is the mean of its worst patches, not the re-weighted single worst one;
- the mean over a patch's neighbors leaves out what lies beyond the border, where the paper's code counts zeros. Fewer
  neighbors make a noisier mean, so a border patch with n neighbors weighs (n / 9)^(1/2) in the score and (n / 9)^(1/4)
  in the map: unweighted, the noise of the border decides the score of good images.

docs/benchmarks.md says on which sets these were compared.

Shapes: B images, C channels, H x W px; per stage a grid h x w of patches with D features each, M vectors in a bank.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbones import STRIDES, FrozenBackbone
from zellige.models.coreset import StreamingCoreset
from zellige.models.detector import DetectorOutput, Features

_WARM_UP_PATCHES = 16384
_SCORE_BORDER, _MAP_BORDER = 0.5, 0.25


class PatchCore(nn.Module):
    """A bank of good patch features per stage; a patch is as anomalous as it is far from the nearest of them."""

    blur: Tensor

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (1, 2, 3),
        grid_stride: int = 8,
        bank_size: int = 2048,
        top_share: float = 0.01,
        smoothing_patches: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Make an empty detector.

        Args:
            backbone: name of a pretrained backbone.
            stages: backbone stages (0 to 4 for stride 2 to 32), each with its own bank.
            grid_stride: px from one patch to the next at the finest: finer stages are averaged onto this grid, coarser
                ones keep their own.
            bank_size: most vectors kept per stage, which bounds memory and inference time whatever the number of
                images.
            top_share: share of an image's patches whose mean distance is its score, in (0, 1].
            smoothing_patches: sigma of the Gaussian over the finest grid, in patches; 0 is none.
            seed: of the coreset's projection and start.
        """
        super().__init__()
        if not 0 < top_share <= 1:
            raise ConfigError(f"patchcore top_share: expected a number in (0, 1], got {top_share}")
        if not 0 <= smoothing_patches <= 16:
            raise ConfigError(f"patchcore smoothing_patches: expected 0 to 16, got {smoothing_patches}")
        if not 1 <= bank_size <= 1_000_000:
            raise ConfigError(f"patchcore bank_size: expected 1 to 1000000, got {bank_size}")
        if grid_stride not in STRIDES:
            raise ConfigError(f"patchcore grid_stride: expected one of {STRIDES}, got {grid_stride}")
        self.backbone = FrozenBackbone(backbone, stages)
        self.grid_stride = grid_stride
        self.bank_size = bank_size
        self.top_share = top_share
        self.seed = seed
        self.banks = nn.ModuleList(Bank(width) for width in self.backbone.num_channels)
        self.register_buffer("blur", gaussian_kernel(smoothing_patches), persistent=False)

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into patch features (B, h, w, D) per stage, means over 3 x 3 neighbors."""
        return tuple(
            self._onto_grid(F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False), stride)
            for features, stride in zip(self.backbone(images), self.backbone.strides, strict=True)
        )

    def build(self, features: Iterable[Features]) -> None:
        """Fill the banks from batches of patch features.

        Raises:
            InputError: no batch came.
        """
        stream = iter(features)
        first = _first_batches(stream, _WARM_UP_PATCHES)
        coresets = [StreamingCoreset(self.bank_size, seed=self.seed) for _ in self.banks]
        for bank, coreset, batches in zip(self.banks, coresets, zip(*first, strict=True), strict=True):
            assert isinstance(bank, Bank)
            patches = torch.cat([batch.flatten(0, 2) for batch in batches])
            bank.measure(patches)
            coreset.add(bank.standardize(patches))
        del first
        for batches in stream:
            for bank, coreset, batch in zip(self.banks, coresets, batches, strict=True):
                assert isinstance(bank, Bank)
                coreset.add(bank.standardize(batch.flatten(0, 2)))
        for bank, coreset in zip(self.banks, coresets, strict=True):
            bank.vectors = coreset.selected()

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        gaps = [bank(features) for bank, features in zip(self.banks, self.embed(images), strict=True)]
        score = torch.stack([self._score(gap) for gap in gaps]).mean(0)
        size = gaps[0].shape[-2:]
        placed = [
            gap if gap.shape[-2:] == size else F.interpolate(gap, size=size, mode="bilinear", align_corners=False)
            for gap in gaps
        ]
        smooth = self._smooth(torch.stack(placed).mean(0) * _border_weights(gaps[0], _MAP_BORDER))
        anomaly_map = F.interpolate(smooth, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return DetectorOutput(anomaly_map=anomaly_map, score=score)

    def _score(self, gap: Tensor) -> Tensor:
        worst = max(1, round(self.top_share * gap.shape[-2] * gap.shape[-1]))
        return (gap * _border_weights(gap, _SCORE_BORDER)).flatten(1).topk(worst).values.mean(1)

    def _onto_grid(self, features: Tensor, stride: int) -> Tensor:
        if stride < self.grid_stride:
            ratio = self.grid_stride // stride
            features = F.avg_pool2d(features, ratio, ceil_mode=True, count_include_pad=False)
        return features.permute(0, 2, 3, 1)

    def _smooth(self, gap: Tensor) -> Tensor:
        reach = self.blur.shape[0] // 2
        if reach == 0:
            return gap
        padded = F.pad(gap, (reach, reach, reach, reach), mode="replicate")
        return F.conv2d(F.conv2d(padded, self.blur.view(1, 1, -1, 1)), self.blur.view(1, 1, 1, -1))


class Bank(nn.Module):
    """Good patches of one stage, centered and in units of their spread, so that stages can be added."""

    center: Tensor
    spread: Tensor
    vectors: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("vectors", torch.zeros(0, width))

    def measure(self, patches: Tensor) -> None:
        """Take center and spread (root mean square distance to the center) of patches (N, D)."""
        self.center = patches.mean(0)
        self.spread = (patches - self.center).square().sum(1).mean().sqrt().clamp(min=1e-4)

    def standardize(self, patches: Tensor) -> Tensor:
        """Center and scale patches (..., D)."""
        return (patches - self.center) / self.spread

    def forward(self, features: Tensor) -> Tensor:
        """Distance (B, 1, h, w) of each patch (B, h, w, D) to the nearest vector."""
        patches = self.standardize(features).flatten(0, 2)
        nearest = (self.vectors.square().sum(1) - 2.0 * patches @ self.vectors.T).amin(1)
        gap = (patches.square().sum(1) + nearest).clamp(min=1e-9).sqrt()
        return gap.view(features.shape[0], 1, features.shape[1], features.shape[2])

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take the size that the vectors were saved with."""
        self.vectors = torch.zeros_like(state_dict[prefix + "vectors"])
        super()._load_from_state_dict(state_dict, prefix, *args)


def gaussian_kernel(sigma: float) -> Tensor:
    """Sampled Gaussian (2 r + 1,) with r = 3 sigma rounded up, summing to one; (1,) for sigma 0."""
    reach = int(-(-3 * sigma // 1))
    position = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (position / max(sigma, 1e-6)).square())
    return kernel / kernel.sum()


def _border_weights(gap: Tensor, power: float) -> Tensor:
    """Weight each patch (1, 1, h, w) by the share of its 3 x 3 neighbors that exist, to a power."""
    return F.avg_pool2d(gap.new_ones(1, 1, gap.shape[-2], gap.shape[-1]), 3, stride=1, padding=1).pow(power)


def _first_batches(stream: Iterator[Features], wanted: int) -> list[Features]:
    taken: list[Features] = []
    count = 0
    for batch in stream:
        taken.append(batch)
        count += batch[0][..., 0].numel()
        if count >= wanted:
            break
    if not taken:
        raise InputError("fit: expected at least one good training image, got none")
    return taken
