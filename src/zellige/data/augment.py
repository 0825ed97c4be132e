"""Random changes of training tiles that the line could make too, by albumentations. The only file that imports it."""

import os
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError
from zellige.core.types import Pixels

POLICIES = ("none", "flips", "line")


class Augment:
    """One named policy with its own seeded random state: the same seed gives the same sequence of changes.

    `none` leaves tiles alone. `flips` mirrors along and across the web, for products without a handedness. `line`
    adds what a line camera's light and lens do: a few gray levels of brightness and contrast, slight blur and noise.
    """

    def __init__(self, policy: str, *, seed: int) -> None:
        """Choose a policy.

        Raises:
            ConfigError: unknown policy.
        """
        if policy not in POLICIES:
            raise ConfigError(f"data.augment: expected one of {', '.join(POLICIES)}, got {policy!r}")
        self.policy, self.seed = policy, seed
        flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        line = [
            A.RandomBrightnessContrast(brightness_limit=0.05, contrast_limit=0.05, p=0.5),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.2, 0.8), p=0.2),
            A.GaussNoise(std_range=(0.005, 0.015), p=0.3),
        ]
        changes = {"none": [], "flips": flips, "line": flips + line}[policy]
        # Each with a seed of its own: under one Compose they share it, and both flips always come together.
        seeds = np.random.SeedSequence(seed).generate_state(len(flips + line))
        self._changes = [A.Compose([change], seed=int(own)) for change, own in zip(changes, seeds, strict=False)]

    def __call__(self, tiles: Pixels) -> Pixels:
        """Change each of the tiles uint8 (N, C, h, w) on its own; shape and dtype stay."""
        if not self._changes:
            return tiles
        changed = [self._change(np.ascontiguousarray(tile.transpose(1, 2, 0))) for tile in tiles]
        return _stacked(changed, tiles)

    def with_masks(self, tiles: Pixels, masks: NDArray[np.bool_]) -> tuple[Pixels, NDArray[np.bool_]]:
        """Change tiles uint8 (N, C, h, w) and move their masks (N, h, w) along."""
        if not self._changes:
            return tiles, masks
        images, moved = [], []
        for tile, mask in zip(tiles, masks, strict=True):
            image, drawn = np.ascontiguousarray(tile.transpose(1, 2, 0)), mask.astype(np.uint8)
            for change in self._changes:
                both = change(image=image, mask=drawn)
                image, drawn = both["image"], both["mask"]
            images.append(image)
            moved.append(drawn)
        return _stacked(images, tiles), np.stack(moved).astype(np.bool_)

    def in_epoch(self, epoch: int) -> "Augment":
        """Return the same policy as it begins in an epoch: what happened in the epochs before does not matter."""
        return Augment(self.policy, seed=int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))

    def _change(self, image: Pixels) -> Pixels:
        for change in self._changes:
            image = change(image=image)["image"]
        return image


def _stacked(images: Sequence[Pixels], like: Pixels) -> Pixels:
    """Stack images (h, w) or (h, w, C) into tiles (N, C, h, w)."""
    count, channels, height, width = like.shape
    return np.ascontiguousarray(np.stack(images).reshape(count, height, width, channels).transpose(0, 3, 1, 2))
