"""How large the difference of two detectors' AUROC has to be before it means anything."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from zellige.core.errors import InputError
from zellige.core.types import GOOD


def difference_noise(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    is_defective: NDArray[np.bool_],
    groups: Sequence[str],
) -> float:
    """Estimate the standard error of the difference of two mean AUROCs over the same images and the same seeds.

    Two sources are added as variances. The images: had other pieces come to the test, both detectors would have met
    other pieces; what an image adds to the difference is its placement value. Images of a group are taken together, or
    one by one where that gives more. The seeds: the spread of the differences, seed by seed; with one seed it is not
    known and left out.

    Args:
        first: (S, N) scores of one detector, a row per seed, higher = worse.
        second: (S, N) scores of the other one, of the same images and seeds in the same order.
        is_defective: (N,) bool.
        groups: N group ids; images of one group are not independent.

    Returns:
        The standard error, 0 or more; NaN unless both classes are there.

    Raises:
        InputError: arrays that do not fit each other.

    Source: E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988) 837-845, in the form of N. A.
    Obuchowski, Biometrics 53 (1997) 567-578 for groups.

    Example:
        >>> scores = np.array([[0.1, 0.2, 0.3, 0.9]])
        >>> difference_noise(scores, scores, np.array([False, False, True, True]), ["a", "b", "c", "d"])
        0.0
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[1:] != is_defective.shape:
        raise InputError(
            f"difference: expected scores of the same seeds and images, got {first.shape}, {second.shape} and "
            f"{is_defective.shape} labels"
        )
    if is_defective.all() or not is_defective.any():
        return math.nan
    placed = placements(first, is_defective) - placements(second, is_defective)  # (S, N)
    of_seeds = _variance_of_mean(placed[:, is_defective].mean(1))
    return math.sqrt(of_seeds + _variance_of_images(placed.mean(0), is_defective, groups))


def unpaired_difference_noise(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    is_defective: NDArray[np.bool_],
    groups: Sequence[str],
) -> float:
    """Estimate the same as `difference_noise` where the fits of the two detectors have no seeds in common.

    The images are the same for both, so they are still taken together; the fits' variances are added. The fits of a
    detector that was fitted once are left out.

    Args:
        first: (S, N) scores of one detector, a row per fit, higher = worse.
        second: (T, N) scores of the other one, of the same images in the same order.
        is_defective: (N,) bool.
        groups: N group ids; images of one group are not independent.

    Returns:
        The standard error, 0 or more; NaN unless both classes are there.

    Raises:
        InputError: arrays that do not fit each other.

    Example:
        >>> scores = np.array([[0.1, 0.2, 0.3, 0.9]])
        >>> unpaired_difference_noise(scores.repeat(3, 0), scores, np.array([False, False, True, True]), list("abcd"))
        0.0
    """
    shapes = first.shape, second.shape
    if any(len(shape) != 2 or shape[0] == 0 or shape[1:] != is_defective.shape for shape in shapes):
        raise InputError(
            f"difference: expected scores of the same images, got {first.shape}, {second.shape} and "
            f"{is_defective.shape} labels"
        )
    if is_defective.all() or not is_defective.any():
        return math.nan
    placed = [placements(scores, is_defective) for scores in (first, second)]
    of_fits = sum(_variance_of_mean(one[:, is_defective].mean(1)) for one in placed)
    return math.sqrt(of_fits + _variance_of_images(placed[0].mean(0) - placed[1].mean(0), is_defective, groups))


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    """Variance of the mean of independent numbers; 0 for a single one, whose scatter is not known."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _variance_of_images(gaps: NDArray[np.float64], is_defective: NDArray[np.bool_], groups: Sequence[str]) -> float:
    """Variance of the difference of two AUROCs over other images, from each image's (N,) difference of placements."""
    num_defective = int(is_defective.sum())
    share = np.where(is_defective, num_defective, len(is_defective) - num_defective)
    influence = (gaps - gaps[is_defective].mean()) / share
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    by_group = np.bincount(group_of, weights=influence).astype(np.float64)
    # Two or three groups say little about their own scatter; then the pieces alone are the safer guide.
    return max(_variance_of_sum(by_group), _variance_of_sum(influence))


def _variance_of_sum(parts: NDArray[np.float64]) -> float:
    """Variance of the sum of independent parts with mean zero, from the parts themselves."""
    return float(np.square(parts).sum()) * len(parts) / max(len(parts) - 1, 1)


def placements(scores: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Place each image among those of the other class: the share of them that it is ranked rightly against.

    The mean over the defective images is the AUROC, and so is the mean over the good ones.

    Args:
        scores: (S, N), higher = worse; ties count half.
        is_defective: (N,) bool, both classes present.

    Returns:
        (S, N) in [0, 1].

    Example:
        >>> placements(np.array([[0.1, 0.4, 0.4, 0.9]]), np.array([False, False, True, True]))
        array([[1.  , 0.75, 0.75, 1.  ]])
    """
    placed = np.empty(scores.shape)
    overall = stats.rankdata(scores, axis=1)
    for label in (True, False):
        own = is_defective == label
        among_own = stats.rankdata(scores[:, own], axis=1)
        below = (overall[:, own] - among_own) / np.count_nonzero(~own)
        placed[:, own] = below if label else 1.0 - below
    return placed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredScores:
    """The scores that a run gave to its TEST images, in the order of their ids."""

    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    """(N,), higher = worse."""
    is_defective: NDArray[np.bool_]
    """(N,)"""
    groups: tuple[str, ...]


def read_scores(path: Path) -> StoredScores:
    """Read what `evaluation.predictions_csv.write_predictions_csv` wrote.

    Raises:
        InputError: no such file, or not such a file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["id"])
        return StoredScores(
            ids=tuple(row["id"] for row in rows),
            scores=np.array([float(row["score"]) for row in rows]),
            is_defective=np.array([row["kind"] != GOOD for row in rows], dtype=np.bool_),
            groups=tuple(row["group"] for row in rows),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"scores {path}: expected the table of a run's test images ({error})") from None
