"""Sheets of single cases: image beside anomaly map, with found regions and drawn defects outlined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.hatching import hatch
from zellige.core.image_files import read_pixels
from zellige.core.roi import is_inspected, to_draw
from zellige.core.types import AnomalyMap, Pixels, Prediction
from zellige.evaluation.pixels import Mask, read_defect_mask
from zellige.evaluation.plots import GRID, INK, MUTED, STYLE, WIDTH_PX, new_figure, save

FOUND_COLOR, DRAWN_COLOR = "#e8432e", "#14c8d4"
_COLORMAP = "YlOrRd"
_WINDOW_PX = 768
"""A larger image is shown as a window of this many px around its defect: a scratch would vanish in the whole."""
_MARGIN, _GAP, _COLUMNS = 28, 28, 2
_CELL_WIDTH = (WIDTH_PX - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
_CAPTION, _HEADER, _FOOTER = 58, 132, 18
_MAX_THUMB_HEIGHT = 300

Outlines = tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One sample, small enough to keep: thumbnails and outlines in the thumbnail's px."""

    title: str
    facts: str
    """Of the sample, in words."""
    image: Pixels
    """(h, w, 3) uint8 RGB; what is not inspected is hatched."""
    anomaly_map: AnomalyMap
    """(h, w) float32."""
    found: Outlines
    """Regions above the pixel threshold."""
    drawn: Outlines
    """The mask."""
    drawn_around: Outlines
    """The mask with a margin, so that the line does not hide the defect."""
    note: str
    """Size of the image, and of the window where only a part is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapScale:
    """Levels of the anomaly map that are drawn transparent and full, and the pixel threshold between them."""

    low: float
    high: float
    threshold: float


def load_case(prediction: Prediction, facts: str, pixel_threshold: float) -> Case:
    """Read image, map and mask of one sample and shrink them to a thumbnail; `facts` stand below it.

    Raises:
        InputError: an image that cannot be read or has another size than its map.
    """
    pixels = read_pixels(prediction.sample.image_path)
    height, width = prediction.anomaly_map.shape
    if pixels.shape[:2] != (height, width):
        raise InputError(
            f"image {prediction.sample.image_path}: expected its map's size {height} x {width} px, "
            f"got {pixels.shape[0]} x {pixels.shape[1]}"
        )
    mask = read_defect_mask(prediction)
    rows, columns = _window(prediction.anomaly_map, mask)
    part = np.ascontiguousarray(pixels[rows, columns])
    shown_map, drawn_map = np.ascontiguousarray(prediction.anomaly_map[rows, columns]), to_draw(prediction.anomaly_map)
    shown_mask = np.zeros(shown_map.shape, bool) if mask is None else np.ascontiguousarray(mask[rows, columns])
    scale = _thumb_scale(part.shape[0], part.shape[1])
    note = f"{width} x {height} px"
    if part.shape[:2] != (height, width):
        note = f"window {part.shape[1]} x {part.shape[0]} of {note}"
    if mask is None and prediction.sample.is_defective:
        note += "  ·  no mask"
    rgb = part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=2)
    return Case(
        title=prediction.sample.id,
        facts=facts,
        image=hatch(np.asarray(_resize(rgb, scale), np.uint8), is_inspected(shown_map)),
        anomaly_map=np.asarray(_resize(np.ascontiguousarray(drawn_map[rows, columns]), scale), np.float32),
        found=_outlines(shown_map > pixel_threshold, scale),
        drawn=_outlines(shown_mask, scale),
        drawn_around=_outlines(_grow(shown_mask, 4 / scale), scale),
        note=note,
    )


def common_scale(cases: Sequence[Case], pixel_threshold: float) -> MapScale:
    """Choose one color scale for all sheets of a report, so that equal colors mean equal levels."""
    if not cases:
        return MapScale(low=pixel_threshold - 1.0, high=pixel_threshold + 1.0, threshold=pixel_threshold)
    low = float(np.median([np.median(case.anomaly_map) for case in cases]))
    low = min(low, pixel_threshold - 1e-6 * max(abs(pixel_threshold), 1e-6))
    peak = float(np.quantile([case.anomaly_map.max() for case in cases], 0.9))
    return MapScale(low=low, high=max(peak, pixel_threshold + 0.5 * (pixel_threshold - low)), threshold=pixel_threshold)


def draw_sheet(title: str, subtitle: str, cases: Sequence[Case], scale: MapScale, path: Path) -> Path:
    """Draw the cases two abreast under a title and a legend; without cases the sheet says "none"."""
    is_wide = _is_wide(cases)
    row_heights = _row_heights(cases, is_wide)
    height = _HEADER + sum(row_heights) + (_FOOTER if cases else 0)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(height)
        put_text(figure, _MARGIN, 22, title, size=15, weight="bold")
        put_text(figure, _MARGIN, 50, subtitle, color=MUTED)
        if cases:
            _legend(figure, scale)
        else:
            put_text(figure, _MARGIN, 82, "none", size=13, color=MUTED)
        top = _HEADER
        for index, case in enumerate(cases):
            column = index % _COLUMNS
            _draw_case(figure, case, scale, _MARGIN + column * (_CELL_WIDTH + _GAP), top, is_wide)
            if column == _COLUMNS - 1:
                top += row_heights[index // _COLUMNS]
        return save(figure, path)


def _window(anomaly_map: AnomalyMap, mask: Mask | None) -> tuple[slice, slice]:
    """The rows and columns to show: all, or a window around the drawn defect, else around the map's peak."""
    center = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    if mask is not None:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        region = np.argwhere(labels == largest)
        center = tuple(region[len(region) // 2])
    spans = []
    for at, length in zip(center, anomaly_map.shape, strict=True):
        start = min(max(int(at) - _WINDOW_PX // 2, 0), max(length - _WINDOW_PX, 0))
        spans.append(slice(start, min(start + _WINDOW_PX, length)))
    return spans[0], spans[1]


def _thumb_scale(height: int, width: int) -> float:
    """Enlarge or shrink so that two thumbnails fill a cell: side by side, or one above the other if wide."""
    available = _CELL_WIDTH if width > 2 * height else (_CELL_WIDTH - 8) / 2
    return min(available / width, _MAX_THUMB_HEIGHT / height)


def _resize(array: NDArray[Any], scale: float) -> NDArray[Any]:
    size = (max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(array, size, interpolation=method), array.dtype)


def _outlines(region: Mask, scale: float) -> Outlines:
    """Closed outlines of a region's outer borders, (N, 2) x and y in the thumbnail's px."""
    enlarged = cv2.resize(region.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    closed = (np.concatenate([c[:, 0, :], c[:1, 0, :]]) for c in contours)
    return tuple((points + 0.5) / 2 * scale for points in closed)


def _grow(mask: Mask, margin_px: float) -> Mask:
    size = 2 * max(1, round(margin_px)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(mask.view(np.uint8), kernel), np.uint8).view(np.bool_)


def _is_wide(cases: Sequence[Case]) -> bool:
    return bool(cases) and all(case.image.shape[1] > 2 * case.image.shape[0] for case in cases)


def _row_heights(cases: Sequence[Case], is_wide: bool) -> list[int]:
    heights = [case.image.shape[0] * (2 if is_wide else 1) + (6 if is_wide else 0) + _CAPTION for case in cases]
    return [max(heights[i : i + _COLUMNS]) for i in range(0, len(heights), _COLUMNS)]


def _draw_case(figure: Figure, case: Case, scale: MapScale, left: int, top: int, is_wide: bool) -> None:
    height, width = case.image.shape[:2]
    half = (_CELL_WIDTH - 8) / 2
    shrink = 1.0 if is_wide else min(1.0, half / width)
    height, width = round(height * shrink), round(width * shrink)
    second = (left, top + height + 6) if is_wide else (left + width + 8, top)
    overlay = _overlay(case, scale)
    for (x, y), pixels, outlines in (
        ((left, top), case.image, case.drawn_around),
        (second, overlay, case.drawn),
    ):
        axes = figure.add_axes(px_box(figure, x, y, width, height))
        axes.imshow(pixels, extent=(0, case.image.shape[1], case.image.shape[0], 0), aspect="auto")
        for points in outlines:
            axes.plot(*points.T, color=DRAWN_COLOR, lw=1.2)
        if pixels is overlay:
            for points in case.found:
                axes.plot(*points.T, color=FOUND_COLOR, lw=1.4)
        axes.set(xlim=(0, case.image.shape[1]), ylim=(case.image.shape[0], 0), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    below = top + (2 * height + 6 if is_wide else height)
    put_text(figure, left, below + 7, shorten(case.title), size=9.5, weight="bold")
    put_text(figure, left, below + 25, f"{case.facts}  ·  {case.note}", size=9, color=MUTED)


def _overlay(case: Case, scale: MapScale) -> Pixels:
    """Blend the map over the gray image: transparent at the scale's low end, opaque color at its high end."""
    level = np.clip((case.anomaly_map - scale.low) / (scale.high - scale.low), 0.0, 1.0)
    color = mpl.colormaps[_COLORMAP](level)[..., :3] * 255
    gray = cv2.cvtColor(case.image, cv2.COLOR_RGB2GRAY)[..., None]
    alpha = 0.8 * level[..., None] ** 0.7
    return np.asarray(np.rint(gray * (1 - alpha) + color * alpha), np.uint8)


def _legend(figure: Figure, scale: MapScale) -> None:
    handles = [
        Line2D([], [], color=DRAWN_COLOR, lw=2, label="defect as drawn (mask)"),
        Line2D([], [], color=FOUND_COLOR, lw=2, label="map above the pixel threshold"),
    ]
    anchor = (_MARGIN / WIDTH_PX, 1 - 90 / _height(figure))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=anchor, ncols=2, fontsize=9, borderaxespad=0, borderpad=0
    )
    left, top, width = WIDTH_PX - _MARGIN - 280, 92, 260
    axes = figure.add_axes(px_box(figure, left, top, width, 10))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=_COLORMAP, extent=(scale.low, scale.high, 0, 1))
    axes.axvline(scale.threshold, color=INK, lw=1.5)
    axes.set(yticks=[], xticks=[])
    axes.spines[:].set_color(GRID)
    at = left + round(width * (scale.threshold - scale.low) / (scale.high - scale.low))
    put_text(figure, left - 12, top - 3, "anomaly map", size=9, color=MUTED, align="right")
    put_text(figure, at, top - 16, f"pixel threshold {scale.threshold:.3g}", size=8, align="center")
    put_text(figure, left, top + 13, f"{scale.low:.3g}", size=8, color=MUTED, align="center")
    put_text(figure, left + width, top + 13, f"{scale.high:.3g}", size=8, color=MUTED, align="center")


def shorten(text: str, limit: int = 64) -> str:
    """Keep the start and the longer end of a long text."""
    if len(text) <= limit:
        return text
    tail = math.floor(limit * 0.6)
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"


def put_text(
    figure: Figure,
    x: int,
    y: int,
    text: str,
    *,
    size: float = 10,
    weight: str = "normal",
    color: str = INK,
    align: str = "left",
) -> None:
    """Write a line whose top is y px below the figure's top."""
    position = (x / WIDTH_PX, 1 - y / _height(figure))
    figure.text(*position, text, size=size, weight=weight, color=color, ha=align, va="top", parse_math=False)


def px_box(figure: Figure, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """A rectangle in px from the top left, as matplotlib's (left, bottom, width, height) fractions."""
    total = _height(figure)
    return x / WIDTH_PX, 1 - (y + height) / total, width / WIDTH_PX, height / total


def _height(figure: Figure) -> float:
    return float(figure.get_figheight() * figure.dpi)
