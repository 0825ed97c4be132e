"""The folder of a judged roll, written by hand."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

COLUMNS = (
    *("number", "x_mm", "y_mm", "width_mm", "extent_mm", "length_mm", "area_mm2"),
    *("kind", "score", "lanes", "is_continuing", "is_continuation"),
)


def defect(number: int, x_mm: float, y_mm: float, **other: object) -> dict[str, object]:
    known = {"width_mm": 10.0, "extent_mm": 20.0, "length_mm": 22.0, "area_mm2": 150.0, "kind": "slub", "score": 0.5}
    flags = {"lanes": "left", "is_continuing": "false", "is_continuation": "false"}
    return {"number": number, "x_mm": x_mm, "y_mm": y_mm} | known | flags | other


def summary(**other: object) -> dict[str, object]:
    lanes = [
        {"name": "left", "from_mm": 0.0, "to_mm": 500.0},
        {"name": "right", "from_mm": 500.0, "to_mm": 1000.0},
    ]
    return {
        "schema": 1,
        "source": "roll_17.png",
        "bundle_id": "c0ffee",
        "width_mm": 1000.0,
        "length_mm": 100_000.0,
        "num_lines": 250_000,
        "lanes": lanes,
        "defects_per_m2": 0.02,
        "repeats": [],
        "grades": [{"lane": "left", "grade": "B", "points": 12.5, "reasons": ["A: 3 holes, at most 2"]}],
        "undecided": [],
        "speed": {"mp_per_s": 10.0, "lines_per_s": 4000.0},
        "complete": True,
        "reason": None,
    } | other


def write_roll(folder: Path, content: dict[str, object], defects: list[dict[str, object]]) -> Path:
    (folder / "crops").mkdir(parents=True)
    (folder / "roll.json").write_text(json.dumps(content))
    with (folder / "defects.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(defects)
    return folder


def write_crop(folder: Path, number: int, gray: int) -> None:
    cv2.imwrite(str(folder / "crops" / f"{number:06}.png"), np.full((40, 60), gray, np.uint8))
