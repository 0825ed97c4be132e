"""Random changes of training tiles that the line could make too, by albumentations. The only file that imports it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError
from zellige.core.types import Pixels
from zellige.data.labelled_tile import LEAST_LEFT, LabelledTile

POLICIES = ("none", "flips", "turns", "line", "jitter", "jitter_turns", "labelled", "labelled_turns")


class Augment:
    """One named policy with its own seeded random state: the same seed gives the same sequence of changes.

    `none` leaves tiles alone. `flips` mirrors along and across the web, for products without a handedness; `turns`
    adds quarter turns of square tiles, for products without a direction. `line`
    adds what a line camera's light and lens do: a few gray levels of brightness and contrast, slight blur and noise.
    `jitter` is for few images: the piece lies a little otherwise (up to 3 degrees, 3 % of scale, 3 % of a side) in
    slightly other light, and is never mirrored. `jitter_turns` adds mirror images and, of square tiles, quarter turns,
    for products without a direction. `labelled` is for detectors that learn defects by their labels, which come in all
    sizes and places: half of them up to 10 degrees, 15 % of scale, 5 % of a side, all up to a tenth of brightness and
    contrast;
    `labelled_turns` adds mirror images and quarter turns.
    """

    def __init__(self, policy: str, *, seed: int) -> None:
        """Choose a policy.

        Raises:
            ConfigError: unknown policy.
        """
        if policy not in POLICIES:
            raise ConfigError(f"data.augment: expected one of {', '.join(POLICIES)}, got {policy!r}")
        self.policy, self.seed = policy, seed
        changes = _changes_of(policy)
        # Each with a seed of its own: under one Compose they share it, and both flips always come together.
        seeds = np.random.SeedSequence(seed).generate_state(len(changes))
        self._changes = [A.Compose([change], seed=int(own)) for change, own in zip(changes, seeds, strict=True)]
        self._turns = {number for number, change in enumerate(changes) if isinstance(change, A.RandomRotate90)}
        self._with_boxes: list[A.Compose] = []

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
            for change in self._that_fit(image, self._changes):
                both = change(image=image, mask=drawn)
                image, drawn = both["image"], both["mask"]
            images.append(image)
            moved.append(drawn)
        return _stacked(images, tiles), np.stack(moved).astype(np.bool_)

    def labelled(self, tile: LabelledTile, *, seed: int) -> LabelledTile:
        """Change a tile as `seed` says, whatever was changed before, and move its kinds and boxes along.

        Boxes that leave the tile are clipped, and dropped where less than a quarter of them is left; the tile's kind
        is that of the larger area that is left.
        """
        if not self._changes:
            return tile
        if not self._with_boxes:
            self._with_boxes = [_moving(change) for change in _changes_of(self.policy)]
        seeds = np.random.SeedSequence(seed).generate_state(len(self._with_boxes))
        for change, own in zip(self._with_boxes, seeds, strict=True):
            change.set_random_seed(int(own))
        image = np.ascontiguousarray(tile.pixels.transpose(1, 2, 0))
        now: dict[str, Any] = {"image": image, "mask": tile.kind_mask, "bboxes": tile.boxes}
        for change in self._that_fit(image, self._with_boxes):
            now |= change(**now) if change.processors else change(image=now["image"])
        return replace(
            tile,
            pixels=_stacked([now["image"]], tile.pixels[None])[0],
            kind_mask=np.ascontiguousarray(now["mask"]),
            boxes=np.asarray(now["bboxes"], np.float32).reshape(-1, 5),
        ).with_its_kind()

    def in_epoch(self, epoch: int) -> "Augment":
        """Return the same policy as it begins in an epoch: what happened in the epochs before does not matter."""
        return Augment(self.policy, seed=int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))

    def _change(self, image: Pixels) -> Pixels:
        for change in self._that_fit(image, self._changes):
            image = change(image=image)["image"]
        return image

    def _that_fit(self, image: Pixels, changes: Sequence[A.Compose]) -> list[A.Compose]:
        """The changes that keep the shape of an image (h, w, C): a quarter turn of an oblong one does not."""
        is_square = image.shape[0] == image.shape[1]
        return [change for number, change in enumerate(changes) if is_square or number not in self._turns]


def _changes_of(policy: str) -> list[A.BasicTransform]:
    flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    line = [
        A.RandomBrightnessContrast(brightness_limit=0.05, contrast_limit=0.05, p=0.5),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.2, 0.8), p=0.2),
        A.GaussNoise(std_range=(0.005, 0.015), p=0.3),
    ]
    jitter = _shaken(degrees=3, scale=0.03, shift=0.03, light=0.05)
    # Half of the tiles stay on their pixels: moving between pixels blurs, and what is inspected is not blurred.
    labelled = _shaken(degrees=10, scale=0.15, shift=0.05, light=0.1, share=0.5)
    turns = [*flips, A.RandomRotate90(p=1.0)]
    changes: dict[str, list[A.BasicTransform]] = {
        "none": [],
        "flips": flips,
        "turns": turns,
        "line": flips + line,
        "jitter": jitter,
        "jitter_turns": [*turns, *jitter],
        "labelled": labelled,
        "labelled_turns": [*turns, *labelled],
    }
    return changes[policy]


def _shaken(*, degrees: float, scale: float, shift: float, light: float, share: float = 1.0) -> list[A.BasicTransform]:
    """A piece that lies a little otherwise, for a share of the tiles, in slightly other light."""
    return [
        A.Affine(
            rotate=(-degrees, degrees),
            scale=(1 - scale, 1 + scale),
            keep_ratio=True,
            translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
            border_mode=cv2.BORDER_REFLECT_101,
            rotate_method="ellipse",  # the box of a turned box's corners would be far too large
            p=share,
        ),
        A.RandomBrightnessContrast(brightness_limit=light, contrast_limit=light, p=1.0),
    ]


def _stacked(images: Sequence[Pixels], like: Pixels) -> Pixels:
    """Stack images (h, w) or (h, w, C) into tiles (N, C, h, w)."""
    count, channels, height, width = like.shape
    return np.ascontiguousarray(np.stack(images).reshape(count, height, width, channels).transpose(0, 3, 1, 2))


def _moving(change: A.BasicTransform) -> A.Compose:
    """Let boxes go along with a change that moves pixels."""
    follow = A.BboxParams(format="pascal_voc", min_visibility=LEAST_LEFT, clip=True)
    return A.Compose([change], bbox_params=follow if isinstance(change, A.DualTransform) else None)
