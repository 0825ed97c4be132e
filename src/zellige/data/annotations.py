"""The neutral form of a labelled image: what every format of labels is read into and written from.

Coordinates are px of the image as it is stored, x to the right, y down; pixel i reaches from i to i + 1. So a box
around the pixels 3 to 5 is (3, 6), and the center of pixel 3 is 3.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import GOOD, MIXED, LabelledBox, PixelSize

Size = tuple[int, int]
"""Height and width, px."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1, px."""
Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y), px; the last one is joined to the first."""

CLIPPED_PX = 1.0
"""What reaches over the border by at most so much is clipped and counted: tools round. More is refused."""

_EPSILON_PX = 0.01
_NOT_IN_A_KIND = frozenset('/\\;"<>|:*?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Rle:
    """A mask as COCO's run lengths, column by column, in COCO's compressed text."""

    size: Size
    counts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedDefect:
    """One labelled defect: its kind, its box and, where somebody drew it, its outline or its mask, never both.

    Several polygons are parts of one defect.
    """

    kind: str
    box: Box
    polygons: tuple[Polygon, ...] = ()
    mask: Rle | None = None

    def __post_init__(self) -> None:
        assert not (self.polygons and self.mask is not None), "an outline and a mask"

    @property
    def has_outline(self) -> bool:
        return bool(self.polygons) or self.mask is not None

    def as_box(self) -> LabelledBox:
        """The box alone, as a `Sample` holds it."""
        return LabelledBox(kind=self.kind, box_px=self.box)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedImage:
    """An image and all its defects; without any it is good.

    `id` is the image's path relative to its data set. `unplaced` are kinds that the image shows, nobody said where.
    `template_path` is an image of the same without defects, to compare with.
    """

    id: str
    image_path: Path
    size: Size
    defects: tuple[AnnotatedDefect, ...] = ()
    unplaced: tuple[str, ...] = ()
    group_id: str | None = None
    split: str | None = None
    pixel_size: PixelSize | None = None
    template_path: Path | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its defects, once each, sorted."""
        return tuple(sorted({*(defect.kind for defect in self.defects), *self.unplaced}))

    @property
    def kind(self) -> str:
        """The one kind of the image: good, its defects' kind, or mixed where they are of several."""
        kinds = self.kinds or (GOOD,)
        return kinds[0] if len(kinds) == 1 else MIXED


class Canvas:
    """What a format draws the defects of one image on: checks them against the borders and counts what it clipped.

    Every method raises an InputError for what cannot be a defect; `where` opens the message: file and line or item.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.num_clipped = 0

    def check_size(self, height: object, width: object, where: str) -> None:
        """Refuse labels that were made for an image of another size."""
        if (height, width) != self.size:
            expected = f"{self.size[0]} x {self.size[1]} px"
            raise InputError(f"{where}: expected its image's size {expected}, got {height} x {width}")

    def box(self, kind: str, box: Sequence[float], where: str) -> AnnotatedDefect:
        """A defect of which only the box (x0, y0, x1, y1) is known."""
        return AnnotatedDefect(kind=kind, box=self.fit_box(box, where))

    def polygons(
        self,
        kind: str,
        polygons: Sequence[Sequence[tuple[float, float]]],
        where: str,
        box: Sequence[float] | None = None,
    ) -> AnnotatedDefect:
        """A defect with an outline of one or more parts; its box is the one around them, where none is given."""
        fitted = tuple(self._fit_polygon(polygon, where) for polygon in polygons)
        xs, ys = ([point[axis] for polygon in fitted for point in polygon] for axis in (0, 1))
        around = (min(xs), min(ys), max(xs), max(ys))
        own = around if box is None else self.fit_box(box, where)
        return AnnotatedDefect(kind=kind, box=own, polygons=fitted)

    def mask(self, kind: str, mask: Rle, where: str, box: Sequence[float]) -> AnnotatedDefect:
        """A defect with a mask of this image's size."""
        return AnnotatedDefect(kind=kind, box=self.fit_box(box, where), mask=mask)

    def fit_box(self, box: Sequence[float], where: str) -> Box:
        """Check a box, and clip what reaches over the border by a rounding."""
        x0, y0, x1, y1 = (float(value) for value in box)
        shown = f"box {x0:g} {y0:g} {x1:g} {y1:g}"
        if not all(math.isfinite(value) for value in (x0, y0, x1, y1)):
            raise InputError(f"{where}: {shown}: expected finite numbers")
        if x1 <= x0 or y1 <= y0:
            raise InputError(f"{where}: {shown}: expected x0 < x1 and y0 < y1, got an empty or inverted box")
        (x0, y0), (x1, y1) = self._clip((x0, y0), f"{where}: {shown}"), self._clip((x1, y1), f"{where}: {shown}")
        if x1 <= x0 or y1 <= y0:
            raise InputError(f"{where}: {shown}: nothing of it is left inside {self._named()}")
        return x0, y0, x1, y1

    def _fit_polygon(self, polygon: Sequence[tuple[float, float]], where: str) -> Polygon:
        corners = [(float(x), float(y)) for x, y in polygon]
        if len(corners) > 1 and corners[0] == corners[-1]:
            corners.pop()
        if len(set(corners)) < 3:
            raise InputError(f"{where}: expected an outline of at least 3 points, got {len(set(corners))}")
        if not all(math.isfinite(value) for corner in corners for value in corner):
            raise InputError(f"{where}: expected an outline of finite numbers")
        fitted = tuple(self._clip(corner, f"{where}: point {corner[0]:g} {corner[1]:g}") for corner in corners)
        (x0, y0), far = fitted[0], max(fitted, key=lambda corner: math.dist(corner, fitted[0]))
        if not any(abs((far[0] - x0) * (y - y0) - (far[1] - y0) * (x - x0)) > _EPSILON_PX**2 for x, y in fitted):
            raise InputError(f"{where}: expected an outline around an area, its points lie on one line")
        return fitted

    def _clip(self, point: tuple[float, float], where: str) -> tuple[float, float]:
        height, width = self.size
        x, y = point
        inside = min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))
        distance = max(abs(inside[0] - x), abs(inside[1] - y))
        if distance > CLIPPED_PX:
            raise InputError(f"{where}: expected it inside {self._named()}")
        self.num_clipped += distance > _EPSILON_PX
        return inside

    def _named(self) -> str:
        return f"the image of {self.size[1]} x {self.size[0]} px"


def check_kind(name: object, where: str) -> str:
    """Check the name of a kind of defect: it becomes a folder, a cell and a word in a line of text.

    Raises:
        InputError: empty, padded, hidden, with a path separator or another character that files or lines cannot hold,
            or "good" in any letters (an image without defects is good, no defect is).
    """
    if not isinstance(name, str) or not name or name != name.strip() or name.startswith("."):
        raise InputError(f"{where}: expected the name of a kind of defect, got {name!r}")
    bad = sorted({char for char in name if char in _NOT_IN_A_KIND or not char.isprintable()})
    if bad:
        raise InputError(f"{where}: expected a kind without {' '.join(map(repr, bad))}, got {name!r}")
    if name.lower() == GOOD:
        raise InputError(
            f"{where}: expected the name of a kind of defect, got {name!r}: an image without defects is good"
        )
    return name
