"""Rank unlabelled images by how useful a label of theirs would be: near the threshold, unlike what is known, or drawn.

Uncertainty is counted in images, not in units of the score: how many lie between an image and the threshold. Half of
the count is over VAL, the other half over the images to rank themselves: VAL often holds good images alone, and
without the second half all that scores above them would be equally uncertain, a hole as well as a doubtful shade.

Novelty is greedy k-center (Sener and Savarese 2018, "Active learning for convolutional neural networks: a core-set
approach", arXiv:1708.00489): the distance to the nearest image that is labelled or was suggested before, as the share
of the folder that was nearer than this to the labelled images at the start. Both measures are ranks from 0 to 1, so
that their weights mean the same for every detector and backbone.

Shapes: N images to rank, M labelled ones, D features.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zellige.models.coreset import distance_to_nearest

Values = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubt:
    """`uncertainty` (N,) from 0 to 1, 1 at the threshold; `num_between` (N,) images of VAL between it and the image."""

    uncertainty: Values
    num_between: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An image by its number; `novelty` is from 0 to 1, when it was chosen."""

    index: int
    novelty: float
    is_random: bool


def doubt_of(scores: Values, val_scores: Values, *, accept_score: float, reject_score: float) -> Doubt:
    """Say how near scores (N,) lie to the threshold; within the undecided band nothing is nearer.

    Args:
        scores: of the images to rank.
        val_scores: (V,) at least one.
        accept_score, reject_score: ends of the undecided band; equal where there is none.
    """
    val = _num_between(val_scores, scores, accept_score, reject_score)
    shares = (val / len(val_scores) + _num_between(scores, scores, accept_score, reject_score) / len(scores)) / 2
    below = (np.mean(val_scores <= accept_score) + np.mean(scores <= accept_score)) / 2
    above = (np.mean(val_scores > reject_score) + np.mean(scores > reject_score)) / 2
    most = max(float(below), float(above))
    return Doubt(uncertainty=1.0 - shares / most if most > 0 else np.ones(len(scores)), num_between=val)


def choose(
    uncertainty: Values,
    features: Vectors,
    labelled: Vectors,
    number: int,
    *,
    weights: tuple[float, float] = (0.5, 0.5),
    random_share: float = 0.1,
    seed: int = 0,
) -> list[Chosen]:
    """Choose images one after the other, the most useful first, with images drawn at random evenly between them.

    Args:
        uncertainty: (N,) from 0 to 1.
        features: (N, D) in units in which distances can be compared; D may be 0, then nothing is novel.
        labelled: (M, D) of the images that have labels, at least one.
        number: how many; all where there are fewer.
        weights: of uncertainty and novelty, not both 0.
        random_share: of the number, rounded up.
        seed: of the draw.

    Returns:
        Each image at most once. Every first part of the list holds about the same share of drawn images.
    """
    number = min(number, len(uncertainty))
    num_drawn = min(number, math.ceil(random_share * number - 1e-9))
    gaps = distance_to_nearest(torch.from_numpy(features), torch.from_numpy(labelled)).double().numpy()
    at_first = np.sort(gaps)
    drawn = [
        Chosen(index=int(index), novelty=float(_share_below(at_first, gaps[index])), is_random=True)
        for index in np.random.default_rng(seed).permutation(len(uncertainty))[:num_drawn]
    ]
    is_left = np.ones(len(uncertainty), bool)
    for one in drawn:
        gaps = _nearer(gaps, features, one.index)
        is_left[one.index] = False
    total = sum(weights)
    useful = []
    for _ in range(number - num_drawn):
        novelty = _share_below(at_first, gaps)
        value = (weights[0] * uncertainty + weights[1] * novelty) / total
        index = int(np.argmax(np.where(is_left, value, -1.0)))
        useful.append(Chosen(index=index, novelty=float(novelty[index]), is_random=False))
        gaps = _nearer(gaps, features, index)
        is_left[index] = False
    return _interleaved(useful, drawn)


def common_units(new: tuple[Vectors, ...], labelled: tuple[Vectors, ...]) -> tuple[Vectors, Vectors]:
    """Join blocks of features of other origin, such as stages, each with a mean squared distance of 1 to its mean.

    Args:
        new, labelled: per block (N, D_i) and (M, D_i).

    Returns:
        (N, D) and (M, D), D the sum of all D_i.
    """
    parts = []
    for ours, theirs in zip(new, labelled, strict=True):
        both = np.concatenate([ours, theirs]).astype(np.float64)
        spread = math.sqrt(float(((both - both.mean(0)) ** 2).sum(1).mean()))
        parts.append((both / max(spread, 1e-6)).astype(np.float32))
    vectors = np.concatenate(parts, axis=1)
    return vectors[: len(new[0])], vectors[len(new[0]) :]


def _num_between(values: Values, scores: Values, accept: float, reject: float) -> NDArray[np.int64]:
    """Count the values that lie between each score and the nearer end of the undecided band."""
    ordered = np.sort(values)
    above = np.searchsorted(ordered, scores, "left") - np.searchsorted(ordered, reject, "right")
    below = np.searchsorted(ordered, accept, "right") - np.searchsorted(ordered, scores, "right")
    return np.where(scores > reject, above, np.where(scores <= accept, below, 0))


def _share_below(ordered: Values, values: Values) -> Values:
    return np.asarray(np.searchsorted(ordered, values, "left") / len(ordered), np.float64)


def _nearer(gaps: Values, features: Vectors, index: int) -> Values:
    away = np.linalg.norm(features - features[index], axis=1)
    return np.asarray(np.minimum(gaps, away), np.float64)


def _interleaved(useful: list[Chosen], drawn: list[Chosen]) -> list[Chosen]:
    number = len(useful) + len(drawn)
    places = {math.ceil((k + 1) * number / len(drawn)) for k in range(len(drawn))}
    rest, at_random = iter(useful), iter(drawn)
    return [next(at_random if rank in places else rest) for rank in range(1, number + 1)]
