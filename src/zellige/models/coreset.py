"""Choose a small set of feature vectors that lies close to all of them: a streaming k-center cover.

PatchCore (Roth et al. 2022, arXiv:2106.08265) selects greedily over all patches of all images at once, which takes
N x M distance updates and holds every patch in memory. Here patches arrive in chunks and only those farther than the
present radius from every kept vector are looked at; when twice the wanted number is kept, the kept ones are thinned
greedily and the radius grows (after Charikar et al. 1997, "Incremental clustering and dynamic information
retrieval"; a merge of greedy covers of parts is a cover of the whole). Distances are taken after a random projection
(Johnson-Lindenstrauss), as in the paper.

Shapes: N vectors of D features arrive, M are kept, K is the projected size.
"""

import numpy as np
import torch
from torch import Tensor

from zellige.core.errors import ConfigError

_BLOCK = 256
_CENTERS = 1024
"""Kept vectors that are compared at a time: most arriving ones are near to some of the first, and need no others."""
_AHEAD = 128
"""Candidates that are looked at together: one product with many centers is many times as fast as many with one."""


class StreamingCoreset:
    """Keeps at most `size` of all vectors that were added; memory is 2 x size + one chunk, however many come."""

    def __init__(
        self, size: int, *, projected: int = 48, seed: int = 0, chunk: int = 8192, base: Tensor | None = None
    ) -> None:
        """Say how much to keep.

        Args:
            size: most vectors to keep.
            projected: width in which distances are taken.
            seed: of the projection and the start.
            chunk: vectors that are looked at together.
            base: vectors (M, D) that are kept already and stay; `size` counts those that join them, and a vector joins
                only where it is farther from all than those of the base are from each other.
        """
        if size < 1 or projected < 1:
            raise ConfigError(f"coreset: expected size and projection >= 1, got {size} and {projected}")
        self.size = size
        self.radius = 0.0
        """Farthest that a seen vector may lie from the kept ones in the projection, by the last look at it."""
        self._projected = projected
        self._chunk = chunk
        self._generator = torch.Generator().manual_seed(seed)
        self._matrix: Tensor | None = None
        self._kept: Tensor | None = None
        self._kept_small: Tensor | None = None
        self._base_small: Tensor | None = None
        if base is not None:
            self._base_small = self._project(base)
            self._kept, self._kept_small = base[:0], self._base_small[:0]
            self.radius = least_spacing(self._base_small)

    def add(self, features: Tensor) -> None:
        """Offer vectors (N, D) float32."""
        for chunk in torch.split(features, self._chunk):
            self._add_chunk(chunk)

    def selected(self) -> Tensor:
        """Return the kept vectors (M, D), M <= size, without those of the base."""
        assert self._kept is not None, "nothing was added"
        self._thin_to(self.size)
        return self._kept

    def _add_chunk(self, chunk: Tensor) -> None:
        small = self._project(chunk)
        if self._kept is None or self._kept_small is None:
            first = int(torch.randint(len(chunk), (1,), generator=self._generator))
            self._kept, self._kept_small = chunk[first : first + 1].clone(), small[first : first + 1].clone()
        far, gap = self._far_from_kept(small)
        chunk, small = chunk[far], small[far]
        while len(chunk):
            room = 2 * self.size - len(self._kept)
            order, gap = greedy_cover(small, gap, room, self.radius)
            self._kept = torch.cat([self._kept, chunk[order]])
            self._kept_small = torch.cat([self._kept_small, small[order]])
            if len(self._kept) < 2 * self.size:
                return
            self._thin_to(self.size)
            far, gap = self._far_from_kept(small)
            chunk, small = chunk[far], small[far]

    def _thin_to(self, size: int) -> None:
        assert self._kept is not None
        assert self._kept_small is not None
        if len(self._kept) <= size:
            return
        small = self._kept_small
        if self._base_small is None:
            order, gap = greedy_cover(small, distance_to_nearest(small, small[:1]), size - 1, 0.0)
            order = torch.cat([order.new_zeros(1), order])
        else:
            order, gap = greedy_cover(small, distance_to_nearest(small, self._base_small), size, 0.0)
        self.radius = max(self.radius, float(gap.max()))
        self._kept, self._kept_small = self._kept[order], small[order]

    def _far_from_kept(self, small: Tensor) -> tuple[Tensor, Tensor]:
        """Find the projected vectors (N, K) farther than the radius from all kept ones: indices and distances."""
        assert self._kept_small is not None
        kept = self._kept_small if self._base_small is None else torch.cat([self._base_small, self._kept_small])
        far, gap = torch.arange(len(small), device=small.device), small.new_full((len(small),), float("inf"))
        for some in torch.split(kept, _CENTERS):
            gap = torch.minimum(gap, distance_to_nearest(small[far], some))
            is_far = gap > self.radius
            far, gap = far[is_far], gap[is_far]
        return far, gap

    def _project(self, features: Tensor) -> Tensor:
        if self._matrix is None:
            wide = features.shape[1]
            narrow = min(self._projected, wide)
            noise = torch.randn(wide, narrow, generator=self._generator) / narrow**0.5
            self._matrix = (torch.eye(wide) if narrow == wide else noise).to(features.device)
        return features @ self._matrix


def greedy_cover(points: Tensor, gap: Tensor, most: int, radius: float) -> tuple[Tensor, Tensor]:
    """Take the farthest point again and again until all lie within `radius` or `most` are taken.

    Args:
        points: (N, K) float32.
        gap: (N,) distance of each point to what is already taken elsewhere.

    Returns:
        Indices of the points taken, in order, and the distances (N,) afterwards.
    """
    norms, square = points.square().sum(1), gap.square()
    taken = torch.empty(0, dtype=torch.long, device=points.device)
    while len(taken) < min(most, len(points)):
        ahead, candidates = square.topk(min(_AHEAD + 1, len(points)))
        # Gaps only shrink: while the farthest candidate is beyond all that are not candidates, it is the farthest.
        floor = float(ahead[-1]) if len(ahead) > _AHEAD else 0.0
        candidates = candidates[:_AHEAD]
        new = candidates[_farthest_first(points[candidates], ahead[:_AHEAD], floor, radius**2, most - len(taken))]
        if not len(new):
            break
        taken = torch.cat([taken, new])
        square = torch.minimum(square, distance_to_nearest(points, points[new], norms).square())
        square[new] = 0.0
    return taken, square.sqrt()


def _farthest_first(points: Tensor, square: Tensor, floor: float, limit: float, most: int) -> Tensor:
    """Take the farthest of a few points again and again while it is no nearer than `floor` and beyond `limit`."""
    between = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square().cpu().numpy()
    left, taken = square.cpu().numpy().copy(), list[int]()
    while len(taken) < most:
        farthest = int(left.argmax())
        if left[farthest] <= limit or left[farthest] < floor:
            break
        taken.append(farthest)
        np.minimum(left, between[farthest], out=left)
    return torch.tensor(taken, dtype=torch.long, device=points.device)


def distance_to_nearest(points: Tensor, centers: Tensor, norms: Tensor | None = None) -> Tensor:
    """Euclidean distance (N,) of each point (N, K) to the nearest of the centers (M, K).

    `norms` (N,) are the points' squared norms, where they are known already.
    """
    norms = points.square().sum(1) if norms is None else norms
    half, gaps = centers.square().sum(1) / 2, torch.empty_like(norms)
    # Blocks whose table of distances stays in the cache, and one table for all: new memory costs more than the sums.
    table = points.new_empty(min(_BLOCK, len(points)), len(centers))
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        products = torch.addmm(half, block, centers.T, alpha=-1.0, out=table[: len(block)])
        torch.amin(products, 1, out=gaps[start : start + _BLOCK])
    return (norms + 2 * gaps).clamp_(min=0.0).sqrt()


def least_spacing(points: Tensor) -> float:
    """Smallest distance between two of the points (M, K); 0 for a single one.

    A greedy cover leaves nothing farther than this from its points: the next point would have been taken before.
    """
    if len(points) < 2:
        return 0.0
    half = points.square().sum(1) / 2
    least = points.new_tensor(float("inf"))
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        table = torch.addmm(half, block, points.T, alpha=-1.0) + half[start : start + _BLOCK, None]
        rows = torch.arange(len(block), device=points.device)
        table[rows, rows + start] = float("inf")
        least = torch.minimum(least, table.amin())
    return float((2 * least).clamp_(min=0.0).sqrt())
