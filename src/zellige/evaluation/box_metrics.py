"""How well boxes are found and named: average precision by kind in three protocols, and an F-score at one threshold.

COCO (`ap_50`, `ap`): a hit has the kind right and an IoU of at least 0.5, or of 0.5, 0.55 ... 0.95 and the mean of the
ten; precision is made to fall with recall and read at 101 recalls. Unlike COCO's own program nothing is cut off at 100
boxes an image. Source: T.-Y. Lin et al., ECCV 2014, and COCOeval of pycocotools.

DeepPCB (`ap_33`, `f_best`): "a detection is correct only if the IoU between the detected bounding box and any of the
ground truth box with the same class is larger than 0.33"; F = 2PR/(P+R). Source: README of
https://github.com/tangsanli5201/DeepPCB, which borrows ICDAR 2015's program. Where it is silent, this is done here:
matching is greedy by score, a true box is found once and each further box on it is a false alarm (ICDAR's program takes
the first pair in the order of the files); the average precision is the sum of precision times gain of recall over all
scores, not interpolated, as in ICDAR's program; boxes of equal score enter together, so that their order does not
matter; an image without true boxes adds its boxes as false alarms and nothing else; the mean is over the kinds that
TEST has; the F-score pools all kinds under one threshold, and boxes of a kind that TEST does not have are false alarms.
Others may have picked their threshold on the test set: that number is `f_limit`, an upper limit. Ours is from VAL.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zellige.evaluation.bootstrap import Estimate, GroupBootstrap, Weights
from zellige.evaluation.matching import DEEPPCB_IOU, FoundRows, Ranking, pool, rank

COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_LIMITS = (DEEPPCB_IOU, *COCO_IOUS)
_RECALLS = np.linspace(0.0, 1.0, 101)

Levels = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Precision over recall, (P,) each, by falling score; hits by the DeepPCB protocol."""

    recall: Levels
    precision: Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class KindBoxes:
    """One kind of defect that TEST has."""

    kind: str
    num_true: int
    num_found: int
    """Boxes of any score."""
    ap_33: Estimate
    ap_50: Estimate
    ap: Estimate

    def to_json(self) -> dict[str, object]:
        """Give strict JSON values."""
        counts = {"kind": self.kind, "num_true": self.num_true, "num_found": self.num_found}
        return {**counts, "ap_33": self.ap_33.to_json(), "ap_50": self.ap_50.to_json(), "ap": self.ap.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FScore:
    """Precision, recall and their harmonic mean of the boxes with a score of at least `threshold`, all kinds pooled."""

    threshold: float
    f: Estimate
    precision: Estimate
    recall: Estimate

    def to_json(self) -> dict[str, object]:
        """Give strict JSON values; the threshold is null where there is none."""
        return {
            "threshold": None if math.isnan(self.threshold) else self.threshold,
            "f": self.f.to_json(),
            "precision": self.precision.to_json(),
            "recall": self.recall.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxMetrics:
    """What TEST says of the boxes; NaN where TEST has no true box (and for `f_best` where VAL has none)."""

    num_images: int
    num_true: int
    map_33: Estimate
    map_50: Estimate
    map: Estimate
    f_best: FScore
    """At the one threshold that is best on VAL."""
    f_limit: FScore
    """At the one threshold that is best on TEST: an upper limit. Its intervals are at this threshold too."""
    by_kind: tuple[KindBoxes, ...]
    curves: Mapping[str, Curve]
    """By kind, and of all kinds pooled under ""."""

    def to_json(self) -> dict[str, object]:
        """Give strict JSON values, without the curves."""
        return {
            "num_images": self.num_images,
            "num_true": self.num_true,
            "map_33": self.map_33.to_json(),
            "map_50": self.map_50.to_json(),
            "map": self.map.to_json(),
            "f_best": self.f_best.to_json(),
            "f_limit": self.f_limit.to_json(),
            "by_kind": [row.to_json() for row in self.by_kind],
        }


def measure_boxes(rows: FoundRows, threshold: float, boot: GroupBootstrap) -> BoxMetrics:
    """Compute all numbers of boxes, with intervals.

    Args:
        rows: of TEST.
        threshold: of the F-score, from `best_threshold` on VAL; NaN where there is none.
        boot: over the groups of `rows.images`.

    Example:
        >>> from zellige.evaluation.found import FoundDefect, TrueDefect
        >>> true = tuple(TrueDefect(sample_id=i, kind="hole", box=(0, 0, 9, 9)) for i in "ab")
        >>> found = (FoundDefect(sample_id="a", kind="hole", score=0.9, box=(0, 0, 9, 10)),)
        >>> rows = FoundRows(images=("a", "b"), groups=("a", "b"), found=found, true=true)
        >>> numbers = measure_boxes(rows, 0.5, GroupBootstrap(rows.groups, times=50))
        >>> numbers.map_33.value, round(numbers.map_50.value, 4), numbers.f_best.precision.value
        (0.5, 0.505, 1.0)
    """
    rankings = rank(rows, _LIMITS)
    kinds = [kind for kind, ranking in rankings.items() if ranking.num_true.any()]
    known = [rankings[kind] for kind in kinds]
    pooled = pool(list(rankings.values()), len(rows.images))
    limit = best_threshold(rows)

    def measure(weights: Weights) -> Levels:
        by_kind = np.array([_three_aps(ranking, weights) for ranking in known]).reshape(-1, 3)
        scores = [f_score(pooled, at, weights) for at in (threshold, limit)]
        return np.concatenate([_mean_of_known(by_kind), *scores, by_kind.ravel()])

    numbers = boot.estimate(measure)
    return BoxMetrics(
        num_images=len(rows.images),
        num_true=len(rows.true),
        map_33=numbers[0],
        map_50=numbers[1],
        map=numbers[2],
        f_best=FScore(threshold=threshold, f=numbers[3], precision=numbers[4], recall=numbers[5]),
        f_limit=FScore(threshold=limit, f=numbers[6], precision=numbers[7], recall=numbers[8]),
        by_kind=_by_kind(kinds, known, numbers[9:]),
        curves={kind: _curve(ranking) for kind, ranking in zip(["", *kinds], [pooled, *known], strict=True)},
    )


def best_threshold(rows: FoundRows) -> float:
    """Pick the score from which on boxes count so that F is highest; NaN where nothing is there or found.

    Hits are by DeepPCB. Among equally good ones the highest is taken: it draws the fewest boxes.
    """
    pooled = pool(list(rank(rows, (DEEPPCB_IOU,)).values()), len(rows.images))
    if not (pooled.num_true.any() and len(pooled.scores)):
        return math.nan
    ends = _ends_of_ties(pooled.scores)
    f = 2 * np.cumsum(pooled.hits[0])[ends] / (ends + 1 + pooled.num_true.sum())
    return float(pooled.scores[ends[int(np.argmax(f))]])


def f_score(pooled: Ranking, threshold: float, weights: Weights) -> Levels:
    """Compute (F, precision, recall) of the boxes with a score of at least the threshold.

    F and recall are NaN without a true box, precision without a box; all are NaN for a threshold that is NaN.
    """
    total = float(weights @ pooled.num_true)
    if math.isnan(threshold) or total == 0:
        return np.full(3, math.nan)
    weight = weights[pooled.image] * (pooled.scores >= threshold)
    drawn, hits = float(weight.sum()), float(weight @ pooled.hits[0])
    return np.array([2 * hits / (drawn + total), hits / drawn if drawn else math.nan, hits / total])


def interpolated_precision(ranking: Ranking, weights: Weights) -> Levels:
    """Compute COCO's average precision for each limit: (L,); NaN without a true defect."""
    total = float(weights @ ranking.num_true)
    if total == 0:
        return np.full(len(ranking.hits), math.nan)
    # Recall rises, and precision is highest, at hits alone: the other rows count in what was drawn and no more.
    rows = np.flatnonzero(ranking.hits.any(axis=0))
    recall, precision = _recall_precision(ranking, weights, total, rows)
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(falling, ((0, 0), (0, 1)))  # a recall that is not reached has precision 0
    return np.array(
        [padded[row, np.searchsorted(recall[row], _RECALLS, side="left")].mean() for row in range(len(recall))]
    )


def stepwise_precision(ranking: Ranking, weights: Weights) -> Levels:
    """Compute the average precision without interpolation for each limit: (L,); NaN without a true defect."""
    total = float(weights @ ranking.num_true)
    if total == 0:
        return np.full(len(ranking.hits), math.nan)
    recall, precision = _recall_precision(ranking, weights, total, _ends_of_ties(ranking.scores))
    return np.asarray((np.diff(recall, prepend=0.0, axis=1) * precision).sum(axis=1))


def _three_aps(ranking: Ranking, weights: Weights) -> tuple[float, float, float]:
    """AP of DeepPCB, of COCO at 0.5 and of COCO over ten limits."""
    first, others = (replace(ranking, hits=ranking.hits[part]) for part in (slice(1), slice(1, None)))
    coco = interpolated_precision(others, weights)
    return float(stepwise_precision(first, weights)[0]), float(coco[0]), float(coco.mean())


def _recall_precision(
    ranking: Ranking, weights: Weights, total: float, rows: NDArray[np.intp]
) -> tuple[Levels, Levels]:
    """(L, R) each, after each of R rows; precision is 0 before a row counts."""
    weight = weights[ranking.image]
    that_hit = np.flatnonzero(ranking.hits.any(axis=0))  # few of many: only these are added up for each limit
    added = np.pad(np.cumsum(weight[that_hit] * ranking.hits[:, that_hit], axis=1), ((0, 0), (1, 0)))
    hits, drawn = added[:, np.searchsorted(that_hit, rows, side="right")], np.cumsum(weight)[rows]
    return hits / total, np.divide(hits, drawn, out=np.zeros_like(hits), where=drawn > 0)


def _ends_of_ties(scores: Levels) -> NDArray[np.intp]:
    """The last row of each run of equal scores."""
    return np.flatnonzero(np.diff(scores, append=-np.inf))


def _mean_of_known(by_kind: Levels) -> Levels:
    """The mean over the kinds (K, 3) that have one; NaN where none has."""
    known = by_kind[~np.isnan(by_kind[:, 0])]
    return known.mean(axis=0) if len(known) else np.full(3, math.nan)


def _by_kind(kinds: Sequence[str], rankings: Sequence[Ranking], numbers: Sequence[Estimate]) -> tuple[KindBoxes, ...]:
    return tuple(
        KindBoxes(
            kind=kind,
            num_true=int(ranking.num_true.sum()),
            num_found=len(ranking.scores),
            ap_33=numbers[3 * place],
            ap_50=numbers[3 * place + 1],
            ap=numbers[3 * place + 2],
        )
        for place, (kind, ranking) in enumerate(zip(kinds, rankings, strict=True))
    )


def _curve(ranking: Ranking) -> Curve:
    weights = np.ones(len(ranking.num_true))
    total = max(float(ranking.num_true.sum()), 1.0)
    recall, precision = _recall_precision(ranking, weights, total, _ends_of_ties(ranking.scores))
    return Curve(recall=recall[0], precision=precision[0])
