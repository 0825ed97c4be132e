"""Batches of labelled tiles for a supervised fit, made ahead in threads; who makes them does not change them.

Shapes: B tiles (C, h, w).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from zellige.data.labelled_tile import LabelledTile
from zellige.data.supervised_tiles import Drawing, SupervisedTiles
from zellige.models.detector import KindTargets

Batch = tuple[Tensor, KindTargets]
"""Images uint8 (B, C, h, w) and what is known of them."""

_AHEAD = 2
"""Batches that each worker makes ahead."""


def drawn_batches(
    tiles: SupervisedTiles,
    order: Sequence[tuple[int, int]],
    *,
    seed: Sequence[int],
    how: Drawing,
    batch_size: int,
    num_workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Draw the tiles of an epoch.

    Args:
        tiles: where from.
        order: of each tile its place in the epoch of all processes and the number of its image.
        seed: of the epoch; with a tile's place it decides where the tile lies and how it is changed.
        how: how each tile is drawn.
        batch_size: tiles in a batch; the last may hold fewer.
        num_workers: threads; 0 makes each batch when it is asked for.
        device: of the batches.
    """

    def draw(place: int, index: int) -> LabelledTile:
        return tiles.draw(index, how, seed=(*seed, place))

    def make(start: int) -> Batch:
        return collate([draw(place, index) for place, index in order[start : start + batch_size]])

    for batch in _made_ahead(make, range(0, len(order), batch_size), num_workers):
        yield to_device(batch, device)


def tiles_in_order(
    tiles: SupervisedTiles, images: Sequence[int], *, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Cut every tile of some images once, unchanged, as evaluation does."""
    every = (tile for index in images for tile in tiles.tiles_of(index))
    while part := list(islice(every, batch_size)):
        yield to_device(collate(part), device)


def collate(tiles: Sequence[LabelledTile]) -> Batch:
    """Stack tiles of one size and fill their boxes up to as many as one of them has, one row at least."""
    boxes = np.zeros((len(tiles), max(1, *(len(tile.boxes) for tile in tiles)), 5), np.float32)
    for row, tile in zip(boxes, tiles, strict=True):
        row[: len(tile.boxes)] = tile.boxes
    truth = KindTargets(
        kind_masks=torch.from_numpy(np.stack([tile.kind_mask for tile in tiles])),
        has_mask=torch.tensor([tile.has_mask for tile in tiles]),
        kind=torch.tensor([tile.kind for tile in tiles]),
        boxes=torch.from_numpy(boxes),
        has_boxes=torch.tensor([tile.has_boxes for tile in tiles]),
    )
    return torch.from_numpy(np.stack([tile.pixels for tile in tiles])), truth


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Bring a batch to where the detector is."""
    images, truth = batch
    return images.to(device), KindTargets(*(part.to(device) for part in truth))


def _made_ahead(make: Callable[[int], Batch], starts: Sequence[int], num_workers: int) -> Iterator[Batch]:
    """Make batches in their order, some ahead of the one that is asked for."""
    if num_workers == 0:
        yield from map(make, starts)
        return
    pool, waiting = ThreadPoolExecutor(max_workers=num_workers), deque[Future[Batch]]()
    try:
        for start in starts:
            waiting.append(pool.submit(make, start))
            if len(waiting) > _AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
