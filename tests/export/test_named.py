"""The whole road of detectors that name: predict, calibrate, evaluate, export, and the station says the same."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from lightning_fabric import Fabric

from tests.conftest import save_image
from tests.export.naming_detectors import KINDS, SpotBoxes, SpotRegions
from zellige.core.bundle import ModelBundle
from zellige.core.decision import decide
from zellige.core.errors import BundleError, InputError
from zellige.core.image_files import read_frame
from zellige.core.kind_rules import KindRule, Severity
from zellige.core.named import FoundBoxes, KindMap
from zellige.core.types import Calibration, Color, Decision, Geometry, GeometryMode, LabelledBox, Sample
from zellige.data.dataset import TileDataset
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.report import EvaluationReport, evaluate
from zellige.export.build_bundle import Identity, Optics, export_bundle
from zellige.export.named_parity import defects_iou
from zellige.export.parity import Parity, verify_parity
from zellige.finished_run import _calibration
from zellige.station.describe import describe
from zellige.station.records import to_record
from zellige.station.roll_setup import RollOptions, prepare_roll
from zellige.station.runtime import Runtime, inspect
from zellige.training import predict as predicting
from zellige.training.predict import predict

GEOMETRY = Geometry(mode=GeometryMode.TILES, height=64, width=64, overlap_px=16)
IDENTITY = Identity(run_name="spots", data_fingerprint="d" * 64, git_commit=None, detector_name="spots")
LEVEL = {"bright": 255, "dark": 0}
SIDE = 14
RULES = (KindRule(kind="bright", severity=Severity.CRITICAL), KindRule(kind="dark", severity=Severity.MINOR))


def make_samples(folder: Path, num_good: int, num_defective: int) -> list[Sample]:
    """Mid-gray images of 96 x 160 px; the defective ones have a square, and the last one has both kinds.

    The squares wander over the borders of the tiles, which lie at 0, 32 and 0, 48, 96.
    """
    samples = []
    for index in range(num_good + num_defective):
        rng = np.random.default_rng(index)
        pixels = rng.integers(118, 139, (96, 160)).astype(np.uint8)
        boxes = []
        number = index - num_good
        wanted = [] if number < 0 else list(KINDS) if number == num_defective - 1 else [KINDS[number % 2]]
        for place, kind in enumerate(wanted):
            x, y = (7 + 11 * number + 70 * place) % (160 - SIDE), (5 + 7 * number + 40 * place) % (96 - SIDE)
            pixels[y : y + SIDE, x : x + SIDE] = LEVEL[kind]
            boxes.append(LabelledBox(kind=kind, box_px=(x, y, x + SIDE, y + SIDE)))
        path = folder / f"{index:02}.png"
        save_image(path, pixels)
        kind = boxes[0].kind if boxes else "good"
        samples.append(Sample(id=path.stem, image_path=path, kind=kind, group_id=path.stem, boxes=tuple(boxes)))
    return samples


@dataclass(frozen=True, kw_only=True)
class Road:
    detector: SpotRegions | SpotBoxes
    dataset: TileDataset
    fabric: Fabric
    test: PredictionSet
    calibration: Calibration
    report: EvaluationReport
    path: Path
    bundle: ModelBundle
    parity: Parity


@pytest.fixture(scope="module", params=[SpotRegions, SpotBoxes])
def road(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Road:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("spots")
    detector, fabric = request.param(), Fabric(accelerator="cpu", devices=1)
    val, test = (
        TileDataset(make_samples(root / "images" / name, 8, num), geometry=GEOMETRY, color=Color.GRAY)
        for name, num in (("val", 6), ("test", 9))
    )
    on_val = predict(detector, val, "val", fabric=fabric, out_dir=root)
    on_test = predict(detector, test, "test", fabric=fabric, out_dir=root)
    calibration = calibrate(on_val, Target(), kind_rules=RULES)
    report = evaluate(on_test, calibration)
    optics = Optics(geometry=GEOMETRY, color=Color.GRAY, pixel_size=None)
    path = root / "spots.zellige"
    bundle, parity = export_bundle(detector, calibration, report.to_json(), on_test, optics, IDENTITY, path)
    return Road(
        detector=detector,
        dataset=test,
        fabric=fabric,
        test=on_test,
        calibration=calibration,
        report=report,
        path=path,
        bundle=bundle,
        parity=parity,
    )


def test_predictions_hold_what_is_named(road: Road) -> None:
    assert road.test.kinds == KINDS
    form = KindMap if isinstance(road.detector, SpotRegions) else FoundBoxes
    assert {type(prediction.named) for prediction in road.test} == {form}


def test_every_drawn_defect_is_found_once_with_its_kind_however_tiles_cut_it(road: Road) -> None:
    """Without rules; the squares are known to the pixel, and a smoothed square loses its corners only."""
    calibration = dataclasses.replace(road.calibration, kind_rules=())
    for prediction in road.test:
        decision, defects, _ = decide(prediction.score, prediction.anomaly_map, calibration, named=prediction.named)
        expected = sorted((box.kind, box.box_px) for box in prediction.sample.boxes)
        assert sorted((defect.kind, defect.box_px) for defect in defects) == expected
        assert decision is (Decision.REJECT if expected else Decision.ACCEPT)


def test_the_threshold_lies_strictly_between_good_and_defective_scores(road: Road) -> None:
    is_defective = road.test.is_defective
    assert road.test.scores[~is_defective].max() < road.calibration.accept_score == road.calibration.reject_score
    assert road.calibration.reject_score < road.test.scores[is_defective].min()
    assert road.calibration.pixel_threshold <= road.calibration.accept_score


def test_rules_decide_in_the_report_as_on_the_station(road: Road) -> None:
    runtime = Runtime(road.bundle)
    for prediction, row in zip(road.test, road.report.samples, strict=True):
        kinds = {box.kind for box in prediction.sample.boxes}
        verdict = inspect(runtime, read_frame(prediction.sample.image_path, color=Color.GRAY, pixel_size=None))
        expected = Decision.REJECT if "bright" in kinds else Decision.ACCEPT  # dark ones are minor
        assert verdict.decision is row.decision is expected
        assert {defect.kind for defect in verdict.defects} == kinds  # and listed
        _, ours, _ = decide(prediction.score, prediction.anomaly_map, road.calibration, named=prediction.named)
        assert [(d.kind, d.box_px) for d in verdict.defects] == [(d.kind, d.box_px) for d in ours]
        record = json.loads(json.dumps(to_record(verdict, sequence=0, is_calibrated=False)))
        assert [defect["kind"] for defect in record["defects"]] == [defect.kind for defect in verdict.defects]


def test_parity_is_measured_on_every_image(road: Road) -> None:
    assert road.parity.num_images == len(road.test) == 17
    assert road.parity.min_defect_iou is not None
    assert 0.99 < road.parity.min_defect_iou <= 1


def test_the_bundle_says_its_kinds_and_rules(road: Road) -> None:
    assert (road.bundle.manifest.kinds, road.bundle.manifest.backbone) == (KINDS, None)
    assert road.bundle.manifest.calibration == road.calibration
    words = describe(road.bundle)
    for line in ("kinds          bright, dark", "rule           bright: critical", "rule           dark: minor"):
        assert line in words.splitlines()


def test_two_processes_store_what_one_stores(road: Road, tmp_path: Path) -> None:
    for rank in range(2):
        own = range(rank, len(road.dataset), 2)
        predicting._predict(
            road.detector, road.dataset, own, "test", road.fabric, predicting._part(tmp_path, "test", rank), 8
        )
    predicting._join_parts(road.dataset.samples, "test", 2, tmp_path, KINDS)
    assert PredictionSet.load(tmp_path / "test", road.dataset.samples).fingerprint == road.test.fingerprint


def test_a_graph_that_names_otherwise_is_refused(road: Road) -> None:
    """The same scores and maps, the kinds exchanged: nothing but the defects differs."""
    runtime = _Renamed(Runtime(road.bundle))
    calibration = dataclasses.replace(road.calibration, kind_rules=())
    with pytest.raises(BundleError, match="other defects on 9 of 17 images"):
        verify_parity(road.test, runtime, calibration, color=Color.GRAY, tolerance=1e-3)


class _Renamed:
    """A runtime whose graph gives the numbers of the other kind."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def run(self, frame):
        score, anomaly_map, named = self._runtime.run(frame)
        if isinstance(named, KindMap):
            return score, anomaly_map, KindMap(numbers=np.array([0, 2, 1], np.uint8)[named.numbers], kinds=KINDS)
        boxes = named.boxes.copy()
        boxes[:, 5] = 3 - boxes[:, 5]
        return score, anomaly_map, FoundBoxes(boxes=boxes, kinds=KINDS)


def test_a_model_without_the_output_that_names_is_refused(road: Road) -> None:
    model = onnx.load_from_string(road.bundle.model_onnx)
    del model.graph.output[2]
    members = {**road.bundle.members, "model.onnx": model.SerializeToString()}
    with pytest.raises(
        BundleError, match="outputs anomaly_map, score and kind_map or boxes; got images and anomaly_map"
    ):
        Runtime(dataclasses.replace(road.bundle, members=members))
    silent = road.bundle.manifest.model_copy(update={"kinds": ()})
    with pytest.raises(BundleError, match="outputs anomaly_map, score; got"):
        Runtime(dataclasses.replace(road.bundle, manifest=silent))


def test_the_operating_point_of_a_finished_run_is_read_with_its_rules(road: Road) -> None:
    stored = json.loads(json.dumps(road.report.to_json()))["calibration"]
    assert _calibration(stored) == road.calibration
    del stored["kind_rules"]  # of a run that knew none
    assert _calibration(stored) == dataclasses.replace(road.calibration, kind_rules=())


def test_a_roll_is_not_judged_by_boxes_or_with_rules_of_kinds(road: Road, tmp_path: Path) -> None:
    words = (
        "expected no rules of kinds" if isinstance(road.detector, SpotRegions) else "got one that draws boxes of bright"
    )
    with pytest.raises(InputError, match=words):
        prepare_roll(road.path, tmp_path, None, RollOptions())


def test_iou_of_defects_passes_over_what_is_at_the_threshold() -> None:
    """10 of 100 pixels differ: IoU 0.9, unless their level is the threshold itself."""
    ours, theirs = np.zeros((10, 20), np.float32), np.zeros((10, 20), np.float32)
    ours[:, :10], theirs[:, :9] = 0.9, 0.9
    kinds = KindMap(numbers=np.ones((10, 20), np.uint8), kinds=KINDS)
    assert defects_iou(kinds, ours, kinds, theirs, threshold=0.5, slack=1e-3) == pytest.approx(0.9)
    ours[:, 9], theirs[:, 9] = 0.5001, 0.4999
    assert defects_iou(kinds, ours, kinds, theirs, threshold=0.5, slack=1e-3) == 1
    other = KindMap(numbers=np.full((10, 20), 2, np.uint8), kinds=KINDS)
    assert defects_iou(kinds, ours, other, theirs, threshold=0.5, slack=1e-3) == 0
