"""From labels in the format of others to a report and, where asked for, the same set in another format."""

import json
from pathlib import Path

from zellige.core.types import PixelSize
from zellige.data.convert_labels import check_target, convert_labels
from zellige.data.label_formats import AUTO, FORMATS, read_labels
from zellige.data.label_listing import Source
from zellige.data.label_page import label_page
from zellige.data.label_report import LabelReport, report_labels
from zellige.data.label_scan import scan_labels


def prepare_labels(
    source: Source,
    out: Path,
    *,
    format_name: str = AUTO,
    to: str | None = None,
    pixel_size: PixelSize | None = None,
    on_bad: str = "error",
    unlabelled: str = "leave_out",
    fill_boxes: bool = False,
) -> LabelReport:
    """Read labels, convert them where `to` names a format, and write labels_report.json and .html into `out`.

    Args:
        source: where the labels lie.
        out: folder to write to; new or empty where something is converted.
        format_name: one of `zellige.data.label_formats.FORMATS`, or auto.
        to: the format to write, or None for the report alone.
        pixel_size, on_bad, unlabelled: see `zellige.data.label_scan.scan_labels`.
        fill_boxes: see `zellige.data.convert_labels.convert_labels`.

    Raises:
        InputError: the labels cannot be used, or `out` is not empty and something is converted.
        ConfigError: a setting is not usable.
    """
    if to is not None:
        check_target(to, out)
    name, listing = read_labels(format_name, source)
    labels = scan_labels(listing, on_bad=on_bad, unlabelled=unlabelled, pixel_size=pixel_size)
    if to is not None and on_bad == "drop" and not FORMATS[to].holds_unplaced:
        labels = labels.without_unplaced()
    warnings = [] if to is None else convert_labels(labels, to, out, fill_boxes=fill_boxes)
    report = report_labels(labels, str(source.root), name, warnings)
    page = label_page(report, labels.images)
    out.mkdir(parents=True, exist_ok=True)
    content = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    (out / "labels_report.json").write_text(content, encoding="utf-8")
    (out / "labels_report.html").write_text(page, encoding="utf-8")
    return report
