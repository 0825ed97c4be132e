"""What a labelled data set holds: counts by kind, sizes, duplicates, and what was left out; as JSON and as lines."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from zellige.data.annotations import AnnotatedDefect, AnnotatedImage
from zellige.data.duplicates import find_pairs
from zellige.data.formats import Skipped
from zellige.data.label_scan import LabelSet

EDGES_PX = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
EDGES_MM = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_NUM_EXAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCounts:
    """One kind of defect. `images` counts the images that show it."""

    kind: str
    images: int
    defects: int
    with_outline: int
    unplaced: int
    """Images that show it, nobody said where."""
    length_px: tuple[float, float, float] | None
    """Smallest, median and largest longer side of its boxes."""
    length_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Defects whose box has its longer side from `low` on and below `high`; None where there is no upper end."""

    low: float
    high: float | None
    defects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """The report of a labelled data set, before any split."""

    root: str
    format: str
    num_images: int
    num_good: int
    num_defective: int
    num_defects: int
    kinds: list[KindCounts]
    splits: dict[str, int]
    """Images by declared split; empty where none is declared."""
    sizes_px: list[tuple[int, int, int]]
    """Height, width and number of images of that size, the most frequent first."""
    num_gray: int
    lengths_px: list[Bin]
    lengths_mm: list[Bin]
    """Of the defects in images with a pixel size; empty where none has one."""
    exact_pairs: int
    """Pairs of equal files; near pairs show the same. Pairs within one declared group are not counted."""
    near_pairs: int
    duplicate_examples: list[tuple[str, str, float]]
    """Exact pairs first, then the surest near ones: two ids and their correlation."""
    dropped: list[Skipped]
    unlabelled: list[str]
    warnings: list[str]
    num_templates: int = 0
    """Images with a template to compare with; the templates are no images of the set."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers."""
        return asdict(self)

    def to_lines(self) -> list[str]:
        """The report in a few lines for a terminal."""
        kinds = ", ".join(f"{row.kind} {row.defects or row.unplaced}" for row in self.kinds) or "none"
        templates = [f"{self.num_templates} images have a template, which is no image of the set"]
        return [
            f"{self.root}: {self.format}, {self.num_images} images",
            f"{self.num_good} good, {self.num_defective} defective",
            f"{self.num_defects} defects: {kinds}",
            f"duplicates: {self.exact_pairs} exact, {self.near_pairs} near pairs",
            *(templates if self.num_templates else []),
            f"left out {len(self.dropped)}, without labels {len(self.unlabelled)}",
            *(f"  {item.reason}" for item in self.dropped[:_NUM_EXAMPLES]),
            *(f"warning: {text}" for text in self.warnings),
        ]


def report_labels(labels: LabelSet, root: str, format_name: str, warnings: Sequence[str] = ()) -> LabelReport:
    """Count what is in a set; `warnings` are added to its own."""
    images = labels.images
    placed = [(defect, image) for image in images for defect in image.defects]
    ids = [image.id for image in images]
    found = find_pairs([item.thumbnail for item in labels.items], [item.content for item in labels.items])
    pairs = [pair for pair in found if not _is_one_group(images[pair.first], images[pair.second])]
    shown = sorted(pairs, key=lambda pair: (not pair.is_exact, -pair.correlation, pair.first, pair.second))
    sizes = Counter(image.size for image in images)
    mm = [length for defect, image in placed if (length := _length_mm(defect, image)) is not None]
    return LabelReport(
        root=root,
        format=format_name,
        num_images=len(images),
        num_good=sum(not image.kinds for image in images),
        num_defective=sum(bool(image.kinds) for image in images),
        num_defects=len(placed),
        kinds=[_count(kind, images) for kind in labels.kinds],
        splits=dict(sorted(Counter(image.split for image in images if image.split is not None).items())),
        sizes_px=[(*size, count) for size, count in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))],
        num_gray=sum(item.is_gray for item in labels.items),
        lengths_px=_bins([_length_px(defect) for defect, _ in placed], EDGES_PX),
        lengths_mm=_bins(mm, EDGES_MM) if mm else [],
        exact_pairs=sum(pair.is_exact for pair in pairs),
        near_pairs=sum(not pair.is_exact for pair in pairs),
        duplicate_examples=[(ids[p.first], ids[p.second], round(p.correlation, 3)) for p in shown[:_NUM_EXAMPLES]],
        dropped=list(labels.dropped),
        unlabelled=list(labels.unlabelled),
        warnings=[*labels.warnings, *_clipped(labels), *warnings],
        num_templates=sum(image.template_path is not None for image in images),
    )


def _is_one_group(first: AnnotatedImage, second: AnnotatedImage) -> bool:
    """Whether the labels themselves say that two images belong together, as a board and its template do."""
    return first.group_id is not None and first.group_id == second.group_id


def _clipped(labels: LabelSet) -> list[str]:
    clipped = [item for item in labels.items if item.num_clipped]
    if not clipped:
        return []
    corners = sum(item.num_clipped for item in clipped)
    return [f"{corners} corners in {len(clipped)} images reached over the border by a rounding and were moved onto it"]


def _count(kind: str, images: Sequence[AnnotatedImage]) -> KindCounts:
    shown = [image for image in images if kind in image.kinds]
    placed = [(defect, image) for image in shown for defect in image.defects if defect.kind == kind]
    mm = [length for defect, image in placed if (length := _length_mm(defect, image)) is not None]
    return KindCounts(
        kind=kind,
        images=len(shown),
        defects=len(placed),
        with_outline=sum(defect.has_outline for defect, _ in placed),
        unplaced=sum(kind in image.unplaced for image in shown),
        length_px=_range([_length_px(defect) for defect, _ in placed]),
        length_mm=_range(mm),
    )


def _length_px(defect: AnnotatedDefect) -> float:
    x0, y0, x1, y1 = defect.box
    return max(x1 - x0, y1 - y0)


def _length_mm(defect: AnnotatedDefect, image: AnnotatedImage) -> float | None:
    size = image.pixel_size
    if size is None:
        return None
    x0, y0, x1, y1 = defect.box
    return max((x1 - x0) * size.cross_web_mm, (y1 - y0) * size.down_web_mm)


def _range(values: Sequence[float]) -> tuple[float, float, float] | None:
    return (min(values), float(np.median(values)), max(values)) if values else None


def _bins(values: Sequence[float], edges: Sequence[float]) -> list[Bin]:
    places = np.searchsorted(edges, values, side="right")
    counts = np.bincount(places, minlength=len(edges) + 1)
    ends: list[float | None] = [0.0, *edges, None]
    return [
        Bin(low=low or 0.0, high=high, defects=int(n)) for (low, high), n in zip(pairwise(ends), counts, strict=True)
    ]
