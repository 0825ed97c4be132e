"""Random changes of training tiles that the line could make too, by albumentations. The only file that imports it."""

import os
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError
from zellige.core.types import Pixels

POLICIES = ("none", "flips", "line", "jitter", "jitter_turns")


class Augment:
    """One named policy with its own seeded random state: the same seed gives the same sequence of changes.

    `none` leaves tiles alone. `flips` mirrors along and across the web, for products without a handedness. `line`
    adds what a line camera's light and lens do: a few gray levels of brightness and contrast, slight blur and noise.
    `jitter` is for few images: the piece lies a little otherwise (up to 3 degrees, 3 % of scale, 3 % of a side) in
    slightly other light, and is never mirrored. `jitter_turns` adds mirror images and, of square tiles, quarter turns,
    for products without a direction.
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
        jitter = [
            A.Affine(
                rotate=(-3, 3),
                scale=(0.97, 1.03),
                keep_ratio=True,
                translate_percent={"x": (-0.03, 0.03), "y": (-0.03, 0.03)},
                border_mode=cv2.BORDER_REFLECT_101,
                p=1.0,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.05, contrast_limit=0.05, p=1.0),
        ]
        changes = {
            "none": [],
            "flips": flips,
            "line": flips + line,
            "jitter": jitter,
            "jitter_turns": [*flips, A.RandomRotate90(p=1.0), *jitter],
        }[policy]
        # Each with a seed of its own: under one Compose they share it, and both flips always come together.
        seeds = np.random.SeedSequence(seed).generate_state(len(changes))
        self._changes = [A.Compose([change], seed=int(own)) for change, own in zip(changes, seeds, strict=True)]
        self._turns = {number for number, change in enumerate(changes) if isinstance(change, A.RandomRotate90)}

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
            for change in self._that_fit(image):
                both = change(image=image, mask=drawn)
                image, drawn = both["image"], both["mask"]
            images.append(image)
            moved.append(drawn)
        return _stacked(images, tiles), np.stack(moved).astype(np.bool_)

    def in_epoch(self, epoch: int) -> "Augment":
        """Return the same policy as it begins in an epoch: what happened in the epochs before does not matter."""
        return Augment(self.policy, seed=int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))

    def _change(self, image: Pixels) -> Pixels:
        for change in self._that_fit(image):
            image = change(image=image)["image"]
        return image

    def _that_fit(self, image: Pixels) -> list[A.Compose]:
        """The changes that keep the shape of an image (h, w, C): a quarter turn of an oblong one does not."""
        is_square = image.shape[0] == image.shape[1]
        return [change for number, change in enumerate(self._changes) if is_square or number not in self._turns]


def _stacked(images: Sequence[Pixels], like: Pixels) -> Pixels:
    """Stack images (h, w) or (h, w, C) into tiles (N, C, h, w)."""
    count, channels, height, width = like.shape
    return np.ascontiguousarray(np.stack(images).reshape(count, height, width, channels).transpose(0, 3, 1, 2))
