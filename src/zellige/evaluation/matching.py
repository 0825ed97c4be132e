"""Which found defect stands for which true one: greedy matching by score, and what was found ranked by score."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.boxes import box_iou
from zellige.evaluation.found import Box, FoundDefect, TrueDefect

Ious = NDArray[np.float64]

DEEPPCB_IOU = float(np.nextafter(0.33, 1.0))
"""The smallest IoU that is larger than 0.33."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRows:
    """What was found and what is there in the images of which somebody said where their defects are, the good included.

    `images` are sample ids, each once, and `groups` their groups. Rows of other images are not allowed.
    """

    images: tuple[str, ...]
    groups: tuple[str, ...]
    found: tuple[FoundDefect, ...]
    true: tuple[TrueDefect, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """What was found of one kind, or of all, in N images: F rows, the highest score first."""

    scores: NDArray[np.float64]
    """(F,)"""
    hits: NDArray[np.bool_]
    """(L, F): whether a row is a hit, by the L limits of the IoU."""
    image: NDArray[np.intp]
    """(F,) the position of each row's image."""
    num_true: NDArray[np.float64]
    """(N,) true defects of each image."""


def box_ious(first: Sequence[Box], second: Sequence[Box]) -> Ious:
    """Compute the area of intersection over that of union of all pairs: (F, G) in [0, 1].

    Example:
        >>> box_ious([(0, 0, 2, 2)], [(1, 0, 3, 2), (5, 5, 6, 6)]).round(3)
        array([[0.333, 0.   ]])
    """
    return box_iou(*(np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second)))


def match(ious: Ious, at_least: float) -> NDArray[np.intp]:
    """Give each found defect, the best first, the free true one that it overlaps most.

    Args:
        ious: (F, G), the found ones by falling score. Among equal overlaps the last true one is taken, as COCO does.
        at_least: the smallest IoU of a match.

    Returns:
        (F,) the true defect that each one takes, -1 for none. Of several on one true defect the first is the match.

    Example:
        >>> match(np.array([[0.6, 0.9], [0.7, 0.8], [0.2, 0.1]]), 0.5)
        array([ 1,  0, -1])
    """
    taken = np.full(len(ious), -1, np.intp)
    if ious.size == 0:
        return taken
    free = ious.copy()
    for row in np.flatnonzero(ious.max(axis=1) >= at_least):
        best = free.shape[1] - 1 - int(free[row, ::-1].argmax())
        if free[row, best] >= at_least:
            taken[row] = best
            free[:, best] = -1.0
    return taken


def rank(rows: FoundRows, limits: Sequence[float]) -> dict[str, Ranking]:
    """Rank what was found of each kind; a hit has its kind right and an IoU of at least the limit.

    Ties of the score keep the order of the images and, in an image, that of the rows.

    Args:
        limits: L smallest IoUs.

    Returns:
        A ranking for each kind that was found or is there, by name.
    """
    place = {sample_id: index for index, sample_id in enumerate(rows.images)}
    found: dict[str, dict[int, list[FoundDefect]]] = defaultdict(lambda: defaultdict(list))
    true: dict[str, dict[int, list[Box]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.found:
        found[row.kind][place[row.sample_id]].append(row)
    for marked in rows.true:
        true[marked.kind][place[marked.sample_id]].append(marked.box)
    kinds = sorted({*found, *true})
    return {kind: _rank_kind(found[kind], true[kind], len(place), limits) for kind in kinds}


def pool(rankings: Sequence[Ranking], num_images: int) -> Ranking:
    """Join rankings of several kinds into one, as if all were of one kind that each row got right or wrong."""
    if not rankings:
        none = np.zeros(0)
        return Ranking(
            scores=none, hits=np.zeros((1, 0), bool), image=none.astype(np.intp), num_true=np.zeros(num_images)
        )
    scores = np.concatenate([ranking.scores for ranking in rankings])
    order = np.argsort(-scores, kind="stable")
    return Ranking(
        scores=scores[order],
        hits=np.concatenate([ranking.hits for ranking in rankings], axis=1)[:, order],
        image=np.concatenate([ranking.image for ranking in rankings])[order],
        num_true=np.sum([ranking.num_true for ranking in rankings], axis=0),
    )


def _rank_kind(
    found: dict[int, list[FoundDefect]], true: dict[int, list[Box]], num_images: int, limits: Sequence[float]
) -> Ranking:
    scores, hits, images = [np.zeros(0)], [np.zeros((len(limits), 0), bool)], [np.zeros(0, np.intp)]
    for image in sorted(found):
        best_first = sorted(found[image], key=lambda row: -row.score)
        ious = box_ious([row.box for row in best_first], true.get(image, []))
        scores.append(np.array([row.score for row in best_first]))
        hits.append(np.stack([match(ious, limit) >= 0 for limit in limits]))
        images.append(np.full(len(best_first), image, np.intp))
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    num_true = np.zeros(num_images)
    for image, boxes in true.items():
        num_true[image] = len(boxes)
    return Ranking(
        scores=all_scores[order],
        hits=np.concatenate(hits, axis=1)[:, order],
        image=np.concatenate(images)[order],
        num_true=num_true,
    )
