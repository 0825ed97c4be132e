"""A recorded roll of the synthetic web: frames one after the other, some with a defect, and what was drawn where."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.core.known_defects import KnownDefect, write_known_defects
from zellige.core.progress import progress
from zellige.core.types import Pixels
from zellige.data.synthetic_camera import SyntheticWeb, expose, lines, wander_margin
from zellige.data.synthetic_defects import defect_kinds, see_defect
from zellige.data.synthetic_edges import edge_shift_px, on_background

STRENGTH = 1.0
"""Of the drawn defects: as strong as they come."""


def roll_frames(
    web: SyntheticWeb, roll: int, num_frames: int, num_defects: int
) -> Iterator[tuple[Pixels, KnownDefect | None]]:
    """Scan frames of `web.height` lines without gaps; defects lie in evenly spread frames, each kind in its turn.

    Raises:
        ConfigError: fewer than one frame, or more defects than frames.
    """
    if not (num_frames >= 1 and 0 <= num_defects <= num_frames):
        raise ConfigError(
            f"roll: expected at least 1 frame and 0 to as many defects, got {num_frames} and {num_defects}"
        )
    kinds = defect_kinds(web.material)
    places = {(2 * k + 1) * num_frames // (2 * num_defects): kinds[k % len(kinds)] for k in range(num_defects)}
    for number in range(num_frames):
        first_line = number * web.height
        if number not in places:
            yield lines(web, roll, first_line, web.height), None
            continue
        seen = see_defect(web, roll, first_line, places[number], STRENGTH)
        rows, columns = np.flatnonzero(seen.mask.any(1)), np.flatnonzero(seen.mask.any(0))
        across, down = web.pixel_size.cross_web_mm, web.pixel_size.down_web_mm
        x0, y0 = columns[0] * across, (first_line + rows[0]) * down
        x1, y1 = (columns[-1] + 1) * across, (first_line + rows[-1] + 1) * down
        drawn = KnownDefect(kind=places[number], box_mm=(float(x0), float(y0), float(x1), float(y1)))
        yield expose(seen.reflectance, web, roll, first_line), drawn


def with_edges(
    frames: Iterable[tuple[Pixels, KnownDefect | None]], web: SyntheticWeb, roll: int, background_px: int
) -> Iterator[tuple[Pixels, KnownDefect | None]]:
    """Show `background_px` dark columns on each side of frames; x of the defects is then from the web's left edge."""
    for number, (pixels, defect) in enumerate(frames):
        shift_px = edge_shift_px(web, roll, number * web.height)
        if defect is not None:
            x0, y0, x1, y1 = defect.box_mm
            middle = round((y0 + y1) / 2 / web.pixel_size.down_web_mm) % web.height
            edge_mm = float(shift_px[middle]) * web.pixel_size.cross_web_mm
            defect = replace(defect, box_mm=(x0 - edge_mm, y0, x1 - edge_mm, y1))
        yield on_background(pixels, shift_px, background_px), defect


def write_roll(
    folder: Path, web: SyntheticWeb, *, num_frames: int, num_defects: int, background_px: int = 0
) -> list[KnownDefect]:
    """Write a roll that no split of a data set of this web has: `folder/l_LINE.png`, and `folder.csv` with the truth.

    Raises:
        ConfigError: see `roll_frames`; or a background that is narrower than the web wanders.
        InputError: the folder is there already, or cannot be written.
    """
    drawn = []
    frames = roll_frames(web, web.num_rolls, num_frames, num_defects)
    if background_px:
        _check_background(web, background_px)
        frames = with_edges(frames, web, web.num_rolls, background_px)
    try:
        folder.mkdir(parents=True)
        with progress(f"Scanning a roll of {web.material}", num_frames) as advance:
            for number, (pixels, defect) in enumerate(frames):
                image = pixels if pixels.ndim == 2 else pixels[..., ::-1]
                data = cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()
                (folder / f"l_{number * web.height:07d}.png").write_bytes(data)
                drawn += [] if defect is None else [defect]
                advance()
        write_known_defects(folder.with_suffix(".csv"), {folder.name: drawn})
    except OSError as error:
        raise InputError(f"roll {folder}: expected a new folder to write to ({error.strerror})") from None
    return drawn


def _check_background(web: SyntheticWeb, background_px: int) -> None:
    least = 2 * wander_margin(web)
    if background_px < least:
        raise ConfigError(f"roll: expected a background of 0 or at least {least} px, got {background_px}")
