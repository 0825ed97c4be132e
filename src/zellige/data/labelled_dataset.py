"""Training tiles with what is known of them: good ones, and defective ones with a mask or with a label alone.

Boxes are not read: a box would have to become a mask first.
"""

from dataclasses import dataclass

import numpy as np

from zellige.core.image_files import Mask, read_mask
from zellige.core.tiling import Tiles, cut_alike
from zellige.core.types import Pixels, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset

_COVERED = 32
"""Gray level, of 255, from which a pixel of a resized mask is defective: an eighth of its area."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledTiles:
    """The tiles of one image, uint8 (N, C, h, w), with their labels.

    `masks` (N, h, w) bool is true on the defect and counts only where `has_mask`; `is_defective` (N,) bool.
    """

    pixels: Pixels
    masks: Mask
    is_defective: Mask
    has_mask: bool

    def __post_init__(self) -> None:
        assert len(self.pixels) == len(self.masks) == len(self.is_defective)


class LabelledDataset:
    """The good and the defective images of a training set, by position: the good ones first."""

    def __init__(self, tiles: TileDataset) -> None:
        self.samples = tiles.samples + tiles.defects
        self.augment = tiles.augment
        self.geometry = tiles.geometry
        self._tiles = tiles

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, augment: Augment | None = None) -> LabelledTiles | None:
        """Read one image and what is known of its tiles.

        Returns:
            None for a defective image that can teach nothing: without a mask and cut into several tiles, so that nobody
            knows which of them show the defect; or with a defect of which nothing is inspected.

        Raises:
            InputError: an image or a mask that cannot be read, or that do not fit each other.
        """
        sample, geometry = self.samples[index], self.geometry
        tiles = self._tiles.cut(sample)
        pixels = tiles.pixels
        drawn = None if sample.mask_path is None else read_mask(sample.mask_path, tiles.frame_size)
        if drawn is not None and tiles.roi is not None:
            if drawn.any() and not (drawn & tiles.roi.inspected).any():
                return None
            drawn &= tiles.roi.inspected
        masks = _masks(sample, drawn, tiles)
        if masks is None and len(pixels) > 1:
            return None
        known = np.zeros((len(pixels), geometry.height, geometry.width), np.bool_) if masks is None else masks
        is_defective = np.ones(1, np.bool_) if masks is None else np.asarray(masks.any(axis=(1, 2)))
        if augment is not None:
            pixels, known = augment.with_masks(pixels, known)
        return LabelledTiles(pixels=pixels, masks=known, is_defective=is_defective, has_mask=masks is not None)


def _masks(sample: Sample, drawn: Mask | None, tiles: Tiles) -> Mask | None:
    """Masks (N, h, w) of a frame's tiles, None where nobody drew one."""
    if not sample.is_defective:
        return np.zeros((len(tiles.pixels), *tiles.pixels.shape[2:]), np.bool_)
    if drawn is None:
        return None
    levels = cut_alike(drawn.astype(np.uint8) * 255, tiles)[:, 0]
    masks = levels >= _COVERED
    if not masks.any():
        masks = levels > 0  # a defect smaller than an eighth of every pixel
    return masks if masks.any() else None
