"""From a fitted detector to one ONNX graph: raw uint8 tiles in; anomaly map, score and perhaps kinds out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from zellige.core.types import Color, Geometry
from zellige.models.detector import BoxOutput, DetectorOutput, NamedOutput

_MOST_TILES = 256


class _Outputs(nn.Module):
    """The detector with its output as a plain tuple, which is what a graph can return."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.detector(images)
        more = [getattr(output, name) for name in _names(output)[2:]]
        return (output.anomaly_map, output.score, *more)


def _names(output: DetectorOutput) -> list[str]:
    third: dict[type[DetectorOutput], list[str]] = {NamedOutput: ["kind_map"], BoxOutput: ["boxes"]}
    return ["anomaly_map", "score", *third.get(type(output), [])]


def to_onnx(detector: nn.Module, *, geometry: Geometry, color: Color) -> bytes:
    """Export a fitted detector.

    Returns:
        An ONNX model without external data: input `images` uint8 (B, C, h, w) with any B, outputs `anomaly_map`
        float32 (B, 1, h, w) and `score` float32 (B,), and of a detector that names `kind_map` uint8 (B, 1, h, w) or
        `boxes` float32 (B, N, 6). Scaling, normalization and color handling are inside.
    """
    wrapped = _Outputs(detector).cpu().eval()
    num_channels = color.num_channels * (2 if getattr(detector, "is_pair", False) else 1)
    example = torch.zeros((2, num_channels, geometry.height, geometry.width), dtype=torch.uint8)
    with torch.no_grad():
        names = _names(detector(example))
    batch = torch.export.Dim("batch", min=1, max=_MOST_TILES)
    for talkative in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    with warnings.catch_warnings(), _nothing_in_place(wrapped):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            wrapped,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=names,
            dynamic_shapes={"images": {0: batch}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip_traces(model)
    return bytes(model.SerializeToString())


@contextmanager
def _nothing_in_place(module: nn.Module) -> Iterator[None]:
    """Let no activation write into its input; the exporter takes each one that does apart, for a third of its time."""
    changed: list[Any] = [part for part in module.modules() if getattr(part, "inplace", False) is True]
    for part in changed:
        part.inplace = False
    try:
        yield
    finally:
        for part in changed:
            part.inplace = True


def _strip_traces(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: they hold this machine's paths, and one detector must give the same bytes anywhere."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
