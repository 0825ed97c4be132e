"""Inspect image files with a bundle: one record per image, in order, and pictures of what was not accepted."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np

from zellige.core.bundle import read_bundle
from zellige.core.errors import InputError, StationError
from zellige.core.image_files import IMAGE_SUFFIXES, read_frame
from zellige.core.progress import progress
from zellige.core.screen import Screen
from zellige.core.types import AnomalyMap, Decision, Frame, PixelSize, Verdict
from zellige.station.overlay import draw_overlay
from zellige.station.records import RECORDS, RecordWriter, to_record
from zellige.station.runtime import Runtime, inspect_with_map, replay_golden, undecided
from zellige.station.screened_run import inspect_screened, screen_of
from zellige.station.templates import Templates, find_templates

OVERLAYS = "overlays"
_OVERLAY_NAME = re.compile(r"\d{6,}_.*\.jpg")


class Overlays(StrEnum):
    """Which images are drawn; rejected means REJECT and UNDECIDED."""

    ALL = "all"
    REJECTED = "rejected"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to inspect. A `pixel_size` of None takes the bundle's; `template` is a file, a folder or a table."""

    pixel_size: PixelSize | None = None
    num_threads: int | None = None
    overlays: Overlays = Overlays.REJECTED
    overwrite: bool = False
    screen: bool = False
    """Whether the bundle's screen picks the tiles for the net."""
    template: Path | None = None


def inspect_images(bundle_path: Path, paths: Sequence[Path], out_dir: Path, options: Options) -> bool:
    """Inspect images and folders of images; return whether every one is ACCEPT.

    Nothing is written before the bundle is verified, its golden frames are replayed and all paths are found.

    Raises:
        BundleError: the bundle is not usable on this machine.
        InputError: a path is missing, a folder holds no images, the pixel size does not fit the bundle, or templates
            are missing (see `templates.find_templates`).
        StationError: the results cannot be written.
    """
    images = find_images(paths, exclude=out_dir)
    runtime = Runtime(read_bundle(bundle_path), num_threads=options.num_threads)
    pixel_size = options.pixel_size or runtime.bundle.manifest.pixel_size
    runtime.check_pixel_size(pixel_size, "--pixel-size-mm")
    screen = screen_of(runtime.bundle, is_wanted=options.screen, where="--screen")
    templates = find_templates(runtime.bundle, options.template, images)
    images = images if templates is None else templates.without_templates(images)
    replay_golden(runtime)
    tally = _Tally()
    with RecordWriter(out_dir, overwrite=options.overwrite) as writer, progress("inspecting", len(images)) as advance:
        _prepare_overlays(out_dir / OVERLAYS, options)
        for sequence, path in enumerate(images):
            # In a function of its own: nothing of this image is in memory when the next one is read.
            tally.add(*_inspect_file(runtime, screen, path, templates, pixel_size, sequence, writer, options.overlays))
            advance()
    sys.stdout.write(tally.summary(out_dir / RECORDS, is_calibrated=pixel_size is not None))
    return tally.is_all_accepted


def find_images(paths: Sequence[Path], *, exclude: Path) -> list[Path]:
    """List the image files: each file as given, each folder's images sorted by path, without what lies in `exclude`.

    Raises:
        InputError: a path does not exist, or a folder holds no image.
    """
    images = []
    for path in paths:
        if not path.exists():
            raise InputError(f"image {path}: expected a file or folder, found none")
        if not path.is_dir():
            images.append(path)
            continue
        found = sorted(_walk(path, exclude.resolve()))
        if not found:
            raise InputError(f"folder {path}: expected at least one image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        images.extend(found)
    return images


def _walk(root: Path, exclude: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if (Path(folder) / name).resolve() != exclude]
        yield from (Path(folder) / name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES)


def _inspect_file(
    runtime: Runtime,
    screen: Screen | None,
    path: Path,
    templates: Templates | None,
    pixel_size: PixelSize | None,
    sequence: int,
    writer: RecordWriter,
    overlays: Overlays,
) -> tuple[Verdict, int]:
    """Inspect one file, store its record and its overlay; return the verdict and the number of pixels inspected."""
    start = time.perf_counter()
    frame: Frame | None = None
    anomaly_map: AnomalyMap | None = None
    more: dict[str, int] = {}
    try:
        frame = read_frame(path, color=runtime.bundle.manifest.color, pixel_size=pixel_size)
        if templates is not None:
            frame = replace(frame, template=templates.of(path, frame.pixels))
    except Exception as error:  # whatever a file does to the decoder, the line goes on and the image is UNDECIDED
        verdict = undecided(runtime.bundle, str(path), error, (time.perf_counter() - start) * 1000)
    else:
        if screen is None:
            verdict, anomaly_map = inspect_with_map(runtime, frame)
        else:
            found = inspect_screened(runtime, screen, frame)
            verdict, anomaly_map = found.verdict, found.anomaly_map
            more = {"num_tiles": found.num_tiles, "num_screened": found.num_screened}
    writer.write({**to_record(verdict, sequence=sequence, is_calibrated=pixel_size is not None), **more})
    if frame is not None and _is_drawn(verdict, overlays):
        picture = draw_overlay(frame, anomaly_map, verdict, runtime.bundle.manifest.calibration)
        _save(writer.path.parent / OVERLAYS / f"{sequence:06d}_{path.stem[:60]}.jpg", picture)
    return verdict, 0 if frame is None else frame.size[0] * frame.size[1]


def _is_drawn(verdict: Verdict, overlays: Overlays) -> bool:
    return overlays is Overlays.ALL or (overlays is Overlays.REJECTED and verdict.decision is not Decision.ACCEPT)


def _prepare_overlays(folder: Path, options: Options) -> None:
    try:
        if options.overlays is not Overlays.NONE:
            folder.mkdir(exist_ok=True)
        if folder.is_dir():
            for path in folder.iterdir():
                if _OVERLAY_NAME.fullmatch(path.name):
                    path.unlink()
    except OSError as error:
        raise StationError(f"overlays {folder}: cannot be written ({error.strerror})") from None


def _save(path: Path, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise StationError(
            f"overlay {path}: cannot be written ({error.strerror}); the records so far are kept"
        ) from None


class _Tally:
    """Counts and times of a run."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Decision, 0)
        self._elapsed_ms: list[float] = []
        self._num_px = 0

    @property
    def is_all_accepted(self) -> bool:
        return self._counts[Decision.ACCEPT] == sum(self._counts.values())

    def add(self, verdict: Verdict, num_px: int) -> None:
        self._counts[verdict.decision] += 1
        if num_px:
            self._elapsed_ms.append(verdict.elapsed_ms)
            self._num_px += num_px

    def summary(self, records: Path, *, is_calibrated: bool) -> str:
        counts = ", ".join(f"{count} {decision.value}" for decision, count in self._counts.items())
        text = f"{sum(self._counts.values())} images: {counts}\n"
        if self._elapsed_ms:
            p50, p95 = np.percentile(self._elapsed_ms, [50, 95])
            rate = self._num_px / 1e3 / sum(self._elapsed_ms)
            text += f"inspection: {p50:.1f} ms p50, {p95:.1f} ms p95, {rate:.2f} MP/s (reading files apart)\n"
        if not is_calibrated:
            text += "uncalibrated: sizes are in px\n"
        return text + f"records: {records}\n"
