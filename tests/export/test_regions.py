"""Ignore regions from the fit to the station: both sides see the same, and neither sees what is ignored."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.conftest import make_image_set
from tests.export.conftest import IDENTITY
from tests.training.conftest import GEOMETRY, Fitted
from zellige.core.ignore import IgnoredShape
from zellige.core.image_files import read_frame
from zellige.core.tiling import cut, join
from zellige.core.types import AnomalyMap, Calibration, Decision, Frame
from zellige.data.dataset import TileDataset
from zellige.data.index import Fractions, load_splits
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.report import EvaluationReport, evaluate
from zellige.export.build_bundle import Optics, export_bundle
from zellige.models.patchcore import PatchCore
from zellige.station.runtime import Runtime, inspect, replay_golden
from zellige.training.one_pass import fit
from zellige.training.predict import predict

REGION = (slice(6, 28), slice(8, 30))
"""Around the first of the six holes in TEST, and over a part of the second."""
REGIONS = dataclasses.replace(GEOMETRY, ignore=(IgnoredShape(box=(8, 6, 30, 28)),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Released:
    detector: PatchCore
    test: PredictionSet
    calibration: Calibration
    report: EvaluationReport
    runtime: Runtime

    def frame(self, kind: str, index: int = 0) -> Frame:
        sample = [s for s in self.test.samples if s.kind == kind][index]
        return read_frame(sample.image_path, color=self.runtime.bundle.manifest.color)


@pytest.fixture(scope="module")
def released(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Released:
    root = tmp_path_factory.mktemp("regions")
    splits, _ = load_splits(make_image_set(root / "images"), "folder", Fractions(), seed=0)
    train, val, test = (
        TileDataset(getattr(splits, name), geometry=REGIONS, color=splits.color) for name in ("train", "val", "test")
    )
    detector = PatchCore(bank_size=128)
    fit(detector, train, val, fabric=fitted.fabric, run_dir=root, batch_size=8)
    on_val, on_test = (
        predict(detector, data, name, fabric=fitted.fabric, out_dir=root)
        for name, data in (("val", val), ("test", test))
    )
    calibration = calibrate(on_val, Target())
    report = evaluate(on_test, calibration)
    optics = Optics(geometry=REGIONS, color=splits.color, pixel_size=None)
    bundle, parity = export_bundle(
        detector, calibration, report.to_json(), on_test, optics, IDENTITY, root / "r.zellige"
    )
    assert parity.num_images == 12
    assert 0 < parity.max_relative_map_difference < 1e-3
    runtime = Runtime(bundle, num_threads=1)
    replay_golden(runtime)
    return Released(detector=detector, test=on_test, calibration=calibration, report=report, runtime=runtime)


def by_torch(detector: PatchCore, frame: Frame) -> tuple[float, AnomalyMap]:
    tiles = cut(frame, REGIONS)
    with torch.inference_mode():
        output = detector(torch.from_numpy(tiles.pixels))
    return float(output.score.max()), join(output.anomaly_map[:, 0].numpy(), tiles)


def test_the_hole_in_the_region_is_reported_and_the_others_are_found(released: Released) -> None:
    (ignored,) = [row for row in released.report.samples if row.is_ignored]
    assert "hole/00" in ignored.id
    assert released.report.num_defective == 5
    assert released.report.escape_rate.value == 0.0
    assert inspect(released.runtime, released.frame("hole", 0)).decision is Decision.ACCEPT
    assert inspect(released.runtime, released.frame("hole", 1)).decision is Decision.REJECT


@pytest.mark.parametrize("level", [0, 255])
def test_neither_side_sees_what_is_ignored(released: Released, level: int) -> None:
    clean = released.frame("good")
    pixels = clean.pixels.copy()
    pixels[REGION] = level
    painted = dataclasses.replace(clean, pixels=pixels)
    (score, anomaly_map), (other_score, other_map) = (by_torch(released.detector, one) for one in (clean, painted))
    assert score == other_score
    np.testing.assert_array_equal(anomaly_map, other_map)
    verdicts = [inspect(released.runtime, one) for one in (clean, painted)]
    assert verdicts[0].score == verdicts[1].score == pytest.approx(score, rel=1e-3)
    assert verdicts[0].decision is verdicts[1].decision
    pixels[40:60, 60:80] = level  # the same outside
    assert inspect(released.runtime, dataclasses.replace(clean, pixels=pixels)).decision is Decision.REJECT
