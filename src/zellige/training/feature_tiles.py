"""Training tiles as features of a detector's frozen part: embedded once and kept on disk, or anew in every epoch.

On a CPU the frozen backbone takes most of an epoch. Where no augmentation changes the tiles its features are always
the same, so they are kept as float16 in one file of bounded size. Shapes: N tiles in a batch.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zellige.core.errors import InputError
from zellige.data.augment import Augment
from zellige.data.labelled_dataset import LabelledDataset, LabelledTiles
from zellige.models.detector import Features, Targets

_LARGEST_HALF = 65504.0

Batch = tuple[Features, Targets]


class FeatureTiles:
    """The tiles of some of a data set's images; call `first_pass` before anything else, and `close` at the end.

    An entry is what an epoch shuffles: a tile where features are kept, an image where they are not.
    """

    def __init__(
        self,
        dataset: LabelledDataset,
        images: Sequence[int],
        embed: Callable[[Tensor], Features],
        *,
        device: torch.device,
        batch_size: int,
        cache: Path,
        most_bytes: int,
    ) -> None:
        """Say which images and where features are kept.

        Args:
            dataset: of all images; where it augments, nothing is kept.
            images: indices into it.
            embed: the frozen part: uint8 (N, C, h, w) to features.
            device: of the frozen part.
            batch_size: tiles in a batch.
            cache: the file for features.
            most_bytes: largest size of that file; a set that does not fit is embedded anew in every epoch.
        """
        self.num_left_out = 0
        """Defective images without a mask that are cut into several tiles."""
        self.num_bytes = 0
        self._dataset, self._embed, self._device, self._batch_size = dataset, embed, device, batch_size
        self._images = {False: [i for i in images if not dataset.samples[i].is_defective]}
        self._images[True] = [i for i in images if dataset.samples[i].is_defective]
        self._cache: Path | None = None if _changes(dataset.augment) else cache
        self._most_bytes = most_bytes
        self._shapes: list[torch.Size] = []
        self._tiles_of: dict[int, int] = {}
        self._known: list[tuple[bool, bool, bytes | None]] = []
        self._owners: list[int] = []
        self._rows = np.zeros(0, np.int64)
        self._digest = hashlib.sha256()

    @property
    def num_images(self) -> int:
        return sum(len(images) for images in self._images.values())

    @property
    def num_defects(self) -> int:
        """Labelled defective images that are learned from."""
        return len(self._images[True]) - self.num_left_out

    @property
    def num_tiles(self) -> int:
        return sum(self._tiles_of.values())

    @property
    def is_kept(self) -> bool:
        """Whether the features are on disk."""
        return self._cache is not None

    def first_pass(self, advance: Callable[[], None], *, seed: int) -> Iterator[tuple[Features, list[int]]]:
        """Embed every tile once, unchanged, keep what may be kept, and yield the features of good images.

        Each batch comes with the numbers of the images that its tiles are of. Whoever compares good images while they
        pass by must not meet them roll by roll, so the seed decides their order; entries are in the data set's order.
        `advance` is called once per image.
        """
        if self._cache is not None:
            self._cache.write_bytes(b"")
        good = self._images[False]
        shuffled = [good[place] for place in np.random.default_rng(seed).permutation(len(good))]
        for is_defective, images in ((False, shuffled), (True, self._images[True])):
            for tiles in self._pixels(images, None, advance):
                features = self._embed(torch.from_numpy(tiles.pixels).to(self._device))
                self._keep(features, tiles)
                if not is_defective:
                    yield features, tiles.owners.tolist()
        self._rows = np.argsort(self._owners, kind="stable")
        self._known = [self._known[row] for row in self._rows]
        self._tiles_of = dict(sorted(self._tiles_of.items()))

    def fingerprint(self) -> str:
        """Hash of all features and labels of the first pass."""
        return self._digest.hexdigest()

    def num_steps(self, defect_share: float) -> int:
        """Count the batches of an epoch."""
        order, sizes = self._entries(defect_share)
        return -(-int(sizes[order].sum()) // self._batch_size)

    def epoch(self, epoch: int, *, seed: int, defect_share: float, steps: int) -> Iterator[Batch]:
        """Yield the first `steps` batches of one epoch, in an order that seed and epoch decide."""
        order, _ = self._entries(defect_share)
        shuffled = np.random.default_rng([seed, epoch]).permutation(order)
        augment = self._dataset.augment.in_epoch(epoch) if self._dataset.augment is not None else None
        yield from islice(self._batches(shuffled, augment), steps)

    def in_order(self) -> Iterator[Batch]:
        """Yield every tile once, unchanged."""
        _, sizes = self._entries(0.0)
        yield from self._batches(np.arange(len(sizes)), None)

    def close(self) -> None:
        """Remove the file of features."""
        if self._cache is not None:
            self._cache.unlink(missing_ok=True)

    def _entries(self, defect_share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries of an epoch, unshuffled, and the number of tiles of each entry that there is.

        Entries that show a defect are repeated until their tiles are at least `defect_share` of the good tiles.
        """
        if self.is_kept:
            is_defective = np.array([known[0] for known in self._known], np.bool_)
            sizes = np.ones(len(self._known), np.int64)
        else:
            is_defective = np.array([self._dataset.samples[i].is_defective for i in self._tiles_of], np.bool_)
            sizes = np.array(list(self._tiles_of.values()), np.int64)
        good, defective = np.flatnonzero(~is_defective), np.flatnonzero(is_defective)
        if len(defective) == 0:
            return good, sizes
        repeats = max(1, int(np.ceil(defect_share * sizes[good].sum() / sizes[defective].sum())))
        return np.concatenate([good, np.tile(defective, repeats)]), sizes

    def _batches(self, order: NDArray[np.int64], augment: Augment | None) -> Iterator[Batch]:
        if len(order) == 0:
            return
        if self._cache is not None:
            kept = np.memmap(self._cache, np.float16, "r", shape=(len(self._known), self._width))
            for start in range(0, len(order), self._batch_size):
                yield self._kept_batch(kept, order[start : start + self._batch_size])
        else:
            images = list(self._tiles_of)
            for tiles in self._pixels([images[i] for i in order], augment, lambda: None):
                with torch.no_grad():
                    features = self._embed(torch.from_numpy(tiles.pixels).to(self._device))
                yield features, self._to_device(tiles.masks, tiles.is_defective, tiles.has_mask)

    def _pixels(
        self, images: Sequence[int], augment: Augment | None, advance: Callable[[], None]
    ) -> Iterator["_PixelBatch"]:
        """Read images and yield their tiles in batches; counts the tiles of each image on the way."""
        waiting: list[_PixelBatch] = []
        for image in images:
            tiles = self._dataset.read(image, augment)
            advance()
            if tiles is None:
                self.num_left_out += 1
                continue
            self._tiles_of[image] = len(tiles.pixels)
            waiting.append(_PixelBatch.of(tiles, image))
            while sum(len(part.pixels) for part in waiting) >= self._batch_size:
                joined = _PixelBatch.joined(waiting)
                yield joined.part(0, self._batch_size)
                waiting = [joined.part(self._batch_size, len(joined.pixels))]
        if sum(len(part.pixels) for part in waiting):
            yield _PixelBatch.joined(waiting)

    def _keep(self, features: Features, tiles: "_PixelBatch") -> None:
        self._shapes = [stage.shape[1:] for stage in features]
        flat = torch.cat([stage.flatten(1) for stage in features], dim=1).clamp(-_LARGEST_HALF, _LARGEST_HALF)
        rows = flat.half().cpu().numpy()
        self._digest.update(rows.tobytes())
        self._owners += tiles.owners.tolist()
        for mask, is_defective, has_mask in zip(tiles.masks, tiles.is_defective, tiles.has_mask, strict=True):
            packed = np.packbits(mask).tobytes() if has_mask and is_defective else None
            self._known.append((bool(is_defective), bool(has_mask), packed))
            self._digest.update(repr(self._known[-1]).encode())
        if self._cache is None:
            return
        self.num_bytes += rows.nbytes
        if self.num_bytes > self._most_bytes:
            self.close()
            self._cache, self.num_bytes = None, 0
            return
        try:
            with self._cache.open("ab") as file:
                file.write(rows.tobytes())
        except OSError as error:
            raise InputError(
                f"features {self._cache}: cannot be written ({error.strerror}); set trainer.cache_mb=0"
            ) from None

    def _kept_batch(self, kept: NDArray[np.float16], entries: NDArray[np.int64]) -> Batch:
        flat = torch.from_numpy(kept[self._rows[entries]].astype(np.float32)).to(self._device)
        parts = torch.split(flat, [shape.numel() for shape in self._shapes], dim=1)
        features = tuple(part.view(len(entries), *shape) for part, shape in zip(parts, self._shapes, strict=True))
        geometry = self._dataset.geometry
        masks = np.zeros((len(entries), geometry.height, geometry.width), np.bool_)
        for mask, entry in zip(masks, entries, strict=True):
            if (packed := self._known[entry][2]) is not None:
                bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=mask.size)
                mask[:] = bits.reshape(mask.shape)
        is_defective, has_mask = (
            np.array([self._known[entry][part] for entry in entries], np.bool_) for part in (0, 1)
        )
        return features, self._to_device(masks, is_defective, has_mask)

    def _to_device(self, *parts: NDArray[np.bool_]) -> Targets:
        masks, is_defective, has_mask = (torch.from_numpy(part).to(self._device) for part in parts)
        return Targets(masks=masks.unsqueeze(1), is_defective=is_defective, has_mask=has_mask)

    @property
    def _width(self) -> int:
        return sum(shape.numel() for shape in self._shapes)


class _PixelBatch:
    """Tiles (N, C, h, w) of several images, with masks (N, h, w), flags (N,) and numbers of the images (N,)."""

    def __init__(self, *parts: NDArray[Any]) -> None:
        self.pixels, self.masks, self.is_defective, self.has_mask, self.owners = parts

    @classmethod
    def of(cls, tiles: LabelledTiles, image: int) -> "_PixelBatch":
        count = len(tiles.pixels)
        return cls(tiles.pixels, tiles.masks, tiles.is_defective, np.full(count, tiles.has_mask), np.full(count, image))

    @classmethod
    def joined(cls, batches: Sequence["_PixelBatch"]) -> "_PixelBatch":
        return cls(*(np.concatenate(parts) for parts in zip(*(batch._parts() for batch in batches), strict=True)))

    def part(self, start: int, stop: int) -> "_PixelBatch":
        return _PixelBatch(*(part[start:stop] for part in self._parts()))

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.pixels, self.masks, self.is_defective, self.has_mask, self.owners


def _changes(augment: Augment | None) -> bool:
    return augment is not None and augment.policy != "none"
