"""A supervised detector with few weights, and small sets of labelled images to fit it on."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.conftest import save_image, texture
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.models.detector import DetectorOutput, KindTargets

GEOMETRY = Geometry(mode=GeometryMode.TILES, height=32, width=32)
KINDS = ("dark", "light")
LEVELS = {"dark": 0, "light": 255}


class SupervisedToy(nn.Module):
    """Logits of good and the kinds, linear in a tile's darkest and lightest gray level."""

    seen_kinds: Tensor

    def __init__(self, kinds: tuple[str, ...] = KINDS, *, break_at: int | None = None) -> None:
        super().__init__()
        self.kinds = kinds
        self.linear = nn.Linear(2, 1 + len(kinds))
        with torch.no_grad():
            self.linear.weight.fill_(0.01)
            self.linear.bias.zero_()
        self.break_at = break_at
        self.register_buffer("seen_kinds", torch.zeros(1 + len(kinds)))
        self.batches: list[tuple[Tensor, KindTargets]] = []
        """What a loss was taken of in training, in order."""

    def logits(self, images: Tensor) -> Tensor:
        flat = images.float().flatten(1) / 255
        return self.linear(torch.stack([1 - flat.amin(1), flat.amax(1)], dim=1))

    def objective(self) -> "ToyObjective":
        return ToyObjective(self)

    def settle(self, batches: Iterable[tuple[Tensor, KindTargets]]) -> None:
        kinds = torch.cat([truth.kind for _, truth in batches])
        self.seen_kinds.copy_(torch.bincount(kinds, minlength=1 + len(self.kinds)))

    def forward(self, images: Tensor) -> DetectorOutput:
        score = 1 - self.logits(images).softmax(1)[:, 0]
        return DetectorOutput(anomaly_map=score.view(-1, 1, 1, 1).expand(-1, 1, *images.shape[2:]), score=score)


class ToyObjective(nn.Module):
    """Cross-entropy of the kinds."""

    def __init__(self, detector: SupervisedToy) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, truth: KindTargets, seed: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.detector.logits(images), truth.kind)
        if self.training:
            self.detector.batches.append((images, truth))
            if len(self.detector.batches) == self.detector.break_at:
                return loss * float("nan")
        return loss


def labelled(root: Path, name: str, kind: str, seed: int) -> Sample:
    """A cloudy image of 48 x 64 px with, where it is defective, a square of its kind's level and its mask."""
    pixels, mask = texture(seed, size=(48, 64)), np.zeros((48, 64), np.uint8)
    if kind != "good":
        y, x = 3 + 7 * seed % 30, 5 + 11 * seed % 40
        pixels[y : y + 9, x : x + 9] = LEVELS[kind]
        mask[y : y + 9, x : x + 9] = 255
        save_image(root / f"{name}_mask.png", mask)
    save_image(root / f"{name}.png", pixels)
    mask_path = root / f"{name}_mask.png" if kind != "good" else None
    return Sample(id=name, image_path=root / f"{name}.png", kind=kind, group_id=name, mask_path=mask_path)


def small_sets(
    root: Path, policy: str = "labelled_turns", num: tuple[int, int] = (8, 4), geometry: Geometry = GEOMETRY
) -> tuple[TileDataset, TileDataset]:
    """TRAIN with so many good and so many defective images of each kind, and a VAL with half as many."""
    parts = []
    for name, (num_good, num_bad), first in (("train", num, 0), ("val", (num[0] // 2, num[1] // 2), 100)):
        good = [labelled(root, f"{name}-good{i}", "good", first + i) for i in range(num_good)]
        bad = [labelled(root, f"{name}-{k}{i}", k, first + 50 + i) for k in KINDS for i in range(num_bad)]
        parts.append((good, bad))
    (good, bad), (val_good, val_bad) = parts
    augment = Augment(policy, seed=0)
    train = TileDataset(good, geometry=geometry, color=Color.GRAY, augment=augment, defects=bad)
    return train, TileDataset([*val_good, *val_bad], geometry=geometry, color=Color.GRAY)
