"""The map of a roll as SVG and as PNG: length from left to right, width from top to bottom, a density strip below.

Inside the SVG's plot one unit is one mm from the picture's corner. Lines have the same width at any scale, which gives
every marker its smallest size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from zellige.core.types import Pixels
from zellige.station.roll_layout import (
    MARKER_PX,
    Marker,
    RollLayout,
    is_in_m,
    lane_labels,
    length_words,
    ticks,
)

WIDTH, LEFT, RIGHT = 1600, 96, 190
_TOP, _PLOT, _AXIS, _STRIP, _LEGEND_ROW = 106, 360, 58, 90, 30
_INK, _MUTED, _LINE, _BAND, _BAR, _HATCH = "#1f2933", "#4d5a66", "#c9d1d8", "#f3f6f8", "#5b6b7a", "#9a5b00"
_MAX_TEXT = 90
_LANE_PX = 19

PLOT_CSS = (
    f".web{{fill:#fff;stroke:{_MUTED};stroke-width:1px}}.band{{fill:{_BAND}}}.lane{{stroke:{_LINE};stroke-width:1px}}"
    f".bar{{fill:{_BAR}}}.undecided{{fill:url(#hatch);stroke:{_HATCH};stroke-width:1px}}"
    ".d{stroke-linejoin:miter}.plot *{vector-effect:non-scaling-stroke}"
    + "".join(f".s{i}{{stroke-width:{px}px}}" for i, px in enumerate(MARKER_PX))
)


def draw_svg(layout: RollLayout) -> str:
    """Draw the map as a picture of its own: no script, nothing from outside, all text escaped."""
    page = _Page(layout)
    roll = layout.roll
    texts = [_text(*text) for text in page.texts()]
    lines = [
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{_MUTED}"/>'
        for x0, y0, x1, y1 in page.lines()
    ]
    title = f"Map of the roll {roll.summary.source}"
    plot = f'x="{LEFT}" y="{_TOP}" width="{page.plot_px}" height="{_PLOT}" viewBox="{plot_view(layout)}"'
    strip = f'x="{LEFT}" y="{page.strip_top}" width="{page.plot_px}" height="{_STRIP}" viewBox="{strip_view(layout)}"'
    swatches = [
        f'<rect x="{x}" y="{y - 12}" width="14" height="14" fill="{color}"/>' for x, y, color, _ in page.legend()
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {page.height}" role="img" '
        f'font-family="Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"><title>{escape(title)}</title>'
        f"<desc>{escape(page.description())}</desc>"
        f"<style>{PLOT_CSS}{kind_css(layout)}</style>{hatch_defs(layout, page.plot_px, _PLOT)}"
        f'<rect width="{WIDTH}" height="{page.height}" fill="#fff"/>'
        f'<svg class="plot" id="plot" preserveAspectRatio="none" {plot}>{plot_markup(layout)}</svg>'
        f'<svg class="plot" id="strip" preserveAspectRatio="none" {strip}>{strip_markup(layout)}</svg>'
        + "".join(lines + swatches + texts)
        + "</svg>\n"
    )


def plot_view(layout: RollLayout) -> str:
    """Give the whole plot's view box, mm."""
    return f"0 0 {layout.roll.length_mm:.10g} {layout.roll.width_mm:.10g}"


def strip_view(layout: RollLayout) -> str:
    """Give the density strip's view box: mm along, 0 to 1."""
    return f"0 0 {layout.roll.length_mm:.10g} 1"


def kind_css(layout: RollLayout) -> str:
    """Give each kind its color."""
    return "".join(f".k{i}{{fill:{color};stroke:{color}}}" for i, (_, color, _) in enumerate(layout.kinds))


def hatch_defs(layout: RollLayout, width_px: float, height_px: float) -> str:
    """Define the hatch so that its lines lie 8 px apart when the whole roll has this size."""
    along, across = layout.roll.length_mm / width_px, layout.roll.width_mm / height_px
    return (
        '<defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" '
        f'patternTransform="scale({along:.6g} {across:.6g}) rotate(45)"><rect width="8" height="8" fill="#fbe9c6"/>'
        f'<rect width="2.5" height="8" fill="{_HATCH}"/></pattern></defs>'
    )


def plot_markup(layout: RollLayout) -> str:
    """Draw what lies inside the plot, in mm: the web, lanes, undecided stretches, defects."""
    roll = layout.roll
    length, width = f"{roll.length_mm:.10g}", f"{roll.width_mm:.10g}"
    parts = [f'<rect class="web" width="{length}" height="{width}"/>']
    for i, lane in enumerate(roll.summary.lanes):
        low, high = lane.from_mm - roll.left_mm, lane.to_mm - roll.left_mm
        if i % 2 == 0:
            parts.append(f'<rect class="band" y="{low:.10g}" width="{length}" height="{high - low:.10g}"/>')
        parts += [
            f'<line class="lane" x2="{length}" y1="{edge:.10g}" y2="{edge:.10g}"/>'
            for edge in dict.fromkeys((low, high))
        ]
    for stretch in roll.summary.undecided:
        parts.append(
            f'<rect class="undecided" x="{stretch.from_mm:.10g}" width="{stretch.to_mm - stretch.from_mm:.10g}" '
            f'height="{width}"><title>UNDECIDED: {escape(stretch.reason)}</title></rect>'
        )
    parts += [
        f'<rect class="d k{m.kind} s{m.step}" data-number="{m.number}" x="{m.along:.10g}" y="{m.across:.10g}" '
        f'width="{m.extent:.10g}" height="{m.width:.10g}"/>'
        for m in layout.markers
    ]
    return "".join(parts)


def strip_markup(layout: RollLayout) -> str:
    """Draw the density strip: mm along, 1 up to the peak."""
    peak = max(layout.densities)
    return "".join(
        f'<rect class="bar" x="{i * layout.bin_mm:.10g}" y="{1 - value / peak:.4f}" '
        f'width="{min(layout.bin_mm, layout.roll.length_mm - i * layout.bin_mm):.10g}" height="{value / peak:.4f}"/>'
        for i, value in enumerate(layout.densities)
        if value > 0
    )


def density_words(layout: RollLayout) -> str:
    """Say what the strip shows."""
    along = f"{layout.bin_mm / 1000:g} m" if layout.bin_mm >= 1000 else f"{layout.bin_mm:g} mm"
    return f"Defects per m², in steps of {along}; peak {max(layout.densities):.3g}"


@dataclass(frozen=True, slots=True)
class _Page:
    """Where everything outside the plot lies, in px; both pictures draw this."""

    layout: RollLayout

    @property
    def plot_px(self) -> int:
        return WIDTH - LEFT - RIGHT

    @property
    def strip_top(self) -> int:
        return _TOP + _PLOT + _AXIS + 12

    @property
    def height(self) -> int:
        return max((y for _, y, _, _ in self.legend()), default=self.strip_top + _STRIP + 30) + 54

    def x_px(self, along_mm: float) -> float:
        return LEFT + along_mm / self.layout.roll.length_mm * self.plot_px

    def y_px(self, across_mm: float) -> float:
        """`across_mm` from the datum."""
        roll = self.layout.roll
        return _TOP + (across_mm - roll.left_mm) / roll.width_mm * _PLOT

    def description(self) -> str:
        roll = self.layout.roll
        length = length_words(round(roll.length_mm, 1), in_m=is_in_m(roll)) + (" m" if is_in_m(roll) else " mm")
        state = "complete" if roll.summary.complete else "NOT COMPLETE"
        parts = [f"{length} x {roll.width_mm:.10g} mm", f"{len(roll.defects)} defects"]
        if len(self.layout.markers) < len(roll.defects):
            parts.append(f"the {len(self.layout.markers)} most notable are drawn")
        if roll.summary.undecided:
            parts.append(f"{len(roll.summary.undecided)} undecided stretches")
        return ", ".join([*parts, state])

    def across_ticks(self) -> list[float]:
        roll = self.layout.roll
        return ticks(roll.left_mm, roll.left_mm + roll.width_mm, 8)

    def lines(self) -> Iterator[tuple[float, float, float, float]]:
        bottom = _TOP + _PLOT
        for value in ticks(0, self.layout.roll.length_mm, 12):
            yield self.x_px(value), bottom, self.x_px(value), bottom + 7
        for value in self.across_ticks():
            yield LEFT - 7, self.y_px(value), LEFT, self.y_px(value)
        yield LEFT, self.strip_top + _STRIP, LEFT + self.plot_px, self.strip_top + _STRIP

    def texts(self) -> Iterator[tuple[float, float, str, int, str, str]]:
        """Give x, y of the baseline, text, size in px, anchor, color."""
        roll = self.layout.roll
        yield 24, 34, _short(roll.summary.source), 22, "start", _INK
        yield 24, 62, _short(self.description()), 17, "start", _MUTED
        in_m = is_in_m(roll)
        for value in ticks(0, roll.length_mm, 12):
            yield self.x_px(value), _TOP + _PLOT + 26, length_words(value, in_m=in_m), 16, "middle", _INK
        yield WIDTH - RIGHT + 36, _TOP + _PLOT + 26, "m along" if in_m else "mm along", 16, "start", _MUTED
        for value in self.across_ticks():
            yield LEFT - 12, self.y_px(value) + 5, f"{value:.10g}", 16, "end", _INK
        yield LEFT - 12, _TOP - 10, "mm across", 16, "end", _MUTED
        last = -_LANE_PX * 1.0
        for lane, label in lane_labels(roll):
            middle = self.y_px((lane.from_mm + lane.to_mm) / 2)
            if middle - last >= _LANE_PX:
                yield WIDTH - RIGHT + 14, middle + 6, _short(label, 20), 17, "start", _INK
                last = middle
        yield LEFT, self.strip_top - 8, density_words(self.layout), 16, "start", _MUTED
        for x, y, _, name in self.legend():
            yield x + 21, y, name, 16, "start", _INK
        yield 24, self.height - 20, self._explanation(), 15, "start", _MUTED

    def _explanation(self) -> str:
        small, middle, large = MARKER_PX
        hatch = "Hatched: undecided, not judged. " if self.layout.roll.summary.undecided else ""
        return (
            f"{hatch}Smallest marker {small} px; {middle} px and {large} px for the longest or highest-scored 40 % and "
            "10 %. Length and width have different scales."
        )

    def legend(self) -> list[tuple[int, int, str, str]]:
        """Give x, y of the baseline, color and name of each kind, in rows."""
        x, y = LEFT, self.strip_top + _STRIP + 32
        items = []
        for kind, color, count in self.layout.kinds:
            name = f"{_short(kind, 40)} ({count})"
            width = 46 + round(8.6 * len(name))
            if x > LEFT and x + width > WIDTH - 20:
                x, y = LEFT, y + _LEGEND_ROW
            items.append((x, y, color, name))
            x += width
        return items


def _short(text: str, most: int = _MAX_TEXT) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def _text(x: float, y: float, text: str, size: int, anchor: str, color: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
    )


def draw_png(layout: RollLayout) -> Pixels:
    """Draw the same map as pixels: (H, 1600, 3) uint8 RGB. Letters that OpenCV's font lacks become "?"."""
    page = _Page(layout)
    roll = layout.roll
    canvas = np.full((page.height, WIDTH, 3), 255, np.uint8)
    left, right, bottom = LEFT, LEFT + page.plot_px, _TOP + _PLOT
    for i, lane in enumerate(roll.summary.lanes):
        corners = (left, round(page.y_px(lane.from_mm))), (right, round(page.y_px(lane.to_mm)))
        if i % 2 == 0:
            cv2.rectangle(canvas, *corners, _rgb(_BAND), -1)
        cv2.rectangle(canvas, *corners, _rgb(_LINE), 1)
    _hatch(canvas, page)
    for marker in layout.markers:
        _mark(canvas, page, marker)
    # Markers at the border reach beyond it, as in the SVG they do not.
    canvas[:_TOP], canvas[bottom + 1 :], canvas[:, :left], canvas[:, right + 1 :] = 255, 255, 255, 255
    cv2.rectangle(canvas, (left, _TOP), (right, bottom), _rgb(_MUTED), 1)
    peak = max(layout.densities) or 1.0
    for i, value in enumerate(layout.densities):
        x0, x1 = page.x_px(i * layout.bin_mm), page.x_px(min((i + 1) * layout.bin_mm, roll.length_mm))
        if value > 0:
            top = page.strip_top + _STRIP * (1 - value / peak)
            cv2.rectangle(canvas, (round(x0), round(top)), (round(x1) - 1, page.strip_top + _STRIP), _rgb(_BAR), -1)
    for x0, y0, x1, y1 in page.lines():
        cv2.line(canvas, (round(x0), round(y0)), (round(x1), round(y1)), _rgb(_MUTED), 1)
    for x, y, color, _ in page.legend():
        cv2.rectangle(canvas, (x, y - 12), (x + 13, y + 1), _rgb(color), -1)
    for text in page.texts():
        _put(canvas, *text)
    return canvas


def _mark(canvas: Pixels, page: _Page, m: Marker) -> None:
    half = MARKER_PX[m.step] / 2
    left_mm = page.layout.roll.left_mm
    x0, x1 = page.x_px(m.along) - half, page.x_px(m.along + m.extent) + half
    y0, y1 = page.y_px(left_mm + m.across) - half, page.y_px(left_mm + m.across + m.width) + half
    color = _rgb(page.layout.kinds[m.kind][1])
    cv2.rectangle(canvas, (round(x0), round(y0)), (round(x1) - 1, round(y1) - 1), color, -1)


def _hatch(canvas: Pixels, page: _Page) -> None:
    for stretch in page.layout.roll.summary.undecided:
        x0 = min(max(round(page.x_px(stretch.from_mm)), LEFT), LEFT + page.plot_px - 2)
        x1 = min(max(round(page.x_px(stretch.to_mm)), x0 + 2), LEFT + page.plot_px)
        area = canvas[_TOP : _TOP + _PLOT, x0:x1]
        rows, columns = np.ogrid[_TOP : _TOP + _PLOT, x0:x1]
        area[:] = np.where(((rows + columns) % 11 < 3)[..., None], _rgb(_HATCH), _rgb("#fbe9c6"))


def _put(canvas: Pixels, x: float, y: float, text: str, size: int, anchor: str, color: str) -> None:
    text = text.replace("²", "2").encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size / 30
    (width, _), _ = cv2.getTextSize(text, font, scale, 1)
    start = x - {"start": 0.0, "middle": width / 2, "end": float(width)}[anchor]
    cv2.putText(canvas, text, (round(start), round(y)), font, scale, _rgb(color), 1, cv2.LINE_AA)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
