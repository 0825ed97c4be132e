"""The report of kinds on stored predictions of a detector that draws boxes and of one with a map of kinds."""

import json

import cv2
import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.core.named import FoundBoxes, KindMap
from zellige.core.types import Calibration, LabelledBox, Sample
from zellige.evaluation.html import write_html
from zellige.evaluation.kind_metrics import count_pairs
from zellige.evaluation.named_pictures import select_cases, write_named_pictures
from zellige.evaluation.named_plots import plot_confusion
from zellige.evaluation.named_report import named_report
from zellige.evaluation.predictions import PredictionWriter
from zellige.evaluation.report import evaluate
from zellige.run_report import metrics_of

KINDS = ("hole", "scratch")
CALIBRATION = Calibration(
    pixel_threshold=0.5, reject_score=0.5, accept_score=0.5, fitted_on="val", target="t", guarantee="g"
)
HOLE, SCRATCH = (10, 10, 20, 20), (30, 5, 50, 9)
ROWS = {
    # what is there, and what is found: kind, box, score
    "right": ([("hole", HOLE)], [("hole", (10, 10, 20, 21), 0.9)]),
    "wrong name": ([("scratch", SCRATCH)], [("hole", SCRATCH, 0.8)]),
    "both": ([("hole", HOLE), ("scratch", SCRATCH)], [("hole", HOLE, 0.95), ("scratch", SCRATCH, 0.7)]),
    "one missed": ([("hole", HOLE), ("hole", SCRATCH)], [("hole", HOLE, 0.75), ("hole", SCRATCH, 0.3)]),
    "escaped": ([("scratch", SCRATCH)], [("scratch", SCRATCH, 0.4)]),
    "quiet": ([], []),
    "false alarm": ([], [("scratch", (2, 2, 8, 8), 0.6)]),
}


@pytest.fixture
def predicted(tmp_path):
    """Stored predictions of ROWS, as boxes or as a map with masks."""

    def build(split, form):
        folder = tmp_path / form
        folder.mkdir(exist_ok=True)
        samples, found = [], []
        for name, (there, claimed) in ROWS.items():
            image, mask = folder / f"{split} {name}.png", folder / f"{split} {name} mask.png"
            cv2.imwrite(str(image), np.full((40, 60), 90, np.uint8))
            drawn, anomaly_map, numbers = (np.zeros((40, 60), kind) for kind in (np.uint8, np.float32, np.uint8))
            for _, (x0, y0, x1, y1) in there:
                drawn[y0:y1, x0:x1] = 255
            for kind, (x0, y0, x1, y1), score in claimed:
                anomaly_map[y0:y1, x0:x1], numbers[y0:y1, x0:x1] = score, KINDS.index(kind) + 1
            cv2.imwrite(str(mask), drawn)
            kinds = sorted({kind for kind, _ in there})
            sample = Sample(
                id=f"{split}/{name}",
                image_path=image,
                kind="good" if not kinds else kinds[0] if len(kinds) == 1 else "mixed",
                group_id=f"{split} {name}",
                mask_path=mask if there and form == "map" else None,
                boxes=tuple(LabelledBox(kind=kind, box_px=box) for kind, box in there),
            )
            boxes = np.array([[*box, score, KINDS.index(kind) + 1] for kind, box, score in claimed], np.float32)
            named = (
                KindMap(numbers=numbers, kinds=KINDS)
                if form == "map"
                else FoundBoxes(boxes=boxes.reshape(-1, 6), kinds=KINDS)
            )
            samples.append(sample)
            found.append((max([score for *_, score in claimed], default=0.0), anomaly_map, named))
        with PredictionWriter(folder / split, split, samples, kinds=KINDS) as writer:
            for sample, (score, anomaly_map, named) in zip(samples, found, strict=True):
                writer.write(sample.id, score, anomaly_map, named)
            return writer.close()

    return build


@pytest.mark.parametrize("form", ["boxes", "map"])
def test_numbers_are_those_counted_by_hand(predicted, form):
    report = named_report(predicted("val", form), predicted("test", form), CALIBRATION, times=60)
    whole = report.whole
    # "both" is mixed; "escaped" is accepted, so it is said to be good.
    assert whole.confusion.true_names == ("good", "hole", "scratch")
    assert whole.confusion.said_names == ("good", "hole", "scratch")
    assert whole.confusion.counts.tolist() == [[1, 0, 1], [0, 2, 0], [1, 1, 0]]
    assert (whole.accuracy.n, whole.accuracy.value, report.num_mixed) == (6, 0.5, 1)
    assert (report.named_right.n, report.named_right.value) == (4, 0.75)
    # Scores of the defective: 0.9 0.8 0.95 0.75 0.4; of the good: 0 0.6.
    assert report.ap_det == pytest.approx((4 * 1 + 5 / 6) / 5)
    # Above 0.2 all defective ones and 0.6; above 0.675 as many are right, and one escapes.
    assert report.good_or_defective.threshold == pytest.approx(0.2)
    assert report.good_or_defective.accuracy.value == pytest.approx(6 / 7)
    assert report.defects.true_names == ("hole", "scratch", "nothing there")
    assert report.defects.said_names == ("hole", "scratch", "missed")
    assert report.defects.counts.tolist() == [[3, 0, 1], [1, 1, 1], [0, 1, 0]]
    # Of 4 holes, by score: hit 0.95, hit 0.9, false 0.8, hit 0.75, hit 0.3.
    # Of 3 scratches: hit 0.7, false 0.6, hit 0.4.
    holes, scratches = report.boxes.by_kind
    assert holes.ap_33.value == pytest.approx((1 + 1 + 3 / 4 + 4 / 5) / 4)
    assert scratches.ap_33.value == pytest.approx((1 + 2 / 3) / 3)
    # VAL is a copy of TEST. F = 2 hits / (found + 7): at 0.3 it is 12 / 15.
    assert report.boxes.f_best.threshold == pytest.approx(0.3)
    assert report.boxes.f_best.f.value == pytest.approx(12 / 15)
    assert report.boxes.f_best.f.low < 12 / 15 < report.boxes.f_best.f.high


def test_pixels_are_counted_where_there_is_a_map(predicted):
    maps = named_report(predicted("val", "map"), predicted("test", "map"), CALIBRATION, times=60)
    # Hole: true 100 + 100 + 180; above 0.5 and named hole 110 + 80 + 100 + 100; in both 100 + 100 + 100.
    assert maps.masks.by_kind["hole"].value == pytest.approx(300 / (380 + 390 - 300))
    assert maps.masks.by_kind["scratch"].value == pytest.approx(80 / (240 + 80 + 36 - 80))
    boxes = named_report(predicted("val", "boxes"), predicted("test", "boxes"), CALIBRATION, times=60)
    assert boxes.masks is None


def test_cases_show_the_worst_first(predicted):
    report = named_report(predicted("val", "boxes"), predicted("test", "boxes"), CALIBRATION, times=60)
    names = list(ROWS)
    shown = {name: [names[case.image.index] for case in cases] for name, cases in select_cases(report.images).items()}
    assert shown == {
        "kinds_missed": ["escaped", "one missed"],
        "kinds_wrong": ["wrong name"],
        "kinds_false_alarms": ["false alarm"],
        "kinds_hits": ["right", "both", "both", "one missed"],
    }


def test_the_page_says_kinds_and_shows_pictures(predicted, tmp_path):
    val, test = predicted("val", "map"), predicted("test", "map")
    evaluation, report = evaluate(test, CALIBRATION), named_report(val, test, CALIBRATION, times=60)
    pictures = write_named_pictures(test.samples, report, tmp_path)
    assert {path.stem: cv2.imread(str(path)).shape[1] for path in pictures} == dict.fromkeys(
        [
            "kinds_images",
            "kinds_defects",
            "kinds_curves",
            "kinds_missed",
            "kinds_wrong",
            "kinds_false_alarms",
            "kinds_hits",
        ],
        1200,
    )
    content = json.loads(json.dumps({**evaluation.to_json(), "kinds": report.to_json()}, allow_nan=False))
    write_html(content, tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == len(pictures)
    for words in (
        "Kinds of defects",
        "3 of 6 images",
        "6 of 7 images",
        "Intersection over union",
        "best on TEST: an upper limit",
    ):
        assert words in page
    logged = metrics_of(content | dict.fromkeys(("fit_seconds", "predict_ms_per_image", "peak_memory_mb"), 1.0))
    assert logged["accuracy"] == 0.5
    assert logged["f_best"] == pytest.approx(0.8)
    assert logged["map_33"] == pytest.approx((3.55 / 4 + 5 / 9) / 2)
    assert logged["mean_iou"] == pytest.approx((300 / 470 + 80 / 276) / 2)
    assert {"macro_f1", "map_50", "map"} <= logged.keys()


def test_other_splits_are_refused(predicted):
    with pytest.raises(InputError, match="expected val and test predictions, got test and val"):
        named_report(predicted("test", "boxes"), predicted("val", "boxes"), CALIBRATION, times=60)


def test_any_number_and_name_of_kinds_fits_a_picture(tmp_path):
    names = [f"kind {number} with a long name $_$" for number in range(20)]
    for kinds in (names[:1], names):
        pairs = [(kind, kinds[place // 2]) for place, kind in enumerate(kinds)]
        path = plot_confusion(count_pairs(pairs), "title", "words", tmp_path / "matrix.png")
        height, width, _ = cv2.imread(str(path)).shape
        assert width == 1200
        assert height > 100 + 26 * len(kinds)
