"""What every detector is: uint8 images in, one output type out, whether it is being trained or not.

Shapes: B images, C channels (1 gray, 3 RGB), H x W px; a grid of h x w patches, D features per patch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Features = tuple[Tensor, ...]
"""Patch features (B, h, w, D) of one scale or several, the finest first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectorOutput:
    """`anomaly_map` (B, 1, H, W) float32 and `score` (B,) float32, higher = more anomalous, not bounded above."""

    anomaly_map: Tensor
    score: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedOutput(DetectorOutput):
    """What a detector says that names the kind of each pixel: map and score are probabilities in [0, 1].

    `kind_map` (B, 1, H, W) uint8: 0 without a name (good, or an unknown kind), k for the detector's `kinds[k - 1]`.
    """

    kind_map: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxOutput(DetectorOutput):
    """What a detector says that draws boxes: map and score are probabilities in [0, 1], the score the best box's.

    `boxes` (B, N, 6) float32: x0, y0, x1, y1 in px of the tile, score, number of the kind (1 for `kinds[0]`); the best
    first, overlapping ones suppressed, rows that are not used all 0. N is fixed.
    """

    boxes: Tensor


class Detector(Protocol):
    """An `nn.Module` that scores images. Scaling, normalization and color handling happen inside."""

    def __call__(self, images: Tensor) -> DetectorOutput:
        """Score uint8 images (B, C, H, W)."""
        ...


@runtime_checkable
class OnePassDetector(Detector, Protocol):
    """A detector that learns by looking at every good image once, without a loss."""

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into patch features."""
        ...

    def build(self, features: Iterable[Features]) -> None:
        """Learn from batches of features as `embed` returns them; they are consumed once."""
        ...


@runtime_checkable
class Extendable(OnePassDetector, Protocol):
    """A fitted detector that can learn from more good images without those that it was fitted on."""

    def extend(self, features: Iterable[Features]) -> None:
        """Learn from further batches of features, which are consumed once; no batch changes nothing."""
        ...


@runtime_checkable
class PatchDetector(Detector, Protocol):
    """A detector that finds defects in patch features; what it found can be named from the same features."""

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Features per patch of each stage: of the last so many of what `embed` returns, the finest first."""
        ...

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into features."""
        ...

    def score_features(self, features: Features, size: Sequence[int]) -> DetectorOutput:
        """Score images of `size` (H, W) px by what `embed` returned of them."""
        ...


class Targets(NamedTuple):
    """What is known of B tiles; a named tuple because Fabric moves those between devices.

    `masks` (B, 1, H, W) bool is true on the defect and counts only where `has_mask` (B,) bool; `is_defective` (B,) bool
    is always known.
    """

    masks: Tensor
    is_defective: Tensor
    has_mask: Tensor


class Objective(Protocol):
    """An `nn.Module` that owns a detector and says how wrong it is: what a fit by gradient makes small."""

    def __call__(self, features: Features, targets: Targets, seed: int) -> Tensor:
        """Return a scalar loss of features as the detector's `embed` makes them; `seed` decides all that is random."""
        ...


@runtime_checkable
class GradientDetector(Detector, Protocol):
    """A detector of which a part is frozen and the rest learns by gradient from `objective`."""

    def embed(self, images: Tensor) -> Features:
        """Turn uint8 images (B, C, H, W) into features of the frozen part, which are the same in every epoch."""
        ...

    def measure(self, features: Iterable[Features]) -> None:
        """Take what is fixed before the first step, such as centers and spreads, from features of the good images."""
        ...

    def objective(self) -> nn.Module:
        """Make the `Objective` of this detector."""
        ...


@runtime_checkable
class SettlingDetector(GradientDetector, Protocol):
    """A detector that needs good images which it did not learn from, once its weights are final."""

    def settle(self, features: Iterable[Features]) -> None:
        """Take what brings its maps to one unit from features of held-out good images, as `embed` returns them."""
        ...


class KindTargets(NamedTuple):
    """What is known of B tiles by kind; 0 is good and k the detector's `kinds[k - 1]`.

    `kind_masks` (B, H, W) uint8 counts only where `has_mask` (B,) bool: somebody drew a mask, or the tile is good; a
    box without a mask is filled in. `kind` (B,) int64 is the tile's kind, that of the largest area, -1 where nobody
    knows. `boxes` (B, M, 5) float32: x0, y0, x1, y1 in px of the tile and the number of the kind; rows of 0 fill up,
    and they count only where `has_boxes` (B,) bool.
    """

    kind_masks: Tensor
    has_mask: Tensor
    kind: Tensor
    boxes: Tensor
    has_boxes: Tensor


@runtime_checkable
class SupervisedDetector(Detector, Protocol):
    """A detector that learns from labelled defects, all of it, and says of which kind they are."""

    kinds: tuple[str, ...]

    def objective(self) -> nn.Module:
        """Make what a fit makes small: `forward(images uint8 (B, C, H, W), truth: KindTargets, seed) -> loss`."""
        ...


@runtime_checkable
class KindSettlingDetector(SupervisedDetector, Protocol):
    """A supervised detector that needs labelled images which it did not learn from, once its weights are final."""

    def settle(self, batches: Iterable[tuple[Tensor, KindTargets]]) -> None:
        """Take what brings its probabilities to the error rates on held-out tiles uint8 (B, C, H, W)."""
        ...


@runtime_checkable
class PairDetector(Detector, Protocol):
    """A detector that compares: `forward` takes images (B, 2 C, H, W), each followed by its template's channels."""

    is_pair: Literal[True]


class ScaledInput(nn.Module):
    """Turn uint8 pixels into what an ImageNet-trained backbone expects: three channels, normalized."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Scale uint8 (B, 1 or 3, H, W) to float32 (B, 3, H, W); one channel is repeated three times."""
        return (images.float().expand(-1, 3, -1, -1) - self.mean) / self.std
