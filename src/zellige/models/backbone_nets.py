"""From a backbone's name to a net with its weights, cut off after chosen stages.

A stage is a place in the net that one can take feature maps from, numbered from 0 and ascending in depth: for a
convolutional net the last layer of each stride, for a vision transformer every block.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.layers.patch_embed import PatchEmbed
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.fx import GraphModule
from torchvision.models.feature_extraction import create_feature_extractor

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbone_weights import SOURCES, STRIDES, Origin, locate, read_state_dict, weight_file
from zellige.models.folding import fold_batch_norms, folded_if_same
from zellige.models.vit import TokenMaps

_PROBE_PX = 128
_MISFITS = (RuntimeError, KeyError, AttributeError, AssertionError)
"""What loading a file of another model raises."""
_OTHERS = ("vit_", "swin_", "maxvit", "googlenet", "inception")
"""Beginnings of the names of torchvision's models that are no row of layers, or change the colors of their input."""
_ROWS_OF_LAYERS = ("features", "layers", "trunk_output")
"""Names under which torchvision's nets list their layers one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trunk:
    """A net in evaluation mode from normalized images (B, 3, H, W) to one map (B, D_i, h_i, w_i) per chosen stage."""

    net: nn.Module
    num_channels: tuple[int, ...]
    strides: tuple[int, ...]
    """Px from one place of a stage's map to the next."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the RGB channels in [0, 1] that the net was trained with."""
    origin: Origin


def load_trunk(name: str, stages: Sequence[int]) -> Trunk:
    """Load a backbone: a key of `SOURCES`, `timm:MODEL` or `torchvision:MODEL`, these two also with `@FILE`.

    Raises:
        ConfigError: an unknown name or stage, a model without stages, weights that are not there.
        InputError: a weight file that is damaged, of another model, or not the published one.
    """
    library, _, rest = name.partition(":")
    model, at, file = rest.partition("@")
    path = Path(file) if at else None
    if name in SOURCES:
        return _packaged(name, stages)
    if library == "timm" and timm.is_model(model):
        return _of_timm(model, path, stages)
    if library == "torchvision" and model in torchvision.models.list_models(module=torchvision.models):
        return _of_torchvision(model, path, stages)
    if library in ("timm", "torchvision"):
        raise ConfigError(f"backbone: expected the name of a model after {library}:, got {model!r}")
    raise ConfigError(f"backbone: expected one of {', '.join(SOURCES)}, timm:NAME or torchvision:NAME, got {name!r}")


def _packaged(name: str, stages: Sequence[int]) -> Trunk:
    source = SOURCES[name]
    _check_stages(stages, len(source.strides))
    path = weight_file(source)
    full = _made(source.timm_name, pretrained=False)
    full.load_state_dict(source.read(path, full), strict=True)
    net, num_channels, strides = _cut_timm(full, source.timm_name, stages)
    fold_batch_norms(net)
    return Trunk(
        net=net,
        num_channels=num_channels,
        strides=strides,
        mean=source.mean,
        std=source.std,
        origin=Origin(name=name, source=source.requirement, sha256=source.sha256, license=source.license),
    )


def _of_timm(model: str, file: Path | None, stages: Sequence[int]) -> Trunk:
    """Load timm's model from a file with its names, or with those of a publisher that timm knows how to turn."""
    path, origin = locate("timm", model, file)
    weights = read_state_dict(path)
    try:
        full = _made(model, pretrained=True, pretrained_cfg_overlay={"state_dict": weights, "custom_load": False})
    except _MISFITS as error:
        raise _other_weights(path, model, error) from None
    about = full.pretrained_cfg
    full.pretrained_cfg = full.default_cfg = {key: value for key, value in about.items() if key != "state_dict"}
    absent = [name for name, _ in full.named_parameters() if name not in weights]
    if absent:
        first = _made(model, pretrained=False).state_dict()
        left = [name for name in absent if torch.equal(full.get_parameter(name), first[name])]
        if left:  # some of timm's models are loaded leniently, which leaves first weights where the file has none
            raise _other_weights(path, model, KeyError(f"nothing for {left[0]}"))
    net, num_channels, strides = _cut_timm(full, model, stages)
    return Trunk(
        net=net if isinstance(net, TokenMaps) else folded_if_same(net),
        num_channels=num_channels,
        strides=strides,
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        origin=origin,
    )


def _made(model: str, **settings: Any) -> Any:
    """Make timm's model, its first weights always the same ones, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(model, **settings).eval().requires_grad_(False)


def _cut_timm(full: Any, model: str, stages: Sequence[int]) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    """Cut timm's full model off after its stages: the net, and per stage the channels and the stride."""
    known = getattr(full, "feature_info", None)
    if not known:
        raise ConfigError(f"backbone: expected a model with stages, timm's {model} has none")
    _check_stages(stages, len(known))
    strides = tuple(int(known[stage]["reduction"]) for stage in stages)
    if type(full) is VisionTransformer and type(full.patch_embed) is PatchEmbed:
        return TokenMaps(full, stages), (full.embed_dim,) * len(stages), strides
    if full.pretrained_cfg.get("fixed_input_size"):
        raise ConfigError(f"backbone: expected a model for images of any size, timm's {model} takes one size alone")
    try:
        net = _made(model, features_only=True, out_indices=tuple(stages), pretrained=False)
        _move(full.state_dict(), net)
    except _MISFITS as error:
        line = " ".join(str(error).split())[:200]
        raise ConfigError(f"backbone: timm's {model} cannot be cut into its stages ({line})") from None
    if isinstance(net, EfficientNetFeatures):  # timm runs, and keeps, the blocks behind the last stage too
        net.blocks = net.blocks[: max(net._stage_out_idx)]
    return net, tuple(net.feature_info.channels()), strides


def _move(weights: Mapping[str, Tensor], net: nn.Module) -> None:
    """Load the weights of a full model into its stages, whose names timm writes with other dots or a prefix."""
    plain = {key.replace("_", "."): value for key, value in weights.items()}
    if len(plain) != len(weights):
        raise KeyError("names of its weights differ in dots alone")
    net.load_state_dict({key: plain[key.removeprefix("model.").replace("_", ".")] for key in net.state_dict()})


def _of_torchvision(model: str, file: Path | None, stages: Sequence[int]) -> Trunk:
    if model.startswith(_OTHERS):
        raise ConfigError(
            f"backbone: expected a plain convolutional model, got torchvision's {model}; timm has transformers"
        )
    path, origin = locate("torchvision", model, file)
    weights = read_state_dict(path)
    with torch.random.fork_rng(devices=[]):
        full = torchvision.models.get_model(model, weights=None)
    try:
        full.load_state_dict(weights, strict=True)
    except (RuntimeError, ValueError) as error:  # MNASNet wants a version that a safetensors file does not hold
        raise _other_weights(path, model, error) from None
    full.eval().requires_grad_(False)
    points = _points(full)
    if not points:
        raise ConfigError(f"backbone: expected a model with stages of stride {STRIDES}, torchvision's {model} has none")
    _check_stages(stages, len(points))
    chosen = [points[stage] for stage in stages]
    traced = create_feature_extractor(full, [point.name for point in chosen], suppress_diff_warning=True).eval()
    net = _Listed(GraphModule(traced, traced.graph))
    transforms = torchvision.models.get_model_weights(model).DEFAULT.transforms()
    return Trunk(
        net=folded_if_same(net.eval()),
        num_channels=tuple(point.num_channels for point in chosen),
        strides=tuple(point.stride for point in chosen),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        origin=origin,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """Where torchvision's net has a stage."""

    name: str
    num_channels: int
    stride: int


def _points(full: nn.Module) -> list[_Point]:
    """Find the last layer of each stride in `STRIDES` by looking at an image once."""
    found: dict[int, _Point] = {}

    def watch(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and _PROBE_PX % output.shape[2] == 0:
                stride = _PROBE_PX // output.shape[2]
                found[stride] = _Point(name=name, num_channels=output.shape[1], stride=stride)

        return note

    handles = [layer.register_forward_hook(watch(name)) for name, layer in _layers(full)]
    with torch.no_grad():
        full(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX))
    for handle in handles:
        handle.remove()
    return [found[stride] for stride in STRIDES if stride in found]


def _layers(full: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in full.named_children():
        if name in _ROWS_OF_LAYERS:
            yield from ((f"{name}.{inner}", layer) for inner, layer in child.named_children())
        else:
            yield name, child


class _Listed(nn.Module):
    """A feature extractor of torchvision, with a list for its dictionary."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.extractor(images).values())


def _check_stages(stages: Sequence[int], count: int) -> None:
    if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= set(range(count)):
        raise ConfigError(f"backbone stages: expected ascending indices from 0 to {count - 1}, got {list(stages)}")


def _other_weights(path: Path, model: str, error: Exception) -> InputError:
    line = " ".join(str(error).split())[:200]
    return InputError(f"backbone weights {path}: expected those of {model}, with its classifier, got others ({line})")
