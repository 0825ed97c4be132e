"""Which kind is taken for which: confusion matrices, accuracy, and precision, recall and F1 of each kind."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.named import UNKNOWN_KIND
from zellige.core.types import GOOD, Rate
from zellige.evaluation.bootstrap import Estimate, GroupBootstrap, Weights
from zellige.evaluation.intervals import rate

FALSE_ALARM = "nothing there"
"""The row of found defects that match no true one."""
MISSED = "missed"
"""The column of true defects that nothing found matches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confusion:
    """How often each true name was said to be which."""

    true_names: tuple[str, ...]
    said_names: tuple[str, ...]
    counts: NDArray[np.int64]
    """(rows: true, columns: said)"""

    def to_json(self) -> dict[str, object]:
        """Give the names of the rows and columns and the counts.

        Example:
            >>> count_pairs([("good", "hole")]).to_json()
            {'true': ['good'], 'said': ['good', 'hole'], 'counts': [[0, 1]]}
        """
        return {"true": list(self.true_names), "said": list(self.said_names), "counts": self.counts.tolist()}


@dataclass(frozen=True, slots=True, kw_only=True)
class KindScores:
    """How well one kind is named; the intervals of precision and recall are exact, for independent pieces."""

    kind: str
    precision: Rate
    """Of those said to be of this kind, those that are."""
    recall: Rate
    """Of those of this kind, those said to be."""
    f1: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class KindMetrics:
    """How well names are given to what has one true name."""

    confusion: Confusion
    accuracy: Rate
    """Exact interval, for independent pieces."""
    macro_f1: Estimate
    """The mean F1 of the names that occur as a true one."""
    by_kind: tuple[KindScores, ...]

    def to_json(self) -> dict[str, object]:
        """Give strict JSON values."""
        rows = [
            {
                "kind": row.kind,
                "precision": rate_json(row.precision),
                "recall": rate_json(row.recall),
                "f1": row.f1.to_json(),
            }
            for row in self.by_kind
        ]
        return {
            "accuracy": rate_json(self.accuracy),
            "macro_f1": self.macro_f1.to_json(),
            "by_kind": rows,
            "confusion": self.confusion.to_json(),
        }


def rate_json(value: Rate) -> dict[str, float | None]:
    """Give a rate with its interval and n as strict JSON values; null where n is 0.

    Example:
        >>> rate_json(rate(0, 0))
        {'value': None, 'low': 0.0, 'high': 1.0, 'n': 0}
    """
    known = value.value if math.isfinite(value.value) else None
    return {"value": known, "low": value.low, "high": value.high, "n": value.n}


def measure_kinds(pairs: Sequence[tuple[str, str]], boot: GroupBootstrap) -> KindMetrics:
    """Compare true names with said ones.

    Args:
        pairs: (true, said), one an image.
        boot: over the groups of these images.

    Example:
        >>> pairs = [("good", "good"), ("good", "hole"), ("hole", "hole"), ("hole", "unknown")]
        >>> numbers = measure_kinds(pairs, GroupBootstrap(["a", "b", "c", "d"], times=50))
        >>> numbers.accuracy.value, numbers.by_kind[0].f1.value, round(numbers.macro_f1.value, 3)
        (0.5, 0.6666666666666666, 0.583)
    """
    confusion = count_pairs(pairs)
    names = confusion.true_names
    is_true = np.array([[true == name for true, _ in pairs] for name in names], float).reshape(len(names), len(pairs))
    is_said = np.array([[said == name for _, said in pairs] for name in names], float).reshape(len(names), len(pairs))

    def measure(weights: Weights) -> NDArray[np.float64]:
        right, num_true, num_said = (is_true * is_said) @ weights, is_true @ weights, is_said @ weights
        f1 = np.divide(2 * right, num_true + num_said, out=np.zeros(len(names)), where=num_true + num_said > 0)
        present = f1[num_true > 0]
        return np.array([present.mean() if len(present) else math.nan, *np.where(num_true > 0, f1, math.nan)])

    numbers = boot.estimate(measure)
    return KindMetrics(
        confusion=confusion,
        accuracy=rate(sum(true == said for true, said in pairs), len(pairs)),
        macro_f1=numbers[0],
        by_kind=tuple(_scores(name, pairs, f1) for name, f1 in zip(names, numbers[1:], strict=True)),
    )


def count_pairs(pairs: Sequence[tuple[str, str]]) -> Confusion:
    """Count (true, said) names: a row for each true name, a column for each true and each other said name.

    "good" is first, then the kinds by name; "nothing there" is the last row, "unknown" and "missed" the last columns.

    Example:
        >>> count_pairs([("hole", "missed"), ("nothing there", "hole")]).counts
        array([[0, 1],
               [1, 0]])
    """
    true_names = sorted({true for true, _ in pairs}, key=_order)
    said_names = sorted(({said for _, said in pairs} | set(true_names)) - {FALSE_ALARM}, key=_order)
    counts = np.zeros((len(true_names), len(said_names)), np.int64)
    for true, said in pairs:
        counts[true_names.index(true), said_names.index(said)] += 1
    return Confusion(true_names=tuple(true_names), said_names=tuple(said_names), counts=counts)


def _order(name: str) -> tuple[int, str]:
    ends = {GOOD: -1, UNKNOWN_KIND: 1, FALSE_ALARM: 2, MISSED: 3}
    return ends.get(name, 0), name


def _scores(name: str, pairs: Sequence[tuple[str, str]], f1: Estimate) -> KindScores:
    right = sum(true == said == name for true, said in pairs)
    return KindScores(
        kind=name,
        precision=rate(right, sum(said == name for _, said in pairs)),
        recall=rate(right, sum(true == name for true, _ in pairs)),
        f1=f1,
    )
