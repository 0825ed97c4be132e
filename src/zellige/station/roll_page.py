"""The page of a judged roll: one HTML file with all it needs inside, and the map beside it as SVG and PNG."""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from zellige.core.errors import InputError, StationError
from zellige.core.roll_records import RollDefect
from zellige.station.roll_files import JudgedRoll, read_roll
from zellige.station.roll_layout import FULL_SIZE, LEAST_SHARE, RollLayout, lay_out
from zellige.station.roll_map import draw_png, draw_svg, kind_css
from zellige.station.roll_page_parts import MAX_REPEATS, page_parts
from zellige.station.roll_page_script import SCRIPT
from zellige.station.roll_page_style import CSS

PAGE, MAP_SVG, MAP_PNG = "roll.html", "roll_map.svg", "roll_map.png"
MAX_CROPS = 300
_MAX_CROP_BYTES = 48 << 10
_CROP_SIDE_PX = 360


def write_roll_page(folder: Path) -> Path:
    """Write roll.html, roll_map.svg and roll_map.png into a judged roll's folder; return the page's path.

    The page loads nothing from outside. It holds the pictures of the largest defects, at most 300, and the rows of at
    most 20,000 defects; it says so where there are more.

    Raises:
        InputError: roll.json or defects.csv is missing or not what the inspection of a roll writes.
        StationError: the folder cannot be written.
    """
    layout = lay_out(read_roll(folder))
    is_written, picture = cv2.imencode(".png", draw_png(layout)[..., ::-1])
    assert is_written
    files = {MAP_SVG: _utf8(draw_svg(layout)), MAP_PNG: picture.tobytes(), PAGE: _utf8(roll_html(layout, folder))}
    for name, content in files.items():
        partial = folder / f".{name}.partial"
        try:
            partial.write_bytes(content)
            partial.replace(folder / name)
        except OSError as error:
            raise StationError(f"{folder / name}: cannot be written ({error.strerror})") from None
    return folder / PAGE


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # a file name that is not UTF-8 has lone surrogates


def roll_html(layout: RollLayout, folder: Path) -> str:
    """Make the page; pictures come from `folder`/crops, those that are there."""
    roll = layout.roll
    crops, num_left_out = _crops(roll, folder / "crops")
    script_hash = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'"
    title = f"Roll {roll.summary.source}"
    body = page_parts(layout, len(crops), num_left_out)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{CSS}{kind_css(layout)}</style></head>\n<body>\n"
        + "\n".join(body)
        + f'\n<script type="application/json" id="data">{_data(layout, crops)}</script>'
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


def _data(layout: RollLayout, crops: Mapping[int, str]) -> str:
    """Give the script what it needs as JSON that no HTML parser can leave."""
    roll = layout.roll
    lane_names = list(dict.fromkeys([x.name for x in roll.summary.lanes] + [n for d in roll.defects for n in d.lanes]))
    lane_index = {name: i for i, name in enumerate(lane_names)}
    by_number = {d.number: d for d in roll.defects}
    shown = sorted(layout.markers, key=lambda m: m.number)
    content: dict[str, Any] = {
        "length": roll.length_mm,
        "left": roll.left_mm,
        "width": roll.width_mm,
        "fullSize": FULL_SIZE,
        "leastShare": LEAST_SHARE,
        "kinds": sorted({d.kind for d in roll.defects}),
        "lanes": [[x.name, x.from_mm, x.to_mm] for x in roll.summary.lanes],
        "laneNames": lane_names,
        "grades": {grade.lane: grade.grade for grade in roll.summary.grades},
        "repeats": [list(repeat.numbers) for repeat in roll.summary.repeats[:MAX_REPEATS]],
        "crops": {str(number): uri for number, uri in crops.items()},
    }
    kind_index = {kind: i for i, kind in enumerate(content["kinds"])}
    content["rows"] = [_row(by_number[m.number], kind_index, lane_index, m.kind) for m in shown]
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _row(d: RollDefect, kinds: Mapping[str, int], lanes: Mapping[str, int], color: int) -> list[Any]:
    flags = d.is_continuing + 2 * d.is_continuation
    numbers = (d.y_mm, d.x_mm, d.extent_mm, d.width_mm, d.length_mm, d.area_mm2)
    rounded = [round(value, 3) for value in numbers]
    return [d.number, *rounded, float(f"{d.score:.5g}"), kinds[d.kind], [lanes[n] for n in d.lanes], flags, color]


def _crops(roll: JudgedRoll, folder: Path) -> tuple[dict[int, str], int]:
    """Read the pictures of the largest defects as data URIs, and count those that are there and left out.

    One that cannot be read (a program that was killed leaves it half written) is empty: the page says so.
    """
    try:
        present = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return {}, 0
    except OSError as error:
        raise InputError(f"{folder}: expected a folder with pictures, cannot be read ({error.strerror})") from None
    largest = sorted(roll.defects, key=lambda d: (-d.length_mm, -d.area_mm2, d.number))
    wanted = [d.number for d in largest if f"{d.number:06d}.png" in present]
    return {n: _data_uri(folder / f"{n:06d}.png") for n in wanted[:MAX_CROPS]}, max(0, len(wanted) - MAX_CROPS)


def _data_uri(path: Path) -> str:
    """Embed a picture; a large one is made smaller. Empty where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if pixels is None:
        return ""
    kind = "png"
    if not content.startswith(b"\x89PNG") or len(content) > _MAX_CROP_BYTES:
        scale = min(1.0, _CROP_SIDE_PX / max(pixels.shape[:2]))
        size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        kind, content = "jpeg", cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
