"""Pixels of kinds against scikit-learn's Jaccard score over all pixels at once."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from zellige.core.named import KindMap
from zellige.core.types import LabelledBox, Sample
from zellige.evaluation.mask_metrics import MaskCounter, true_pixels

KINDS = ("hole", "scratch")


def sample(kind, name="a", boxes=()):
    return Sample(id=name, image_path=Path(f"{name}.png"), kind=kind, group_id=name, boxes=boxes)


def test_iou_is_that_of_all_pixels_at_once():
    generator = np.random.default_rng(0)
    counter, truth, said = MaskCounter(pixel_threshold=0.5), [], []
    for index in range(12):
        kind = ("good", *KINDS)[index % 3]
        mask = generator.random((9, 11)) < 0.4
        anomaly_map = generator.random((9, 11)).astype(np.float32)
        numbers = generator.integers(0, 3, (9, 11)).astype(np.uint8)
        counter.add(
            sample(kind, str(index)),
            anomaly_map,
            KindMap(numbers=numbers, kinds=KINDS),
            None if kind == "good" else mask,
        )
        truth.append(mask * (0 if kind == "good" else KINDS.index(kind) + 1))
        said.append(np.where(anomaly_map > 0.5, np.where(numbers, numbers, 3), 0))
    truth, said = np.concatenate(truth).ravel(), np.concatenate(said).ravel()
    numbers = counter.measure(times=200, seed=4)
    expected = jaccard_score(truth, said, labels=[1, 2], average=None)
    assert [numbers.by_kind[kind].value for kind in KINDS] == pytest.approx(expected)
    assert numbers.mean_iou.value == pytest.approx(expected.mean())
    assert numbers.defect_iou.value == pytest.approx(jaccard_score(truth > 0, said > 0))
    assert numbers.mean_iou.low < numbers.mean_iou.value < numbers.mean_iou.high
    assert numbers == counter.measure(times=200, seed=4)


def test_a_kind_that_only_the_detector_names_is_in_no_mean():
    counter, mask = MaskCounter(pixel_threshold=0.5), np.zeros((4, 4), bool)
    mask[:2] = True
    counter.add(sample("hole"), mask.astype(np.float32), KindMap(numbers=np.uint8(1) * mask, kinds=KINDS), mask)
    counter.add(
        sample("good", "b"),
        np.ones((4, 4), np.float32),
        KindMap(numbers=np.full((4, 4), 2, np.uint8), kinds=KINDS),
        None,
    )
    counter.add(sample("scratch", "c"), mask.astype(np.float32), KindMap(numbers=np.uint8(2) * mask, kinds=KINDS), None)
    numbers = counter.measure(times=5)
    assert {kind: value.value for kind, value in numbers.by_kind.items()} == {"hole": 1.0}
    assert numbers.defect_iou.value == pytest.approx(8 / 24)
    assert (numbers.num_images, numbers.num_left_out) == (2, 1)


def test_boxes_say_which_part_of_a_mask_is_of_which_kind():
    mask = np.zeros((6, 10), bool)
    mask[1:5, 1:9] = True
    inner, outer = (
        LabelledBox(kind="hole", box_px=(2, 2, 4, 4)),
        LabelledBox(kind="scratch", box_px=(0, 0, 6, 6)),
    )
    own = true_pixels(sample("mixed", boxes=(outer, inner)), mask)
    assert {kind: int(pixels.sum()) for kind, pixels in own.items()} == {"hole": 4, "scratch": 4 * 5 - 4}
    assert own["hole"][2:4, 2:4].all()
    rest = true_pixels(sample("hole", boxes=(inner,)), mask)
    np.testing.assert_array_equal(rest["hole"], mask)
    assert true_pixels(sample("mixed"), mask) is None
    assert true_pixels(sample("hole"), None) is None
    assert true_pixels(sample("good"), None) == {}
