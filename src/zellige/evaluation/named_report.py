"""What TEST says of a detector that names defects: whole images by kind, defects by kind and place, pixels by kind."""

import math
from dataclasses import dataclass

import numpy as np

from zellige.core.decision import decide
from zellige.core.errors import InputError
from zellige.core.named import KindMap, Named
from zellige.core.types import GOOD, MIXED, Calibration, Prediction, Rate, Sample
from zellige.evaluation.bootstrap import GroupBootstrap
from zellige.evaluation.box_metrics import BoxMetrics, best_threshold, measure_boxes
from zellige.evaluation.found import (
    FoundDefect,
    TrueDefect,
    found_defects,
    named_kind,
    rows_of,
    true_defects,
    true_kind,
)
from zellige.evaluation.good_or_defective import GoodOrDefective, judge_good_or_defective
from zellige.evaluation.intervals import rate
from zellige.evaluation.kind_metrics import Confusion, KindMetrics, count_pairs, measure_kinds, rate_json
from zellige.evaluation.mask_metrics import MaskCounter, MaskMetrics
from zellige.evaluation.matching import FoundRows
from zellige.evaluation.metrics import image_average_precision
from zellige.evaluation.named_images import NamedImage
from zellige.evaluation.pixels import is_defect_ignored, read_defect_mask
from zellige.evaluation.predictions import PredictionSet

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedReport:
    """What TEST shows of the kinds. Undefined numbers are NaN (null in JSON), with the reason in `undefined`."""

    kinds: tuple[str, ...]
    """The detector's."""
    whole: KindMetrics
    """Of images that are good or have defects of one kind: the kind, against what is said at the operating point."""
    named_right: Rate
    """Of defective images of one kind, those whose kind the detector names, whatever it decides."""
    num_mixed: int
    """Images with defects of several kinds: in neither of the two."""
    good_or_defective: GoodOrDefective
    """Of all images, those of several kinds included."""
    ap_det: float
    """Average precision of the score for defective against good images."""
    boxes: BoxMetrics
    defects: Confusion
    """Of defects at the operating point, matched where the IoU is above 0.33, whatever the kind."""
    num_unplaced: int
    """Defective images of which nobody said where the defects are: in no number of boxes."""
    masks: MaskMetrics | None
    """None for a detector that draws boxes."""
    images: tuple[NamedImage, ...]
    """For pictures."""

    @property
    def undefined(self) -> dict[str, str]:
        """Why a number is NaN, by its name in the JSON."""
        reasons: dict[str, str] = {}
        if self.whole.accuracy.n == 0:
            reasons |= dict.fromkeys(("accuracy", "macro_f1", "named_right"), "TEST has no image of a single kind")
        if self.good_or_defective.accuracy.n == 0:
            reasons["good_or_defective"] = "VAL has no good or no defective images"
        if math.isnan(self.ap_det):
            reasons["ap_det"] = "TEST has no good or no defective images"
        if self.boxes.num_true == 0:
            names = ("map_33", "map_50", "map", "f_best", "f_limit")
            reasons |= dict.fromkeys(names, "nobody said where the defects of TEST are")
        elif math.isnan(self.boxes.f_best.threshold):
            reasons["f_best"] = "VAL gives no threshold: nothing is marked or nothing is found there"
        if self.masks is not None and math.isnan(self.masks.mean_iou.value):
            reasons["mean_iou"] = "TEST has no masks of which the kinds are known"
        return reasons

    def to_json(self) -> Json:
        """Give the report as strict JSON values: no NaN, no infinity."""
        return {
            "names": list(self.kinds),
            "whole": self.whole.to_json(),
            "named_right": rate_json(self.named_right),
            "num_mixed": self.num_mixed,
            "good_or_defective": self.good_or_defective.to_json(),
            "ap_det": None if math.isnan(self.ap_det) else self.ap_det,
            "boxes": self.boxes.to_json(),
            "defects": self.defects.to_json(),
            "num_unplaced": self.num_unplaced,
            "masks": None if self.masks is None else self.masks.to_json(),
            "undefined": self.undefined,
        }


def named_report(
    val: PredictionSet, test: PredictionSet, calibration: Calibration, *, times: int = 1000, seed: int = 0
) -> NamedReport | None:
    """Judge how a detector names defects; the predictions of each split are read once, one at a time.

    Args:
        val: gives the thresholds of the F-score and of `GoodOrDefective`, and nothing else.
        test: what is judged, at the operating point of the calibration.
        times, seed: resamples of the bootstrap intervals, and what draws them.

    Returns:
        None for a detector that names nothing.

    Raises:
        InputError: other splits, predictions without names, a mask that cannot be read.
    """
    if not test.kinds:
        return None
    if (val.split, test.split) != ("val", "test"):
        raise InputError(f"kinds {test.folder}: expected val and test predictions, got {val.split} and {test.split}")
    held_out = _Split(val, calibration)
    threshold = best_threshold(held_out.rows)
    read = _Split(test, calibration)
    single = [image for image in read.images if image.true_kind != MIXED]
    defective = [image for image in single if image.true_kind != GOOD]
    samples = test.samples
    pairs = [(image.true_kind, image.said_kind) for image in single]
    return NamedReport(
        kinds=test.kinds,
        whole=measure_kinds(pairs, GroupBootstrap([samples[i.index].group_id for i in single], times=times, seed=seed)),
        named_right=rate(sum(image.named_kind == image.true_kind for image in defective), len(defective)),
        num_mixed=len(read.images) - len(single),
        good_or_defective=judge_good_or_defective(held_out.scored, read.scored),
        ap_det=image_average_precision(
            np.array([image.score for image in read.images]),
            np.array([image.true_kind != GOOD for image in read.images], np.bool_),
        ),
        boxes=measure_boxes(read.rows, threshold, GroupBootstrap(read.rows.groups, times=times, seed=seed)),
        defects=count_pairs([pair for image in read.images if image.true is not None for pair in image.pairs()]),
        num_unplaced=sum(image.true is None for image in read.images),
        masks=read.masks.measure(times=times, seed=seed) if read.masks.num_images else None,
        images=tuple(read.images),
    )


class _Split:
    """Keeps of a split what the numbers need: some rows of each image, not its map."""

    def __init__(self, predictions: PredictionSet, calibration: Calibration) -> None:
        self._calibration = calibration
        self._placed: list[Sample] = []
        self._found: list[FoundDefect] = []
        self._true: list[TrueDefect] = []
        self.images: list[NamedImage] = []
        self.masks = MaskCounter(pixel_threshold=calibration.pixel_threshold)
        for index, prediction in enumerate(predictions):
            if prediction.named is None:
                raise InputError(f"prediction {prediction.sample.id}: expected the kinds of its defects, got none")
            self._read(index, prediction, prediction.named)

    @property
    def rows(self) -> FoundRows:
        return FoundRows(
            images=tuple(sample.id for sample in self._placed),
            groups=tuple(sample.group_id for sample in self._placed),
            found=tuple(self._found),
            true=tuple(self._true),
        )

    @property
    def scored(self) -> list[tuple[float, bool]]:
        """Score and whether it is defective, of each image."""
        return [(image.score, image.true_kind != GOOD) for image in self.images]

    def _read(self, index: int, prediction: Prediction, named: Named) -> None:
        sample, anomaly_map = prediction.sample, prediction.anomaly_map
        threshold = self._calibration.pixel_threshold
        mask = read_defect_mask(prediction)
        true = true_defects(sample, mask, anomaly_map)
        if is_defect_ignored(prediction) or (sample.is_defective and true == ()):
            return
        decision, listed, _ = decide(
            prediction.score, anomaly_map, self._calibration, pixel_size=sample.pixel_size, named=named
        )
        self.images.append(
            NamedImage(
                index=index,
                score=prediction.score,
                decision=decision,
                true_kind=true_kind(sample),
                named_kind=named_kind(anomaly_map, named, pixel_threshold=threshold),
                true=true,
                listed=tuple(rows_of(sample.id, listed)),
            )
        )
        if true is not None:
            self._placed.append(sample)
            self._found += found_defects(sample.id, anomaly_map, named, pixel_threshold=threshold)
            self._true += true
        if isinstance(named, KindMap):
            self.masks.add(sample, anomaly_map, named, mask)
