"""Count defects lost, doubled, of a wrong size or out of place over simulated crossings of frame borders; print JSON.

Bars, discs, diagonals and U shapes are drawn on an endless web so that each lies across a frame border, at a random
phase. The camera runs freely while the web's speed goes between 50 and 150 %, and the encoder counts. Lines go the way
phase. The camera runs freely while the web's speed goes between 50 and 150 %, and the encoder counts. Lines go the
way of a station: into frames with context, tiles, maps (here the pixels), joined, stitched, placed by the counts.

A position is where a defect begins or ends along the web; of `position_errors` is too far off: by more than one pixel
and 0.1 % of the distance from the roll's start. `rows_x_pitch_px` is how far off it would be without the encoder.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from zellige.core.encoder import EncoderRule, EncoderTrack
from zellige.core.frame_cutter import FrameCutter
from zellige.core.open_region import WebDefect
from zellige.core.stitching import Stitcher, StitchRule
from zellige.core.tiling import join, lay_out
from zellige.core.types import Frame, Geometry, GeometryMode, PixelSize
from zellige.station.line_places import Places

CELL = 64
WIDTH = 1024
BORDERS = 25
PITCH_MM = 0.1
ENCODER = EncoderRule(mm_per_count=PITCH_MM / 5, counts_per_line=5)
COUNTS = ("crossings", "lost", "doubled", "wrong_size", "invented", "position_errors")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A defect: box and area in px, and where it begins and ends on the web, mm."""

    box: tuple[int, int, int, int]
    area: int
    along_mm: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crossings", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    totals = Counter(dict.fromkeys(COUNTS, 0))
    lines, worst_px, by_rows_px, start = 0, 0.0, 0.0, time.perf_counter()
    while totals["crossings"] < args.crossings:
        height, context = int(rng.integers(140, 400)), int(rng.integers(0, 17))
        tile = int(rng.integers(32, 129))
        geometry = Geometry(
            mode=GeometryMode.TILES, height=tile, width=tile, overlap_px=int(rng.integers(0, tile // 2)), pad_small=True
        )
        web, boxes = draw_web(rng, height, context)
        travel_mm = draw_travel(rng, len(web))
        drawn = [place(rng, box, area, travel_mm) for box, area in boxes]
        found = inspect(web, travel_mm, geometry, height, context, rng)
        counts, off_px = compare(drawn, found)
        totals.update(counts)
        lines, worst_px = lines + len(web), max(worst_px, off_px)
        by_rows_px = max(by_rows_px, float(np.abs(travel_mm / PITCH_MM - np.arange(len(web) + 1)).max()))
    elapsed = time.perf_counter() - start
    result = {
        **totals,
        "largest_position_error_px": round(worst_px, 3),
        "rows_x_pitch_px": round(by_rows_px, 1),
        "lines": lines,
        "megapixels_per_s": round(lines * WIDTH / 1e6 / elapsed, 1),
    }
    print(json.dumps(result))


def draw_web(
    rng: np.random.Generator, height: int, context: int
) -> tuple[np.ndarray, list[tuple[tuple[int, int, int, int], int]]]:
    """Draw the web and list box and area of each defect; each lies across the line where a frame's kept lines end."""
    step = height - 2 * context
    web = np.zeros((context + step * (BORDERS + 1), WIDTH), np.uint8)
    drawn = []
    for border in range(context + step, context + step * BORDERS + 1, step):
        for left in range(0, WIDTH, CELL):
            shape = draw_shape(rng, min(CELL - 2, step // 2 - 2))
            top = border - int(rng.integers(1, len(shape)))
            x = left + int(rng.integers(0, CELL - 1 - shape.shape[1]))
            web[top : top + len(shape), x : x + shape.shape[1]] = shape * np.uint8(rng.integers(130, 256))
            box = (x, top, x + shape.shape[1], top + len(shape))
            drawn.append((box, int(shape.sum())))
    return web, drawn


def draw_shape(rng: np.random.Generator, largest: int) -> np.ndarray:
    """Draw one connected shape of 0 and 1 that touches all four sides of its array."""
    h, w = int(rng.integers(2, largest)), int(rng.integers(1, min(largest, CELL - 4)))
    shape = np.zeros((h, w), np.uint8)
    kind = rng.integers(4)
    if kind == 0:
        shape[:] = 1
    elif kind == 1:
        cv2.line(shape, (0, 0), (w - 1, h - 1), 1)
    elif kind == 2:
        shape[:, 0] = shape[:, -1] = shape[-1 if rng.integers(2) else 0] = 1
    else:
        y, x = (2 * np.arange(n) + 1 - n for n in (h, w))
        shape[:] = (y[:, None] / h) ** 2 + (x[None, :] / w) ** 2 <= 1
        shape[h // 2, :] = shape[:, w // 2] = 1
    return shape


def draw_travel(rng: np.random.Generator, num_lines: int) -> np.ndarray:
    """Draw where each line begins on the web, and where the last one ends, (N + 1,) mm."""
    time_lines = np.arange(num_lines)
    speed = 1 + 0.5 * np.sin(2 * np.pi * (time_lines / rng.uniform(300, 3000) + rng.uniform()))
    return np.concatenate([[0], np.cumsum(speed)]) * PITCH_MM


def place(rng: np.random.Generator, box: tuple[int, int, int, int], area: int, travel_mm: np.ndarray) -> Drawn:
    """Say where on the web a defect lies that the camera sees in these lines: those whose middle is on it."""
    middle = (travel_mm[:-1] + travel_mm[1:]) / 2
    along = [float(rng.uniform(middle[line - 1], middle[line])) for line in (box[1], box[3])]
    return Drawn(box=box, area=area, along_mm=(along[0], along[1]))


def inspect(
    web: np.ndarray, travel_mm: np.ndarray, geometry: Geometry, height: int, context: int, rng: np.random.Generator
) -> list[WebDefect]:
    size = PixelSize(cross_web_mm=PITCH_MM, down_web_mm=PITCH_MM)
    counts = np.floor(travel_mm[:-1] / ENCODER.mm_per_count).astype(np.int64)
    cutter = FrameCutter(height_px=height, context_px=context, width_px=WIDTH, source_id="simulated")
    stitcher = Stitcher(StitchRule(width_px=WIDTH, pixel_threshold=0.5, max_length_lines=2048, pixel_size=size))
    track, places = EncoderTrack(ENCODER), Places(PITCH_MM, 4 * height)
    found: list[WebDefect] = []
    start = 0
    while start < len(web):
        stop = min(start + int(rng.integers(1, 2 * height)), len(web))
        starts_mm = track.add(counts[start:stop]).position_mm
        places.add(start, starts_mm, stop, float(starts_mm[-1]) + PITCH_MM)
        cuts = cutter.add(web[start:stop])
        for cut in [*cuts, *cutter.finish()] if stop == len(web) else cuts:
            first, last = cut.first_kept_line, cut.first_kept_line + cut.keep_stop - cut.keep_start
            kept = make_map(cut.frame, geometry)[cut.keep_start : cut.keep_stop]
            found += stitcher.add(kept, first, borders_mm=places.borders_mm(first, last))
        start = stop
    return [*found, *stitcher.finish()]


def make_map(frame: Frame, geometry: Geometry) -> np.ndarray:
    layout = lay_out(frame, geometry)
    return join((part.astype(np.float32) / 255 for part in layout.parts), layout)


def compare(drawn: list[Drawn], found: list[WebDefect]) -> tuple[Counter[str], float]:
    """Match records to what was drawn: right is exactly one record that overlaps it, of the same box and area.

    Returns:
        The counts, and how far the worst position is off, px.
    """
    counts: Counter[str] = Counter(crossings=len(drawn))
    by_cell: dict[int, list[WebDefect]] = {}
    for defect in found:
        by_cell.setdefault(defect.box_px[0] // CELL, []).append(defect)
    matched, worst_mm = 0, 0.0
    for one in drawn:
        near = by_cell.get(one.box[0] // CELL, [])
        here = [d for d in near if d.box_px[1] < one.box[3] and d.box_px[3] > one.box[1]]
        matched += len(here)
        counts["lost"] += not here
        counts["doubled"] += len(here) > 1
        if len(here) != 1:
            continue
        counts["wrong_size"] += (here[0].box_px, here[0].area_px) != (one.box, one.area)
        assert here[0].box_mm is not None
        for place_mm, true_mm in zip((here[0].box_mm[1], here[0].box_mm[3]), one.along_mm, strict=True):
            worst_mm = max(worst_mm, abs(place_mm - true_mm))
            counts["position_errors"] += abs(place_mm - true_mm) > PITCH_MM + 0.001 * true_mm
    counts["invented"] = len(found) - matched
    return counts, worst_mm / PITCH_MM


if __name__ == "__main__":
    main()
