"""Boxes against pycocotools' COCOeval and against slow versions that count at every threshold."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from zellige.evaluation.bootstrap import GroupBootstrap
from zellige.evaluation.box_metrics import best_threshold, measure_boxes
from zellige.evaluation.found import FoundDefect, TrueDefect
from zellige.evaluation.matching import FoundRows, box_ious, match

KINDS = ("hole", "scratch", "spur")


def random_rows(seed, *, num_images=14, digits=2):
    """Boxes on a grid of half pixels, so that every overlap is exact; some found well, some badly, some of no kind."""
    generator = np.random.default_rng(seed)
    true, found = [], []
    for image in range(num_images):
        for _ in range(generator.integers(0, 4)):
            x, y, w, h = generator.integers(8, 60, 4) / 2
            kind = str(generator.choice(KINDS))
            true.append(TrueDefect(sample_id=str(image), kind=kind, box=(x, y, x + w, y + h)))
            for _ in range(generator.integers(0, 3)):
                dx, dy, dw, dh = generator.integers(-5, 6, 4) / 2
                name = kind if generator.random() < 0.8 else str(generator.choice([*KINDS, "unknown"]))
                box = (x + dx, y + dy, x + dx + max(w + dw, 1.0), y + dy + max(h + dh, 1.0))
                found.append((str(image), name, box))
        for _ in range(generator.integers(0, 3)):
            x, y, w, h = generator.integers(8, 60, 4) / 2
            found.append((str(image), str(generator.choice(KINDS)), (x, y, x + w, y + h)))
    scores = generator.random(len(found)).round(digits)
    rows = [
        FoundDefect(sample_id=i, kind=kind, score=float(score), box=box)
        for (i, kind, box), score in zip(found, scores, strict=True)
    ]
    images = tuple(str(i) for i in range(num_images))
    return FoundRows(images=images, groups=images, found=tuple(rows), true=tuple(true))


def coco_numbers(rows):
    """AP at 0.5 and over 0.5:0.95 of each kind that is there, by pycocotools."""
    names = sorted({row.kind for row in (*rows.true, *rows.found)})
    numbers = {name: index for index, name in enumerate(names, start=1)}
    as_xywh = lambda box: [box[0], box[1], box[2] - box[0], box[3] - box[1]]  # noqa: E731
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": index} for index in range(len(rows.images))],
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
            "annotations": [
                {
                    "id": index,
                    "image_id": rows.images.index(row.sample_id),
                    "category_id": numbers[row.kind],
                    "bbox": as_xywh(row.box),
                    "area": (row.box[2] - row.box[0]) * (row.box[3] - row.box[1]),
                    "iscrowd": 0,
                }
                for index, row in enumerate(rows.true, start=1)
            ],
        }
        truth.createIndex()
        said = truth.loadRes(
            [
                {
                    "image_id": rows.images.index(row.sample_id),
                    "category_id": numbers[row.kind],
                    "bbox": as_xywh(row.box),
                    "score": row.score,
                }
                for row in rows.found
            ]
        )
        evaluation = COCOeval(truth, said, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # limits, recalls, kinds; all sizes, 100 boxes
    per_kind = {}
    for name, number in numbers.items():
        own = precision[:, :, number - 1]
        if (own > -1).all():
            per_kind[name] = (own[0].mean(), own.mean())
    return per_kind, evaluation.stats[1], evaluation.stats[0]


def slow_iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def slow_counts(rows, threshold, kind=None):
    """Hits, drawn and true boxes at one threshold: greedy, the best score first, IoU above 0.33, the kind right."""
    free = [row for row in rows.true if kind in (None, row.kind)]
    total, hits = len(free), 0
    drawn = [row for row in rows.found if row.score >= threshold and kind in (None, row.kind)]
    for row in sorted(drawn, key=lambda row: -row.score):
        best = None
        for marked in free:
            overlap = slow_iou(row.box, marked.box)
            same = (marked.sample_id, marked.kind) == (row.sample_id, row.kind)
            if same and overlap > 0.33 and (best is None or overlap >= best[0]):
                best = (overlap, marked)
        if best:
            free = [marked for marked in free if marked is not best[1]]
            hits += 1
    return hits, len(drawn), total


def slow_average_precision(rows, kind):
    total, before, area = 0, 0.0, 0.0
    for threshold in sorted({row.score for row in rows.found if row.kind == kind}, reverse=True):
        hits, drawn, total = slow_counts(rows, threshold, kind)
        area += (hits / total - before) * hits / drawn
        before = hits / total
    return area


def slow_f(rows, threshold):
    hits, drawn, total = slow_counts(rows, threshold)
    precision, recall = hits / drawn, hits / total
    return 2 * precision * recall / (precision + recall) if hits else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_average_precisions_are_those_of_pycocotools(seed):
    rows = random_rows(seed, digits=1 if seed % 2 else 4)
    numbers = measure_boxes(rows, math.nan, GroupBootstrap(rows.groups, times=1))
    per_kind, map_50, mean = coco_numbers(rows)
    assert {row.kind: (row.ap_50.value, row.ap.value) for row in numbers.by_kind} == {
        kind: pytest.approx(values, abs=1e-12) for kind, values in per_kind.items()
    }
    assert (numbers.map_50.value, numbers.map.value) == pytest.approx((map_50, mean), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_deeppcb_is_what_counting_at_every_threshold_gives(seed):
    val, rows = random_rows(100 + seed), random_rows(seed, digits=1 if seed % 2 else 4)
    threshold = best_threshold(val)
    scores = sorted({row.score for row in val.found}, reverse=True)
    assert threshold == max(scores, key=lambda score: (slow_f(val, score), score))
    numbers = measure_boxes(rows, threshold, GroupBootstrap(rows.groups, times=1))
    for row in numbers.by_kind:
        assert row.ap_33.value == pytest.approx(slow_average_precision(rows, row.kind), abs=1e-12)
    assert numbers.map_33.value == pytest.approx(np.mean([row.ap_33.value for row in numbers.by_kind]))
    hits, drawn, total = slow_counts(rows, threshold)
    best = numbers.f_best
    assert (best.precision.value, best.recall.value) == pytest.approx((hits / drawn, hits / total))
    assert best.f.value == pytest.approx(slow_f(rows, threshold))
    assert numbers.f_limit.f.value == pytest.approx(max(slow_f(rows, row.score) for row in rows.found))


def test_equal_scores_enter_together_whatever_their_order():
    marked = (TrueDefect(sample_id="a", kind="hole", box=(0, 0, 10, 10)),)
    found = [FoundDefect(sample_id="a", kind="hole", score=0.5, box=box) for box in ((0, 0, 10, 10), (50, 50, 60, 60))]
    for order in (found, found[::-1]):
        rows = FoundRows(images=("a",), groups=("a",), found=tuple(order), true=marked)
        assert measure_boxes(rows, 0.5, GroupBootstrap(rows.groups)).map_33.value == 0.5


def test_a_hit_is_above_a_third_and_counts_once():
    marked = (TrueDefect(sample_id="a", kind="hole", box=(0, 0, 100, 1)),)

    def hits(*boxes):
        found = tuple(
            FoundDefect(sample_id="a", kind="hole", score=0.9 - i / 10, box=box) for i, box in enumerate(boxes)
        )
        rows = FoundRows(images=("a",), groups=("a",), found=found, true=marked)
        return measure_boxes(rows, 0.0, GroupBootstrap(rows.groups)).f_best

    assert hits((0, 0, 33, 1)).recall.value == 0  # an IoU of exactly 0.33 is not above it
    assert hits((0, 0, 34, 1)).recall.value == 1
    twice = hits((0, 0, 100, 1), (0, 0, 99, 1))
    assert (twice.precision.value, twice.recall.value) == (0.5, 1.0)


def test_images_without_boxes_add_false_alarms_and_nothing_else():
    rows = random_rows(1)
    good = FoundDefect(sample_id="good", kind="hole", score=1.0, box=(0, 0, 5, 5))
    more = FoundRows(images=(*rows.images, "good"), groups=(*rows.groups, "good"), found=rows.found, true=rows.true)
    alarmed = FoundRows(images=more.images, groups=more.groups, found=(*rows.found, good), true=rows.true)
    plain, same, worse = (measure_boxes(r, 0.5, GroupBootstrap(r.groups, times=1)) for r in (rows, more, alarmed))
    assert (same.map_33.value, same.map.value, same.f_best.f.value) == (
        plain.map_33.value,
        plain.map.value,
        plain.f_best.f.value,
    )
    assert worse.map_33.value < plain.map_33.value
    assert worse.f_best.recall == plain.f_best.recall or worse.f_best.recall.value == plain.f_best.recall.value
    assert worse.f_best.precision.value < plain.f_best.precision.value


def test_without_true_boxes_nothing_is_defined():
    found = (FoundDefect(sample_id="a", kind="hole", score=0.9, box=(0, 0, 5, 5)),)
    rows = FoundRows(images=("a", "b"), groups=("a", "b"), found=found, true=())
    assert math.isnan(best_threshold(rows))
    numbers = measure_boxes(rows, 0.5, GroupBootstrap(rows.groups, times=5)).to_json()
    assert numbers["by_kind"] == []
    assert all(numbers[name]["value"] is None for name in ("map_33", "map_50", "map"))
    assert numbers["f_best"]["f"]["value"] is None


def test_where_nothing_is_right_the_score_is_zero_and_not_unknown():
    true = tuple(TrueDefect(sample_id=name, kind="hole", box=(0, 0, 9, 9)) for name in "ab")
    found = tuple(FoundDefect(sample_id="a", kind="hole", score=s, box=(50, 50, 59, 59)) for s in (0.25, 0.75))
    rows = FoundRows(images=("a", "b"), groups=("a", "b"), found=found, true=true)
    assert best_threshold(rows) == 0.75
    numbers = measure_boxes(rows, 0.75, GroupBootstrap(rows.groups, times=20))
    assert (numbers.f_best.f.value, numbers.f_limit.f.value, numbers.map_33.value) == (0.0, 0.0, 0.0)
    assert math.isnan(best_threshold(FoundRows(images=rows.images, groups=rows.groups, found=(), true=true)))


def test_weights_are_copies_of_images():
    """A resample that holds an image twice gives what a set with that image twice gives."""
    rows = random_rows(2, digits=6)
    twice = rows.images[:5]

    def renamed(row):
        return type(row)(**{name: getattr(row, name) for name in row.__slots__} | {"sample_id": f"{row.sample_id}'"})

    copies = [renamed(row) for row in (*rows.found, *rows.true) if row.sample_id in twice]
    doubled = FoundRows(
        images=(*rows.images, *(f"{i}'" for i in twice)),
        groups=(*rows.groups, *(f"{i}'" for i in twice)),
        found=(*rows.found, *(row for row in copies if isinstance(row, FoundDefect))),
        true=(*rows.true, *(row for row in copies if isinstance(row, TrueDefect))),
    )
    expected = measure_boxes(doubled, 0.5, GroupBootstrap(doubled.groups, times=1))

    class Twice(GroupBootstrap):
        def estimate(self, measure):
            weights = np.array([2.0 if i in twice else 1.0 for i in rows.images])
            return super().estimate(lambda _: measure(weights))

    got = measure_boxes(rows, 0.5, Twice(rows.groups, times=1))
    assert (got.map_33.value, got.map_50.value, got.map.value, got.f_best.f.value) == pytest.approx(
        (expected.map_33.value, expected.map_50.value, expected.map.value, expected.f_best.f.value)
    )


def test_overlaps_and_matches_by_hand():
    boxes = [(0, 0, 4, 4), (10, 10, 12, 12)]
    assert box_ious(boxes, []).shape == (2, 0)
    assert box_ious(boxes, [(2, 0, 6, 4), (0, 0, 0, 0)]).tolist() == [[8 / 24, 0.0], [0.0, 0.0]]
    assert match(box_ious(boxes, boxes), 0.5).tolist() == [0, 1]
    assert match(np.array([[0.9, 0.9], [0.9, 0.2]]), 0.5).tolist() == [1, 0]
