"""Read every image of a listing once: does it decode, how big is it, what are its bytes, what does it look like."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zellige.core.errors import InputError
from zellige.core.image_files import decode_pixels, read_bytes, read_mask, read_template
from zellige.core.progress import progress
from zellige.core.types import Pixels, Sample
from zellige.data.duplicates import Thumbnail, thumbnail_of
from zellige.data.formats import Row
from zellige.data.shortcut import Metadata


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scanned:
    """One readable sample. `mask_content` is empty where there is no mask, `template_content` without a template."""

    row: Row
    metadata: Metadata
    is_gray: bool
    content: str
    """sha256 of the file's bytes."""
    mask_content: str
    is_mask_empty: bool
    thumbnail: Thumbnail
    template_content: str = ""
    is_template_gray: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """One sample that cannot be used, and the one-line reason."""

    row: Row
    reason: str


def scan(
    rows: Sequence[Row], good_masks: dict[str, Path], check: Callable[[Pixels, str], object]
) -> list[Scanned | Unusable]:
    """Read the samples in parallel, in the order of `rows`; shows a progress bar on a terminal.

    `check(pixels, where)` raises an InputError for an image, or a template, of another color mode than declared.

    Raises:
        InputError: a mask of a good image marks a defect (the labels contradict).
    """

    def read(row: Row) -> Scanned | Unusable:
        try:
            return _read(row, good_masks.get(row.sample.id), check)
        except _ContradictionError:
            raise
        except InputError as error:
            return Unusable(row=row, reason=str(error))

    results = []
    with progress("reading images", len(rows)) as advance:
        pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
        try:
            for result in pool.map(read, rows):
                results.append(result)
                advance()
        finally:
            pool.shutdown(cancel_futures=True)
    return results


class _ContradictionError(InputError):
    """Labels contradict: never skipped, whatever the setting."""


def _read(row: Row, good_mask: Path | None, check: Callable[[Pixels, str], object]) -> Scanned:
    sample = row.sample
    data = read_bytes(sample.image_path)
    pixels = decode_pixels(data, f"image {sample.image_path}")
    check(pixels, f"image {sample.image_path}")
    height, width = pixels.shape[:2]
    _check_boxes(sample, height, width)
    mask_path = sample.mask_path or good_mask
    is_empty, mask_content = False, ""
    if mask_path is not None:
        is_empty = not read_mask(mask_path, (height, width)).any()
        mask_content = hashlib.sha256(read_bytes(mask_path)).hexdigest()
        if sample.mask_path is None and not is_empty:
            raise _ContradictionError(
                f"sample {sample.id}: good, but its mask {mask_path} marks a defect: labels contradict"
            )
    template, template_content = None, ""
    if sample.template_path is not None:
        template = read_template(sample.template_path, pixels)
        check(template, f"template {sample.template_path}")
        template_content = hashlib.sha256(read_bytes(sample.template_path, "template")).hexdigest()
    return Scanned(
        row=row,
        metadata=Metadata(
            height=height,
            width=width,
            mean=float(pixels.mean()),
            spread=float(np.std(pixels)),
            file_bytes=len(data),
        ),
        is_gray=pixels.ndim == 2,
        content=hashlib.sha256(data).hexdigest(),
        mask_content=mask_content,
        is_mask_empty=is_empty,
        thumbnail=thumbnail_of(pixels),
        template_content=template_content,
        is_template_gray=None if template is None else template.ndim == 2,
    )


def _check_boxes(sample: Sample, height: int, width: int) -> None:
    for box in sample.boxes:
        if box.box_px[2] > width or box.box_px[3] > height:
            raise InputError(
                f"sample {sample.id}: box {box.box_px}: expected it inside the image of {width} x {height} px"
            )
