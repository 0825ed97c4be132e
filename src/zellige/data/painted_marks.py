"""More defects of two-tone products beside their templates: the marks of labelled defects, painted somewhere else.

On boards, print and labels a defect is a light mark on dark or a dark one on light, and what it does to the pattern is
its kind: a dark mark (on boards, metal) that touches no dark part is a spot, one that touches one part is a spur, and
one that joins several is a short; so it is with light marks. So each mark that was labelled once can be painted
anywhere, turned and zoomed, and its kind follows from where it lies. Pasting labelled things elsewhere, without looking
at what they do there, is Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
Segmentation", CVPR 2021, arXiv:2012.07177.

Shapes: pairs uint8 (2 C, h, w), the image's channels first; a mark's alpha (a, b), 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.types import Pixels
from zellige.data.labelled_frame import LabelledFrame
from zellige.data.labelled_tile import Boxes, LabelledTile

TONES = ("light", "dark")
NUM_TOUCHED = 3
"""Kinds of a tone: a mark that touches none of the parts of its tone, one, and several."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_PAINTED = 0.5
"""Share of the tiles that marks are painted on,"""
_MOST_MARKS = 3
"""1 to that many."""
_NUM_TRIES = 20
_LEAST_AREA = 20
"""Fewest changed pixels of a mark."""
_LEAST_CONTRAST = 64
"""Gray levels between dark and light, of a tile or a labelled pair; below, it does not have two tones."""
_ZOOM = 0.4
"""A mark is up to e to the power of that larger or smaller."""
_EDGE = 2
"""Pixels around a mark that belong to its soft edge."""
_NEAR, _FAR = (1, 3)
"""A part within `_NEAR` px of a mark is touched, one beyond `_FAR` px is not; between them nobody could say."""
_LEAST_TOUCHED = 3
"""Fewest pixels of a part that touch."""
_AROUND = 12
"""Pixels around a mark in which parts count as connected: further off, a short joins what is joined anyway."""


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What one labelled defect changed: `alpha`, and how far its box went beyond it (left, top, right, bottom), px."""

    alpha: Floats
    margins: Floats


class _Placed(NamedTuple):
    """A mark (a, b) whose first pixel is at row `y` and column `x`, what it `changed`, and its box (x0, y0, x1, y1)."""

    alpha: Floats
    y: int
    x: int
    changed: Mask
    box: tuple[int, int, int, int]


@dataclass(slots=True)
class MarkBook:
    """The marks of all labelled defects seen, and how to paint them on other tiles."""

    marks: list[Mark] = field(default_factory=list)

    def collect(self, frame: LabelledFrame) -> None:
        """Add the marks of a pair: within each box, the largest region that differs from the template."""
        image, template = (_gray(half) for half in np.split(frame.pixels, 2))
        dark, light = np.percentile(template, (1, 99))
        if light - dark < _LEAST_CONTRAST:
            return
        alpha = np.clip(np.abs(image - template) / (light - dark), 0, 1).astype(np.float32)
        for box in frame.boxes[:, :4].astype(int).tolist():
            mark = _mark(alpha, box)
            if mark is not None:
                self.marks.append(mark)

    def paint(self, tile: LabelledTile, numbers: Mapping[str, Sequence[int]], rng: np.random.Generator) -> LabelledTile:
        """Paint marks on every other tile, of all kinds alike, where there is room.

        Args:
            tile: of a pair; one whose boxes nobody knows is left alone.
            numbers: of each tone of `TONES` the numbers of the `NUM_TOUCHED` kinds.
            rng: decides everything.
        """
        if rng.random() >= _PAINTED or not self.marks or not tile.has_boxes:
            return tile
        image = np.array_split(tile.pixels, 2)[0].astype(np.float32)
        tones = np.percentile(image, (1, 99), axis=(1, 2)).astype(np.float32)  # (2, C)
        middle = float(tones.mean())
        if (tones[1] - tones[0]).mean() < _LEAST_CONTRAST:
            return tile
        mask, boxes = tile.kind_mask.copy(), tile.boxes
        for _ in range(rng.integers(1, _MOST_MARKS + 1)):
            touched, is_light = int(rng.integers(NUM_TOUCHED)), bool(rng.integers(2))
            placed = self._place(image.mean(0) > middle, boxes, touched, is_light, rng)
            if placed is None:
                continue
            y, x, high, wide = placed.y, placed.x, *placed.alpha.shape
            window = (slice(y, y + high), slice(x, x + wide))
            image[:, *window] += placed.alpha * (tones[int(is_light)][:, None, None] - image[:, *window])
            number = numbers[TONES[0 if is_light else 1]][touched]
            boxes = np.concatenate([boxes, np.array([[*placed.box, number]], np.float32)])
            x0, y0, x1, y1 = placed.box
            if tile.has_mask:
                mask[window][placed.changed] = number
            else:  # boxes alone are filled in, as everywhere
                mask[y0:y1, x0:x1] = number
        changed = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        pixels = np.concatenate([changed, tile.pixels[len(changed) :]])
        return replace(tile, pixels=pixels, kind_mask=mask, boxes=boxes).with_its_kind()

    def _place(
        self, is_light: Mask, taken: Boxes, touched: int, paint_light: bool, rng: np.random.Generator
    ) -> _Placed | None:
        """Look for a mark and a place at which it touches as many parts as wanted and lies on no other defect."""
        height, width = is_light.shape
        parts = is_light if paint_light else ~is_light
        for _ in range(_NUM_TRIES):
            mark = self.marks[int(rng.integers(len(self.marks)))]
            alpha = _turned(mark.alpha, rng)
            high, wide = alpha.shape
            if high >= height or wide >= width:
                continue
            y, x = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
            changed = (alpha > 0.5) & ~parts[y : y + high, x : x + wide]
            if _num_touched(parts, changed, y, x) != touched:
                continue
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            left, top, right, bottom = mark.margins.tolist()
            box = (
                max(0, round(x + columns[0] - left)),
                max(0, round(y + rows[0] - top)),
                min(width, round(x + columns[-1] + 1 + right)),
                min(height, round(y + rows[-1] + 1 + bottom)),
            )
            if not _overlaps(box, taken):
                return _Placed(alpha, y, x, changed, box)
        return None


def _num_touched(parts: Mask, changed: Mask, y: int, x: int) -> int | None:
    """How many of the `parts` (h, w) of its tone touch what a mark changes, at most 2; None if nobody could say.

    Args:
        parts: where its tone is already.
        changed: (a, b), where the mark makes a difference; its first pixel is at row y and column x of `parts`.
    """
    if changed.sum() < _LEAST_AREA or cv2.connectedComponents(changed.view(np.uint8), connectivity=8)[0] != 2:
        return None
    top, left = max(0, y - _AROUND), max(0, x - _AROUND)
    around = parts[top : y + changed.shape[0] + _AROUND, left : x + changed.shape[1] + _AROUND]
    spot = np.zeros(around.shape, np.uint8)
    spot[y - top : y - top + changed.shape[0], x - left : x - left + changed.shape[1]] = changed
    count, labels = cv2.connectedComponents(around.view(np.uint8), connectivity=4)
    found = []
    for reach in (_NEAR, _FAR):
        near = cv2.dilate(spot, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        sizes = np.bincount(labels[near], minlength=count)[1:]
        found.append(int((sizes >= _LEAST_TOUCHED).sum()))
    return min(found[0], NUM_TOUCHED - 1) if found[0] == found[1] else None


def _mark(alpha: Floats, box: Sequence[int]) -> Mark | None:
    """The largest region of an image's alpha within a box; None where it is tiny or goes beyond the box."""
    x0, y0, x1, y1 = box
    inside = alpha[y0:y1, x0:x1]
    _, labels, stats, _ = cv2.connectedComponentsWithStats((inside > 0.5).view(np.uint8), connectivity=8)
    if len(stats) < 2:
        return None
    number = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, wide, high, area = stats[number].tolist()
    if area < _LEAST_AREA or min(x, y) < _EDGE or x + wide > x1 - x0 - _EDGE or y + high > y1 - y0 - _EDGE:
        return None
    near = cv2.dilate((labels == number).view(np.uint8), np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8))
    window = (slice(y - _EDGE, y + high + _EDGE), slice(x - _EDGE, x + wide + _EDGE))
    margins = np.array([x, y, x1 - x0 - x - wide, y1 - y0 - y - high], np.float32)
    return Mark((inside * near)[window], margins)


def _turned(alpha: Floats, rng: np.random.Generator) -> Floats:
    """The mark at another angle and size, cut to what is left of it."""
    angle, zoom = rng.uniform(0, 360), float(np.exp(rng.uniform(-_ZOOM, _ZOOM)))
    side = int(np.ceil(np.hypot(*alpha.shape) * zoom)) + 2
    turn = np.asarray(cv2.getRotationMatrix2D((alpha.shape[1] / 2, alpha.shape[0] / 2), angle, zoom), np.float64)
    turn[:, 2] += [(side - alpha.shape[1]) / 2, (side - alpha.shape[0]) / 2]
    turned = cv2.warpAffine(alpha, turn, (side, side), flags=cv2.INTER_LINEAR)
    rows, columns = np.flatnonzero(turned.max(1) > 0.1), np.flatnonzero(turned.max(0) > 0.1)
    if not len(rows) or not len(columns):
        return alpha
    return np.asarray(turned[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.float32)


def _overlaps(box: Sequence[float], others: Boxes) -> bool:
    x0, y0, x1, y1 = box
    apart = (others[:, 2] <= x0) | (others[:, 0] >= x1) | (others[:, 3] <= y0) | (others[:, 1] >= y1)
    return not bool(apart.all())


def _gray(channels: Pixels) -> Floats:
    return np.asarray(channels.mean(0), np.float32)
