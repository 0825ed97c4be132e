"""A small fitted detector, predicted, calibrated and evaluated: what an export starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import GEOMETRY, Fitted, fitted
from zellige.core.bundle import ModelBundle
from zellige.core.types import Calibration
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.report import evaluate
from zellige.export.build_bundle import Identity, Optics, export_bundle
from zellige.export.parity import Parity
from zellige.training.predict import predict

__all__ = ["fitted"]

IDENTITY = Identity(
    run_name="mosaic-1",
    data_fingerprint="d" * 64,
    git_commit="c0ffee",
    detector_name="patchcore",
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    fitted: Fitted
    test: PredictionSet
    calibration: Calibration
    report: dict[str, Any]

    @property
    def optics(self) -> Optics:
        return Optics(geometry=GEOMETRY, color=self.fitted.splits.color, pixel_size=None, target_dn=180.0)

    def export(self, path: Path, **changes: Any) -> tuple[ModelBundle, Parity]:
        arguments = {
            "detector": self.fitted.detector,
            "calibration": self.calibration,
            "report": self.report,
            "predictions": self.test,
            "optics": self.optics,
            "identity": IDENTITY,
            "path": path,
        }
        return export_bundle(**{**arguments, **changes})


@pytest.fixture(scope="session")
def judged(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    on_val, on_test = (
        predict(fitted.detector, fitted.dataset(split), split, fabric=fitted.fabric, out_dir=folder)
        for split in ("val", "test")
    )
    calibration = calibrate(on_val, Target())
    report = evaluate(on_test, calibration).to_json()
    return Judged(fitted=fitted, test=on_test, calibration=calibration, report=report)


@pytest.fixture(scope="session")
def bundle_path(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "mosaic-1.zellige"
    judged.export(path)
    return path
