"""What a detector's patches look like where labelled defects are: the examples that names are learned from.

Shapes: N tiles (N, C, h, w); P patches of an example with D features each.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from zellige.core.progress import progress
from zellige.core.types import MIXED, Pixels, Sample
from zellige.data.dataset import TileDataset
from zellige.data.labelled_frame import label_frame
from zellige.models.named_detector import NamedDetector

_MOST_POINTS = 64
"""Patches that stand for one example; neighbors look alike."""
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KindExample:
    """One kind of defect in one image: `patches` (P, D), `weights` (P,), what the map says."""

    sample_id: str
    group_id: str
    kind: int
    """From 0."""
    patches: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class KindExamples:
    """What was taken, and how many images were left out for which reason."""

    taken: tuple[KindExample, ...]
    left_out: Mapping[str, int]


def collect_examples(
    detector: NamedDetector, dataset: TileDataset, *, fabric: Fabric, pixel_threshold: float, batch_size: int
) -> KindExamples:
    """Look at labelled images, and take the patches of their defects.

    Where masks or boxes say where a defect is, the regions found there are taken, and where none was found all of it.
    Else all that was found in the image is of its kind.

    Args:
        detector: what finds is fitted.
        dataset: its samples are defective; those of other kinds than the detector's are left out.
        fabric: where to run.
        pixel_threshold: level of the map from which on a pixel belongs to a defect.
        batch_size: tiles at a time.

    Raises:
        InputError: an image or a mask that cannot be read, or does not fit the detector.
    """
    detector.to(fabric.device).eval()
    taken: list[KindExample] = []
    reasons = Counter[str]()
    with torch.inference_mode(), progress("name", len(dataset)) as advance:
        for sample in dataset.samples:
            found = _examples_of(detector, dataset, sample, fabric, pixel_threshold, batch_size)
            if isinstance(found, str):
                reasons[found] += 1
            else:
                taken += found
            advance()
    return KindExamples(taken=tuple(taken), left_out=dict(sorted(reasons.items())))


def _examples_of(
    detector: NamedDetector,
    dataset: TileDataset,
    sample: Sample,
    fabric: Fabric,
    pixel_threshold: float,
    batch_size: int,
) -> list[KindExample] | str:
    """The examples of one image, or why there are none."""
    numbers = {kind: number for number, kind in enumerate(detector.kinds, start=1)}
    tiles = _labelled_tiles(sample, dataset, numbers)
    if isinstance(tiles, str):
        return tiles
    pixels, masks = tiles
    parts = []
    for start in range(0, len(pixels), batch_size):
        own = slice(start, start + batch_size)
        features, output = detector.look(torch.from_numpy(pixels[own]).to(fabric.device))
        patches = detector.head.patches(features).cpu()
        size = list(patches.shape[1:3])
        seen = F.interpolate(output.anomaly_map, size=size, mode="bilinear", align_corners=False)[:, 0].cpu()
        marked = _on_grid(masks[own], seen) if masks is not None else torch.full_like(seen, numbers[sample.kind])
        parts.append((patches, seen, marked))
    patches, seen, marked = (torch.cat(part) for part in zip(*parts, strict=True))
    is_found = seen > pixel_threshold
    if masks is not None:
        marked = torch.where(is_found, _regions_on(marked, is_found), marked)
    examples = []
    for number in sorted({int(one) for one in np.unique(marked.numpy())} - {0}):
        is_own = marked == number
        chosen = is_own & is_found
        if not chosen.any():
            if masks is None:
                return "nothing was found in them, and nobody said where their defects are"
            chosen = is_own
        shown, weights = patches[chosen], seen[chosen].double().clamp(min=_LEAST_WEIGHT)
        kept = torch.from_numpy(np.unique(np.linspace(0, len(weights) - 1, _MOST_POINTS).round().astype(np.int64)))
        examples.append(
            KindExample(
                sample_id=sample.id,
                group_id=sample.group_id,
                kind=number - 1,
                patches=shown[kept],
                weights=weights[kept] / weights[kept].sum(),
            )
        )
    return examples or "their defects are where nothing is inspected"


def _labelled_tiles(
    sample: Sample, dataset: TileDataset, numbers: Mapping[str, int]
) -> tuple[Pixels, Pixels | None] | str:
    """The tiles of one image, and the number of each pixel's kind (N, h, w) where somebody drew it; or why not."""
    if sample.kind == MIXED and not sample.boxes:
        return "of several kinds, and nobody said which is where"
    if not ({box.kind for box in sample.boxes} or {sample.kind}) <= numbers.keys():
        return "of a kind that is not to be named"
    if sample.mask_path is None and not sample.boxes:
        return dataset.cut(sample).pixels, None
    frame = label_frame(sample, numbers, geometry=dataset.geometry, color=dataset.color)
    if isinstance(frame, str):
        return frame
    tiles = frame.tiles()
    return np.stack([tile.pixels for tile in tiles]), np.stack([tile.kind_mask for tile in tiles])


def _on_grid(masks: Pixels, grid: Tensor) -> Tensor:
    """Bring numbers (B, H, W) onto a grid (B, h, w), and widen them by a patch: a map spreads over its defect."""
    marked = F.adaptive_max_pool2d(torch.from_numpy(masks).float()[:, None], grid.shape[-2:])
    return F.max_pool2d(marked, 3, stride=1, padding=1)[:, 0]


def _regions_on(marked: Tensor, is_found: Tensor) -> Tensor:
    """Give each found region (8-neighborhood) the number that most of its marked patches have; all (B, h, w).

    The whole of it: on a new image, too, a map is wider than the defect, and the whole region is named.
    """
    numbers = marked.numpy().astype(np.int64)
    joined = np.zeros_like(numbers)
    for place, found in enumerate(is_found.numpy().astype(np.uint8)):
        count, labels = cv2.connectedComponents(found, connectivity=8)
        for label in range(1, count):
            votes = np.bincount(numbers[place][labels == label])
            if votes[1:].any():
                joined[place][labels == label] = votes[1:].argmax() + 1
    return torch.from_numpy(joined).to(marked)


def count_by_kind(examples: Sequence[KindExample], kinds: Sequence[str]) -> dict[str, int]:
    """How many examples there are of each kind."""
    counts = Counter(example.kind for example in examples)
    return {kind: counts[number] for number, kind in enumerate(kinds)}
