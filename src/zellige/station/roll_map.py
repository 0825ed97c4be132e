"""The map of a roll as SVG and as PNG: length from left to right, width from top to bottom, a density strip below.

Inside the SVG's plot one unit is one mm from the picture's corner. Lines have the same width at any scale, which gives
every marker its smallest size.
"""

from html import escape

import cv2
import numpy as np

from zellige.core.types import Pixels
from zellige.station.roll_frame import LEFT, MUTED, PLOT, STRIP, TOP, WIDTH, MapPage, short_text
from zellige.station.roll_layout import Marker, RollLayout

_LINE, _BAND, _BAR, _HATCH, _GAP = "#c9d1d8", "#f3f6f8", "#5b6b7a", "#9a5b00", "#efc36b"

PLOT_CSS = (
    f".web{{fill:#fff;stroke:{MUTED};stroke-width:1px}}.band{{fill:{_BAND}}}.lane{{stroke:{_LINE};stroke-width:1px}}"
    f".seam{{stroke:{MUTED};stroke-width:1px;stroke-dasharray:6 6}}"
    f".bar{{fill:{_BAR}}}.gap{{fill:{_GAP};stroke:{_GAP};stroke-width:1px}}.undecided{{fill:url(#hatch);stroke:{_HATCH};stroke-width:1px}}"
    ".d{stroke-linejoin:miter}.plot *{vector-effect:non-scaling-stroke}"
)


def draw_svg(layout: RollLayout) -> str:
    """Draw the map as a picture of its own: no script, nothing from outside, all text escaped."""
    page = MapPage(layout)
    roll = layout.roll
    texts = [_text(*text) for text in page.texts()]
    lines = [
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{MUTED}"/>'
        for x0, y0, x1, y1 in page.lines()
    ]
    title = f"Map of the roll {short_text(roll.summary.source, 300)}"
    plot = f'x="{LEFT}" y="{TOP}" width="{page.plot_px}" height="{PLOT}" viewBox="{plot_view(layout)}"'
    strip = f'x="{LEFT}" y="{page.strip_top}" width="{page.plot_px}" height="{STRIP}" viewBox="{strip_view(layout)}"'
    swatches = [
        f'<rect x="{x}" y="{y - 12}" width="14" height="14" fill="{color}"/>' for x, y, color, _ in page.legend()
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {page.height}" role="img" '
        f'font-family="Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"><title>{escape(title)}</title>'
        f"<desc>{escape(page.description())}</desc>"
        f"<style>{PLOT_CSS}{kind_css(layout)}{page.marker_css()}</style>{hatch_defs(layout, page.plot_px, PLOT)}"
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
    """Draw what lies inside the plot, in mm: the web, lanes, borders of cameras, undecided stretches, defects."""
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
    parts += [f'<line class="seam" x2="{length}" y1="{seam:.10g}" y2="{seam:.10g}"/>' for seam in roll.seams_mm]
    for stretch in roll.summary.undecided:
        low, high = roll.across(stretch)
        parts.append(
            f'<rect class="undecided" x="{stretch.from_mm:.10g}" width="{stretch.to_mm - stretch.from_mm:.10g}" '
            f'y="{low:.10g}" height="{high - low:.10g}">'
            f"<title>UNDECIDED: {escape(short_text(stretch.reason, 300))}</title></rect>"
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
    gaps = "".join(
        f'<rect class="gap" x="{s.from_mm:.10g}" width="{s.to_mm - s.from_mm:.10g}" height="1"/>'
        for s in layout.roll.summary.undecided
    )
    return gaps + "".join(
        f'<rect class="bar" x="{i * layout.bin_mm:.10g}" y="{1 - value / peak:.4f}" '
        f'width="{min(layout.bin_mm, layout.roll.length_mm - i * layout.bin_mm):.10g}" height="{value / peak:.4f}"/>'
        for i, value in enumerate(layout.densities)
        if value > 0
    )


def _text(x: float, y: float, text: str, size: int, anchor: str, color: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
    )


def draw_png(layout: RollLayout) -> Pixels:
    """Draw the same map as pixels: (H, 1600, 3) uint8 RGB. Letters that OpenCV's font lacks become "?"."""
    page = MapPage(layout)
    roll = layout.roll
    canvas = np.full((page.height, WIDTH, 3), 255, np.uint8)
    left, right, bottom = LEFT, LEFT + page.plot_px, TOP + PLOT
    for i, lane in enumerate(roll.summary.lanes):
        corners = (left, round(page.y_px(lane.from_mm))), (right, round(page.y_px(lane.to_mm)))
        if i % 2 == 0:
            cv2.rectangle(canvas, *corners, _rgb(_BAND), -1)
        cv2.rectangle(canvas, *corners, _rgb(_LINE), 1)
    for seam in roll.seams_mm:
        y = round(page.y_px(roll.left_mm + seam))
        for x in range(left, right, 12):
            cv2.line(canvas, (x, y), (x + 5, y), _rgb(MUTED), 1)
    _hatch(canvas, page)
    for marker in layout.markers:
        _mark(canvas, page, marker)
    # Markers at the border reach beyond it, as in the SVG they do not.
    canvas[:TOP], canvas[bottom + 1 :], canvas[:, :left], canvas[:, right + 1 :] = 255, 255, 255, 255
    cv2.rectangle(canvas, (left, TOP), (right, bottom), _rgb(MUTED), 1)
    for stretch in roll.summary.undecided:
        start, stop = (round(page.x_px(min(max(mm, 0.0), roll.length_mm))) for mm in (stretch.from_mm, stretch.to_mm))
        cv2.rectangle(canvas, (start, page.strip_top), (stop, page.strip_top + STRIP), _rgb(_GAP), -1)
    peak = max(layout.densities) or 1.0
    for i, value in enumerate(layout.densities):
        x0, x1 = page.x_px(i * layout.bin_mm), page.x_px(min((i + 1) * layout.bin_mm, roll.length_mm))
        if value > 0:
            top = page.strip_top + STRIP * (1 - value / peak)
            cv2.rectangle(canvas, (round(x0), round(top)), (round(x1) - 1, page.strip_top + STRIP), _rgb(_BAR), -1)
    for x0, y0, x1, y1 in page.lines():
        cv2.line(canvas, (round(x0), round(y0)), (round(x1), round(y1)), _rgb(MUTED), 1)
    for x, y, color, _ in page.legend():
        cv2.rectangle(canvas, (x, y - 12), (x + 13, y + 1), _rgb(color), -1)
    for text in page.texts():
        _put(canvas, *text)
    return canvas


def _mark(canvas: Pixels, page: MapPage, m: Marker) -> None:
    half = page.marker_px[m.step] / 2
    left_mm = page.layout.roll.left_mm
    x0, x1 = page.x_px(m.along) - half, page.x_px(m.along + m.extent) + half
    y0, y1 = page.y_px(left_mm + m.across) - half, page.y_px(left_mm + m.across + m.width) + half
    color = _rgb(page.layout.kinds[m.kind][1])
    cv2.rectangle(canvas, (round(x0), round(y0)), (round(x1) - 1, round(y1) - 1), color, -1)


def _hatch(canvas: Pixels, page: MapPage) -> None:
    for stretch in page.layout.roll.summary.undecided:
        x0 = min(max(round(page.x_px(stretch.from_mm)), LEFT), LEFT + page.plot_px - 2)
        x1 = min(max(round(page.x_px(stretch.to_mm)), x0 + 2), LEFT + page.plot_px)
        y0, y1 = (round(page.y_px(page.layout.roll.left_mm + mm)) for mm in page.layout.roll.across(stretch))
        area = canvas[y0:y1, x0:x1]
        rows, columns = np.ogrid[y0:y1, x0:x1]
        area[:] = np.where(((rows + columns) % 11 < 3)[..., None], _rgb(_HATCH), _rgb("#fbe9c6"))


def _put(canvas: Pixels, x: float, y: float, text: str, size: int, anchor: str, color: str) -> None:
    text = text.replace("²", "2").encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size / 30
    (width, _), _ = cv2.getTextSize(text, font, scale, 1)
    start = x - {"start": 0.0, "middle": width / 2, "end": float(width)}[anchor]
    cv2.putText(canvas, text, (round(start), round(y)), font, scale, _rgb(color), 1, cv2.LINE_AA)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
