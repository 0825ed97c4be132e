"""The contact sheet of a labelled set, for a page: pictures of each kind with boxes, outlines and names."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np

from zellige.core.image_files import read_pixels
from zellige.core.types import GOOD
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Box, Size
from zellige.data.shapes import decode, trace

COLORS = ("#e8432e", "#0f9fd6", "#e0a100", "#2f9e55", "#9b4fd0", "#e0559a", "#0aa39a", "#8a6a3c", "#4a5fe0", "#77900b")
SHEET_CSS = """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(236px, 1fr)); gap: 14px; margin: 6px 0 22px; }
.sheet figure { margin: 0; } .sheet svg { width: 100%; height: auto; max-height: 300px; display: block;
  background: #f5f7f8; border: 1px solid var(--line); border-radius: 4px; }
.sheet figcaption { font-size: 12px; line-height: 1.35; margin-top: 4px; overflow-wrap: anywhere; }
.sheet text { font-weight: 600; font-family: "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
  paint-order: stroke; stroke: white; stroke-opacity: 0.85; stroke-linejoin: round; }
.sheet .line { fill: none; stroke-width: 1.8; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.sheet .halo { fill: none; stroke: white; stroke-width: 3.6; stroke-opacity: 0.75; vector-effect: non-scaling-stroke; }
.sheet .box { stroke-dasharray: 5 3; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px; }
.bar { background: #35678b; height: 10px; border-radius: 2px; } td.wide { width: 60%; vertical-align: middle; }
@media print { .sheet { grid-template-columns: repeat(4, 1fr); gap: 8px; } .sheet figure { break-inside: avoid; } }
"""
_WINDOW_PX = 768
"""Of a larger image only a window of this many px around one of its defects is shown."""
_PICTURE_PX = 480
_NAMED_DEFECTS = 12
"""Where more are in view, their colors say the kinds: the names would hide the picture."""


def color_of(kind: str, kinds: Sequence[str]) -> str:
    """The color of a kind; they repeat after ten."""
    return COLORS[kinds.index(kind) % len(COLORS)]


def draw_sheet(images: Sequence[AnnotatedImage], kinds: Sequence[str], *, per_kind: int = 4) -> str:
    """Draw up to `per_kind` images of each kind and of good ones, evenly over the sorted ids, as HTML.

    Raises:
        InputError: an image that cannot be read.
    """
    rows: Mapping[str, list[AnnotatedImage]] = {
        kind: [image for image in images if (kind in image.kinds if kind != GOOD else not image.kinds)]
        for kind in (*kinds, GOOD)
    }
    parts = []
    for kind, found in rows.items():
        if found:
            chosen = np.unique(np.linspace(0, len(found) - 1, min(per_kind, len(found))).astype(int))
            dot = "" if kind == GOOD else f'<span class="dot" style="background:{color_of(kind, kinds)}"></span>'
            cells = "".join(_figure(found[int(index)], kind, kinds) for index in chosen)
            count = f"{len(found)} image{'s' if len(found) > 1 else ''}"
            parts.append(
                f'<h3>{dot}{escape(kind)} <span class="muted">{count}</span></h3><div class="sheet">{cells}</div>'
            )
    return "".join(parts)


def draw_in_order(images: Sequence[AnnotatedImage], kinds: Sequence[str], words: Sequence[str]) -> str:
    """Draw all of some images in the given order, as HTML, with words for each below it.

    Raises:
        InputError: an image that cannot be read.
    """
    cells = [_figure(image, (*image.kinds, GOOD)[0], kinds, text) for image, text in zip(images, words, strict=True)]
    return f'<div class="sheet">{"".join(cells)}</div>'


def _figure(image: AnnotatedImage, kind: str, kinds: Sequence[str], words: str = "") -> str:
    left, top, width, height = _window(image, kind)
    shown = [defect for defect in image.defects if _is_in_view(defect.box, left, top, width, height)]
    side = max(width, height) / 240
    drawn = "".join(_draw(defect, color_of(defect.kind, kinds), image.size) for defect in shown)
    names = ""
    if len(shown) <= _NAMED_DEFECTS:
        names = "".join(_name(defect, color_of(defect.kind, kinds), side, (left, top, width)) for defect in shown)
    part = "" if (width, height) == image.size[::-1] else f"window {width} x {height} of "
    unplaced = f" · {', '.join(image.unplaced)}, not placed" if image.unplaced else ""
    note = f"{part}{image.size[1]} x {image.size[0]} px{unplaced}"
    above = f"<br>{escape(words)}" if words else ""
    return (
        f'<figure><svg viewBox="{left} {top} {width} {height}" role="img">'
        f'<image x="{left}" y="{top}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{_picture(image, left, top, width, height)}"/>{drawn}{names}</svg>'
        f'<figcaption>{escape(image.id)}{above}<br><span class="muted">{escape(note)}</span></figcaption></figure>'
    )


def _window(image: AnnotatedImage, kind: str) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part that is shown."""
    height, width = image.size
    wanted = [defect.box for defect in image.defects if defect.kind == kind] or [(0.0, 0.0, width, height)]
    x0, y0, x1, y1 = max(wanted, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    spans = []
    for low, high, length in ((x0, x1, width), (y0, y1, height)):
        extent = min(length, max(_WINDOW_PX, round(1.2 * (high - low))))
        spans.append((min(max(round((low + high - extent) / 2), 0), length - extent), extent))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _is_in_view(box: Box, left: int, top: int, width: int, height: int) -> bool:
    return box[0] < left + width and box[2] > left and box[1] < top + height and box[3] > top


def _picture(image: AnnotatedImage, left: int, top: int, width: int, height: int) -> str:
    """The shown part as the address of an embedded JPEG."""
    pixels = read_pixels(image.image_path)[top : top + height, left : left + width]
    scale = min(1.0, _PICTURE_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    stored = small if small.ndim == 2 else np.ascontiguousarray(small[..., ::-1])
    content = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def _draw(defect: AnnotatedDefect, color: str, size: Size) -> str:
    x0, y0, x1, y1 = defect.box
    rings = defect.polygons or (trace(decode(defect.mask)) if defect.mask is not None else ())
    if not rings:
        area = f'x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}"'
        return f'<rect class="halo" {area}/><rect class="line box" stroke="{color}" {area}/>'
    path = " ".join("M" + " ".join(f"{x:g},{y:g}" for x, y in ring) + "Z" for ring in rings)
    return f'<path class="halo" d="{path}"/><path class="line" stroke="{color}" d="{path}"/>'


def _name(defect: AnnotatedDefect, color: str, side: float, view: tuple[int, int, int]) -> str:
    """The kind above its box, or inside where there is no room; `side` is a px of the page in px of the image."""
    left, top, width = view
    x0, y0, _, _ = defect.box
    size = 11 * side
    y = y0 - 4 * side if y0 - top > 15 * side else max(y0, top) + 13 * side
    inset = 0.0 if y < y0 else 4 * side
    rightmost = left + width - 0.64 * size * len(defect.kind)
    x = max(min(x0 + inset, rightmost), left + 3 * side)
    style = f'fill="{color}" font-size="{size:.2f}" stroke-width="{3 * side:.2f}"'
    return f'<text x="{x:.2f}" y="{y:.2f}" {style}>{escape(defect.kind)}</text>'
