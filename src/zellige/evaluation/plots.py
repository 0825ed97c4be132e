"""Charts of scores: histogram with the operating point, ROC and precision-recall. One look for all pictures."""

from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zellige.core.types import GOOD, Calibration, Decision
from zellige.evaluation.metrics import count_levels
from zellige.evaluation.report import EvaluationReport

INK, MUTED, GRID = "#22303c", "#6b7884", "#e4e8eb"
GOOD_COLOR = "#4a7fa5"
KIND_COLORS = ("#b5462f", "#d98a3d", "#7d5a8c", "#5c8a5a", "#a0728a", "#3f6f6f", "#8a7a4a")
BAND_COLOR = "#f4d58d"
DPI = 100
WIDTH_PX = 1200

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def new_figure(height_px: int) -> Figure:
    """Make an empty figure of the common width; call it inside `matplotlib.rc_context(STYLE)`."""
    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG without a date, so that equal reports give equal files."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def plot_scores(report: EvaluationReport, path: Path, *, num_bins: int = 48) -> Path:
    """Draw the TEST scores, good above and defective by kind below, with the thresholds and the undecided band."""
    scores = np.array([row.score for row in report.judged])
    kinds = np.array([row.kind for row in report.judged])
    limits = (report.calibration.accept_score, report.calibration.reject_score)
    low, high = min(scores.min(), *limits), max(scores.max(), *limits)
    margin = 0.03 * (high - low) or 1.0
    edges = np.linspace(low - margin, high + margin, num_bins + 1)
    with mpl.rc_context(STYLE):
        figure = new_figure(640)
        figure.text(0.02, 0.965, "Anomaly scores of the TEST pieces", size=15, weight="bold", va="top")
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.34})
        figure.subplots_adjust(left=0.07, right=0.78, top=0.85, bottom=0.09)
        _bars(top, {GOOD: scores[kinds == GOOD]}, edges, [GOOD_COLOR])
        top.set_title(f"Good pieces (n = {report.num_good})")
        shown, palette = _largest_kinds(kinds[kinds != GOOD])
        _bars(bottom, {kind: scores[_is_kind(kinds, kind, shown)] for kind in shown}, edges, palette)
        bottom.set_title(f"Defective pieces (n = {report.num_defective})")
        bottom.set_xlabel("anomaly score (higher is worse)")
        for axes in (top, bottom):
            axes.set_ylabel("pieces")
            axes.set_xlim(edges[0], edges[-1])
            axes.yaxis.get_major_locator().set_params(integer=True)
            _operating_point(axes, report.calibration)
        _label_limits(top, report.calibration)
        if report.num_defective:
            bottom.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
        return save(figure, path)


def plot_roc_pr(report: EvaluationReport, path: Path) -> Path:
    """Draw the ROC and the precision-recall curve of the TEST images, with the point that the calibration reaches."""
    with mpl.rc_context(STYLE):
        figure = new_figure(600)
        figure.text(0.02, 0.965, "Ranking of the TEST pieces", size=15, weight="bold", va="top")
        left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.22})
        figure.subplots_adjust(left=0.07, right=0.97, top=0.83, bottom=0.11)
        if report.num_good and report.num_defective:
            _curves(left, right, report)
        else:
            for axes in (left, right):
                message = "not defined: needs good and defective images"
                axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED)
        _frame(left, "False rejects vs. detection (ROC)", "share of good pieces flagged", "share of defects flagged")
        _frame(right, "Precision and recall", "share of defects flagged (recall)", "share of flagged that is defective")
        return save(figure, path)


def _bars(axes: Axes, groups: dict[str, NDArray[np.float64]], edges: NDArray[np.float64], colors: list[str]) -> None:
    base = np.zeros(len(edges) - 1)
    for (name, scores), color in zip(groups.items(), colors, strict=True):
        counts, _ = np.histogram(scores, edges)
        label = f"{name} ({len(scores)})"
        axes.bar(edges[:-1], counts, np.diff(edges), base, align="edge", color=color, label=label, edgecolor="white")
        base += counts
    axes.set_ylim(0, 1.1 * base.max() or 1)
    if not base.any():
        axes.text(0.5, 0.5, "none in TEST", transform=axes.transAxes, ha="center", va="center", color=MUTED)


def _largest_kinds(kinds: NDArray[np.str_]) -> tuple[list[str], list[str]]:
    """The kinds to tell apart by color, the most frequent first; what is left over becomes one group."""
    ranked = [kind for kind, _ in Counter(kinds.tolist()).most_common()]
    if len(ranked) > len(KIND_COLORS):
        ranked = [*ranked[: len(KIND_COLORS) - 1], "other kinds"]
    return ranked, list(KIND_COLORS[: len(ranked)])


def _is_kind(kinds: NDArray[np.str_], kind: str, shown: list[str]) -> NDArray[np.bool_]:
    if kind in kinds:
        return np.asarray(kinds == kind)
    return ~np.isin(kinds, [GOOD, *shown])


def _operating_point(axes: Axes, calibration: Calibration) -> None:
    if calibration.accept_score < calibration.reject_score:
        axes.axvspan(calibration.accept_score, calibration.reject_score, color=BAND_COLOR, alpha=0.55, lw=0, zorder=0.6)
        axes.axvline(calibration.accept_score, color=INK, lw=1.4, ls=(0, (2, 2)))
    axes.axvline(calibration.reject_score, color=INK, lw=1.4)


def _label_limits(axes: Axes, calibration: Calibration) -> None:
    """Write what happens left of, between and right of the limits, beside the upper chart."""
    lines = [f"REJECT above {calibration.reject_score:.4g}", f"ACCEPT up to {calibration.accept_score:.4g}"]
    if calibration.accept_score < calibration.reject_score:
        lines.insert(1, "UNDECIDED between (shaded)")
    axes.text(1.02, 1.0, "operating point,\nchosen on VAL", transform=axes.transAxes, va="top", color=MUTED)
    axes.text(1.02, 0.72, "\n".join(lines), transform=axes.transAxes, va="top", linespacing=1.6)


def _curves(roc: Axes, pr: Axes, report: EvaluationReport) -> None:
    scores = np.array([row.score for row in report.judged])
    is_defective = np.array([row.kind != GOOD for row in report.judged])
    _, good, defective = count_levels(scores, is_defective)
    false_alarms, found = np.cumsum(good[::-1]), np.cumsum(defective[::-1])
    recall = found / report.num_defective
    roc.plot([0, 1], [0, 1], color=GRID, lw=1.2)
    roc.plot([0, *(false_alarms / report.num_good)], [0, *recall], color=GOOD_COLOR, lw=2.2)
    low, high = report.image_auroc_interval
    text = f"AUROC {report.image_auroc:.4f}\n95 %: {low:.3f} to {high:.3f}"
    roc.text(0.96, 0.13, text, ha="right", va="bottom", linespacing=1.6)
    precision = found / (found + false_alarms)
    pr.step([0, *recall], [precision[0], *precision], where="pre", color=GOOD_COLOR, lw=2.2)
    text = f"average precision {report.average_precision:.4f}\nbest F1 {report.f1_max:.3f} (its threshold is from TEST)"
    pr.text(0.03, 0.13, text, ha="left", va="bottom", linespacing=1.6)
    is_rejected = np.array([row.decision is Decision.REJECT for row in report.judged])
    hits, false_rejects = int((is_rejected & is_defective).sum()), int((is_rejected & ~is_defective).sum())
    point: dict[str, Any] = {
        "color": KIND_COLORS[0],
        "ms": 9,
        "ls": "",
        "marker": "o",
        "mec": "white",
        "mew": 1.2,
        "zorder": 5,
    }
    label = "REJECT at the operating point"
    roc.plot([false_rejects / report.num_good], [hits / report.num_defective], label=label, clip_on=False, **point)
    if hits + false_rejects:
        pr.plot([hits / report.num_defective], [hits / (hits + false_rejects)], label=label, clip_on=False, **point)
    roc.legend(loc="lower right", borderaxespad=0.8)
    pr.legend(loc="lower left", borderaxespad=0.8)


def _frame(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set(title=title, xlabel=x_label, ylabel=y_label, xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
