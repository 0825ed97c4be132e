"""The reports of one run: report.json for programs, report.html and pictures for people, predictions.csv for both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zellige.core.memory import peak_memory_mb
from zellige.data.report import DataReport
from zellige.evaluation.html import rate_words, write_html
from zellige.evaluation.html_parts import percent, right_words
from zellige.evaluation.named_pictures import write_named_pictures
from zellige.evaluation.named_report import NamedReport
from zellige.evaluation.pictures import write_pictures
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.predictions_csv import write_predictions_csv
from zellige.evaluation.report import EvaluationReport
from zellige.run_folder import write_json

COSTS = ("fit_seconds", "predict_ms_per_image", "peak_memory_mb")
METRICS = (
    "image_auroc",
    "average_precision",
    "f1_max",
    "pixel_auroc",
    "pixel_ap",
    "aupro",
    *COSTS,
)


def build_report(
    identity: Mapping[str, Any],
    evaluation: EvaluationReport,
    data: DataReport,
    costs: Mapping[str, float],
    named: NamedReport | None = None,
) -> dict[str, Any]:
    """Join everything that is known of a run into strict JSON values.

    Args:
        identity: what identifies the run; its "name" is the run's name.
        costs: fit_seconds, predict_ms_per_image and the like; the peak memory so far is added.
        named: where the detector names kinds.
    """
    return {
        "run": dict(identity),
        **evaluation.to_json(),
        **({} if named is None else {"kinds": named.to_json()}),
        **costs,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "data": data.to_json(),
    }


def write_report(
    run_dir: Path,
    report: dict[str, Any],
    evaluation: EvaluationReport,
    test: PredictionSet,
    named: NamedReport | None = None,
) -> None:
    """Write report.json, data_report.json, predictions.csv, pictures/ and report.html into a run folder."""
    pictures = run_dir / "pictures"
    pictures.mkdir(exist_ok=True)
    write_pictures(test, evaluation, pictures)
    if named is not None:
        write_named_pictures(test.samples, named, pictures)
    write_predictions_csv(evaluation, run_dir / "predictions.csv", None if named is None else named.images)
    write_json(run_dir / "data_report.json", report["data"])
    write_json(run_dir / "report.json", report)
    write_html(report, pictures, run_dir / "report.html")


def report_for_bundle(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that travels in the bundle: without the costs, which differ from one run to the next.

    So the same images, settings and seed give the same bundle, to the byte.
    """
    identity = {key: value for key, value in report["run"].items() if key not in ("bundle", "parity")}
    return {key: value for key, value in report.items() if key not in COSTS} | {"run": identity}


def metrics_of(report: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a report that runs are compared by; rates come with their bounds."""
    metrics = {name: report.get(name) for name in METRICS}
    for name in ("escape_rate", "false_reject_rate"):
        metrics |= {
            name: report[name]["value"],
            f"{name}_low": report[name]["low"],
            f"{name}_high": report[name]["high"],
        }
    return metrics | _kind_metrics_of(report.get("kinds"))


def _kind_metrics_of(kinds: Mapping[str, Any] | None) -> dict[str, float | None]:
    """The numbers of kinds that runs are compared by; none where the detector names none."""
    if kinds is None:
        return {}
    boxes, masks = kinds["boxes"], kinds["masks"]
    return {
        "accuracy": kinds["whole"]["accuracy"]["value"],
        "macro_f1": kinds["whole"]["macro_f1"]["value"],
        "good_or_defective": kinds["good_or_defective"]["accuracy"]["value"],
        **{name: boxes[name]["value"] for name in ("map_33", "map_50", "map")},
        "f_best": boxes["f_best"]["f"]["value"],
        "mean_iou": None if masks is None else masks["mean_iou"]["value"],
    }


def summary(report: Mapping[str, Any]) -> list[str]:
    """A run's result in a few lines for a terminal."""

    def number(name: str) -> str:
        value = report.get(name)
        return "not defined" if value is None else f"{value:.3f}"

    data = report["data"]
    warnings = [*data["warnings"], data["shortcut"]["warning"]]
    if data["skipped"]:
        warnings.append(f"{len(data['skipped'])} files were left out, listed in data_report.json")
    if report.get("ignored_defects"):
        many = len(report["ignored_defects"])
        warnings.append(f"{many} defective test images show defects in ignored regions only and are in no number")
    return [
        *(f"warning: {text}" for text in warnings if text),
        rate_words("defective", "accepted", report["escape_rate"]),
        rate_words("good", "rejected", report["false_reject_rate"]),
        f"image AUROC {number('image_auroc')}, pixel AUROC {number('pixel_auroc')}, AUPRO {number('aupro')}",
        *_kind_lines(report.get("kinds")),
        f"threshold: {report['calibration']['guarantee']}",
        f"fit {report['fit_seconds']:.1f} s, {report['predict_ms_per_image']:.1f} ms per image",
        f"peak memory {report['peak_memory_mb']:.0f} MB, sizes in {report['units']}",
    ]


def _kind_lines(kinds: Mapping[str, Any] | None) -> list[str]:
    """How well kinds are named, and good told from defective, of a detector that names."""
    if kinds is None:
        return []
    rates = {
        "kinds named right": kinds["whole"]["accuracy"],
        "good or defective": kinds["good_or_defective"]["accuracy"],
    }
    return [f"{what}: {percent(rate['value'])}, {right_words(rate)}" for what, rate in rates.items() if rate["n"]]
