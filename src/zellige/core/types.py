"""The nouns that every layer shares, each validated once when it is built.

Array order is (H, W) or (H, W, 3 RGB); x is cross-web (along the sensor line), y is down-web (along motion).
Scores and anomaly maps: higher is more anomalous, always.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.ignore import Foreground, IgnoredMask, IgnoredShape
from zellige.core.kind_rules import KindRule
from zellige.core.named import FoundBoxes, KindMap, Named

Pixels = NDArray[np.uint8]
AnomalyMap = NDArray[np.float32]

GOOD = "good"
"""The kind of a sample without a defect; every other kind names a defect."""
MIXED = "mixed"
"""The kind of an image that shows defects of several kinds."""
ANOMALY = "anomaly"
"""The kind of a defect that was found by a detector which names none."""


class Color(StrEnum):
    """How pixels enter the model. The choice is made once for a data set and travels in the bundle."""

    GRAY = "gray"
    """One channel; a file with three unequal channels is refused."""
    RGB = "rgb"
    """Three channels; a gray file is refused."""
    LUMA = "luma"
    """One channel; color files are turned into luminance (ITU-R BT.601) on purpose."""

    @property
    def num_channels(self) -> int:
        return 3 if self is Color.RGB else 1


class GeometryMode(StrEnum):
    """How a frame is brought to the size of the net's input."""

    RESIZE = "resize"
    """The whole frame is resized to the net's input; its aspect ratio is not kept."""
    TILES = "tiles"
    """The frame is cut into overlapping tiles at its real scale."""


class Registration(StrEnum):
    """How a template is brought to its place on the image that it is compared with."""

    NONE = "none"
    """It lies there already."""
    TRANSLATION = "translation"
    """It is moved by a fraction of a pixel; an image that it does not fit is not judged. See `core.registration`."""


class Decision(StrEnum):
    """What becomes of a frame or a piece. An error, a late frame, an unknown is UNDECIDED, never ACCEPT."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSize:
    """Size of one pixel on the object, in mm, across and along the web."""

    cross_web_mm: float
    down_web_mm: float

    def __post_init__(self) -> None:
        for name in ("cross_web_mm", "down_web_mm"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 < value < 1000):
                raise ConfigError(f"pixel size {name}: expected a number in (0, 1000) mm, got {value!r}")

    @property
    def area_mm2(self) -> float:
        """Area of one pixel in mm2."""
        return self.cross_web_mm * self.down_web_mm


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What part of a frame the net sees, at which scale: the same in training, evaluation and on the station."""

    mode: GeometryMode
    height: int
    """Height of the net's input, px."""
    width: int
    """Width of the net's input, px."""
    overlap_px: int = 0
    """Overlap of neighboring tiles, px (tiles only)."""
    pad_small: bool = False
    """Whether a frame smaller than a tile is mirrored at its far edges up to a tile; refused when false."""
    ignore: tuple[IgnoredShape, ...] = ()
    """Regions that must never cause a reject."""
    ignore_mask: IgnoredMask | None = None
    """The same as a drawn mask, for frames of its size."""
    foreground: Foreground = Foreground.NONE
    registration: Registration = Registration.NONE
    """Of a frame's template; nothing where it has none."""
    search_px: int = 8
    """How far from its place a template is looked for, px."""

    def __post_init__(self) -> None:
        if not 1 <= self.search_px <= 512:
            raise ConfigError(f"geometry search_px: expected 1 to 512, got {self.search_px}")
        for name in ("height", "width"):
            value = getattr(self, name)
            if not 32 <= value <= 4096:
                raise ConfigError(f"geometry {name}: expected 32 to 4096 px, got {value}")
        limit = min(self.height, self.width) // 2
        if not 0 <= self.overlap_px <= limit:
            raise ConfigError(f"geometry overlap_px: expected 0 to {limit} (half a tile), got {self.overlap_px}")
        if self.mode is GeometryMode.RESIZE and (self.overlap_px or self.pad_small):
            raise ConfigError("geometry resize: overlap_px and pad_small belong to tiles, expected 0 and false")

    @property
    def has_roi(self) -> bool:
        """Whether a part of each frame is not inspected; see `core.roi`."""
        return bool(self.ignore) or self.ignore_mask is not None or self.foreground is not Foreground.NONE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """A block of lines from the camera, or one image.

    `pixels` is uint8, (H, W) gray or (H, W, 3) RGB. `pixel_size` is None where nobody measured it: then every
    size is in px and the results are called uncalibrated. `first_line` is the absolute line number on the web.
    `template`, where there is one, shows the same without any defect; it has the shape and dtype of the pixels.
    """

    pixels: Pixels
    pixel_size: PixelSize | None
    source_id: str
    first_line: int = 0
    template: Pixels | None = None

    def __post_init__(self) -> None:
        shape, where = self.pixels.shape, f"frame {self.source_id}"
        if self.pixels.dtype != np.uint8:
            raise InputError(f"{where}: expected 8-bit pixels, got {self.pixels.dtype}")
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3) or 0 in shape:
            raise InputError(f"{where}: expected shape (H, W) or (H, W, 3), got {shape}")
        template = self.template
        if template is not None and (template.shape != shape or template.dtype != np.uint8):
            raise InputError(f"{where}: expected a template of {shape} 8-bit, got {template.shape} {template.dtype}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in px."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """A kind of defect and a box: x0, y0, x1, y1 in px of the stored image; pixel i reaches from i to i + 1."""

    kind: str
    box_px: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box_px
        if not self.kind or self.kind == GOOD:
            raise InputError(f"box {self.box_px}: expected the kind of a defect, got {self.kind!r}")
        if not (0 <= x0 < x1 < math.inf and 0 <= y0 < y1 < math.inf):
            raise InputError(f"box {self.box_px}: expected 0 <= x0 < x1 and 0 <= y0 < y1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One labelled image of a data set. `id` is unique within the set; `group_id` never straddles two splits."""

    id: str
    image_path: Path
    kind: str
    group_id: str
    mask_path: Path | None = None
    pixel_size: PixelSize | None = None
    boxes: tuple[LabelledBox, ...] = ()
    """The defects by kind and place, where somebody drew them."""
    template_path: Path | None = None
    """An image of the same without any defect, to compare with; it is no sample itself."""

    def __post_init__(self) -> None:
        if not self.id or not self.kind or not self.group_id:
            raise InputError(f"sample {self.image_path}: id, kind and group_id must not be empty")
        if self.mask_path is not None and not self.is_defective:
            raise InputError(f"sample {self.id}: a good image has a mask ({self.mask_path}): labels contradict")
        if self.boxes and not self.is_defective:
            raise InputError(
                f"sample {self.id}: a good image has {len(self.boxes)} boxes of defects: labels contradict"
            )

    @property
    def is_defective(self) -> bool:
        return self.kind != GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Three disjoint sets of samples; `fingerprint` hashes the bytes, labels and split of every sample.

    `train` holds good samples only. The labelled defective samples of the training split are in `train_defects`, for
    detectors that can learn from them; most detectors never see them.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    color: Color
    fingerprint: str
    train_defects: tuple[Sample, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        groups: dict[str, str] = {}
        for name, samples in self.labelled().items():
            for sample in samples:
                if sample.id in seen:
                    raise InputError(f"sample {sample.id} is in {seen[sample.id]} and in {name}: expected once")
                seen[sample.id] = name
                if groups.setdefault(sample.group_id, name) != name:
                    raise InputError(
                        f"group {sample.group_id} is in {groups[sample.group_id]} and in {name}: expected one split"
                    )
        bad = [s.id for s in self.train if s.is_defective]
        if bad:
            raise InputError(f"train split: expected good samples only, got {len(bad)} defective, first {bad[0]}")
        good = [s.id for s in self.train_defects if not s.is_defective]
        if good:
            raise InputError(f"train_defects: expected defective samples only, got {len(good)} good, first {good[0]}")

    def labelled(self) -> dict[str, tuple[Sample, ...]]:
        """Return all samples of train (good and defective), val and test."""
        return {"train": self.train + self.train_defects, "val": self.val, "test": self.test}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The operating point: chosen on VAL predictions, used by evaluation and by the station alike.

    A frame is REJECT when score > reject_score, UNDECIDED when accept_score < score <= reject_score,
    ACCEPT otherwise. Where a minimum area is set, a REJECT also needs one defect of at least that area.
    `min_area_px` counts pixels; `min_area_mm2` needs a calibrated pixel size; at most one of them is set.
    """

    pixel_threshold: float
    """Anomaly-map level above which a pixel belongs to a defect."""
    reject_score: float
    accept_score: float
    """Equal to reject_score where there is no undecided band."""
    min_area_mm2: float | None = None
    min_area_px: float | None = None
    fitted_on: str
    """Fingerprint of the VAL predictions."""
    target: str
    """What was asked, in words: "false_reject_rate <= 0.05 with probability 0.95"."""
    guarantee: str
    """What the held-out data supports, in words, with n; begins with "NOT SHOWN" where n is too small."""
    kind_rules: tuple[KindRule, ...] = ()
    """What each kind means for the decision, where the detector names kinds; see `core.kind_rules`."""

    def __post_init__(self) -> None:
        for name in ("pixel_threshold", "reject_score", "accept_score"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"calibration {name}: expected a finite number, got {getattr(self, name)}")
        if self.accept_score > self.reject_score:
            raise InputError(
                f"calibration: expected accept_score <= reject_score, got {self.accept_score} > {self.reject_score}"
            )
        if self.min_area_mm2 is not None and self.min_area_px is not None:
            raise ConfigError("calibration: min_area_mm2 and min_area_px are both set, expected one")
        for name in ("min_area_mm2", "min_area_px"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"calibration {name}: expected a number >= 0, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One physical fault: a connected region of the anomaly map. The mm fields are None where uncalibrated."""

    box_px: tuple[int, int, int, int]
    """x0, y0, x1, y1 in the frame's pixels; x1 and y1 are exclusive."""
    area_px: int
    length_px: float
    """Longer side of the smallest rotated rectangle, px."""
    peak_score: float
    box_mm: tuple[float, float, float, float] | None = None
    """The same box in mm: x from the frame's left edge, y from the start of the web (first_line)."""
    area_mm2: float | None = None
    length_mm: float | None = None
    kind: str = ANOMALY


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision on one frame, with its reason."""

    decision: Decision
    defects: tuple[Defect, ...]
    score: float
    """NaN where no score could be computed (then the decision is UNDECIDED)."""
    reason: str
    source_id: str
    bundle_id: str
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A proportion with its exact confidence interval; `value` is NaN and the interval (0, 1) where n is 0."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What a detector says of one sample: its score and its anomaly map (H, W) at the size of the image."""

    sample: Sample
    score: float
    anomaly_map: AnomalyMap
    named: Named | None = None
    """What a detector that names says beside; None for others."""

    def __post_init__(self) -> None:
        where, named = f"prediction {self.sample.id}", self.named
        if not math.isfinite(self.score) or not np.isfinite(self.anomaly_map).all():
            raise InputError(f"{where}: expected finite score and map")
        if isinstance(named, KindMap) and named.numbers.shape != self.anomaly_map.shape:
            raise InputError(f"{where}: expected a kind map of the map's size, got {named.numbers.shape}")
        if isinstance(named, FoundBoxes) and not named.is_finite:
            raise InputError(f"{where}: expected finite boxes")
