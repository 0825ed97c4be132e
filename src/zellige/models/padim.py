"""PaDiM: how unusual each patch is among the good patches of its own place, at several scales.

Defard, Setkov, Loesch, Audigier: "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
Localization", ICPR 2020 workshops, arXiv:2011.08785. It presumes that all images show the same part in the same place:
what is normal in one corner is not in another. Overlapping tiles share one model for all their places in the image.
Deviations:

- each stage of the backbone has Gaussians and a grid of its own and the distances are added, where the paper joins the
  stages' features on the finest grid;
- features are reduced by a random semi-orthogonal projection (Kim et al., arXiv:2105.14737), not by choosing channels;
- each covariance is shrunk towards the one pooled over all positions, so that a few images suffice, or even one.

Shapes: B images, C channels, H x W px; per stage a grid h x w of P patches with D features, D' after the projection.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.detector import DetectorOutput, Features
from zellige.models.moments import KeptMoments, Moments, add_moments, collect_moments
from zellige.models.patch_features import PatchFeatures
from zellige.models.patch_scores import PatchScores

MAX_MB = 128
"""Most memory of the fitted Gaussians, which travel in every bundle; the checkpoint takes three times as much, as it
keeps their moments in double precision, and the fit about ten times as much."""

_RIDGE = 0.01
"""Added to each variance, as a share of the mean pooled one: bounds what a direction without variance can say."""
_LEAST_VARIANCE = 1e-8


class Padim(nn.Module):
    """A Gaussian per position and stage; a patch is as anomalous as it is far from its mean in its own units."""

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (1, 2, 3),
        grid_stride: int = 8,
        num_dims: int = 64,
        prior_images: int = 32,
        top_share: float = 0.01,
        smoothing_patches: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Make an empty detector.

        Args:
            backbone, stages, grid_stride: see `PatchFeatures`.
            num_dims: features per patch and stage after the projection; memory grows with its square.
            prior_images: how many images the pooled covariance counts for against a position's own.
            top_share, smoothing_patches: see `PatchScores`.
            seed: of the projection.

        Raises:
            ConfigError: a number out of range.
        """
        super().__init__()
        if not 1 <= num_dims <= 256:
            raise ConfigError(f"num_dims: expected 1 to 256, got {num_dims}")
        if not 1 <= prior_images <= 1_000_000:
            raise ConfigError(f"prior_images: expected 1 to 1000000, got {prior_images}")
        self.prior_images = prior_images
        self.embed_patches = PatchFeatures(backbone, stages, grid_stride)
        self.pool = PatchScores(top_share, smoothing_patches)
        generator = torch.Generator().manual_seed(seed)
        self.gaussians = nn.ModuleList(
            PositionGaussians(semi_orthogonal(width, min(num_dims, width), generator))
            for width in self.embed_patches.num_channels
        )

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into patch features."""
        features: Features = self.embed_patches(images)
        return features

    def build(self, features: Iterable[Features]) -> None:
        """Learn the Gaussians from batches of patch features of images of one size.

        Raises:
            InputError: no batch came, or images of another size.
            ConfigError: the Gaussians would take more than `MAX_MB`.
        """
        stages = self._stages()
        moments = collect_moments(self._of_one_size(features, stages), [stage.by_position for stage in stages])
        for stage, found in zip(stages, moments, strict=True):
            stage.learn(found, self.prior_images)

    def extend(self, features: Iterable[Features]) -> None:
        """Take in more good images of the size of the fit: the same, but for rounding, as a fit on all of them.

        Raises:
            InputError: images of another size.
            ConfigError: fitted by a version that did not keep its moments.
        """
        stages = self._stages()
        moments = [stage.kept.resumed() for stage in stages]
        if add_moments(moments, self._of_one_size(features, stages, place=False), [s.by_position for s in stages]):
            for stage, found in zip(stages, moments, strict=True):
                stage.learn(found, self.prior_images)

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W) of the size of the fit.

        Raises:
            InputError: images of another size.
        """
        return self.score_features(self.embed(images), images.shape[-2:])

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage."""
        return self.embed_patches.num_channels

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them; with it this is `forward`."""
        gaps = [gaussian(stage) for gaussian, stage in zip(self.gaussians, features, strict=True)]
        output: DetectorOutput = self.pool(gaps, size)
        return output

    def _stages(self) -> list["PositionGaussians"]:
        return [stage for stage in self.gaussians if isinstance(stage, PositionGaussians)]

    def _of_one_size(
        self, features: Iterable[Features], stages: Sequence["PositionGaussians"], *, place: bool = True
    ) -> Iterator[Features]:
        """Pass batches on; with `place` the first one decides the grids."""
        for number, batches in enumerate(features):
            for stage, batch in zip(stages, batches, strict=True):
                if number == 0 and place:
                    stage.place(batch.shape[1], batch.shape[2])
                stage.check_grid(batch)
            megabytes = sum(stage.megabytes() for stage in stages)
            if megabytes > MAX_MB:
                raise ConfigError(
                    f"padim: expected Gaussians of at most {MAX_MB} MB, got {megabytes:.0f} MB for this size; "
                    "choose a smaller geometry, a larger model.grid_stride or fewer model.num_dims"
                )
            yield batches


class PositionGaussians(nn.Module):
    """One stage's Gaussian per position, whitened so that a good patch lies about 1 from its mean."""

    projection: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, projection: Tensor) -> None:
        """Start from a projection (D, D')."""
        super().__init__()
        num_dims = projection.shape[1]
        self.register_buffer("projection", projection)
        self.register_buffer("mean", torch.zeros(0, 0, num_dims))
        self.register_buffer("whitening", torch.zeros(0, num_dims, num_dims))
        self.kept = KeptMoments(num_dims)

    def place(self, height: int, width: int) -> None:
        """Take the grid's size in patches."""
        self.mean = self.mean.new_zeros(height, width, self.mean.shape[2])

    def megabytes(self) -> float:
        """Memory of the Gaussians on the present grid."""
        return self.mean.nbytes * (1 + self.mean.shape[2]) / 1e6

    def check_grid(self, features: Tensor) -> None:
        """Refuse features (B, h, w, D) of another grid."""
        expected, found = self.mean.shape[:2], features.shape[1:3]
        if expected != found:
            raise InputError(
                f"padim: expected images of the size of the fit (a grid of {expected[0]} x {expected[1]} patches), got "
                f"{found[0]} x {found[1]} patches"
            )

    def by_position(self, features: Tensor) -> Tensor:
        """Project features (B, h, w, D) and group them by position (P, B, D')."""
        return (features @ self.projection).flatten(1, 2).transpose(0, 1)

    def learn(self, moments: Moments, prior_images: int) -> None:
        """Shrink each position's covariance towards the pooled one, and invert its Cholesky factor.

        The pooled one is the mean over the positions, plus the covariance of their means divided by the number of
        images: what a single image says of a patch's spread, and nothing when there are many.
        """
        self.kept.keep(moments)
        mean, own = moments.mean().cpu(), moments.covariance().cpu()
        off = mean - mean.mean(0)
        pooled = own.mean(0) + off.T @ off / len(off) / moments.count
        prior = prior_images / (moments.count + prior_images)
        num_dims = len(pooled)
        ridge = (_RIDGE * pooled.trace() / num_dims).clamp(min=_LEAST_VARIANCE)
        eye = torch.eye(num_dims, dtype=pooled.dtype)
        factor = torch.linalg.cholesky((1.0 - prior) * own + prior * pooled + ridge * eye)  # (P, D', D')
        inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        # The mean squared distance of patches that vary as (1 - prior) own + prior pooled: D' but for the ridge.
        unit = (num_dims - ridge * inverse.square().sum((1, 2)).mean()).clamp(min=1.0).sqrt()
        self.whitening = (inverse.mT / unit).to(self.mean).contiguous()
        self.mean = mean.to(self.mean).view(self.mean.shape)

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distance (B, 1, h, w) of each patch (B, h, w, D), in units of a good patch's."""
        self.check_grid(features)
        moved = self.by_position(features) - self.mean.flatten(0, 1)[:, None]  # (P, B, D')
        gap = (moved @ self.whitening).square().sum(2).sqrt()  # (P, B)
        return gap.T.reshape(features.shape[0], 1, features.shape[1], features.shape[2])

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take the grid that was saved."""
        height, width = state_dict[prefix + "mean"].shape[:2]
        self.place(height, width)
        self.whitening = self.whitening.new_zeros(height * width, *self.whitening.shape[1:])
        super()._load_from_state_dict(state_dict, prefix, *args)


def semi_orthogonal(width: int, narrow: int, generator: torch.Generator) -> Tensor:
    """Draw a random matrix (width, narrow) float32 with orthonormal columns."""
    noise = torch.randn(width, narrow, dtype=torch.float64, generator=generator)
    basis, triangle = torch.linalg.qr(noise)
    # The signs of a QR decomposition are the library's choice; positive diagonals make it unique.
    unique: Tensor = basis * triangle.diagonal().sign()
    return unique.float()
