"""Sheets of single cases with boxes: the image as a person marked it beside what was found, each box with its kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zellige.core.image_files import read_pixels
from zellige.core.types import Pixels, Sample
from zellige.evaluation.contact_sheet import DRAWN_COLOR, FOUND_COLOR, put_text, px_box, shorten
from zellige.evaluation.found import Box
from zellige.evaluation.named_images import NamedImage
from zellige.evaluation.plots import MUTED, STYLE, WIDTH_PX, new_figure, save

RIGHT_COLOR, MISSED_COLOR = "#2e9e5b", "#e8432e"
_MARGIN, _GAP, _COLUMNS, _BETWEEN = 28, 28, 2, 8
_CELL_WIDTH = (WIDTH_PX - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
_THUMB_WIDTH, _THUMB_HEIGHT = (_CELL_WIDTH - _BETWEEN) // 2, 290
_CAPTION, _HEADER, _FOOTER = 58, 122, 18
_AROUND, _SMALLEST_PX, _LARGEST_PX = 5.0, 96, 640
"""The window is so many times as large as the defect that it is about, within limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnBox:
    """A box in px of the thumbnail, with its words and the color and style of its line."""

    box: Box
    words: str
    color: str
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxCase:
    """One place of an image, small enough to keep."""

    title: str
    facts: str
    image: Pixels
    """(h, w, 3) uint8 RGB, the thumbnail."""
    marked: tuple[DrawnBox, ...]
    found: tuple[DrawnBox, ...]


def load_box_case(sample: Sample, image: NamedImage, focus: Box | None, facts: str) -> BoxCase:
    """Read the image and shrink the window around `focus`, or all of it, to a thumbnail; `facts` stand below it.

    Raises:
        InputError: an image that cannot be read.
    """
    pixels = read_pixels(sample.image_path)
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = (0, 0, width, height) if focus is None else _window(focus, width, height)
    part = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    scale = min(_THUMB_WIDTH / (x1 - x0), _THUMB_HEIGHT / (y1 - y0))
    size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    rgb = small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)

    def place(box: Box) -> Box:
        return (box[0] - x0) * scale, (box[1] - y0) * scale, (box[2] - x0) * scale, (box[3] - y0) * scale

    whole = f"{width} x {height} px"
    shown = whole if (x1 - x0, y1 - y0) == (width, height) else f"{x1 - x0} x {y1 - y0} of {whole}"
    return BoxCase(
        title=sample.id,
        facts=f"{facts}  ·  {shown}",
        image=np.asarray(rgb, np.uint8),
        marked=_marked(image, place),
        found=_found(image, place),
    )


def _marked(image: NamedImage, place: Callable[[Box], Box]) -> tuple[DrawnBox, ...]:
    taken = image.match().tolist()
    return tuple(
        DrawnBox(
            box=place(row.box),
            words=row.kind,
            color=DRAWN_COLOR if index in taken else MISSED_COLOR,
            is_dashed=index not in taken,
        )
        for index, row in enumerate(image.true or ())
    )


def _found(image: NamedImage, place: Callable[[Box], Box]) -> tuple[DrawnBox, ...]:
    true, taken = image.true, image.match().tolist()
    boxes = []
    for row, index in zip(image.listed, taken, strict=True):
        kind = image.true_kind if true is None else true[index].kind if index >= 0 else None
        color = RIGHT_COLOR if row.kind == kind else FOUND_COLOR
        boxes.append(DrawnBox(box=place(row.box), words=f"{row.kind} {row.score:.2f}", color=color))
    return tuple(boxes)


def draw_box_sheet(title: str, subtitle: str, cases: Sequence[BoxCase], path: Path) -> Path:
    """Draw the cases two abreast under a title and a legend."""
    heights = [case.image.shape[0] + _CAPTION for case in cases]
    rows = [max(heights[i : i + _COLUMNS]) for i in range(0, len(heights), _COLUMNS)]
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(_HEADER + sum(rows) + _FOOTER)
        put_text(figure, _MARGIN, 22, title, size=15, weight="bold")
        put_text(figure, _MARGIN, 50, subtitle, color=MUTED)
        _legend(figure)
        for index, case in enumerate(cases):
            left = _MARGIN + index % _COLUMNS * (_CELL_WIDTH + _GAP)
            _draw_case(figure, case, left, _HEADER + sum(rows[: index // _COLUMNS]))
        return save(figure, path)


def _window(focus: Box, width: int, height: int) -> tuple[int, int, int, int]:
    side = int(np.clip(_AROUND * max(focus[2] - focus[0], focus[3] - focus[1]), _SMALLEST_PX, _LARGEST_PX))
    spans = []
    for low, high, length in ((focus[0], focus[2], width), (focus[1], focus[3], height)):
        start = min(max(int((low + high) / 2) - side // 2, 0), max(length - side, 0))
        spans.append((start, min(start + side, length)))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _draw_case(figure: Figure, case: BoxCase, left: int, top: int) -> None:
    height, width = case.image.shape[:2]
    for x, boxes in ((left, case.marked), (left + width + _BETWEEN, case.found)):
        axes = figure.add_axes(px_box(figure, x, top, width, height))
        axes.imshow(case.image, extent=(0, width, height, 0), aspect="auto")
        for drawn in boxes:
            x0, y0, x1, y1 = drawn.box
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                continue
            line = mpl.patches.Rectangle(
                (x0, y0), x1 - x0, y1 - y0, fill=False, ec=drawn.color, lw=1.6, ls="--" if drawn.is_dashed else "-"
            )
            axes.add_patch(line)
            is_high, is_right = y0 < 16, x0 > 0.7 * width
            axes.text(
                min(x1, width) - 2 if is_right else max(x0, 1.0) + 2,
                min(max(y1, 0.0) + 3, height - 14.0) if is_high else y0 - 3,
                shorten(drawn.words, 26),
                size=7.5,
                color="white",
                ha="right" if is_right else "left",
                va="top" if is_high else "bottom",
                clip_on=True,
                parse_math=False,
                bbox={"facecolor": drawn.color, "edgecolor": "none", "pad": 1.2, "alpha": 0.9},
            )
        axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    put_text(figure, left, top + height + 7, shorten(case.title), size=9.5, weight="bold")
    put_text(figure, left, top + height + 25, shorten(case.facts, 84), size=9, color=MUTED)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=DRAWN_COLOR, lw=2, label="left: as marked, found"),
        Line2D([], [], color=MISSED_COLOR, lw=2, ls="--", label="left: as marked, missed"),
        Line2D([], [], color=RIGHT_COLOR, lw=2, label="right: found, right kind"),
        Line2D([], [], color=FOUND_COLOR, lw=2, label="right: found, wrong kind or nothing there"),
    ]
    anchor = (_MARGIN / WIDTH_PX, 1 - 82 / (figure.get_figheight() * figure.dpi))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=anchor, ncols=4, fontsize=9, borderaxespad=0, borderpad=0
    )
