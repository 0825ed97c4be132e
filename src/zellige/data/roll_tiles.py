"""A data set of images cut out of recorded rolls: every roll in one split, whole, and defects by boxes in mm.

An image that touches a drawn box is defective; good images lie apart from all of them. The set is complete or absent:
it is written into a hidden folder beside its place and renamed at the end.
"""

import csv
import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.core.flat_field import FlatField
from zellige.core.image_files import IMAGE_SUFFIXES
from zellige.core.progress import progress
from zellige.core.types import GOOD, Color, LabelledBox, PixelSize
from zellige.data.box_text import boxes_to_text
from zellige.data.corrected_roll import corrected_roll
from zellige.data.roll_defects import DrawnDefect, read_roll_defects
from zellige.data.roll_windows import Window, cut_windows, inside_run, whole_runs
from zellige.data.splits import Fractions, deal_groups
from zellige.station.frame_names import natural_order
from zellige.station.recent_lines import encode_png
from zellige.station.sources import RAW_SUFFIXES, RollSource, open_source

_LOOK = 2
"""Raise it when the same settings give other images, so that an old set is not taken for a new one."""
_APART_PX = 16
"""How far a good image lies from every drawn box: boxes are drawn by hand."""
_NETPBM = frozenset({".pgm", ".ppm"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollTiles:
    """Which rolls, and what is cut out of them.

    `source` is a folder; each folder and each tall image, PGM or raw file in it is a roll, by its name without suffix.
    """

    source: Path
    pixel_size: PixelSize
    color: Color
    defects: Path | None = None
    tile_px: int = 512
    """Side of an image. Make it a tile of the net or more, and the same in all sets that are to be joined."""
    good_per_roll: int = 100
    """Most good images of a roll, evenly over it."""
    width_px: int | None = None
    """Columns of raw files."""
    flat_field: FlatField | None = None
    """Of the camera: the lines are corrected before images are cut; None cuts them as they were recorded."""

    def __post_init__(self) -> None:
        if not 32 <= self.tile_px <= 8192:
            raise ConfigError(f"data.rolls.tile_px: expected 32 to 8192, got {self.tile_px}")
        if self.good_per_roll < 1:
            raise ConfigError(f"data.rolls.good_per_roll: expected at least 1, got {self.good_per_roll}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    window: Window
    kind: str
    boxes: tuple[LabelledBox, ...] = ()


def make_roll_set(root: Path, rolls: RollTiles, fractions: Fractions, *, seed: int) -> Path:
    """Cut the images of these settings into a folder under `root`, or find it there; return it, with its manifest.csv.

    Rolls are dealt to train, val and test by `fractions`; those with drawn defects first to test.

    Raises:
        InputError: no rolls, fewer than splits, a box of an unknown roll, a roll that cannot be read, holds no good
            image or does not fit the flat field, or a place that cannot be written to.
    """
    paths = find_rolls(rolls.source)
    drawn = {} if rolls.defects is None else read_roll_defects(rolls.defects, rolls.pixel_size)
    unknown = sorted(set(drawn) - set(paths))
    if unknown:
        raise InputError(
            f"defects {rolls.defects}: expected rolls of {rolls.source} ({', '.join(paths)}), got {unknown[0]}"
        )
    folder = root / f"rolls-{_hash(rolls, paths, fractions, seed)}"
    if (folder / "manifest.csv").is_file():
        logger.info("images of rolls found: %s", folder)
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=root))
    except OSError as error:
        raise InputError(f"images of rolls {root}: expected a folder to write to ({error.strerror})") from None
    try:
        partial.chmod(0o755)
        _write_set(partial, rolls, paths, drawn, fractions, seed)
        if not (folder / "manifest.csv").is_file():  # another process may have been first, and wrote the same
            partial.rename(folder)
    except OSError as error:
        raise InputError(f"images of rolls {folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("images of rolls written: %s", folder)
    return folder


def find_rolls(source: Path) -> dict[str, Path]:
    """List the rolls of a folder by name, in natural order.

    Raises:
        InputError: none, or two of one name.
    """
    if not source.is_dir():
        raise InputError(f"rolls {source}: expected a folder with a folder or a file for each roll, found none")
    known = IMAGE_SUFFIXES | RAW_SUFFIXES | _NETPBM
    paths: dict[str, Path] = {}
    for path in sorted(source.iterdir(), key=natural_order):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix.lower() in known):
            continue
        name = roll_name(path)
        if name in paths:
            raise InputError(f"rolls {source}: expected each roll once, got {paths[name].name} and {path.name}")
        paths[name] = path
    if not paths:
        raise InputError(f"rolls {source}: expected a folder or a file for each roll, found none")
    return paths


def roll_name(path: Path) -> str:
    """Name the roll in a folder or a file: a folder's name is whole, also where there is a dot in it."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def _hash(rolls: RollTiles, paths: Mapping[str, Path], fractions: Fractions, seed: int) -> str:
    """Names, sizes and times of the files stand for their content, which may be many gigabytes."""
    files = [(name, *_stamps(path)) for name, path in paths.items()]
    labels = "" if rolls.defects is None else rolls.defects.read_text(encoding="utf-8-sig")
    known = {key: value for key, value in asdict(replace(rolls, flat_field=None)).items() if key != "flat_field"}
    corrected = [] if rolls.flat_field is None else [rolls.flat_field.id]
    content = [_LOOK, known, files, labels, asdict(fractions), seed, *corrected]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        stat = file.stat()
        yield file.name, stat.st_size, stat.st_mtime_ns


def _write_set(
    folder: Path,
    rolls: RollTiles,
    paths: Mapping[str, Path],
    drawn: Mapping[str, Sequence[DrawnDefect]],
    fractions: Fractions,
    seed: int,
) -> None:
    rows: dict[str, list[list[str]]] = {}
    with progress("cutting rolls", len(paths)) as advance:
        for name, path in paths.items():
            source = open_source(path, width_px=rolls.width_px, color=rolls.color)
            for note in source.notes:
                logger.warning("roll %s: %s", name, note)
            planned = {one.window: one for one in _plan(source, drawn.get(name, ()), rolls)}
            if not any(one.kind == GOOD for one in planned.values()):
                raise InputError(f"roll {path}: expected room for a good image of {rolls.tile_px} px, got none")
            (folder / name).mkdir()
            rows[name] = []
            corrected = corrected_roll(source, rolls.flat_field, rolls.color.num_channels)
            for window, pixels in cut_windows(corrected, list(planned)):
                file = f"{name}/l{window.first_line:08d}_x{window.left_px:05d}.png"
                (folder / file).write_bytes(encode_png(pixels))
                one = planned[window]
                rows[name].append([file, one.kind, boxes_to_text(one.boxes)])
            advance()
    splits = _deal({name: len(found) for name, found in rows.items()}, drawn, fractions, seed)
    size = rolls.pixel_size
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file_out:
        writer = csv.writer(file_out, lineterminator="\n")
        writer.writerow(["path", "kind", "boxes", "group", "pixel_size", "split"])
        for name, found in rows.items():
            for row in found:
                writer.writerow([*row, name, f"{size.cross_web_mm!r}x{size.down_web_mm!r}", splits[name]])


def _deal(
    sizes: Mapping[str, int], drawn: Mapping[str, Sequence[DrawnDefect]], fractions: Fractions, seed: int
) -> dict[str, str]:
    """Choose each roll's split: those with defects first to test, the others first to train."""
    shares = {"train": fractions.train, "val": fractions.val, "test": fractions.test}
    wanted = [name for name, share in shares.items() if share > 0]
    if len(sizes) < len(wanted):
        raise InputError(
            f"data=roll: expected at least one roll for each of {', '.join(wanted)}, got {len(sizes)}: a roll is never "
            "in two splits"
        )
    with_defects = {name: size for name, size in sizes.items() if drawn.get(name)}
    without = {name: size for name, size in sizes.items() if name not in with_defects}
    deal = deal_groups(with_defects, {name: shares[name] for name in ("test", "val", "train")}, seed)
    missing = [name for name in wanted if name not in deal.values()]
    first = {name: shares[name] for name in [*missing, *(n for n in wanted if n not in missing)]}
    return deal | deal_groups(without, first, seed)


def _plan(source: RollSource, drawn: Sequence[DrawnDefect], rolls: RollTiles) -> Iterator[_Planned]:
    side, runs = rolls.tile_px, whole_runs(source)
    if source.width_px < side:
        raise InputError(
            f"roll {source.name}: expected lines of at least data.rolls.tile_px={side}, got {source.width_px}"
        )
    for defect in drawn:
        for window in _windows_on(defect, source, runs, side):
            parts = [(one.kind, one.within(window.left_px, window.first_line, side, side)) for one in drawn]
            boxes = tuple(LabelledBox(kind=kind, box_px=part) for kind, part in parts if part is not None)
            largest = max(boxes, key=lambda box: (box.box_px[2] - box.box_px[0]) * (box.box_px[3] - box.box_px[1]))
            yield _Planned(window=window, kind=largest.kind, boxes=boxes)
    good = [
        Window(first_line=y, left_px=x, height=side, width=side)
        for first, stop in runs
        for y in range(first, stop - side + 1, side)
        for x in range(0, source.width_px - side + 1, side)
        if not any(_is_near(defect, x, y, side) for defect in drawn)
    ]
    for index in np.unique(np.linspace(0, len(good) - 1, min(len(good), rolls.good_per_roll)).round().astype(int)):
        yield _Planned(window=good[index], kind=GOOD)


def _windows_on(
    defect: DrawnDefect, source: RollSource, runs: Sequence[tuple[int, int]], side: int
) -> Iterator[Window]:
    """Windows around a defect; along one that is longer than a window, one after the other."""
    x0, y0, x1, y1 = defect.box_px
    width_px, num_windows = source.width_px, 0
    if x0 >= width_px or not runs or y0 >= runs[-1][1]:
        raise InputError(
            f"defect {defect.kind} at line {y0:.0f}, column {x0:.0f}: expected it on a roll of {width_px} columns and "
            f"{runs[-1][1] if runs else 0} lines"
        )
    for middle_y in _middles(y0, min(y1, runs[-1][1]), side):
        top = inside_run(runs, middle_y, side)
        for middle_x in _middles(x0, min(x1, width_px), side):
            left = min(max(0, round(middle_x - side / 2)), width_px - side)
            if top is not None and defect.within(left, top, side, side):
                num_windows += 1
                yield Window(first_line=top, left_px=left, height=side, width=side)
    if num_windows == 0:
        logger.warning(
            "roll %s: the defect %s at line %.0f, column %.0f is in no image: it is not inside %d lines without a hole",
            *(source.name, defect.kind, y0, x0, side),
        )


def _middles(start: float, stop: float, side: int) -> list[float]:
    count = max(1, math.ceil((stop - start) / side))
    step = (stop - start) / count
    return [start + (k + 0.5) * step for k in range(count)]


def _is_near(defect: DrawnDefect, left: int, top: int, side: int) -> bool:
    wide = side + 2 * _APART_PX
    return defect.within(left - _APART_PX, top - _APART_PX, wide, wide) is not None
