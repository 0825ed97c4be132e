"""Read a data set, split it, look for duplicates and shortcuts; or report on labels and convert them; write to OUT."""

import json
from pathlib import Path
from typing import cast

import cv2
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zellige.config import PrepareConfig, to_geometry
from zellige.config_data import load_data, to_pixel_size
from zellige.config_labels import LabelsConfig, to_source
from zellige.core.errors import ConfigError
from zellige.core.image_files import read_frame
from zellige.core.roi import Roi, find_roi
from zellige.core.types import Sample
from zellige.data.contact_sheet import contact_sheet
from zellige.data.prepare_labels import prepare_labels
from zellige.data.report import DataReport
from zellige.program import run


def main(config: DictConfig) -> None:
    if config.labels.root is not None:
        report_on_labels(config)
        return
    settings = cast(PrepareConfig, OmegaConf.to_object(config))
    geometry = to_geometry(settings.geometry)
    splits, report = load_data(settings.data)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "data_report.json").write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")

    def roi_of(sample: Sample) -> Roi | None:
        frame = read_frame(sample.image_path, color=splits.color, pixel_size=sample.pixel_size)
        return find_roi(frame, geometry)

    samples = [sample for samples in splits.labelled().values() for sample in samples]
    sheet = contact_sheet(samples, find_roi=roi_of if geometry.has_roi else lambda sample: None)
    (out / "contact_sheet.png").write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    show(report)
    Console().print(f"written: {out / 'data_report.json'}, {out / 'contact_sheet.png'}", soft_wrap=True)


def report_on_labels(config: DictConfig) -> None:
    try:
        out = Path(config.out)
    except InterpolationToMissingValueError:
        raise ConfigError(
            "out: expected a folder for the report and the converted set, got none; set out=DIR"
        ) from None
    settings = cast(LabelsConfig, OmegaConf.to_object(config.labels))
    report = prepare_labels(
        to_source(settings),
        out,
        format_name=settings.format,
        to=settings.to,
        pixel_size=to_pixel_size(settings.pixel_size_mm, "labels.pixel_size_mm"),
        on_bad=settings.on_bad,
        unlabelled=settings.unlabelled,
        fill_boxes=settings.fill_boxes,
    )
    for line in [*report.to_lines(), f"written: {out}"]:
        Console().print(escape(line), soft_wrap=True, highlight=False)


def show(report: DataReport) -> None:
    console = Console()
    table = Table("split", "good", "defective", "groups", "with mask", "kinds", title=escape(report.root))
    for name, c in report.splits.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in c.kinds.items())
        table.add_row(name, str(c.good), str(c.defective), str(c.groups), str(c.with_mask), escape(kinds))
    pixel_size = "pixel size known" if report.is_calibrated else "uncalibrated: sizes in px"
    level = "" if report.target_dn is None else f", flat field with target {report.target_dn:g} DN"
    console.print(table, f"color {report.color}, {pixel_size}{level}", sep="\n")
    found, shortcut = report.duplicates, report.shortcut
    console.print(f"duplicates: {found.exact_pairs} exact, {found.near_pairs} near pairs; setting {found.setting}")
    console.print(f"skipped {len(report.skipped)}, no images {report.ignored}, empty masks {len(report.empty_masks)}")
    for item in report.skipped[:10]:
        console.print(f"  {escape(item.path)}: {escape(item.reason)}", soft_wrap=True)
    for warning in [*report.warnings, shortcut.warning or f"shortcut check: no warning ({shortcut.note})"]:
        console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)


if __name__ == "__main__":
    run(main, "prepare_data")
