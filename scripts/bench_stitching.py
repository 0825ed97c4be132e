"""Count defects lost, doubled or of a wrong size over simulated crossings of frame borders; print one JSON line.

Bars, discs, diagonals and U shapes are drawn on an endless web so that each lies across a frame border, at a random
phase. Lines go the way of a station: into frames with context, tiles, maps (here the pixels themselves), joined,
stitched. What was drawn is the truth. Frame height, tile, overlap and context are drawn anew for each round.
"""

import argparse
import json
import time

import cv2
import numpy as np

from zellige.core.frame_cutter import FrameCutter
from zellige.core.open_region import WebDefect
from zellige.core.stitching import Stitcher, StitchRule
from zellige.core.tiling import join, lay_out
from zellige.core.types import Frame, Geometry, GeometryMode

CELL = 64
WIDTH = 1024
BORDERS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crossings", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    totals = {"crossings": 0, "lost": 0, "doubled": 0, "wrong_size": 0, "invented": 0}
    lines, start = 0, time.perf_counter()
    while totals["crossings"] < args.crossings:
        height, context = int(rng.integers(140, 400)), int(rng.integers(0, 17))
        tile = int(rng.integers(32, 129))
        geometry = Geometry(
            mode=GeometryMode.TILES, height=tile, width=tile, overlap_px=int(rng.integers(0, tile // 2)), pad_small=True
        )
        web, drawn = draw_web(rng, height, context)
        found = inspect(web, geometry, height, context, rng)
        lines += len(web)
        for name, count in compare(drawn, found).items():
            totals[name] += count
        totals["crossings"] += len(drawn)
    elapsed = time.perf_counter() - start
    print(json.dumps({**totals, "lines": lines, "megapixels_per_s": round(lines * WIDTH / 1e6 / elapsed, 1)}))


def draw_web(
    rng: np.random.Generator, height: int, context: int
) -> tuple[np.ndarray, list[tuple[tuple[int, ...], int]]]:
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


def inspect(
    web: np.ndarray, geometry: Geometry, height: int, context: int, rng: np.random.Generator
) -> list[WebDefect]:
    cutter = FrameCutter(height_px=height, context_px=context, width_px=WIDTH, source_id="simulated")
    stitcher = Stitcher(StitchRule(width_px=WIDTH, pixel_threshold=0.5, max_length_lines=2048))
    found: list[WebDefect] = []
    start = 0
    while start < len(web):
        stop = start + int(rng.integers(1, 2 * height))
        for cut in cutter.add(web[start:stop]):
            found += stitcher.add(make_map(cut.frame, geometry)[cut.keep_start : cut.keep_stop], cut.first_kept_line)
        start = stop
    for cut in cutter.finish():
        found += stitcher.add(make_map(cut.frame, geometry)[cut.keep_start : cut.keep_stop], cut.first_kept_line)
    return [*found, *stitcher.finish()]


def make_map(frame: Frame, geometry: Geometry) -> np.ndarray:
    layout = lay_out(frame, geometry)
    return join((part.astype(np.float32) / 255 for part in layout.parts), layout)


def compare(drawn: list[tuple[tuple[int, ...], int]], found: list[WebDefect]) -> dict[str, int]:
    """Match records to what was drawn: right is exactly one record that overlaps it, of the same box and area."""
    counts = {"lost": 0, "doubled": 0, "wrong_size": 0}
    by_cell: dict[int, list[WebDefect]] = {}
    for defect in found:
        by_cell.setdefault(defect.box_px[0] // CELL, []).append(defect)
    matched = 0
    for box, area in drawn:
        here = [d for d in by_cell.get(box[0] // CELL, []) if d.box_px[1] < box[3] and d.box_px[3] > box[1]]
        matched += len(here)
        counts["lost"] += not here
        counts["doubled"] += len(here) > 1
        counts["wrong_size"] += len(here) == 1 and (here[0].box_px, here[0].area_px) != (box, area)
    return {**counts, "invented": len(found) - matched}


if __name__ == "__main__":
    main()
