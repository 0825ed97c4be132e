"""PatchCore: distance of each patch to the nearest patch of the good images, at several scales.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022,
arXiv:2106.08265. Deviations:

- each stage of the backbone has a bank and a grid of its own and the distances are added, where the paper joins the
  stages' features on the finest grid: joined, the stage with the most channels decides alone;
- the coreset is chosen in one pass over the stream (see coreset.py);
- an image's score is the mean of its worst patches, not the single worst one; the paper's re-weighting by the density
  of the bank is an option, and is then done for each of them;
- the mean over a patch's neighbors leaves out what lies beyond the border, where the paper's code counts zeros, and
  patches at the border weigh less (see patch_scores.py).

For parts that always lie in the same place, positions can count too: two coordinates are appended to the features, so
that distance^2 = feature distance^2 + (way / position_radius)^2. A bank vector from far away is then no match, however
alike it looks. This soft limit was preferred to a hard one because a bank stays one matrix, the coreset covers the
places by itself, and no patch is left without a vector to compare with.

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

_MOST_NEIGHBORS = 64
GROWTH = 0.25
"""Most vectors that one extension adds to a bank, as a share of its nominal size."""


class PatchCore(nn.Module):
    """A bank of good patch features per stage; a patch is as anomalous as it is far from the nearest of them."""

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (2, 3),
        grid_stride: int = 8,
        bank_size: int = 4096,
        reweight_neighbors: int = 0,
        position_radius: float | None = None,
        top_share: float = 0.01,
        smoothing_patches: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Make an empty detector.

        Args:
            backbone, stages, grid_stride: see `PatchFeatures`.
            bank_size: most vectors kept per stage, which bounds memory and inference time whatever the number of
                images.
            reweight_neighbors: bank vectors by which the distances behind an image's score are re-weighted, 2 to 64
                (see `Bank.factors`); 0 is off.
            position_radius: for aligned parts: cells of the finest grid (of `grid_stride` px) after which a vector
                from another place costs as much as the good patches' spread; None: the place does not count.
            top_share, smoothing_patches: see `PatchScores`.
            seed: of the coreset's projection and start.

        Raises:
            ConfigError: a number out of range.
        """
        super().__init__()
        if not 1 <= bank_size <= 1_000_000:
            raise ConfigError(f"bank_size: expected 1 to 1000000, got {bank_size}")
        if reweight_neighbors != 0 and not 2 <= reweight_neighbors <= _MOST_NEIGHBORS:
            raise ConfigError(
                f"reweight_neighbors: expected 0 (off) or 2 to {_MOST_NEIGHBORS}, got {reweight_neighbors}"
            )
        if position_radius is not None and not 1 <= position_radius <= 1024:
            raise ConfigError(f"position_radius: expected null (off) or 1 to 1024 cells, got {position_radius}")
        self.bank_size = bank_size
        self.reweight_neighbors = reweight_neighbors
        self.seed = seed
        self.embed_patches = PatchFeatures(backbone, stages, grid_stride)
        self.pool = PatchScores(top_share, smoothing_patches)
        cells = [max(1.0, stride / grid_stride) for stride in self.embed_patches.backbone.strides]
        self.banks = nn.ModuleList(
            Bank(width, None if position_radius is None else cell / position_radius)
            for width, cell in zip(self.embed_patches.num_channels, cells, strict=True)
        )

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
        banks = [bank for bank in self.banks if isinstance(bank, Bank)]
        coresets = [StreamingCoreset(self.bank_size, seed=self.seed) for _ in banks]
        for bank, coreset, batches in zip(banks, coresets, zip(*first, strict=True), strict=True):
            bank.measure(torch.cat([batch.flatten(0, 2) for batch in batches]))
            coreset.add(torch.cat([bank.describe(batch) for batch in batches]))
        del first
        for batches in stream:
            for bank, coreset, batch in zip(banks, coresets, batches, strict=True):
                coreset.add(bank.describe(batch))
        for bank, coreset in zip(banks, coresets, strict=True):
            bank.vectors = coreset.selected()

    def extend(self, features: Iterable[Features]) -> None:
        """Let more good patches join the banks, at most `GROWTH` x bank_size per stage.

        No vector leaves, so no image becomes more anomalous. Patches that lie as close to a bank as its own vectors lie
        to each other add nothing; center and spread stay.
        """
        banks = [bank for bank in self.banks if isinstance(bank, Bank)]
        most = max(1, round(GROWTH * self.bank_size))
        coresets = [StreamingCoreset(most, seed=self.seed, base=bank.vectors) for bank in banks]
        for batches in features:
            for bank, coreset, batch in zip(banks, coresets, batches, strict=True):
                coreset.add(bank.describe(batch))
        for bank, coreset in zip(banks, coresets, strict=True):
            bank.vectors = torch.cat([bank.vectors, coreset.selected()])

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        return self.score_features(self.embed(images), images.shape[-2:])

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage."""
        return self.embed_patches.num_channels

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them; with it this is `forward`."""
        gaps = [bank(stage) for bank, stage in zip(self.banks, features, strict=True)]
        factors = self._factors(features, gaps) if self.reweight_neighbors else None
        output: DetectorOutput = self.pool(gaps, size, factors)
        return output

    def _factors(self, features: Features, gaps: Sequence[Tensor]) -> list[Tensor]:
        """Factors (B, K) of each stage's worst patches."""
        banks = [bank for bank in self.banks if isinstance(bank, Bank)]
        return [
            bank.factors(stage, self.pool.worst(gap).indices, self.reweight_neighbors)
            for bank, stage, gap in zip(banks, features, gaps, strict=True)
        ]


class Bank(nn.Module):
    """Good patches of one stage, centered and in units of their spread, so that stages can be added."""

    center: Tensor
    spread: Tensor
    vectors: Tensor

    def __init__(self, width: int, cell: float | None = None) -> None:
        """Make an empty bank.

        Args:
            width: features per patch, D.
            cell: way from one patch of the grid to the next, in units of the spread, where positions count.
        """
        super().__init__()
        self.cell = cell
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("vectors", torch.zeros(0, width if cell is None else width + 2))

    def measure(self, patches: Tensor) -> None:
        """Take center and spread (root mean square distance to the center) of patches (N, D)."""
        self.center = patches.mean(0)
        self.spread = (patches - self.center).square().sum(1).mean().sqrt().clamp(min=1e-4)

    def describe(self, features: Tensor) -> Tensor:
        """Turn features (B, h, w, D) into what is kept and compared (B h w, D), or D + 2 with the position."""
        patches = (features - self.center) / self.spread
        if self.cell is None:
            return patches.flatten(0, 2)
        # Counted from the middle: large coordinates would cost digits in the distances.
        rows, columns = (
            (torch.arange(size, device=features.device, dtype=features.dtype) - (size - 1) / 2) * self.cell
            for size in features.shape[1:3]
        )
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=2)  # (h, w, 2)
        return torch.cat([patches, places.expand(features.shape[0], -1, -1, -1)], dim=3).flatten(0, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Distance (B, 1, h, w) of each patch (B, h, w, D) to the nearest vector."""
        patches = self.describe(features)
        nearest = self._compare(patches).amin(1)
        gap = (patches.square().sum(1) + nearest).clamp(min=1e-9).sqrt()
        return gap.view(features.shape[0], 1, features.shape[1], features.shape[2])

    def factors(self, features: Tensor, places: Tensor, num_neighbors: int) -> Tensor:
        """Say how much the distances of some patches count: most where the vector that they match stands alone.

        Take the vector nearest to a patch, and the `num_neighbors` vectors nearest to that one, itself included. The
        factor is one minus the softmax of the patch's distance to the first among its distances to them all: at least
        1 - 1 / num_neighbors, where they are all equally far, and nearly 1 where the others are far away.

        Args:
            features: (B, h, w, D).
            places: (B, K) indices of patches into the flattened grid.
            num_neighbors: at least 2; of a smaller bank all vectors are taken, and of one vector the factor is 1.

        Returns:
            (B, K) float32.

        Source: Roth et al. 2022, equation 7; distances are in units of the spread.
        """
        count = min(num_neighbors, self.vectors.shape[0])
        if count < 2:
            return torch.ones_like(places, dtype=features.dtype)
        width = self.vectors.shape[1]
        described = self.describe(features).view(features.shape[0], -1, width)
        patches = described.gather(1, places[:, :, None].expand(-1, -1, width)).flatten(0, 1)  # (B K, D)
        match = self.vectors[self._compare(patches).argmin(1)]
        around = self.vectors[self._compare(match).topk(count, largest=False).indices]  # (B K, count, D)
        gaps = (patches[:, None] - around).square().sum(2).sqrt()
        return (1.0 - gaps.softmax(1).amin(1)).view(places.shape)

    def _compare(self, patches: Tensor) -> Tensor:
        """Squared distances (N, M) of described patches (N, D) to the vectors, without the patches' own squares."""
        return self.vectors.square().sum(1) - 2.0 * patches @ self.vectors.T

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take the number of vectors that was saved."""
        self.vectors = self.vectors.new_zeros(len(state_dict[prefix + "vectors"]), self.vectors.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)
