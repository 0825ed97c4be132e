"""A recorded roll drawn by hand, a station for it, and the list of its defects, for the notebook that walks along."""

import json
from pathlib import Path

import numpy as np

from tests.station.conftest import CALIBRATION, bundle_fields, bundle_members, good_pixels, save
from zellige.core.bundle import write_bundle
from zellige.core.flat_field import FlatField, Reference
from zellige.core.flat_field_file import write_flat_field
from zellige.core.screen import MEMBER, STATISTICS, Screen
from zellige.core.types import Calibration

NUM_LINES, VIEW_PX, WEB_PX = 1600, 200, 160
ACROSS_MM, DOWN_MM = 0.5, 0.25
MARKS = [(100, line, 8, 10, "nick") for line in range(70, 1500, 120)]
"""Column of the web, first line, columns, lines: a roller of 30 mm left one each turn."""
OTHERS = [(20, 300, 30, 4, "scratch"), (60, 1010, 12, 40, "hole"), (130, 635, 5, 60, "scratch")]
UNSEEN = (40, 800, 10, 10, "stain")
UNLISTED = (20, 1400, 10, 10, "")


def write_walked_roll(folder: Path) -> dict[str, str]:
    """Write all of it; return the variables of the environment that the notebook reads."""
    names = {"BUNDLE": "b.zellige", "ROLL": "roll.pgm", "PROFILE": "profile.json", "LISTED": "listed.csv"}
    paths = {name: folder / file for name, file in names.items()}
    write_walked_bundle(paths["BUNDLE"])
    write_profile(folder, paths["PROFILE"])
    left = np.rint(20 + 4 * np.sin(np.arange(NUM_LINES) / 250)).astype(int)
    web = good_pixels(NUM_LINES, WEB_PX)
    for x, line, width, height, _ in (*MARKS, *OTHERS, UNLISTED):
        web[line : line + height, x : x + width] = 255
    x, line, width, height, _ = UNSEEN
    web[line : line + height, x : x + width] += 10
    view = np.zeros((NUM_LINES, VIEW_PX), np.uint8)
    for number, start in enumerate(left):
        view[number, start : start + WEB_PX] = web[number]
    save(paths["ROLL"], view)
    rows = [
        f"roll,{x * ACROSS_MM},{line * DOWN_MM},{width * ACROSS_MM},{height * DOWN_MM},{kind}"
        for x, line, width, height, kind in (*MARKS, *OTHERS, UNSEEN)
    ]
    paths["LISTED"].write_text("\n".join(["roll,x_mm,y_mm,w_mm,h_mm,kind", *rows]))
    return {f"ZELLIGE_{name}": str(path) for name, path in paths.items()}


def write_walked_bundle(bundle: Path, calibration: Calibration = CALIBRATION) -> None:
    limits = np.full((len(STATISTICS), 1), 1e6, np.float32)
    low, high = -limits, limits.copy()
    high[STATISTICS.index("brightest")] = 15  # good pixels are within ten levels of their mean
    screen = Screen(cell_px=16, low=low, high=high)
    fields = bundle_fields(calibration=calibration)
    if calibration is not CALIBRATION:
        fields["golden"] = [{**entry, "decision": "ACCEPT"} for entry in fields["golden"]]
    write_bundle(bundle, members={**bundle_members(), MEMBER: screen.to_bytes()}, **fields)


def write_profile(folder: Path, profile: Path) -> None:
    flat_field = FlatField(
        offset_dn=np.zeros(VIEW_PX, np.float32),
        gain=np.ones(VIEW_PX, np.float32),
        target_dn=180,
        reference=Reference.WHITE,
        num_dark_lines=64,
        num_bright_lines=64,
    )
    write_flat_field(folder / "flat.json", flat_field)
    rules = {"name": "r", "grades": [{"grade": "A", "limits": [{"max_count": 4}]}], "otherwise": "B"}
    (folder / "grading.json").write_text(json.dumps(rules))
    content = {
        "flat_field": {"file": "flat.json", "target_dn": 180},
        "edges": {"background": "dark", "threshold_dn": 60, "width_px": WEB_PX},
        "edge_margin_px": 3,
        "datum": "left_edge",
        "lanes": [{"name": "left", "from_mm": 0, "to_mm": 40}, {"name": "right", "from_mm": 40, "to_mm": 80}],
        "rollers": [{"name": "nip", "circumference_mm": 30.0}],
        "repeats": {"min_period_mm": 20, "max_period_mm": 100, "min_count": 5},
        "grading": "grading.json",
    }
    profile.write_text(json.dumps(content))
