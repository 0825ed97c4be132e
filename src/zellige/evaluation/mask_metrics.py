"""How well the pixels of each kind are found: intersection over union, streamed over any number of images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.named import KindMap
from zellige.core.types import MIXED, AnomalyMap, Sample
from zellige.evaluation.bootstrap import Estimate, GroupBootstrap, Weights
from zellige.evaluation.pixels import Mask

_ANY = ""
"""Stands for all kinds together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskMetrics:
    """Intersection over union of the said and the true pixels, over all pixels of a split; NaN without a mask."""

    mean_iou: Estimate
    """Over the kinds that the split has; what is good is not among them."""
    defect_iou: Estimate
    """Of all defects, whatever their kind."""
    by_kind: Mapping[str, Estimate]
    num_images: int
    num_left_out: int
    """Defective images without a mask that says which kind is where: in none of these numbers."""

    def to_json(self) -> dict[str, object]:
        """Give strict JSON values."""
        return {
            "mean_iou": self.mean_iou.to_json(),
            "defect_iou": self.defect_iou.to_json(),
            "by_kind": {kind: value.to_json() for kind, value in self.by_kind.items()},
            "num_images": self.num_images,
            "num_left_out": self.num_left_out,
        }


class MaskCounter:
    """Counts pixels image by image and keeps a few numbers of each.

    A pixel is said to be of a kind where the anomaly map is above the pixel threshold and the kind map names it. Where
    it is above and has no name, it counts as found for `defect_iou` alone.

    Example:
        >>> from pathlib import Path
        >>> counter = MaskCounter(pixel_threshold=0.5)
        >>> sample = Sample(id="a", image_path=Path("a.png"), kind="hole", group_id="a")
        >>> mask = np.zeros((8, 8), bool); mask[:4] = True
        >>> named = KindMap(numbers=np.ones((8, 8), np.uint8), kinds=("hole",))
        >>> counter.add(sample, np.ones((8, 8), np.float32), named, mask)
        >>> counter.measure(times=10).mean_iou.value
        0.5
    """

    def __init__(self, *, pixel_threshold: float) -> None:
        self._pixel_threshold = pixel_threshold
        self._groups: list[str] = []
        self._counts: list[dict[str, tuple[int, int, int]]] = []
        """Of each image, by kind: pixels that are shared, said and true."""
        self._num_left_out = 0

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return len(self._counts)

    def add(self, sample: Sample, anomaly_map: AnomalyMap, named: KindMap, mask: Mask | None) -> None:
        """Count one image; `mask` is what `pixels.read_defect_mask` gave."""
        true = true_pixels(sample, mask)
        if true is None:
            self._num_left_out += 1
            return
        above, nothing = anomaly_map > self._pixel_threshold, np.zeros(anomaly_map.shape, np.bool_)
        said = {kind: above & (named.numbers == number) for number, kind in enumerate(named.kinds, start=1)}
        said[_ANY], true[_ANY] = above, nothing if mask is None else mask
        self._groups.append(sample.group_id)
        pairs = {kind: (said.get(kind, nothing), true.get(kind, nothing)) for kind in {*said, *true}}
        self._counts.append({kind: (_count(a & b), _count(a), _count(b)) for kind, (a, b) in pairs.items()})

    def measure(self, *, times: int = 1000, seed: int = 0) -> MaskMetrics:
        """Compute the numbers of all that was counted, with bootstrap intervals over groups."""
        kinds = sorted({kind for counts in self._counts for kind, (_, _, true) in counts.items() if true} | {_ANY})
        table = np.array([[counts.get(kind, (0, 0, 0)) for counts in self._counts] for kind in kinds], np.float64)
        shared, said, true = table.reshape(len(kinds), -1, 3).transpose(2, 0, 1)  # (K, N) each

        def measure(weights: Weights) -> NDArray[np.float64]:
            both, drawn = shared @ weights, true @ weights
            union = said @ weights + drawn - both
            iou = np.divide(both, union, out=np.full(len(kinds), math.nan), where=drawn > 0)
            known = iou[1:][~np.isnan(iou[1:])]
            return np.array([known.mean() if len(known) else math.nan, *iou])

        numbers = GroupBootstrap(self._groups, times=times, seed=seed).estimate(measure)
        return MaskMetrics(
            mean_iou=numbers[0],
            defect_iou=numbers[1],
            by_kind=dict(zip(kinds[1:], numbers[2:], strict=True)),
            num_images=len(self._counts),
            num_left_out=self._num_left_out,
        )


def true_pixels(sample: Sample, mask: Mask | None) -> dict[str, Mask] | None:
    """Give the pixels of each kind, (H, W) bool, as a person marked them; nothing for a good image.

    With boxes a pixel of the mask is of the kind of the smallest box around it; one outside of every box is of the
    image's kind, if it has a single one. None where nobody drew a mask, or nobody said which kind its parts are.

    Example:
        >>> from pathlib import Path
        >>> from zellige.core.types import LabelledBox
        >>> box = LabelledBox(kind="hole", box_px=(0, 0, 2, 2))
        >>> sample = Sample(id="a", image_path=Path("a.png"), kind="mixed", group_id="a", boxes=(box,))
        >>> {kind: int(pixels.sum()) for kind, pixels in true_pixels(sample, np.ones((4, 4), bool)).items()}
        {'hole': 4}
    """
    if not sample.is_defective:
        return {}
    if mask is None or (sample.kind == MIXED and not sample.boxes):
        return None
    own: dict[str, Mask] = {}
    left = mask.copy()
    for box in sorted(sample.boxes, key=lambda box: _area(box.box_px)):
        x0, y0, x1, y1 = (int(edge) for edge in (*np.floor(box.box_px[:2]), *np.ceil(box.box_px[2:])))
        pixels = own.setdefault(box.kind, np.zeros(mask.shape, np.bool_))
        pixels[y0:y1, x0:x1] |= left[y0:y1, x0:x1]
        left[y0:y1, x0:x1] = False
    if left.any() and sample.kind != MIXED:
        own[sample.kind] = own.get(sample.kind, np.zeros(mask.shape, np.bool_)) | left
    return own


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _count(pixels: Mask) -> int:
    return int(np.count_nonzero(pixels))
