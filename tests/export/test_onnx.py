from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import uses_external_data

from tests.export.conftest import Judged
from zellige.core.bundle import read_bundle


@pytest.fixture(scope="module")
def graph(bundle_path: Path) -> onnx.ModelProto:
    return onnx.load_from_string(read_bundle(bundle_path).model_onnx)


def signature(value: onnx.ValueInfoProto) -> tuple[str, int, list[int | None]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [d.dim_value or None for d in tensor.shape.dim]


def test_inputs_and_outputs_are_the_contracts(graph: onnx.ModelProto) -> None:
    assert [signature(value) for value in graph.graph.input] == [("images", onnx.TensorProto.UINT8, [None, 1, 64, 64])]
    names = [signature(value)[:2] for value in graph.graph.output]
    assert names == [("anomaly_map", onnx.TensorProto.FLOAT), ("score", onnx.TensorProto.FLOAT)]


def test_it_is_valid_and_stands_alone(graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(graph, full_check=True)
    assert not any(uses_external_data(tensor) for tensor in graph.graph.initializer)
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}


def test_it_says_nothing_of_the_machine_that_made_it(graph: onnx.ModelProto) -> None:
    assert b"/site-packages/" not in graph.SerializeToString()
    assert b"/src/zellige/" not in graph.SerializeToString()


def test_the_detector_is_left_as_it_was(judged: Judged, bundle_path: Path) -> None:
    """Its activations write into their inputs, which they do not while it is exported."""
    is_in_place = [part.inplace for part in judged.fitted.detector.modules() if hasattr(part, "inplace")]
    assert is_in_place
    assert all(is_in_place)
