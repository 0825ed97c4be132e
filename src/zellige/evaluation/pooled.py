"""The numbers of a cross-validation: every image once, as the fold judged it that did not see it.

Each fold has its own detector and its own thresholds, so decisions and names are pooled, and scores are compared
within a fold alone. The intervals are those of a single test on as many pieces; that the folds share most of their
training images is not in them.

Source: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd edition, section 7.10.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zellige.core.errors import InputError
from zellige.core.types import GOOD, MIXED, Decision, Rate
from zellige.evaluation.bootstrap import GroupBootstrap
from zellige.evaluation.intervals import auroc_interval, rate
from zellige.evaluation.kind_metrics import KindMetrics, measure_kinds, rate_json
from zellige.evaluation.metrics import image_auroc
from zellige.evaluation.predictions_csv import JudgedSample
from zellige.evaluation.report import ClassRates, SampleResult, class_rates, class_rates_json, rates_by_kind

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFold:
    """What one fold says of its test images.

    `two_class_threshold` is that of `good_or_defective`, None where there is none.
    """

    samples: tuple[JudgedSample, ...]
    two_class_threshold: float | None = None

    @property
    def results(self) -> list[SampleResult]:
        """Of the images that are in the numbers."""
        return [sample.result for sample in self.samples if not sample.result.is_ignored]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PooledReport:
    """All images of the folds together. Undefined numbers are NaN (null in JSON)."""

    num_groups: int
    good: ClassRates
    defective: ClassRates
    by_kind: tuple[ClassRates, ...]
    auroc_within_folds: float
    """Chance that a defective piece scores above a good one of the same fold."""
    auroc_interval: tuple[float, float]
    whole: KindMetrics | None
    """None for a detector that names no kinds."""
    named_right: Rate
    num_mixed: int
    good_or_defective: Rate

    def to_json(self) -> Json:
        """Give strict JSON values."""
        known = math.isfinite(self.auroc_within_folds)
        return {
            "num_images": self.good.error_rate.n + self.defective.error_rate.n,
            "num_good": self.good.error_rate.n,
            "num_defective": self.defective.error_rate.n,
            "num_groups": self.num_groups,
            "escape_rate": rate_json(self.defective.error_rate),
            "false_reject_rate": rate_json(self.good.error_rate),
            "undecided_defective_rate": rate_json(self.defective.undecided_rate),
            "undecided_good_rate": rate_json(self.good.undecided_rate),
            "image_auroc_within_folds": self.auroc_within_folds if known else None,
            "image_auroc_interval": list(self.auroc_interval) if known else None,
            "by_kind": [class_rates_json(row) for row in self.by_kind],
            "kinds": None if self.whole is None else self._kinds_json(self.whole),
        }

    def _kinds_json(self, whole: KindMetrics) -> Json:
        """As of `NamedReport.to_json()`, as far as it is about whole images."""
        return {
            "whole": whole.to_json(),
            "named_right": rate_json(self.named_right),
            "num_mixed": self.num_mixed,
            "good_or_defective": {"accuracy": rate_json(self.good_or_defective)},
            "ap_det": None,
            "undefined": {} if whole.accuracy.n else {"accuracy": "there is no image of a single kind"},
        }


def pool(folds: Sequence[JudgedFold], *, times: int = 1000, seed: int = 0) -> PooledReport:
    """Put the images of all folds together.

    Args:
        folds: each image is in one of them.
        times, seed: resamples of the bootstrap intervals, and what draws them.

    Raises:
        InputError: an image in two folds.

    Example:
        >>> def judged(name, kind, score, decision):
        ...     named = {"group_id": name, "reason": "", "size_class": ""}
        ...     result = SampleResult(id=name, kind=kind, score=score, decision=decision, **named)
        ...     return JudgedSample(result=result, true_kind="", named_kind="")
        >>> good, bad = judged("a", "good", 1, Decision.ACCEPT), judged("b", "hole", 2, Decision.REJECT)
        >>> worse, worst = judged("c", "good", 7, Decision.REJECT), judged("d", "hole", 8, Decision.REJECT)
        >>> report = pool([JudgedFold(samples=(good, bad)), JudgedFold(samples=(worse, worst))])
        >>> report.auroc_within_folds, report.good.error_rate.value, report.defective.error_rate.value
        (1.0, 0.5, 0.0)
    """
    results = [result for fold in folds for result in fold.results]
    if len({result.id for result in results}) < len(results):
        raise InputError("folds: expected each image in one fold, got some in two")
    good = [row for row in results if row.kind == GOOD]
    defective = [row for row in results if row.kind != GOOD]
    auroc = _auroc_within(folds)
    num_groups = [len({row.group_id for row in rows}) for rows in (good, defective)]
    judged = [sample for fold in folds for sample in fold.samples if sample.true_kind]
    single = [sample for sample in judged if sample.true_kind != MIXED]
    bad = [sample for sample in single if sample.true_kind != GOOD]
    return PooledReport(
        num_groups=len({row.group_id for row in results}),
        good=class_rates("good", good, Decision.REJECT),
        defective=class_rates("defective", defective, Decision.ACCEPT),
        by_kind=rates_by_kind(good, defective),
        auroc_within_folds=auroc,
        auroc_interval=auroc_interval(auroc, *num_groups),
        whole=_whole(single, times=times, seed=seed) if judged else None,
        named_right=rate(sum(sample.named_kind == sample.true_kind for sample in bad), len(bad)),
        num_mixed=len(judged) - len(single),
        good_or_defective=_good_or_defective(folds),
    )


def mean_and_range(values: Sequence[float | None]) -> Mapping[str, float] | None:
    """Mean, smallest and largest of a number over the folds; None where a fold does not have it.

    Example:
        >>> mean_and_range([0.5, 1.0])
        {'mean': 0.75, 'low': 0.5, 'high': 1.0}
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"mean": float(np.mean(known)), "low": min(known), "high": max(known)}


def _auroc_within(folds: Sequence[JudgedFold]) -> float:
    """The AUROCs of the folds, each weighing as many pairs of a good and a defective piece as it has."""
    total, num_pairs = 0.0, 0
    for fold in folds:
        scores = np.array([row.score for row in fold.results])
        is_defective = np.array([row.kind != GOOD for row in fold.results], np.bool_)
        pairs = int(is_defective.sum()) * int((~is_defective).sum())
        if pairs:
            total += pairs * image_auroc(scores, is_defective)
            num_pairs += pairs
    return total / num_pairs if num_pairs else math.nan


def _whole(single: Sequence[JudgedSample], *, times: int, seed: int) -> KindMetrics:
    accepted = Decision.ACCEPT
    pairs = [(one.true_kind, GOOD if one.result.decision is accepted else one.named_kind) for one in single]
    return measure_kinds(pairs, GroupBootstrap([one.result.group_id for one in single], times=times, seed=seed))


def _good_or_defective(folds: Sequence[JudgedFold]) -> Rate:
    """Every fold by its own threshold; without any where a fold has none."""
    num_right = num_images = 0
    for fold in folds:
        if fold.two_class_threshold is None:
            return rate(0, 0)
        judged = [sample for sample in fold.samples if sample.true_kind]
        num_right += sum((one.result.score > fold.two_class_threshold) == (one.true_kind != GOOD) for one in judged)
        num_images += len(judged)
    return rate(num_right, num_images)
