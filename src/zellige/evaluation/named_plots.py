"""Pictures of kinds: confusion matrices that people can read, and precision over recall of each kind."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from zellige.evaluation.box_metrics import BoxMetrics, Curve
from zellige.evaluation.kind_metrics import FALSE_ALARM, MISSED, Confusion
from zellige.evaluation.plots import GRID, INK, KIND_COLORS, MUTED, STYLE, WIDTH_PX, new_figure, save

_RIGHT, _WRONG = "#35678b", "#b5462f"
_LEFT, _BOTTOM, _MARGIN = 250, 30, 40
_TOP, _LETTER_PX = 138, 7.2
"""Room for title and names above the cells, and of a letter of a name."""
_MAX_CELL_WIDTH, _MAX_CELL_HEIGHT, _MIN_CELL_HEIGHT = 130, 56, 26
_FEW = 6.5
"""Size of the text from which on empty cells say so; smaller cells stay empty."""
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))


def plot_confusion(confusion: Confusion, title: str, subtitle: str, path: Path) -> Path:
    """Draw counts and shares of each row; what is right in blue, what is wrong in red, the darker the larger the share.

    Args:
        confusion: with at least one row.
        subtitle: what was counted.
    """
    num_rows, num_columns = confusion.counts.shape
    cell_width = min(_MAX_CELL_WIDTH, (WIDTH_PX - _LEFT - _MARGIN) / num_columns)
    cell_height = max(_MIN_CELL_HEIGHT, min(_MAX_CELL_HEIGHT, cell_width))
    longest = _LETTER_PX * max(len(_short(name)) for name in confusion.said_names)
    angle = 0 if longest < cell_width else 35 if cell_width > 48 else 60
    height = round(_TOP + longest * math.sin(math.radians(angle)) + num_rows * cell_height + _BOTTOM)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(height)
        figure.text(0.02, 1 - 22 / height, title, size=15, weight="bold", va="top")
        figure.text(0.02, 1 - 50 / height, subtitle, color=MUTED, va="top")
        width = num_columns * cell_width
        box = (_LEFT / WIDTH_PX, _BOTTOM / height, width / WIDTH_PX, num_rows * cell_height / height)
        axes = figure.add_axes(box)
        _cells(axes, confusion, min(cell_width, 2.2 * cell_height))
        _names(axes, confusion, angle)
        return save(figure, path)


def plot_curves(boxes: BoxMetrics, path: Path) -> Path:
    """Draw precision over recall of each kind and of all pooled (IoU above 0.33), with the threshold from VAL."""
    with mpl.rc_context(STYLE):
        figure = new_figure(620)
        figure.text(0.02, 0.965, "Precision and recall of the kinds", size=15, weight="bold", va="top")
        words = "A found defect is right where its kind is right and its IoU is above 0.33."
        figure.text(0.02, 0.915, words, color=MUTED, va="top")
        axes = figure.add_axes((0.07, 0.1, 0.5, 0.74))
        _step(axes, boxes.curves[""], color=INK, lw=2.6, label="all kinds, one threshold")
        for place, row in enumerate(boxes.by_kind):
            _step(
                axes,
                boxes.curves[row.kind],
                color=KIND_COLORS[place % len(KIND_COLORS)],
                ls=_DASHES[place // len(KIND_COLORS) % len(_DASHES)],
                lw=1.6,
                label=f"{_short(row.kind)} ({row.num_true}): AP {row.ap_33.value:.3f} (IoU 0.5: {row.ap_50.value:.3f})",
            )
        best = boxes.f_best
        if np.isfinite([best.recall.value, best.precision.value]).all():
            label = f"threshold from VAL ({best.threshold:.3g}): F {best.f.value:.3f}"
            point: dict[str, Any] = {
                "color": INK,
                "marker": "o",
                "ms": 9,
                "ls": "",
                "mec": "white",
                "mew": 1.2,
                "zorder": 5,
            }
            axes.plot([best.recall.value], [best.precision.value], label=label, clip_on=False, **point)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xlabel="share of the defects found (recall)")
        axes.set_ylabel("share of what was found that is right (precision)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), borderaxespad=0, fontsize=9.5, labelspacing=0.75)
        return save(figure, path)


def _step(axes: Axes, curve: Curve, **look: Any) -> None:
    """Draw the steps whose area is the average precision."""
    start = [0.0] if len(curve.recall) else []  # of what was never found the legend alone speaks
    axes.step([*start, *curve.recall], [*curve.precision[:1], *curve.precision], where="pre", **look)


def _cells(axes: Axes, confusion: Confusion, room_px: float) -> None:
    """Color and label each cell; `room_px` decides the size of the text."""
    size = float(np.clip(room_px / 8, _FEW, 12))
    for row, true in enumerate(confusion.true_names):
        total = max(int(confusion.counts[row].sum()), 1)
        for column, said in enumerate(confusion.said_names):
            count = int(confusion.counts[row, column])
            share = count / total
            color = _RIGHT if true == said else _WRONG
            face = mpl.colors.to_rgba(color, 0.06 + 0.94 * share if count else 0.0)
            axes.add_patch(
                mpl.patches.Rectangle((column, row), 1, 1, facecolor=face, edgecolor=GRID, lw=1, clip_on=False)
            )
            if not count:
                if size > _FEW:
                    axes.text(column + 0.5, row + 0.5, "0", ha="center", va="center", size=size * 0.8, color="#b9c2c9")
                continue
            ink = "white" if share > 0.55 else INK
            shown: dict[str, Any] = {"ha": "center", "color": ink}
            axes.text(column + 0.5, row + 0.5, f"{count}", va="bottom", size=size, weight="bold", **shown)
            axes.text(column + 0.5, row + 0.56, f"{100 * share:.0f} %", va="top", size=size * 0.78, **shown)


def _names(axes: Axes, confusion: Confusion, angle: float) -> None:
    num_rows, num_columns = confusion.counts.shape
    axes.set(xlim=(0, num_columns), ylim=(num_rows, 0))
    axes.spines[:].set_visible(False)
    turned: dict[str, Any] = {"rotation": angle, "ha": "left", "rotation_mode": "anchor"} if angle else {}
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(np.arange(num_columns) + 0.5, [_short(name) for name in confusion.said_names], **turned)
    apart: dict[str, Any] = {"color": MUTED, "lw": 1.4, "clip_on": False}
    if confusion.true_names[-1] == FALSE_ALARM:
        axes.plot([0, num_columns], [num_rows - 1] * 2, **apart)
    if confusion.said_names[-1] == MISSED:
        axes.plot([num_columns - 1] * 2, [0, num_rows], **apart)
    totals = confusion.counts.sum(axis=1)
    rows = [f"{_short(name)}  ({total})" for name, total in zip(confusion.true_names, totals, strict=True)]
    axes.set_yticks(np.arange(num_rows) + 0.5, rows)
    axes.tick_params(length=0, colors=INK, labelsize=10, pad=6, which="both")
    axes.set_xlabel("said to be", labelpad=10, weight="bold")
    axes.set_ylabel("is in truth", labelpad=10, weight="bold")


def _short(name: str, limit: int = 22) -> str:
    """Cut a long name, and keep matplotlib from reading a dollar sign as mathematics."""
    return (name if len(name) <= limit else f"{name[: limit - 1]}…").replace("$", r"\$")
