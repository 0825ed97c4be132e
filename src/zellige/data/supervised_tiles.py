"""Labelled tiles to learn from: cut as in evaluation, or drawn at random, rare kinds more often, and augmented.

What is drawn depends on seed, epoch and place in the epoch alone, not on what was drawn before or by whom: a fit that
goes on after a kill, and one with other workers, sees the same tiles to the bit.
"""

import hashlib
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zellige.core.types import GOOD, MIXED, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.data.labelled_frame import LabelledFrame, label_frame
from zellige.data.labelled_tile import LabelledTile
from zellige.data.painted_marks import MarkBook

log = logging.getLogger(__name__)

CROPS = ("random", "grid")
_ON_DEFECT = 0.75
"""Share of the random crops of a defective image that are placed on a defect."""
_MARGIN = 0.125
"""Share of a crop's side by which the pixel of the defect keeps away from the crop's border, where the frame lets it:
half a defect has no kind."""
_ZOOMED = 0.5
"""Share of the random crops that are zoomed: resizing blurs, and the net is to see what is not blurred too."""
_NEGATIVE = 0.25
"""Share of the tiles that are shown as negatives where kinds have opposites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How training tiles are drawn from images; the settings of `SupervisedRecipe` of these names.

    `crops` is "random": anywhere, three of four on a defect where there is one; or "grid": one of evaluation's tiles,
    as of every image that has a defect and does not say where. `crop_px` is the side of a random crop, at most that of
    evaluation's tile, which it is if not given. Every other random crop shows up to the share `crop_zoom` more or less,
    and up to the share `crop_stretch` more of one side than of the other, and is brought to its size.
    Where `opposites` names kinds, every fourth tile is shown as a negative, in which each of them becomes the other.
    Where `marks` names the kinds of light and dark marks, labelled ones are painted on more tiles, see `MarkBook`.
    """

    crops: str = "random"
    crop_px: int | None = None
    crop_zoom: float = 0.0
    crop_stretch: float = 0.0
    opposites: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_resized(self) -> bool:
        return self.crop_zoom > 0 or self.crop_stretch > 0


class SupervisedTiles:
    """The good and the defective images of a data set with their labels; call `scan` before anything else."""

    def __init__(self, dataset: TileDataset, kinds: Sequence[str], *, cache_mb: int = 0) -> None:
        """Say what to read.

        Args:
            dataset: its samples and its defects, its geometry, color and augmentation.
            kinds: names of the kinds of defects; number k is `kinds[k - 1]`.
            cache_mb: most megabytes of decoded images that are kept in memory; the others are read again each time.
        """
        self.samples: tuple[Sample, ...] = dataset.samples + dataset.defects
        self.num_left_out = 0
        """Images that nothing can be learned from."""
        self.num_placed = 0
        """Usable defective images that say where their defects are,"""
        self.num_masked = 0
        """and of these, those that say it to the pixel."""
        self._numbers = {kind: number for number, kind in enumerate(kinds, start=1)}
        self._geometry, self._color = dataset.geometry, dataset.color
        self._policy = dataset.augment.policy if dataset.augment is not None else "none"
        self._most_bytes, self._num_bytes = cache_mb * 1_000_000, 0
        self._kept: dict[int, LabelledFrame] = {}
        self._marks = MarkBook()
        self._lock, self._own = threading.Lock(), threading.local()
        self._usable: NDArray[np.int64] = np.zeros(0, np.int64)
        self._digest = hashlib.sha256()

    @property
    def num_marks(self) -> int:
        """How many marks of labelled defects can be painted on other tiles."""
        return len(self._marks.marks)

    @property
    def usable(self) -> NDArray[np.int64]:
        """Numbers of the images that are learned from, ascending."""
        return self._usable

    def fingerprint(self) -> str:
        """Hash of all pixels and labels that `scan` saw, and of how they are augmented."""
        return self._digest.hexdigest()

    def scan(self, what: str, advance: Callable[[], None], *, with_marks: bool = False) -> None:
        """Read every image once, keep what fits into memory, and find out which can be learned from.

        Args:
            what: name of the split, for a warning.
            advance: called once per image.
            with_marks: collect the marks of labelled defects, which `Drawing.marks` paints.

        Raises:
            InputError: see `label_frame`.
        """
        usable, reasons = [], Counter[str]()
        self._digest.update(self._policy.encode())
        for index, sample in enumerate(self.samples):
            frame = label_frame(sample, self._numbers, geometry=self._geometry, color=self._color)
            advance()
            if isinstance(frame, str):
                reasons[frame] += 1
                continue
            usable.append(index)
            self.num_placed += frame.has_place and sample.is_defective
            self.num_masked += frame.has_mask and sample.is_defective
            for part in (frame.pixels, frame.numbers, frame.boxes, frame.inspected):
                if part is not None:
                    self._digest.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
            about = (frame.has_mask, frame.has_place, frame.kind, frame.corners, frame.tile_size)
            self._digest.update(repr(about).encode())
            if with_marks and sample.template_path is not None:
                self._marks.collect(frame)
            self._keep(index, frame)
        self._usable, self.num_left_out = np.array(usable, np.int64), reasons.total()
        for reason, count in sorted(reasons.items()):
            log.warning("%s: %d images are left out, %s", what, count, reason)

    def tiles_of(self, index: int) -> list[LabelledTile]:
        """Cut the tiles of one usable image as evaluation does, unchanged."""
        return self._frame(index).tiles()

    def order(self, *, seed: int, epoch: int, balance: float, num_draws: int) -> NDArray[np.int64]:
        """Numbers (num_draws,) of the images that an epoch draws from, in its order.

        Args:
            seed, epoch: decide the order.
            balance: an image of a kind that n images show (good is one; of several kinds the rarest) is drawn in
                proportion to n^-balance: 0 is every image alike, 1 every kind alike.
            num_draws: of the epoch. With balance 0 and as many draws as images each image comes once.
        """
        names = [
            {box.kind for box in sample.boxes} or {sample.kind} for sample in (self.samples[i] for i in self._usable)
        ]
        counts = Counter(name for of_image in names for name in of_image)
        rarest = np.array([min(counts[name] for name in of_image) for of_image in names], np.float64)
        rng = np.random.default_rng([seed, epoch])
        edges = np.cumsum(rarest**-balance)
        # Even steps over the cumulated weights: each image comes as often as its weight says, up to one.
        steps = (np.arange(num_draws) + rng.uniform(0.25, 0.75)) / num_draws * edges[-1]
        drawn = np.minimum(np.searchsorted(edges, steps, side="right"), len(edges) - 1)
        return np.asarray(self._usable[rng.permutation(drawn)])

    def draw(self, index: int, how: Drawing, *, seed: Sequence[int]) -> LabelledTile:
        """Draw one tile of a usable image and augment it; `seed` decides place, scale and augmentation."""
        frame, rng = self._frame(index), np.random.default_rng([*seed])
        size = frame.tile_size if how.crop_px is None else (how.crop_px, how.crop_px)
        shown = _shown(size, frame, how, rng) if how.is_resized and frame.has_place else size
        if how.crops == "grid" or not frame.has_place:
            place, shown = frame.corners[rng.integers(len(frame.corners))], size
        else:
            place = _anywhere(frame, shown, rng)
        tile = frame.tile(*place, shown).brought_to(*size)
        if how.opposites and rng.random() < _NEGATIVE:
            tile = tile.negative(self._opposites(how.opposites))
        if how.marks:
            numbers = {tone: [self._numbers[kind] for kind in kinds] for tone, kinds in how.marks.items()}
            tile = self._marks.paint(tile, numbers, rng)
        return self._augment().labelled(tile, seed=int(rng.integers(2**63)))

    def _opposites(self, named: Mapping[str, str]) -> NDArray[np.uint8]:
        """The number that each number of a kind becomes: (K + 1,)."""
        numbers = np.arange(len(self._numbers) + 1, dtype=np.uint8)
        for one, other in named.items():
            first, second = self._numbers[one], self._numbers[other]
            numbers[first], numbers[second] = second, first
        return numbers

    def _augment(self) -> Augment:
        """The augmentation of this thread: it holds random states while it works."""
        if not hasattr(self._own, "augment"):
            self._own.augment = Augment(self._policy, seed=0)
        augment: Augment = self._own.augment
        return augment

    def _frame(self, index: int) -> LabelledFrame:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        frame = label_frame(self.samples[index], self._numbers, geometry=self._geometry, color=self._color)
        assert isinstance(frame, LabelledFrame)
        return frame

    def _keep(self, index: int, frame: LabelledFrame) -> None:
        with self._lock:
            if self._num_bytes + frame.num_bytes <= self._most_bytes:
                self._kept[index] = frame
                self._num_bytes += frame.num_bytes


def kinds_of(samples: Sequence[Sample]) -> list[str]:
    """Name the kinds of defects that samples show, once each, sorted: those of the boxes, else the image's one kind."""
    found = {name for sample in samples for name in ({box.kind for box in sample.boxes} or {sample.kind})}
    return sorted(found - {GOOD, MIXED})


def _shown(size: tuple[int, int], frame: LabelledFrame, how: Drawing, rng: np.random.Generator) -> tuple[int, int]:
    """Choose how much a crop of `size` (h, w) shows: no more than there is."""
    if rng.random() >= _ZOOMED:
        factors = (1.0, 1.0)
    else:
        zoom, stretch = (
            math.exp(rng.uniform(-most, most)) for most in (math.log1p(how.crop_zoom), math.log1p(how.crop_stretch) / 2)
        )
        factors = (zoom * stretch, zoom / stretch)
    # Of the same shape as it would have where there is more.
    least = min(
        1.0, *(there / (side * factor) for there, side, factor in zip(frame.numbers.shape, size, factors, strict=True))
    )
    return round(size[0] * factors[0] * least), round(size[1] * factors[1] * least)


def _anywhere(frame: LabelledFrame, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Choose the first pixel of a crop: on a random pixel of a defect, or anywhere where something is inspected."""
    height, width = frame.numbers.shape
    last = (height - size[0], width - size[1])
    wanted: NDArray[np.bool_] | None = frame.inspected
    present = np.unique(frame.numbers[frame.numbers > 0])
    if len(present) and rng.random() < _ON_DEFECT:
        wanted = frame.numbers == rng.choice(present)
    if wanted is None or last == (0, 0):
        y, x = (_beyond(side, most, rng) for side, most in zip(size, last, strict=True))
        return y, x
    pixel = np.unravel_index(rng.choice(np.flatnonzero(wanted)), wanted.shape)
    y, x = (_first(at, side, most, rng) for at, side, most in zip((int(p) for p in pixel), size, last, strict=True))
    return y, x


def _beyond(side: int, last: int, rng: np.random.Generator) -> int:
    """Choose the first row or column, 0 to `last`, the first and the last one more often: the frame's edge is seen too,
    with which the tiles of evaluation begin and end.
    """
    margin = int(side * _MARGIN)
    return int(np.clip(rng.integers(-margin, last + margin + 1), 0, last))


def _first(at: int, side: int, last: int, rng: np.random.Generator) -> int:
    """Choose the first row or column, 0 to `last`, of a crop of `side` px that shows row or column `at`."""
    margin = int(side * _MARGIN)
    low, high = at - side + 1 + margin, at - margin
    return int(rng.integers(min(max(0, low), last), max(0, min(high, last)) + 1))
