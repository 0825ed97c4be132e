"""The settings of scripts/prepare_data.py for labels in the formats of others."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LabelsConfig:
    """Labels to report on and to convert; see zellige.data.label_formats, label_scan and convert_labels."""

    root: str | None = None
    format: str = "auto"
    to: str | None = None
    kinds: list[str] = field(default_factory=list)
    pixel_size_mm: Any = None
    on_bad: str = "error"
    unlabelled: str = "leave_out"
    voc_boxes: str = "devkit"
    fill_boxes: bool = False
    templates: str = "pair"
