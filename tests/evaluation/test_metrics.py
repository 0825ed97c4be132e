import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from zellige.core.errors import InputError
from zellige.core.types import Prediction, Sample
from zellige.evaluation.metrics import image_auroc, image_average_precision, image_f1_max
from zellige.evaluation.pixels import PixelHistogram

TRUE, FALSE = True, False


def slow_aupro(maps, masks, limit=0.3):
    """Exact AUPRO, threshold by threshold and region by region."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(index, labels == label) for label in range(1, count + 1)]
    normal = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        fpr = float(np.mean(normal >= threshold))
        points.append((fpr, float(np.mean([np.mean(maps[i][region] >= threshold) for i, region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def random_maps(seed, *, levels=None, size=(24, 31), count=5):
    """Maps and masks with a weak signal; every value keeps 13 mantissa bits, so that the histogram is exact."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(count):
        mask = np.zeros(size, bool)
        for _ in range(index):
            y, x = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 8)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 8)] = True
        values = rng.normal(size=size) + 1.5 * mask
        if levels is not None:
            values = np.round(values * levels) / levels
        maps.append(keep_13_bits(values))
        masks.append(mask)
    return maps, masks


def keep_13_bits(values):
    bits = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFFC00)
    return bits.view(np.float32)


def counted(maps, masks):
    histogram = PixelHistogram()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        histogram.add(anomaly_map, mask if mask.any() else None)
    return histogram


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_image_metrics_are_scikit_learns(seed, decimals):
    rng = np.random.default_rng(seed)
    labels = rng.random(80) < 0.3
    scores = np.round(rng.normal(size=80) + labels, decimals)
    assert image_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert image_average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    best = max(f1_score(labels, scores >= threshold) for threshold in np.unique(scores))
    assert image_f1_max(scores, labels) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "auroc", "ap", "f1"),
    [
        ([1, 2, 3, 4], [FALSE, FALSE, TRUE, TRUE], 1.0, 1.0, 1.0),
        ([4, 3, 2, 1], [FALSE, FALSE, TRUE, TRUE], 0.0, (1 / 3 + 2 / 4) / 2, 2 / 3),
        ([5, 5, 5, 5], [FALSE, FALSE, FALSE, TRUE], 0.5, 0.25, 0.4),
        ([-1, 0, 0, 1], [FALSE, FALSE, TRUE, TRUE], 0.875, (1 + 2 / 3) / 2, 0.8),
    ],
)
def test_image_metrics_by_hand(scores, labels, auroc, ap, f1):
    values, flags = np.array(scores, float), np.array(labels)
    assert image_auroc(values, flags) == pytest.approx(auroc)
    assert image_average_precision(values, flags) == pytest.approx(ap)
    assert image_f1_max(values, flags) == pytest.approx(f1)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_is_undefined(label):
    scores, labels = np.array([0.1, 0.2]), np.array([label, label])
    assert all(math.isnan(f(scores, labels)) for f in (image_auroc, image_average_precision, image_f1_max))
    assert math.isnan(image_auroc(np.array([]), np.array([], bool)))


def test_scores_must_be_finite_and_match_the_labels():
    with pytest.raises(InputError, match="finite"):
        image_auroc(np.array([0.1, math.nan]), np.array([True, False]))
    with pytest.raises(InputError, match="as many labels"):
        image_auroc(np.array([0.1]), np.array([True, False]))


finite = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, st.booleans()), min_size=2, max_size=40))
def test_ranking_metrics_do_not_move_under_a_monotone_transform(items):
    scores = np.array([score for score, _ in items], float)
    labels = np.array([label for _, label in items])
    _, ranks = np.unique(scores, return_inverse=True)
    for metric in (image_auroc, image_average_precision, image_f1_max):
        np.testing.assert_equal(metric(scores, labels), metric(np.exp(ranks / 10.0), labels))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, st.booleans()), min_size=2, max_size=40))
def test_reversed_scores_mirror_the_auroc(items):
    scores = np.array([score for score, _ in items], float)
    labels = np.array([label for _, label in items])
    if labels.all() or not labels.any():
        return
    assert image_auroc(scores, labels) + image_auroc(-scores, labels) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [None, 1, 4])
def test_pixel_metrics_are_exact_on_values_that_the_bins_keep(seed, levels):
    maps, masks = random_maps(seed, levels=levels)
    result = counted(maps, masks).compute_metrics()
    values, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert result.auroc == pytest.approx(roc_auc_score(truth, values), abs=1e-10)
    assert result.average_precision == pytest.approx(average_precision_score(truth, values), abs=1e-10)
    assert result.aupro == pytest.approx(slow_aupro(maps, masks), abs=1e-10)


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1.0, 0.0), (1e6, 0.0), (1.0, 8.0)])
def test_pixel_metrics_are_close_on_any_float(scale, offset):
    rng = np.random.default_rng(3)
    mask = np.zeros((60, 80), bool)
    mask[10:20, 10:30], mask[40:45, 50:52] = True, True
    anomaly_map = ((rng.normal(size=mask.shape) + 2 * mask) * scale + offset).astype(np.float32)
    result = counted([anomaly_map], [mask]).compute_metrics()
    assert result.auroc == pytest.approx(roc_auc_score(mask.ravel(), anomaly_map.ravel()), abs=1e-3)
    assert result.average_precision == pytest.approx(
        average_precision_score(mask.ravel(), anomaly_map.ravel()), abs=2e-3
    )
    assert result.aupro == pytest.approx(slow_aupro([anomaly_map], [mask]), abs=2e-3)


def test_small_and_large_regions_weigh_the_same_in_aupro():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12], mask[17, 17] = True, True
    large, small = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
    large[2:12, 2:12], small[17, 17] = 1.0, 1.0
    results = [counted([m], [mask]).compute_metrics() for m in (large, small)]
    assert results[0].aupro == pytest.approx(results[1].aupro)
    assert results[0].aupro == pytest.approx(0.5 + 0.5 * 0.3 / 2)
    assert [r.num_regions for r in results] == [2, 2]


def test_diagonal_pixels_are_one_region():
    histogram = counted([np.eye(6, dtype=np.float32)], [np.eye(6, dtype=bool)])
    result = histogram.compute_metrics()
    assert (result.num_regions, result.aupro, result.auroc) == (1, 1.0, 1.0)


def test_constant_map_is_worth_chance():
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = True
    result = counted([np.full((10, 10), 3.5, np.float32)], [mask]).compute_metrics()
    assert result.auroc == pytest.approx(0.5)
    assert result.average_precision == pytest.approx(0.04)
    assert result.aupro == pytest.approx(0.15)


# Levels of -2^99 and below mean that a pixel is not inspected.
maps_2d = arrays(np.float32, (8, 9), elements=st.floats(-(2.0**98), 2.0**100, width=32))


@settings(max_examples=40, deadline=None)
@given(maps_2d, arrays(bool, (8, 9)))
def test_aupro_never_leaves_zero_to_one(anomaly_map, mask):
    result = counted([anomaly_map], [mask]).compute_metrics()
    assert math.isnan(result.aupro) == (not mask.any() or bool(mask.all()))
    assert math.isnan(result.aupro) or 0.0 <= result.aupro <= 1.0


@settings(max_examples=40, deadline=None)
@given(maps_2d)
def test_histogram_keeps_the_order_of_floats(anomaly_map):
    histogram = counted([anomaly_map], [np.zeros((8, 9), bool)])
    for alarm in (0.0, 0.1, 0.5):
        threshold = histogram.good_quantile(1 - alarm)
        assert np.mean(anomaly_map > threshold) <= alarm + 1e-9
        largest = float(np.abs(anomaly_map).max())
        exact = np.sort(anomaly_map.ravel())[math.ceil((1 - alarm) * anomaly_map.size - 1e-9) - 1]
        assert exact <= threshold <= exact + abs(exact) * 2.5e-4 + 1e-38 + largest * 1e-12


def test_signed_zeros_are_one_level():
    histogram = PixelHistogram()
    histogram.add(np.array([[-0.0, 0.0]], np.float32), np.array([[True, False]]))
    assert histogram.compute_metrics().auroc == pytest.approx(0.5)


def test_threshold_with_the_best_pixel_f1():
    maps, masks = random_maps(11)
    threshold = counted(maps, masks).best_f1_threshold()
    values, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    precision, recall, _ = precision_recall_curve(truth, values)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert f1_score(truth, values > threshold) == pytest.approx(best, abs=1e-12)


def test_threshold_lies_in_the_middle_of_a_gap():
    anomaly_map = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    threshold = counted([anomaly_map], [anomaly_map > 0.5]).best_f1_threshold()
    assert threshold == pytest.approx(0.5, abs=1e-3)
    everything = counted([np.ones((2, 2), np.float32)], [np.array([[True, False], [True, True]])])
    assert 0.99 < everything.best_f1_threshold() < 1.0


def test_defective_sample_without_mask_is_left_out_and_counted(tmp_path):
    histogram = PixelHistogram()
    kinds = {"good": np.zeros((2, 2), np.float32), "hole": np.ones((2, 2), np.float32)}
    for kind, anomaly_map in kinds.items():
        sample = Sample(id=kind, image_path=tmp_path, kind=kind, group_id="g")
        histogram.add_prediction(Prediction(sample=sample, score=0.0, anomaly_map=anomaly_map), None)
    result = histogram.compute_metrics()
    assert (result.num_left_out, result.num_masks) == (1, 0)
    assert math.isnan(result.auroc)
    assert math.isnan(result.aupro)
    assert math.isnan(PixelHistogram().good_quantile(0.9))


def test_memory_does_not_grow_with_the_number_of_maps():
    def nbytes(histogram):
        return sum(v.nbytes for v in vars(histogram).values() if isinstance(v, np.ndarray))

    histogram = PixelHistogram()
    before = nbytes(histogram)
    for seed in range(20):
        histogram.add(np.random.default_rng(seed).normal(size=(32, 32)).astype(np.float32), None)
    assert nbytes(histogram) == before <= 100 * 2**20
