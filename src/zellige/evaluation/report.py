"""Judge a calibrated detector on TEST predictions: rates with exact intervals and n, by kind and by size."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from zellige.core.decision import decide
from zellige.core.errors import InputError
from zellige.core.types import GOOD, Calibration, Decision, Rate, Sample
from zellige.evaluation import metrics
from zellige.evaluation.intervals import auroc_interval, rate
from zellige.evaluation.kind_metrics import rate_json
from zellige.evaluation.pixels import PixelHistogram, PixelMetrics, is_defect_ignored, read_defect_mask
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.size_classes import SizeClasses

Json = dict[str, object]

IGNORED_CLASS = "ignored"
"""The size class of a defective sample whose drawn defect lies in declared ignore regions alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResult:
    """What became of one test sample."""

    id: str
    kind: str
    group_id: str
    score: float
    decision: Decision
    reason: str
    size_class: str
    """ "good" for a good sample."""

    @property
    def is_ignored(self) -> bool:
        """Whether it is in no number, because its defect lies in declared ignore regions alone."""
        return self.size_class == IGNORED_CLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRates:
    """The decisions on one kind of sample, or on one size class of defects."""

    name: str
    num_accept: int
    num_reject: int
    num_undecided: int
    error_rate: Rate
    """Escapes among defective samples; false rejects among good ones."""
    undecided_rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What TEST shows. Undefined numbers are NaN (null in JSON), with the reason in `undefined`.

    UNDECIDED is neither an escape nor a false reject and is counted apart; every rate is over all pieces of its
    class. Pieces whose drawn defect lies in declared ignore regions alone are among the `samples` and in no number.
    Intervals are exact for independent pieces; where `num_groups` is smaller than the number of pieces they
    are narrower than the truth.
    """

    num_good: int
    num_defective: int
    num_groups: int
    is_calibrated: bool
    """Whether every sample has a pixel size; if not, the report is "uncalibrated" and sizes are in px."""
    image_auroc: float
    image_auroc_interval: tuple[float, float]
    """95 %; over groups instead of images where a group has several."""
    average_precision: float
    f1_max: float
    """Best F1 with a threshold picked on TEST: an upper limit, not what the calibration reaches."""
    pixel: PixelMetrics
    escape_rate: Rate
    false_reject_rate: Rate
    undecided_defective_rate: Rate
    undecided_good_rate: Rate
    by_kind: tuple[ClassRates, ...]
    by_size: tuple[ClassRates, ...]
    undefined: Mapping[str, str]
    calibration: Calibration
    fingerprint: str
    """Of the TEST predictions."""
    samples: tuple[SampleResult, ...]

    @property
    def judged(self) -> tuple[SampleResult, ...]:
        """The samples that the numbers are about."""
        return tuple(row for row in self.samples if not row.is_ignored)

    def to_json(self) -> Json:
        """Give the report as strict JSON values: no NaN, no infinity; samples are left to `predictions_csv`."""
        return {
            "num_images": self.num_good + self.num_defective,
            "num_good": self.num_good,
            "num_defective": self.num_defective,
            "ignored_defects": [row.id for row in self.samples if row.is_ignored],
            "num_groups": self.num_groups,
            "calibrated": self.is_calibrated,
            "units": "mm" if self.is_calibrated else "px (uncalibrated)",
            "image_auroc": _number(self.image_auroc),
            "image_auroc_interval": list(self.image_auroc_interval),
            "average_precision": _number(self.average_precision),
            "f1_max": _number(self.f1_max),
            "pixel_auroc": _number(self.pixel.auroc),
            "pixel_ap": _number(self.pixel.average_precision),
            "aupro": _number(self.pixel.aupro),
            "num_masks": self.pixel.num_masks,
            "num_defective_without_mask": self.pixel.num_left_out,
            "escape_rate": rate_json(self.escape_rate),
            "false_reject_rate": rate_json(self.false_reject_rate),
            "undecided_defective_rate": rate_json(self.undecided_defective_rate),
            "undecided_good_rate": rate_json(self.undecided_good_rate),
            "by_kind": [class_rates_json(row) for row in self.by_kind],
            "by_size": [class_rates_json(row) for row in self.by_size],
            "undefined": dict(self.undefined),
            "calibration": asdict(self.calibration),
            "test_fingerprint": self.fingerprint,
        }


def evaluate(
    predictions: PredictionSet,
    calibration: Calibration,
    *,
    size_edges_mm: Sequence[float] = (0.5, 2.0, 5.0),
    size_edges_px: Sequence[float] = (10.0, 30.0, 100.0),
) -> EvaluationReport:
    """Decide on every TEST prediction with the rule of the station, and count.

    Args:
        predictions: of split "test".
        calibration: fitted on VAL; the decision is `core.decision.decide` and nothing else.
        size_edges_mm: ascending borders of the size classes: length of the largest region of the mask, mm.
        size_edges_px: the same for samples without a pixel size, px.

    Raises:
        InputError: not TEST, a mask of another size.
        ConfigError: a rule in mm2 on uncalibrated samples, borders that do not ascend.

    Example:
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> from zellige.evaluation.predictions import PredictionWriter
        >>> samples = [Sample(id=k, image_path=Path(k), kind=k, group_id=k) for k in ("good", "hole")]
        >>> limits = {"pixel_threshold": 0.5, "reject_score": 0.5, "accept_score": 0.5}
        >>> calibration = Calibration(**limits, fitted_on="", target="", guarantee="")
        >>> with tempfile.TemporaryDirectory() as folder, PredictionWriter(Path(folder) / "t", "test", samples) as w:
        ...     w.write("good", 0.1, np.full((4, 4), 0.1, np.float32))
        ...     w.write("hole", 0.9, np.full((4, 4), 0.9, np.float32))
        ...     report = evaluate(w.close(), calibration)
        >>> report.escape_rate.value, report.escape_rate.high, report.pixel.num_left_out
        (0.0, 0.975, 1)
    """
    if predictions.split != "test":
        raise InputError(f"evaluate {predictions.folder}: expected predictions of split test, got {predictions.split}")
    classes = SizeClasses(edges_mm=tuple(size_edges_mm), edges_px=tuple(size_edges_px))
    histogram = PixelHistogram()
    results = []
    for prediction in predictions:
        sample = prediction.sample
        decision, _, reason = decide(
            prediction.score, prediction.anomaly_map, calibration, pixel_size=sample.pixel_size, named=prediction.named
        )
        size_class = IGNORED_CLASS
        if not is_defect_ignored(prediction):
            mask = read_defect_mask(prediction)
            histogram.add_prediction(prediction, mask)
            size_class = classes.name_of(sample, mask)
        results.append(_result(sample, prediction.score, decision, reason, size_class))
    return _report(predictions, calibration, tuple(results), histogram.compute_metrics(), classes.names)


def _result(sample: Sample, score: float, decision: Decision, reason: str, size_class: str) -> SampleResult:
    return SampleResult(
        id=sample.id,
        kind=sample.kind,
        group_id=sample.group_id,
        score=score,
        decision=decision,
        reason=reason,
        size_class=size_class,
    )


def _report(
    predictions: PredictionSet,
    calibration: Calibration,
    results: tuple[SampleResult, ...],
    pixel: PixelMetrics,
    size_order: Sequence[str],
) -> EvaluationReport:
    is_judged = np.array([not row.is_ignored for row in results])
    is_defective, scores = predictions.is_defective[is_judged], predictions.scores[is_judged]
    good = [row for row in results if row.kind == GOOD]
    defective = [row for row in results if row.kind != GOOD and not row.is_ignored]
    auroc = metrics.image_auroc(scores, is_defective)
    groups = [len({row.group_id for row in rows}) for rows in (good, defective)]
    all_good = class_rates("good", good, Decision.REJECT)
    all_defective = class_rates("defective", defective, Decision.ACCEPT)
    return EvaluationReport(
        num_good=len(good),
        num_defective=len(defective),
        num_groups=len({row.group_id for row in (*good, *defective)}),
        is_calibrated=all(sample.pixel_size is not None for sample in predictions.samples),
        image_auroc=auroc,
        image_auroc_interval=auroc_interval(auroc, groups[0], groups[1]),
        average_precision=metrics.image_average_precision(scores, is_defective),
        f1_max=metrics.image_f1_max(scores, is_defective),
        pixel=pixel,
        escape_rate=all_defective.error_rate,
        false_reject_rate=all_good.error_rate,
        undecided_defective_rate=all_defective.undecided_rate,
        undecided_good_rate=all_good.undecided_rate,
        by_kind=rates_by_kind(good, defective),
        by_size=_by_size(defective, size_order),
        undefined=_undefined(len(good), len(defective), pixel),
        calibration=calibration,
        fingerprint=predictions.fingerprint,
        samples=results,
    )


def class_rates(name: str, rows: Sequence[SampleResult], error: Decision) -> ClassRates:
    """Count the decisions on samples of one class; `error` is the wrong one for it.

    Example:
        >>> class_rates("hole", [], Decision.ACCEPT).error_rate.n
        0
    """
    count = {decision: sum(row.decision is decision for row in rows) for decision in Decision}
    return ClassRates(
        name=name,
        num_accept=count[Decision.ACCEPT],
        num_reject=count[Decision.REJECT],
        num_undecided=count[Decision.UNDECIDED],
        error_rate=rate(count[error], len(rows)),
        undecided_rate=rate(count[Decision.UNDECIDED], len(rows)),
    )


def rates_by_kind(good: Sequence[SampleResult], defective: Sequence[SampleResult]) -> tuple[ClassRates, ...]:
    """Count the decisions kind by kind, good first where there are any.

    Example:
        >>> rates_by_kind([], [])
        ()
    """
    kinds = defaultdict(list)
    for row in defective:
        kinds[row.kind].append(row)
    first = [class_rates("good", good, Decision.REJECT)] if good else []
    return (*first, *(class_rates(kind, kinds[kind], Decision.ACCEPT) for kind in sorted(kinds)))


def _by_size(defective: Sequence[SampleResult], order: Sequence[str]) -> tuple[ClassRates, ...]:
    classes = defaultdict(list)
    for row in defective:
        classes[row.size_class].append(row)
    return tuple(class_rates(name, classes[name], Decision.ACCEPT) for name in order if name in classes)


def _undefined(num_good: int, num_defective: int, pixel: PixelMetrics) -> dict[str, str]:
    """Why a number is NaN, by its name in the JSON."""
    reasons: dict[str, str] = {}
    if num_good == 0 or num_defective == 0:
        missing = "good" if num_good == 0 else "defective"
        names = ("image_auroc", "average_precision", "f1_max")
        reasons |= dict.fromkeys(names, f"TEST has no {missing} images")
    if num_defective == 0:
        reasons |= dict.fromkeys(("escape_rate", "undecided_defective_rate"), "TEST has no defective images")
    if num_good == 0:
        reasons |= dict.fromkeys(("false_reject_rate", "undecided_good_rate"), "TEST has no good images")
    why = "TEST has no defect masks" if pixel.num_masks == 0 else "TEST has no pixels without a defect"
    values = {"pixel_auroc": pixel.auroc, "pixel_ap": pixel.average_precision, "aupro": pixel.aupro}
    return reasons | {name: why for name, value in values.items() if math.isnan(value)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def class_rates_json(row: ClassRates) -> Json:
    """Give the counts and rates as strict JSON values.

    Example:
        >>> class_rates_json(class_rates("hole", [], Decision.ACCEPT))["error_rate"]
        {'value': None, 'low': 0.0, 'high': 1.0, 'n': 0}
    """
    return {
        "name": row.name,
        "n": row.error_rate.n,
        "accept": row.num_accept,
        "reject": row.num_reject,
        "undecided": row.num_undecided,
        "error_rate": rate_json(row.error_rate),
        "undecided_rate": rate_json(row.undecided_rate),
    }
