"""All pictures of an evaluation, and which cases they show."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from zellige.core.errors import InputError
from zellige.core.types import GOOD, Decision
from zellige.evaluation.contact_sheet import Case, common_scale, draw_sheet, load_case
from zellige.evaluation.plots import plot_roc_pr, plot_scores
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.report import EvaluationReport, SampleResult


def write_pictures(
    predictions: PredictionSet, report: EvaluationReport, out_dir: Path, *, max_cases: int = 12
) -> tuple[Path, ...]:
    """Draw the charts and the contact sheets of a TEST evaluation, PNG, 1200 px wide.

    scores.png, roc_pr.png, escapes.png (the lowest scores first), false_rejects.png (the highest first), hits.png
    (of each kind those with typical scores) and, where there is a band, undecided.png. Memory is bounded by
    `max_cases`, whatever the number and size of the images.

    Args:
        predictions: the TEST predictions that the report is about, with their maps.
        out_dir: an existing folder.

    Raises:
        InputError: predictions of another report, a shown image cannot be read or has another size than its map.
    """
    if report.fingerprint != predictions.fingerprint:
        raise InputError(f"pictures {out_dir}: expected the predictions that the report is about, got others")
    rows = report.samples
    threshold = report.calibration.pixel_threshold
    selections = {
        "escapes": worst_escapes(rows),
        "false_rejects": worst_false_rejects(rows),
        "hits": typical_hits(rows),
    }
    if report.calibration.accept_score < report.calibration.reject_score:
        selections["undecided"] = undecided(rows)
    sheets = {
        name: [load_case(predictions[i], _facts(rows[i]), threshold) for i in chosen[:max_cases]]
        for name, chosen in selections.items()
    }
    scale = common_scale([case for cases in sheets.values() for case in cases], threshold)
    pictures = [plot_scores(report, out_dir / "scores.png"), plot_roc_pr(report, out_dir / "roc_pr.png")]
    for name, cases in sheets.items():
        title, subtitle = _heading(name, len(selections[name]), cases, report)
        pictures.append(draw_sheet(title, subtitle, cases, scale, out_dir / f"{name}.png"))
    return tuple(pictures)


def _facts(row: SampleResult) -> str:
    return f"{row.kind}  ·  score {row.score:.4g}  ·  {row.decision.value}"


def worst_escapes(rows: Sequence[SampleResult]) -> list[int]:
    """Indices of the accepted defective samples, the least suspicious first."""
    return _where(rows, lambda row: row.kind != GOOD and row.decision is Decision.ACCEPT, key=lambda row: row.score)


def worst_false_rejects(rows: Sequence[SampleResult]) -> list[int]:
    """Indices of the rejected good samples, the most suspicious first."""
    return _where(rows, lambda row: row.kind == GOOD and row.decision is Decision.REJECT, key=lambda row: -row.score)


def undecided(rows: Sequence[SampleResult]) -> list[int]:
    """Indices of the undecided samples, the most suspicious first."""
    return _where(rows, lambda row: row.decision is Decision.UNDECIDED, key=lambda row: -row.score)


def typical_hits(rows: Sequence[SampleResult]) -> list[int]:
    """Indices of the rejected defective samples: of each kind in turn the one whose score is nearest its median."""
    kinds = defaultdict(list)
    for index, row in enumerate(rows):
        if row.kind != GOOD and row.decision is Decision.REJECT and not row.is_ignored:
            kinds[row.kind].append(index)
    queues = []
    for kind in sorted(kinds):
        median = float(np.median([rows[i].score for i in kinds[kind]]))
        by_distance = [(abs(rows[i].score - median), rows[i].id, i) for i in kinds[kind]]
        queues.append([i for _, _, i in sorted(by_distance)])
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _where(
    rows: Sequence[SampleResult], holds: Callable[[SampleResult], bool], *, key: Callable[[SampleResult], float]
) -> list[int]:
    found = (i for i, row in enumerate(rows) if holds(row) and not row.is_ignored)
    return sorted(found, key=lambda i: (key(rows[i]), rows[i].id))


def _heading(name: str, total: int, cases: Sequence[Case], report: EvaluationReport) -> tuple[str, str]:
    shown = f"{len(cases)} shown" if len(cases) < total else "all shown"
    good, bad = report.num_good, report.num_defective
    titles = {
        "escapes": ("Escapes", f"{total} of {bad} defective pieces accepted; {shown}, the lowest scores first"),
        "false_rejects": (
            "False rejects",
            f"{total} of {good} good pieces rejected; {shown}, the highest scores first",
        ),
        "hits": (
            "Hits",
            f"{total} of {bad} defective pieces rejected; {shown}, of each kind those with typical scores",
        ),
        "undecided": (
            "Undecided",
            f"{total} of {good + bad} pieces left to a person; {shown}, the highest scores first",
        ),
    }
    title, subtitle = titles[name]
    return title, subtitle if total else subtitle.split(";")[0]
