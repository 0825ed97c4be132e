"""The settings of labels in the formats of others: scripts/prepare_data.py and scripts/roll_of_pictures.py."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from zellige.data.label_listing import Source


@dataclass
class LabelSourceConfig:
    """Labels to read; see zellige.data.label_formats and label_scan."""

    root: str | None = None
    format: str = "auto"
    kinds: list[str] = field(default_factory=list)
    pixel_size_mm: Any = None
    on_bad: str = "error"
    unlabelled: str = "leave_out"
    voc_boxes: str = "devkit"
    templates: str = "pair"


@dataclass
class LabelsConfig(LabelSourceConfig):
    """Labels to report on and to convert; see zellige.data.convert_labels."""

    to: str | None = None
    fill_boxes: bool = False


@dataclass
class PicturesConfig:
    """Labelled pictures that become rolls; see zellige.data.roll_of_pictures."""

    out: str = MISSING
    labels: LabelSourceConfig = field(default_factory=LabelSourceConfig)
    rolls: int = 6
    good_rolls: int = 4
    pictures_per_roll: int = 60
    frame_lines: int = 512
    color: str = "gray"
    seed: int = 0


def to_source(config: LabelSourceConfig) -> Source:
    """Say where the labels lie and what they do not say themselves."""
    return Source(
        root=Path(str(config.root)),
        kinds=tuple(config.kinds),
        voc_boxes=config.voc_boxes,
        templates=config.templates,
    )
