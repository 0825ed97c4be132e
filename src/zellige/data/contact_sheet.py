"""One picture of a data set: a row of samples per kind, with the outline of the mask where there is one."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from zellige.core.errors import InputError
from zellige.core.hatching import hatch
from zellige.core.image_files import read_mask, read_pixels
from zellige.core.roi import Roi
from zellige.core.types import GOOD, Pixels, Sample

_OUTLINE_RGB = (255, 60, 60)
_LABEL_PX = 22
_GAP_PX = 4

FindRoi = Callable[[Sample], Roi | None]


def contact_sheet(
    samples: Sequence[Sample], *, per_kind: int = 6, side_px: int = 160, find_roi: FindRoi = lambda sample: None
) -> Pixels:
    """Draw up to `per_kind` samples of each kind, good first, each scaled to fit a square of `side_px`.

    Samples are taken evenly over the sorted ids; what `find_roi` says is not inspected is hatched. Returns uint8 RGB
    (H, W, 3) on a white ground.

    Raises:
        InputError: no samples, or a file that cannot be read.
    """
    by_kind: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: s.id):
        by_kind[sample.kind].append(sample)
    if not by_kind:
        raise InputError("contact sheet: expected samples, got none")
    kinds = sorted(by_kind, key=lambda kind: (kind != GOOD, kind))
    return np.vstack([_row(kind, by_kind[kind], per_kind, side_px, find_roi) for kind in kinds])


def _row(kind: str, samples: Sequence[Sample], per_kind: int, side_px: int, find_roi: FindRoi) -> Pixels:
    chosen = np.linspace(0, len(samples) - 1, min(per_kind, len(samples))).astype(int)
    cell = side_px + _GAP_PX
    row = np.full((cell + _LABEL_PX, cell * per_kind, 3), 255, np.uint8)
    text = f"{kind} ({len(samples)})".encode("ascii", "replace").decode()
    cv2.putText(row, text, (4, _LABEL_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    for place, index in enumerate(chosen):
        sample = samples[int(index)]
        picture = _picture(sample, side_px, find_roi(sample))
        height, width = picture.shape[:2]
        row[_LABEL_PX : _LABEL_PX + height, place * cell : place * cell + width] = picture
    return row


def _picture(sample: Sample, side_px: int, roi: Roi | None) -> Pixels:
    pixels = read_pixels(sample.image_path)
    height, width = pixels.shape[:2]
    scale = side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    picture = np.ascontiguousarray(small if small.ndim == 3 else np.dstack([small] * 3), np.uint8)
    if roi is not None:
        picture = hatch(picture, roi.inspected)
    if sample.mask_path is not None:
        mask = read_mask(sample.mask_path, (height, width)).astype(np.uint8)
        shrunk = (cv2.resize(mask * 255, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
        outlines, _ = cv2.findContours(shrunk, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, _OUTLINE_RGB, 1)
    return picture
