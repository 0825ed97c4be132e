"""Find the places of a roll of good material that a model takes for the worst, as images that a run can learn from."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from zellige.core.errors import InputError
from zellige.core.frame_cutter import FrameCutter
from zellige.core.progress import progress
from zellige.core.types import GOOD, GeometryMode, PixelSize, Sample
from zellige.data.contact_sheet import contact_sheet
from zellige.data.roll_tiles import roll_name
from zellige.data.roll_windows import Window, cut_windows, inside_run, whole_runs
from zellige.station.recent_lines import encode_png
from zellige.station.runtime import Runtime
from zellige.station.sources import Lines, RollSource

_TILES_HIGH = 4
_PER_ROW = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """An image that was cut out: its place on the roll and the score of the tile in its middle."""

    window: Window
    score: float


def mine_roll(
    runtime: Runtime, source: RollSource, *, count: int, height: tuple[int, int], width: tuple[int, int]
) -> list[Mined]:
    """Score every tile of a roll and choose the highest, apart from each other, the worst first.

    Args:
        runtime: the model; its bundle has tiles.
        source: a roll of good material.
        count: most images.
        height: least and greatest height of the run's images: these images have the one nearest to a tile.
        width: the same for their width.

    Raises:
        InputError: a bundle without tiles, or no tile whole on the roll.
    """
    geometry = runtime.bundle.manifest.geometry
    if geometry.mode is not GeometryMode.TILES:
        raise InputError(f"mining: expected a bundle with geometry tiles, got {geometry.mode}")
    rows, columns = (
        min(max(tile, low), high)
        for tile, (low, high) in zip((geometry.height, geometry.width), (height, width), strict=True)
    )
    runs = whole_runs(source)
    chosen: list[Mined] = []
    for score, y, x in sorted(_scores(runtime, source), reverse=True):
        top = inside_run(runs, y + geometry.height / 2, rows)
        if top is None or columns > source.width_px:
            continue
        left = min(max(0, x + (geometry.width - columns) // 2), source.width_px - columns)
        window = Window(first_line=top, left_px=left, height=rows, width=columns)
        if not any(_overlap(window, other.window) for other in chosen):
            chosen.append(Mined(window=window, score=score))
            if len(chosen) == count:
                break
    if not chosen:
        raise InputError(f"mining {source.name}: expected room for an image of {rows} x {columns} px, got none")
    return chosen


def write_mined(found: Sequence[Mined], source: RollSource, pixel_size: PixelSize | None, out: Path) -> None:
    """Write images, a manifest that `data.additions` and scripts/extend.py take, scores, and a contact sheet.

    The roll is one group, named as `data.roll_tiles.find_rolls` names it, so that its images stay in one split.

    Raises:
        InputError: the folder is there already or cannot be written.
    """
    rank = {one.window: number for number, one in enumerate(found, 1)}
    group = roll_name(Path(source.name))
    size = "" if pixel_size is None else f"{pixel_size.cross_web_mm!r}x{pixel_size.down_web_mm!r}"
    try:
        out.mkdir(parents=True, exist_ok=False)
        (out / "images").mkdir()
        for window, pixels in cut_windows(source, list(rank)):
            (out / _name(rank[window], window)).write_bytes(encode_png(pixels))
        columns = ["path", "label", "group", *(["pixel_size"] if size else [])]
        rows = [[_name(rank[m.window], m.window), GOOD, group, *([size] if size else [])] for m in found]
        _write_csv(out / "manifest.csv", columns, rows)
        places = [[rank[m.window], f"{m.score:.6g}", m.window.first_line, m.window.left_px] for m in found]
        _write_csv(out / "scores.csv", ["rank", "score", "first_line", "left_px"], places)
        (out / "contact_sheet.png").write_bytes(_sheet(found, out))
    except OSError as error:
        raise InputError(f"folder {out}: cannot be written ({error.strerror})") from None


def _scores(runtime: Runtime, source: RollSource) -> list[tuple[float, int, int]]:
    """Score, first line and first column of every tile of the roll."""
    geometry = runtime.bundle.manifest.geometry
    pixel_size = runtime.bundle.manifest.pixel_size
    height = geometry.height + (_TILES_HIGH - 1) * (geometry.height - geometry.overlap_px)
    cutter: FrameCutter | None = None
    found: list[tuple[float, int, int]] = []

    def add(cutter: FrameCutter, block: Lines | None) -> None:
        for cut in cutter.finish() if block is None else cutter.add(block.pixels):
            if cut.frame.size[0] < geometry.height:
                continue  # what is left of a run
            layout = runtime.lay_out(cut.frame)
            scores, _, _ = runtime.run_tiles(layout)
            places = ((cut.frame.first_line + y, x) for y, x in layout.corners)
            found.extend((score, *place) for score, place in zip(scores, places, strict=True) if np.isfinite(score))

    with progress("scoring the roll", source.num_blocks) as advance:
        for block in source.blocks():
            if not isinstance(block, Lines):
                if cutter is not None:
                    add(cutter, None)
                cutter = None
            else:
                if cutter is None:
                    cutter = FrameCutter(
                        height_px=height,
                        context_px=geometry.overlap_px // 2,
                        width_px=source.width_px,
                        source_id=source.name,
                        num_channels=1 if block.pixels.ndim == 2 else 3,
                        pixel_size=pixel_size,
                        first_line=block.first_line,
                    )
                add(cutter, block)
            advance()
    if cutter is not None:
        add(cutter, None)
    return found


def _overlap(one: Window, other: Window) -> bool:
    return (
        one.first_line < other.stop_line
        and other.first_line < one.stop_line
        and one.left_px < other.left_px + other.width
        and other.left_px < one.left_px + one.width
    )


def _name(rank: int, window: Window) -> str:
    return f"images/{rank:04d}_l{window.first_line:08d}_x{window.left_px:05d}.png"


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _sheet(found: Sequence[Mined], out: Path) -> bytes:
    """Draw all images, the worst first, in rows that are named by their scores."""
    samples = []
    for start in range(0, len(found), _PER_ROW):
        part = found[start : start + _PER_ROW]
        kind = f"{start + 1:04d}: score {part[0].score:.4g} to {part[-1].score:.4g}"
        for rank, one in enumerate(part, start + 1):
            name = _name(rank, one.window)
            samples.append(Sample(id=name, image_path=out / name, kind=kind, group_id=name))
    sheet = contact_sheet(samples, per_kind=_PER_ROW)
    return cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))[1].tobytes()
