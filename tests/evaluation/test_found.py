from pathlib import Path

import numpy as np
import pytest

from zellige.core.named import FoundBoxes, KindMap
from zellige.core.roi import IGNORED
from zellige.core.types import LabelledBox, Sample
from zellige.evaluation.found import found_defects, named_kind, true_defects, true_kind

KINDS = ("hole", "scratch")


def sample(kind="hole", boxes=()):
    return Sample(id="a", image_path=Path("a.png"), kind=kind, group_id="a", boxes=boxes)


def box(kind, *edges):
    return LabelledBox(kind=kind, box_px=edges)


def a_map():
    """Two regions above 0.5 in one above 0.1, one region of 0.3, and noise."""
    anomaly_map = np.full((20, 30), 0.02, np.float32)
    anomaly_map[2:8, 2:14] = 0.2
    anomaly_map[3:5, 3:6], anomaly_map[3:5, 9:12] = 0.9, 0.7
    anomaly_map[12:16, 20:25] = 0.3
    numbers = np.zeros((20, 30), np.uint8)
    numbers[:, :8], numbers[:, 8:16], numbers[13:, 20:22] = 1, 2, 2
    return anomaly_map, KindMap(numbers=numbers, kinds=KINDS)


def test_regions_are_the_stations_and_behind_them_those_it_would_not_list():
    anomaly_map, named = a_map()
    rows = found_defects("a", anomaly_map, named, pixel_threshold=0.5)
    assert [(row.kind, row.score, row.box) for row in rows] == [
        ("hole", pytest.approx(0.9), (3.0, 3.0, 6.0, 5.0)),
        ("scratch", pytest.approx(0.7), (9.0, 3.0, 12.0, 5.0)),
        ("unknown", pytest.approx(0.3), (20.0, 12.0, 25.0, 16.0)),
    ]


def test_boxes_are_taken_as_they_are():
    boxes = np.array([[1.5, 2, 8, 9.25, 0.9, 2], [0, 0, 3, 3, 0.0625, 1]], np.float32)
    rows = found_defects("a", np.zeros((20, 20), np.float32), FoundBoxes(boxes=boxes, kinds=KINDS), pixel_threshold=0.5)
    assert [(row.kind, row.box) for row in rows] == [("scratch", (1.5, 2.0, 8.0, 9.25)), ("hole", (0.0, 0.0, 3.0, 3.0))]
    assert rows[1].score == 0.0625


def test_an_image_has_the_kind_with_the_most_weight():
    anomaly_map, named = a_map()
    assert named_kind(anomaly_map, named, pixel_threshold=0.5) == "hole"
    quiet = np.where(named.numbers == 2, 0.3, 0.1).astype(np.float32)
    assert named_kind(quiet, named, pixel_threshold=0.5) == "scratch"  # nothing is above: all named pixels vote
    nameless = KindMap(numbers=np.zeros((20, 30), np.uint8), kinds=KINDS)
    assert named_kind(anomaly_map, nameless, pixel_threshold=0.5) == "unknown"
    assert named_kind(quiet, nameless, pixel_threshold=0.5) == "unknown"
    none = FoundBoxes(boxes=np.zeros((0, 6), np.float32), kinds=KINDS)
    assert named_kind(anomaly_map, none, pixel_threshold=0.5) == "unknown"


def test_truth_is_boxes_or_else_the_regions_of_a_mask():
    mask, flat = np.zeros((20, 30), bool), np.zeros((20, 30), np.float32)
    mask[1:3, 1:5], mask[3, 5], mask[10:12, 20:22] = True, True, True
    own = (box("hole", 1, 1, 4, 4), box("scratch", 10, 10, 12, 14))
    rows = true_defects(sample("mixed", own), mask, flat)
    assert [(row.kind, row.box) for row in rows] == [("hole", (1, 1, 4, 4)), ("scratch", (10, 10, 12, 14))]
    of_mask = true_defects(sample(), mask, flat)
    assert [(row.kind, row.box) for row in of_mask] == [("hole", (1, 1, 6, 4)), ("hole", (20, 10, 22, 12))]
    assert true_defects(sample("good"), None, flat) == ()
    assert true_defects(sample("mixed"), mask, flat) is None
    assert true_defects(sample(), None, flat) is None


def test_a_box_in_what_is_ignored_is_not_to_be_found():
    anomaly_map = np.zeros((20, 30), np.float32)
    anomaly_map[:, :10] = IGNORED
    inside, half = box("hole", 1, 1, 9.5, 9), box("hole", 5, 5, 14, 9)
    touches = box("hole", 3, 3, 11, 9)  # a found one that ends there is dropped too: boxes are loose by 2 px
    rows = true_defects(sample(boxes=(inside, half, touches)), None, anomaly_map)
    assert [row.box for row in rows] == [(5, 5, 14, 9)]


def test_an_image_with_several_kinds_is_mixed():
    assert true_kind(sample("good")) == "good"
    assert true_kind(sample("mixed")) == "mixed"
    assert true_kind(sample("mixed", (box("hole", 0, 0, 1, 1), box("hole", 4, 4, 5, 5)))) == "hole"
    assert true_kind(sample("hole", (box("hole", 0, 0, 1, 1), box("scratch", 4, 4, 5, 5)))) == "mixed"
