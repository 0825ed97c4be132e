"""Backbones of libraries from weight files made here, against the libraries' own way to the same features."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from tests.models.library_images import close, images, normalized
from tests.models.weight_files import drawn, named, weight_file
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, Geometry, GeometryMode
from zellige.export.onnx import to_onnx
from zellige.models import folding
from zellige.models.backbones import FrozenBackbone
from zellige.models.patchcore import PatchCore
from zellige.models.vit import TokenMaps
from zellige.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def resnet_stages(net: nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
    stem = net.relu(net.bn1(net.conv1(batch)))
    stages = [stem, net.layer1(net.maxpool(stem))]
    for layer in (net.layer2, net.layer3, net.layer4):
        stages.append(layer(stages[-1]))
    return stages


def row_stages(net: nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
    """The last of the outputs of one size."""
    outputs = [batch]
    for layer in net.features:
        outputs.append(layer(outputs[-1]))
    return [
        one
        for one, after in zip(outputs, [*outputs[1:], None], strict=True)
        if one is not batch and (after is None or after.shape[2] != one.shape[2])
    ]


@pytest.mark.parametrize(("model", "reference"), [("resnet18", resnet_stages), ("mobilenet_v3_small", row_stages)])
def test_stages_of_torchvision(model: str, reference: Callable) -> None:
    with torch.no_grad():
        expected = reference(drawn("torchvision", model), normalized(images()))
        backbone = FrozenBackbone(named("torchvision", model), range(5))
        found = backbone(images())
        alone = FrozenBackbone(named("torchvision", model), [2])(images())
    assert backbone.strides == (2, 4, 8, 16, 32)
    assert backbone.num_channels == tuple(stage.shape[1] for stage in expected)
    assert all(close(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert close(alone[0], expected[2])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext"])
def test_stages_of_timm(model: str) -> None:
    """Of the second one timm calls the layers otherwise in the full model and in its stages."""
    full = drawn("timm", model)
    plain = timm.create_model(
        model, features_only=True, pretrained=True, pretrained_cfg_overlay={"state_dict": full.state_dict()}
    ).eval()
    stages = range(len(plain.feature_info.info))
    backbone = FrozenBackbone(named("timm", model), stages)
    with torch.no_grad():
        expected = plain(normalized(images(), model))
        found = backbone(images())
    assert backbone.strides == tuple(plain.feature_info.reduction())
    assert backbone.num_channels == tuple(plain.feature_info.channels())
    assert all(close(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_the_form_of_the_file_does_not_matter(model: str, tmp_path: Path) -> None:
    tensors = load_file(weight_file("timm", model))
    torch.save(tensors, tmp_path / "plain.pth")
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "training.pth")
    expected = FrozenBackbone(named("timm", model), [1])(images())
    for name in ("plain.pth", "training.pth"):
        backbone = FrozenBackbone(f"timm:{model}@{tmp_path / name}", [1])
        assert torch.equal(backbone(images())[0], expected[0])
        assert backbone.origin.name == f"timm:{model}"
        assert backbone.origin.source == f"file {name}"
        assert backbone.origin.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_loading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    FrozenBackbone(named("timm", "test_vit"), [1])
    FrozenBackbone(named("torchvision", "mobilenet_v3_small"), [1])
    assert torch.equal(torch.rand(3), expected)


class _Crossed(nn.Module):
    """Two convolutions listed one after the other with one batch norm, which is used first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.running_mean, 2.0)

    def forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(self.norm(batch))]


def test_a_folding_that_would_change_the_features_is_not_done() -> None:
    net = _Crossed().eval()
    assert folding.folded_if_same(net) is net


class _Code:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("made-by-a-weight-file",)


def other_files(folder: Path) -> dict[str, Path]:
    """Files that are not what they should be."""
    resnet = load_file(weight_file("timm", "test_resnet"))
    paths = {name: folder / f"{name}.pth" for name in ("absent", "damaged", "code", "list", "lacking")}
    paths["damaged"].write_bytes(b"no tensors at all")
    torch.save({"weight": _Code()}, paths["code"])
    torch.save([torch.zeros(3)], paths["list"])
    torch.save({key: value for key, value in resnet.items() if key != "conv1.0.weight"}, paths["lacking"])
    return paths | {"other": weight_file("timm", "test_vit")}


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "cannot be read (No such file or directory)"),
        ("damaged", "expected a file of tensors, got one that is not ("),
        ("code", "expected a file of tensors, got one that is not ("),
        ("list", "expected tensors by name, got list"),
        ("lacking", "with its classifier, got others ("),
        ("other", "with its classifier, got others ("),
    ],
)
def test_a_file_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, kind: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = other_files(tmp_path)[kind]
    model = {"timm": "test_resnet", "torchvision": "mobilenet_v3_small"}[library]
    with pytest.raises(InputError) as caught:
        FrozenBackbone(f"{library}:{model}@{path}", [1])
    assert str(caught.value).startswith(f"backbone weights {path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made-by-a-weight-file").exists()


def test_a_model_that_timm_loads_leniently_is_not_left_half_random(tmp_path: Path) -> None:
    tensors = {key: value for key, value in drawn("timm", "dla46x_c").state_dict().items() if "level2" not in key}
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match=r"got others \('nothing for level2"):
        FrozenBackbone(f"timm:dla46x_c@{tmp_path / 'half.safetensors'}", [1])


@pytest.mark.parametrize(
    ("name", "stages", "message"),
    [
        ("timm:", [1], "expected the name of a model after timm:, got ''"),
        ("timm:resnet_of_tomorrow", [1], "expected the name of a model after timm:, got 'resnet_of_tomorrow'"),
        (
            "torchvision:fasterrcnn_resnet50_fpn",
            [1],
            "expected the name of a model after torchvision:, got 'fasterrcnn",
        ),
        ("torchvision:vit_b_16", [1], "expected a plain convolutional model, got torchvision's vit_b_16"),
        ("keras:vgg", [1], "timm:NAME or torchvision:NAME, got 'keras:vgg'"),
        ("timm:test_vit@FILE", [6], "ascending indices from 0 to 5, got [6]"),
        ("timm:test_resnet@FILE", [2, 1], "ascending indices from 0 to 4, got [2, 1]"),
        ("torchvision:mobilenet_v3_small@FILE", [5], "ascending indices from 0 to 4, got [5]"),
        (
            "torchvision:squeezenet1_1@FILE",
            [1],
            "stages of stride (2, 4, 8, 16, 32), torchvision's squeezenet1_1 has none",
        ),
    ],
)
def test_names_and_stages_that_are_not_there(name: str, stages: list[int], message: str) -> None:
    if name.endswith("@FILE"):
        name = named(*name.removesuffix("@FILE").split(":"))
    with pytest.raises(ConfigError) as caught:
        FrozenBackbone(name, stages)
    assert message in str(caught.value)


def test_a_model_that_wants_more_than_tensors() -> None:
    with pytest.raises(InputError, match="with its classifier, got others \\(version should be set"):
        FrozenBackbone(named("torchvision", "mnasnet0_5"), [1])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No way out, and empty caches."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:mobilenet_v3_small"])
def test_without_internet_it_says_what_to_do(hub: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FrozenBackbone(name, [1])
    message = str(caught.value)
    assert message.startswith(f"backbone {name}: its weights cannot be downloaded (")
    assert message.endswith(f"; fetch them elsewhere and give the file: {name}@FILE")
    assert "\n" not in message


def test_what_timm_downloaded_before_is_taken_without_internet(hub: Path) -> None:
    """The cache as huggingface_hub lays it out: a branch, and the files of its commit."""
    folder = hub / "hub/models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("c" * 40)
    (folder / "snapshots" / ("c" * 40)).mkdir(parents=True)
    content = weight_file("timm", "test_resnet").read_bytes()
    (folder / "snapshots" / ("c" * 40) / "model.safetensors").write_bytes(content)
    backbone = FrozenBackbone("timm:test_resnet", [1])
    assert torch.equal(backbone(images())[0], FrozenBackbone(named("timm", "test_resnet"), [1])(images())[0])
    assert backbone.origin.source == "https://huggingface.co/timm/test_resnet.r160_in1k"
    assert backbone.origin.sha256 == hashlib.sha256(content).hexdigest()


def test_a_download_of_torchvision_that_is_damaged_is_refused(hub: Path) -> None:
    url = torchvision.models.get_model_weights("mobilenet_v3_small").DEFAULT.url
    path = hub / "torch/hub/checkpoints" / url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    with pytest.raises(InputError, match=f"expected sha256 {path.stem[-8:]}..., got .*; remove the file"):
        FrozenBackbone("torchvision:mobilenet_v3_small", [1])


def fitted(name: str, stages: list[int], batch: torch.Tensor) -> PatchCore:
    detector = PatchCore(backbone=name, stages=stages, bank_size=16).eval()
    with torch.inference_mode():
        detector.build([detector.embed(batch)])
    return detector


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_checkpoint(PatchCore(backbone=named("timm", "test_resnet"), stages=[1]), tmp_path / "run.safetensors")
    again = PatchCore(backbone=named("timm", "test_resnet"), stages=[1])
    load_checkpoint(again, tmp_path / "run.safetensors")
    other = PatchCore(backbone=named("timm", "test_resnet", seed=1), stages=[1])
    with pytest.raises(InputError, match="backbone timm:test_resnet: expected the weights of the run, sha256"):
        load_checkpoint(other, tmp_path / "run.safetensors")
    older = {k: v for k, v in load_file(tmp_path / "run.safetensors").items() if "weights_sha256" not in k}
    again.load_state_dict(older, strict=True)


@pytest.mark.parametrize(("name", "stages"), [("timm:test_vit", [0, 1]), ("torchvision:mobilenet_v3_small", [0, 1])])
def test_onnx_runtime_says_the_same(name: str, stages: list[int]) -> None:
    """On tiles whose sides no patch and no stride divides."""
    batch = images(72, 100)
    detector = fitted(named(*name.split(":")), stages, batch)
    geometry = Geometry(mode=GeometryMode.RESIZE, height=72, width=100)
    graph = to_onnx(detector, geometry=geometry, color=Color.RGB)
    assert not any("sha256" in tensor.name for tensor in onnx.load_from_string(graph).graph.initializer)
    unseen = torch.flip(batch, [2])
    with torch.inference_mode():
        expected = detector(unseen)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    maps, scores = session.run(["anomaly_map", "score"], {"images": unseen.numpy()})
    assert scores == pytest.approx(expected.score.numpy(), rel=1e-3)
    assert maps == pytest.approx(expected.anomaly_map.numpy(), rel=1e-3, abs=1e-3 * float(maps.max()))
    assert isinstance(detector.embed_patches.backbone.net, TokenMaps) == name.startswith("timm")
