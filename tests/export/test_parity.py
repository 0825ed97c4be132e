"""The gate: torch's stored predictions against a runtime that may be of another model."""

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from tests.export.conftest import Judged
from zellige.core.bundle import ModelBundle, read_bundle
from zellige.core.errors import BundleError
from zellige.core.types import Color
from zellige.evaluation.predictions import PredictionSet, PredictionWriter
from zellige.export.parity import Parity, verify_parity
from zellige.models.patchcore import PatchCore
from zellige.station.runtime import Runtime


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> ModelBundle:
    return read_bundle(bundle_path)


def runtime_of(bundle: ModelBundle, output: str, *, factor: float = 1.0, offset: float = 0.0) -> Runtime:
    """The bundle's runtime with one of the graph's outputs turned into factor * output + offset."""
    model = onnx.load_from_string(bundle.model_onnx)
    for node in model.graph.node:
        node.output[:] = [f"true_{output}" if name == output else name for name in node.output]
        node.input[:] = [f"true_{output}" if name == output else name for name in node.input]
    for name, value in (("wrong_factor", factor), ("wrong_offset", offset)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    model.graph.node.append(helper.make_node("Mul", [f"true_{output}", "wrong_factor"], [f"scaled_{output}"]))
    model.graph.node.append(helper.make_node("Add", [f"scaled_{output}", "wrong_offset"], [output]))
    members = {**bundle.members, "model.onnx": model.SerializeToString()}
    return Runtime(ModelBundle(id=hashlib.sha256(b"wrong").hexdigest(), manifest=bundle.manifest, members=members))


def verify(judged: Judged, runtime: Runtime, *, predictions: PredictionSet | None = None, **changes) -> Parity:
    calibration = dataclasses.replace(judged.calibration, **changes)
    return verify_parity(predictions or judged.test, runtime, calibration, color=Color.GRAY, tolerance=1e-3)


def test_the_exported_graph_agrees(judged: Judged, bundle: ModelBundle) -> None:
    parity = verify(judged, Runtime(bundle))
    assert parity.num_images == len(judged.test) == 12
    assert 0 <= parity.max_relative_score_difference < 1e-4
    assert 0 <= parity.max_relative_map_difference < 1e-4


@pytest.mark.parametrize("factor", [1.005, 0.995])
def test_scores_a_little_off_are_refused(judged: Judged, bundle: ModelBundle, factor: float) -> None:
    runtime = runtime_of(bundle, "score", factor=factor)
    with pytest.raises(BundleError, match=r"scores differ by 0\.005 \(relative\), expected at most 0\.001"):
        verify(judged, runtime, reject_score=1e6, accept_score=-1e6)


def test_scores_within_the_tolerance_pass_and_are_told(judged: Judged, bundle: ModelBundle) -> None:
    parity = verify(judged, runtime_of(bundle, "score", factor=1.0005), reject_score=1e6, accept_score=-1e6)
    assert parity.max_relative_score_difference == pytest.approx(5e-4, rel=0.01)


def test_another_verdict_is_refused_however_close_the_score(judged: Judged, bundle: ModelBundle) -> None:
    """A threshold between torch's score of one image and a runtime's that is a hair higher."""
    score = float(np.sort(judged.test.scores)[5])
    limit = math.nextafter(score * (1 + 1e-5), math.inf)
    runtime = runtime_of(bundle, "score", factor=1 + 1e-4)
    first = judged.test.samples[int(np.argsort(judged.test.scores)[5])].id
    with pytest.raises(BundleError, match=rf"other verdicts on 1 of 12 images, first {first}; expected the same"):
        verify(judged, runtime, reject_score=limit, accept_score=limit)


@pytest.mark.parametrize("change", [{"factor": 1.01}, {"offset": 0.5}])
def test_other_maps_are_refused_though_score_and_verdict_agree(
    judged: Judged, bundle: ModelBundle, change: dict
) -> None:
    with pytest.raises(BundleError, match=r"maps differ by .* \(relative\), expected at most 0\.001"):
        verify(judged, runtime_of(bundle, "anomaly_map", **change), reject_score=1e6, accept_score=1e6)


@pytest.mark.parametrize("output", ["score", "anomaly_map"])
def test_a_runtime_without_numbers_is_refused_also_where_both_are_undecided(
    judged: Judged, bundle: ModelBundle, output: str
) -> None:
    runtime = runtime_of(bundle, output, offset=math.nan)
    with pytest.raises(BundleError, match="other verdicts on 12 of 12"):
        verify(judged, runtime, reject_score=1e6, accept_score=1e6)
    with pytest.raises(BundleError, match="differ by nan"):
        verify(judged, runtime, reject_score=1e6, accept_score=-1e6)


def test_a_graph_of_another_detector_is_refused_and_the_old_bundle_survives(
    judged: Judged, bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.zellige"
    before = bundle_path.read_bytes()
    path.write_bytes(before)
    other = PatchCore(bank_size=128).eval()
    other.load_state_dict(judged.fitted.detector.state_dict())
    other.banks[0].vectors = other.banks[0].vectors[torch.randperm(128)[:20]]
    with pytest.raises(BundleError, match=r"export: torch and ONNX Runtime"):
        judged.export(path, detector=other)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.zellige"]


def test_predictions_of_other_images_are_refused(judged: Judged, bundle: ModelBundle, tmp_path: Path) -> None:
    """Two samples with their predictions swapped: the gate looks at each image, not at the set."""
    swapped = [judged.test[0], judged.test[len(judged.test) - 1]]
    with PredictionWriter(tmp_path / "test", "test", [p.sample for p in swapped]) as writer:
        writer.write(swapped[0].sample.id, swapped[1].score, swapped[1].anomaly_map)
        writer.write(swapped[1].sample.id, swapped[0].score, swapped[0].anomaly_map)
        predictions = writer.close()
    with pytest.raises(BundleError, match="scores differ"):
        verify(judged, Runtime(bundle), predictions=predictions, reject_score=1e6, accept_score=1e6)
