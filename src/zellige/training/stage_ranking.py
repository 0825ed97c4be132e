"""Rank subsets of backbone stages by how well their distances tell anomalous tiles and pixels from good ones.

Everything is a number per anomaly, so that two subsets are compared anomaly by anomaly:

- the share of good tiles that score lower (its mean over anomalies is the image AUROC);
- the area under the anomaly's overlap curve up to 30 % false-positive pixels (its mean over anomalies is the AUPRO,
  with one region per anomaly and the pixels of good tiles as the good ones).

Shapes: N tiles, P sampled pixels each; per stage a grid h x w of patches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from zellige.models.patch_scores import PatchScores

Floats = NDArray[np.float64]
Subset = tuple[int, ...]

FPR_LIMIT = 0.3
_CHUNK = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """What a detector of some stages says of N tiles: `scores` (N,) and `pixels` (N, P), its map at sampled pixels."""

    scores: Floats
    pixels: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetScore:
    """How well one subset finds the anomalies; 1 is all, 0.5 (image) and 0.15 (pixels) is by chance.

    `behind` is how much the best subset's criterion is higher, `standard_error` that difference's over the images.
    """

    stages: Subset
    criterion: float
    image_auroc: float
    aupro: float
    behind: float
    standard_error: float
    by_kind: dict[str, float]


def all_subsets(stages: Sequence[int]) -> list[Subset]:
    """List every non-empty subset, ascending within each."""
    return list(chain.from_iterable(combinations(stages, size) for size in range(1, len(stages) + 1)))


def look(pool: PatchScores, gaps: Sequence[Tensor], size: tuple[int, int], positions: Tensor) -> Looked:
    """Score tiles as a detector of these stages does.

    Args:
        pool: joins the stages.
        gaps: distances (N, 1, h, w) per stage, the finest first.
        size: (H, W) of the maps.
        positions: (N, P) int64, flat indices into them.
    """
    scores, pixels = [], []
    for start in range(0, len(positions), _CHUNK):
        part = slice(start, start + _CHUNK)
        output = pool([gap[part] for gap in gaps], size)
        scores.append(output.score)
        pixels.append(output.anomaly_map.flatten(1).gather(1, positions[part]))
    return Looked(scores=torch.cat(scores).double().cpu().numpy(), pixels=torch.cat(pixels).double().cpu().numpy())


def image_ranks(good: Looked, bad: Looked) -> Floats:
    """Share of good tiles that score lower than each anomaly (N,); ties count half."""
    ordered = np.sort(good.scores)
    below, up_to = (np.searchsorted(ordered, bad.scores, side) for side in ("left", "right"))
    return np.asarray((below + up_to) / 2 / len(ordered), np.float64)


def overlaps(good: Looked, bad: Looked) -> Floats:
    """Area under each anomaly's overlap curve up to `FPR_LIMIT`, divided by it (N,).

    A pixel that is found from a false-positive rate f on adds (FPR_LIMIT - f) / FPR_LIMIT, or nothing beyond it.
    """
    ordered = np.sort(good.pixels.ravel())
    above = 1 - np.searchsorted(ordered, bad.pixels, side="left") / ordered.size
    return np.asarray(np.clip(1 - above / FPR_LIMIT, 0, None).mean(axis=1), np.float64)


def rank(
    results: Iterable[tuple[Subset, Floats, Floats]], kinds: NDArray[np.str_], sources: NDArray[np.int64]
) -> list[SubsetScore]:
    """Turn image ranks and overlaps (N,) per subset into a table, the highest criterion first.

    Args:
        results: subset, `image_ranks`, `overlaps`.
        kinds: (N,) kind of each anomaly; every kind weighs the same.
        sources: (N,) number of the image that each anomaly was put into; the standard error is over these.
    """
    listed = list(results)
    names, place = np.unique(kinds, return_inverse=True)
    weights = 1 / (len(names) * np.bincount(place)[place])
    both = {stages: (image + pixel) / 2 for stages, image, pixel in listed}
    best = max(both.values(), key=lambda values: float(weights @ values))
    table = [
        SubsetScore(
            stages=stages,
            criterion=float(weights @ both[stages]),
            image_auroc=float(weights @ image),
            aupro=float(weights @ pixel),
            behind=float(weights @ (best - both[stages])),
            standard_error=standard_error(weights * (best - both[stages]), sources),
            by_kind={str(name): float(both[stages][kinds == name].mean()) for name in names},
        )
        for stages, image, pixel in listed
    ]
    return sorted(table, key=lambda row: (-row.criterion, len(row.stages), row.stages))


def choose(table: Sequence[SubsetScore], default: Subset, num_sources: int) -> Subset:
    """Keep the default unless the best subset beats it for certain; then take the cheapest that is as good as the best.

    Certain: the default is behind by more than the two-sided 95 % interval of the difference (Student's t over the
    images that the anomalies were put into, as if independent; never with a single one). As good: behind by at most one
    standard error. Cheapest: the fewest stages, then the least deep (the backbone is run that far), then the highest
    criterion.

    What was tried and rejected: taking the best, or the cheapest that is as good, without asking for certainty. On real
    defects both were worse than the default; docs/guide/training.md has the figures.
    """
    kept = next(row for row in table if row.stages == default)
    if num_sources < 2 or kept.behind <= float(stats.t.ppf(0.975, num_sources - 1)) * kept.standard_error:
        return default
    near = [row for row in table if row.behind <= row.standard_error]
    return min(near, key=lambda row: (len(row.stages), row.stages[-1], -row.criterion)).stages


def standard_error(contributions: Floats, sources: NDArray[np.int64]) -> float:
    """Standard error of a sum of contributions (N,) whose parts from one source belong together."""
    _, place = np.unique(sources, return_inverse=True)
    sums = np.bincount(place, contributions)
    return float(np.sqrt(len(sums)) * sums.std(ddof=1)) if len(sums) > 1 else 0.0
