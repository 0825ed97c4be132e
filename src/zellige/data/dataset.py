"""From samples to the net's tiles: reads each image when it is asked for, in the declared color and geometry."""

import copy
import logging
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from zellige.core.image_files import read_sample
from zellige.core.registration import Shift
from zellige.core.tiling import Tiles, cut
from zellige.core.types import Color, Geometry, Sample
from zellige.data.augment import Augment

log = logging.getLogger(__name__)


class TileDataset:
    """The tiles of each sample, by position; nothing is kept in memory."""

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        geometry: Geometry,
        color: Color,
        augment: Augment | None = None,
        defects: Sequence[Sample] = (),
    ) -> None:
        """Say what to read.

        Args:
            samples: good samples where the tiles are for training.
            geometry, color: how each image is seen.
            augment: changes training tiles; None leaves them alone.
            defects: labelled defective samples for detectors that learn from them (see labelled_dataset.py); they are
                not among the samples.
        """
        self.samples = tuple(samples)
        self.defects = tuple(defects)
        self.geometry = geometry
        self.color = color
        self.augment = augment
        self._warned: dict[str, str] = {}
        self._shifts: dict[str, Shift] = {}  # of templates, by sample: found when it is first read

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tiles:
        """Read one sample's image and cut it.

        Raises:
            InputError: see `cut`.
        """
        return self.cut(self.samples[index])

    def cut(self, sample: Sample) -> Tiles:
        """Read an image, and its template where it has one, and cut it as those of this data set.

        Raises:
            InputError: the image or its template is gone, damaged, of another color, smaller than a tile, or of a size
                that the declared regions do not fit; a template that does not fit its image.
        """
        tiles = cut(read_sample(sample, color=self.color), self.geometry, shift=self._shifts.get(sample.id))
        if tiles.shift is not None:
            self._shifts[sample.id] = tiles.shift
        if tiles.roi is not None and tiles.roi.warning:
            self._warned[sample.id] = tiles.roi.warning
        return tiles

    def warn(self, what: str) -> None:
        """Log, in one line, how many images are inspected with their background, since the part was not found."""
        if self._warned:
            first, reason = min(self._warned.items())
            log.warning("%s: %d images, first %s: %s", what, len(self._warned), first, reason)

    def only(self, indices: Sequence[int]) -> "TileDataset":
        """Return this data set with some of its samples, in the order of `indices`."""
        fewer = copy.copy(self)
        fewer.samples = tuple(self.samples[index] for index in indices)
        return fewer

    def shuffled_batches(
        self, batch_size: int, *, seed: int, advance: Callable[[], None], copies: int = 0
    ) -> Iterator[Tensor]:
        """Yield uint8 tile batches (<= batch_size, C, h, w) of all samples in a seeded order, augmented.

        With `copies` each image comes once as it is and so many times augmented. `advance` is called once per image
        and per copy, for a progress bar.
        """
        batches = self.owned_batches(batch_size, seed=seed, advance=advance, copies=copies)
        return (tiles for tiles, _ in batches)

    def owned_batches(
        self, batch_size: int, *, seed: int, advance: Callable[[], None], copies: int = 0
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """Yield what `shuffled_batches` does, each with the numbers of the samples that its tiles are of."""
        order = np.random.default_rng(seed).permutation(len(self) * (1 + copies))
        waiting: list[np.ndarray] = []
        owners: list[int] = []
        for place in order:
            copy_number, index = divmod(int(place), len(self))
            tiles = self[index].pixels
            is_as_it_is = copies > 0 and copy_number == 0
            waiting.append(self.augment(tiles) if self.augment and not is_as_it_is else tiles)
            owners += [index] * len(tiles)
            advance()
            while len(owners) >= batch_size:
                stacked = np.concatenate(waiting)
                yield torch.from_numpy(stacked[:batch_size]), owners[:batch_size]
                waiting, owners = [stacked[batch_size:]], owners[batch_size:]
        if owners:
            yield torch.from_numpy(np.concatenate(waiting)), owners

    def without(self, numbers: Collection[int]) -> "TileDataset":
        """Return this data set without the samples of these numbers."""
        return self.only([number for number in range(len(self)) if number not in numbers])
