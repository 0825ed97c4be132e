"""PatchCore: distance of each patch to the nearest patch of the good images, at several scales.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022,
arXiv:2106.08265. Deviations:

- each stage of the backbone has a bank and a grid of its own and the distances are added, where the paper joins the
  stages' features on the finest grid: joined, the stage with the most channels decides alone;
- the coreset is chosen in one pass over the stream (see coreset.py);
- an image's score is the mean of its worst patches, not the re-weighted single worst one;
- the mean over a patch's neighbors leaves out what lies beyond the border, where the paper's code counts zeros, and
  patches at the border weigh less (see patch_scores.py).

Shapes: B images, C channels, H x W px; per stage a grid h x w of patches with D features each, M vectors in a bank.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.coreset import StreamingCoreset
from zellige.models.detector import DetectorOutput, Features
from zellige.models.patch_features import PatchFeatures, first_batches
from zellige.models.patch_scores import PatchScores


class PatchCore(nn.Module):
    """A bank of good patch features per stage; a patch is as anomalous as it is far from the nearest of them."""

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (2, 3),
        grid_stride: int = 8,
        bank_size: int = 4096,
        top_share: float = 0.01,
        smoothing_patches: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Make an empty detector.

        Args:
            backbone, stages, grid_stride: see `PatchFeatures`.
            bank_size: most vectors kept per stage, which bounds memory and inference time whatever the number of
                images.
            top_share, smoothing_patches: see `PatchScores`.
            seed: of the coreset's projection and start.
        """
        super().__init__()
        if not 1 <= bank_size <= 1_000_000:
            raise ConfigError(f"bank_size: expected 1 to 1000000, got {bank_size}")
        self.bank_size = bank_size
        self.seed = seed
        self.embed_patches = PatchFeatures(backbone, stages, grid_stride)
        self.pool = PatchScores(top_share, smoothing_patches)
        self.banks = nn.ModuleList(Bank(width) for width in self.embed_patches.num_channels)

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into patch features."""
        features: Features = self.embed_patches(images)
        return features

    def build(self, features: Iterable[Features]) -> None:
        """Fill the banks from batches of patch features.

        Raises:
            InputError: no batch came.
        """
        stream = iter(features)
        first = first_batches(stream)
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
        output: DetectorOutput = self.pool(gaps, images.shape[-2:])
        return output


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
