"""PatchCore: distance of each patch to the nearest patch of the good images.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022,
arXiv:2106.08265. Deviations: features are standardized per channel; the coreset is chosen in one pass over the stream
(see coreset.py); an image's score is the mean of its worst patches, not the re-weighted single worst one; the mean over
a patch's neighbors leaves out what lies beyond the border, where the paper's code counts zeros. Fewer neighbors make
a noisier mean, so in the score (not in the map) a border patch weighs sqrt(n / 9) for its n neighbors: without that
the border's noise decides the score of good images.

Shapes: B images, C channels, H x W px, grid h x w = P patches, D features per patch, M vectors in the bank.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbones import STRIDES, FrozenBackbone
from zellige.models.coreset import StreamingCoreset
from zellige.models.detector import DetectorOutput

_WARM_UP_PATCHES = 16384


class PatchCore(nn.Module):
    """A bank of good patch features; a patch is as anomalous as it is far from the nearest of them."""

    feature_mean: Tensor
    feature_std: Tensor
    bank: Tensor
    blur: Tensor

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (2, 3),
        grid_stride: int = 8,
        bank_size: int = 2048,
        top_share: float = 0.01,
        smoothing_patches: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make an empty detector.

        Args:
            backbone: name of a pretrained backbone.
            stages: backbone stages (0 to 4 for stride 2 to 32) whose features are joined.
            grid_stride: px from one patch to the next; finer stages are averaged onto this grid, coarser ones
                interpolated.
            bank_size: most vectors kept, which bounds memory and inference time whatever the number of images.
            top_share: share of an image's patches whose mean distance is its score, in (0, 1].
            smoothing_patches: sigma of the Gaussian over the patch grid, in patches; 0 is none.
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
        width = sum(self.backbone.num_channels)
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(width))
        self.register_buffer("bank", torch.zeros(0, width))
        self.register_buffer("blur", gaussian_kernel(smoothing_patches), persistent=False)

    def embed(self, images: Tensor) -> Tensor:
        """Turn uint8 images (B, C, H, W) into patch features (B, P, D), each a mean over its 3 x 3 neighbors."""
        return self._grid(images).flatten(2).transpose(1, 2)

    def build(self, features: Iterable[Tensor]) -> None:
        """Fill the bank from batches of patch features (B, P, D).

        Raises:
            InputError: no batch came.
        """
        stream = (batch.flatten(0, 1) for batch in features)
        first = _first_patches(stream, _WARM_UP_PATCHES)
        self.feature_mean = first.mean(0)
        self.feature_std = first.std(0).clamp(min=1e-4) if len(first) > 1 else torch.ones_like(first[0])
        coreset = StreamingCoreset(self.bank_size, seed=self.seed)
        coreset.add(self._standardize(first))
        del first
        for batch in stream:
            coreset.add(self._standardize(batch))
        self.bank = coreset.selected()

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        grid = self._grid(images)
        num_images, width, rows, columns = grid.shape
        patches = self._standardize(grid.permute(0, 2, 3, 1).reshape(-1, width))  # (B * P, D)
        nearest = (self.bank.square().sum(1) - 2.0 * patches @ self.bank.T).amin(1)
        gap = (patches.square().sum(1) + nearest).clamp(min=1e-6).sqrt()
        gap = gap.view(num_images, 1, rows, columns)
        worst = max(1, round(self.top_share * rows * columns))
        neighbors = F.avg_pool2d(gap.new_ones(1, 1, rows, columns), 3, stride=1, padding=1)  # n / 9
        score = (gap * neighbors.sqrt()).flatten(1).topk(worst).values.mean(1)
        smooth = self._smooth(gap)
        anomaly_map = F.interpolate(smooth, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return DetectorOutput(anomaly_map=anomaly_map, score=score)

    def load_state_dict(self, state_dict: dict[str, Tensor], *args: object, **kwargs: object) -> object:  # type: ignore[override]
        """Load a fitted detector; the bank takes the size it was saved with."""
        self.bank = torch.zeros_like(state_dict["bank"])
        return super().load_state_dict(state_dict, *args, **kwargs)  # type: ignore[arg-type]

    def _grid(self, images: Tensor) -> Tensor:
        """Features (B, D, h, w) on the patch grid."""
        maps = [
            F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
            for features in self.backbone(images)
        ]
        size = [-(-side // self.grid_stride) for side in images.shape[-2:]]
        placed = [self._onto_grid(m, stride, size) for m, stride in zip(maps, self.backbone.strides, strict=True)]
        return torch.cat(placed, dim=1)

    def _onto_grid(self, features: Tensor, stride: int, size: list[int]) -> Tensor:
        if stride == self.grid_stride:
            return features
        if stride < self.grid_stride:
            ratio = self.grid_stride // stride
            return F.avg_pool2d(features, ratio, ceil_mode=True, count_include_pad=False)
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)

    def _standardize(self, patches: Tensor) -> Tensor:
        return (patches - self.feature_mean) / self.feature_std

    def _smooth(self, gap: Tensor) -> Tensor:
        reach = self.blur.shape[0] // 2
        if reach == 0:
            return gap
        padded = F.pad(gap, (reach, reach, reach, reach), mode="replicate")
        return F.conv2d(F.conv2d(padded, self.blur.view(1, 1, -1, 1)), self.blur.view(1, 1, 1, -1))


def gaussian_kernel(sigma: float) -> Tensor:
    """Sampled Gaussian (2 r + 1,) with r = 3 sigma rounded up, summing to one; (1,) for sigma 0."""
    reach = int(-(-3 * sigma // 1))
    position = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (position / max(sigma, 1e-6)).square())
    return kernel / kernel.sum()


def _first_patches(stream: Iterator[Tensor], wanted: int) -> Tensor:
    taken: list[Tensor] = []
    count = 0
    for batch in stream:
        taken.append(batch)
        count += len(batch)
        if count >= wanted:
            break
    if not taken:
        raise InputError("fit: expected at least one good training image, got none")
    return torch.cat(taken)
