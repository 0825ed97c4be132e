"""Weight files made by the tests: the libraries' own state dicts of small nets with drawn weights."""

import tempfile
from functools import cache
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.layers import PatchEmbed
from torch import nn

_FOLDER = tempfile.TemporaryDirectory(prefix="zellige-weights-")


def drawn(library: str, model: str, seed: int = 0) -> nn.Module:
    """A library's model with drawn weights; its batch norms have seen something, its patches have a bias.

    Without the bias, tokens of a brighter patch would be longer and have the same direction.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = timm.create_model(model) if library == "timm" else torchvision.models.get_model(model)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
            if isinstance(module, PatchEmbed):
                nn.init.normal_(module.proj.bias, 0, 0.5)
    return net.eval()


@cache
def weight_file(library: str, model: str, seed: int = 0) -> Path:
    """The state dict of `drawn` as a safetensors file."""
    path = Path(_FOLDER.name) / f"{library}-{model}-{seed}.safetensors"
    save_file({key: value.contiguous() for key, value in drawn(library, model, seed).state_dict().items()}, path)
    return path


def named(library: str, model: str, seed: int = 0) -> str:
    """The name of a backbone with such a file."""
    return f"{library}:{model}@{weight_file(library, model, seed)}"
