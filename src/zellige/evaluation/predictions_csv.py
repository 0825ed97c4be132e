"""What became of each test image as a table, predictions.csv of a run folder: written and read again."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import Decision
from zellige.evaluation.named_images import NamedImage
from zellige.evaluation.report import EvaluationReport, SampleResult

_COLUMNS = ("id", "kind", "group", "score", "decision", "size_class", "reason")
_NAMED_COLUMNS = ("true_kind", "named_kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSample:
    """A line of the table. The kinds are those of `NamedImage`, empty where the detector names none."""

    result: SampleResult
    true_kind: str
    named_kind: str


def write_predictions_csv(report: EvaluationReport, path: Path, images: Sequence[NamedImage] | None = None) -> None:
    """Write one row per test sample: id, kind, group, score, decision, size class, reason.

    Args:
        images: of a detector that names kinds (`NamedReport.images`); they add two columns, the one kind that the
            image shows and the kind that is named. Both are empty for an image that is in no number.
    """
    kinds = {image.index: (image.true_kind, image.named_kind) for image in images or ()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS if images is None else (*_COLUMNS, *_NAMED_COLUMNS))
        for index, row in enumerate(report.samples):
            cells = [row.id, row.kind, row.group_id, repr(row.score), row.decision.value, row.size_class, row.reason]
            writer.writerow(cells if images is None else (*cells, *kinds.get(index, ("", ""))))


def read_predictions_csv(path: Path) -> tuple[JudgedSample, ...]:
    """Read the table again.

    Raises:
        InputError: no such file, or another one.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(_judged(row) for row in csv.DictReader(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"predictions {path}: expected the table of a run's test images ({error})") from None


def _judged(row: dict[str, str]) -> JudgedSample:
    result = SampleResult(
        id=row["id"],
        kind=row["kind"],
        group_id=row["group"],
        score=float(row["score"]),
        decision=Decision(row["decision"]),
        reason=row["reason"],
        size_class=row["size_class"],
    )
    return JudgedSample(result=result, true_kind=row.get("true_kind", ""), named_kind=row.get("named_kind", ""))
