"""The picture of a comparison: how well each candidate finds defects against how long it takes on the station."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from zellige.evaluation.candidate_table import Candidate, StationSpeed
from zellige.evaluation.plots import GOOD_COLOR, INK, KIND_COLORS, MUTED, STYLE, new_figure, save
from zellige.evaluation.recommendation import Budget

_WIDE = 8.0
"""Ratio of the slowest to the quickest candidate from which the time axis is logarithmic."""
_FAR = 3.0
"""A budget of more than this many times the slowest candidate's time is left out: it would press them together."""


def plot_quality_speed(rows: Sequence[Candidate], path: Path, *, recommended: str | None, budget: Budget) -> Path:
    """Draw mean image AUROC over the middle time of a frame, with the t-interval and the time of 95 % of the frames.

    Candidates without a quality or a speed are left out and named below the chart.
    """
    drawn = [(row, row.speed) for row in rows if row.speed and "image_auroc" in row.spreads]
    drawn = [(row, speed) for row, speed in drawn if np.isfinite(row.spreads["image_auroc"].mean)]
    with mpl.rc_context(STYLE):
        figure = new_figure(620)
        figure.text(0.02, 0.965, "Quality against speed", size=15, weight="bold", va="top")
        axes = figure.subplots()
        figure.subplots_adjust(left=0.08, right=0.97, top=0.84, bottom=0.16)
        for row, speed in drawn:
            _draw(axes, row, speed, is_chosen=row.name == recommended)
        _limits(axes, [speed for _, speed in drawn], budget)
        axes.set_title("Up and to the left is better")
        axes.set_xlabel(
            "time of one frame on the station, ms: dot = half of the frames, end of the line = 95 % of them"
        )
        axes.set_ylabel("image AUROC, mean over the seeds")
        missing = [row.name for row in rows if row.name not in {shown.name for shown, _ in drawn}]
        notes = [f"not drawn: {', '.join(missing)}"] if missing else []
        if any(len(row.seeds) > 1 for row, _ in drawn):
            notes.append("vertical lines: 95 % t-interval over the seeds")
        figure.text(0.02, 0.03, "; ".join(notes), color=MUTED)
        return save(figure, path)


def _draw(axes: Axes, row: Candidate, speed: StationSpeed, *, is_chosen: bool) -> None:
    quality, color = row.spreads["image_auroc"], KIND_COLORS[0] if is_chosen else GOOD_COLOR
    if np.isfinite(quality.low):
        axes.plot([speed.p50_ms] * 2, [quality.low, quality.high], color=color, lw=1.6, alpha=0.75)
    axes.plot([speed.p50_ms, speed.p95_ms], [quality.mean] * 2, color=color, lw=1.6, alpha=0.75)
    axes.plot([speed.p50_ms], [quality.mean], "o", ms=10, color=color, mec="white", mew=1.2, zorder=5)
    label = f"{row.name} (recommended)" if is_chosen else row.name
    weight = "bold" if is_chosen else "normal"
    color = color if is_chosen else INK
    at = (speed.p50_ms, quality.mean)
    below = -18 if is_chosen else 8  # so that the labels of neighbors keep apart
    axes.annotate(label, at, xytext=(8, below), textcoords="offset points", color=color, weight=weight)


def _limits(axes: Axes, speeds: Sequence[StationSpeed], budget: Budget) -> None:
    times = [time for speed in speeds for time in (speed.p50_ms, speed.p95_ms)]
    if budget.ms_per_frame is not None and times and budget.ms_per_frame <= _FAR * max(times):
        axes.axvline(budget.ms_per_frame, color=INK, lw=1.2, ls=(0, (4, 3)))
        axes.text(budget.ms_per_frame, 1.0, " budget", transform=axes.get_xaxis_transform(), va="top", color=INK)
        times.append(budget.ms_per_frame)
    if not speeds:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=MUTED)
    elif max(speed.p50_ms for speed in speeds) > _WIDE * min(times):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlim(min(times) / 1.5, max(times) * 2.5)
    else:
        axes.set_xlim(0, 1.3 * max(times))
