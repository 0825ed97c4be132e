"""The contract of every detector: one line of DETECTORS for each."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.conftest import save_image, texture
from tests.models.weight_files import named
from zellige.core.errors import InputError
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.export.onnx import to_onnx
from zellige.models.detector import DetectorOutput, GradientDetector, OnePassDetector
from zellige.models.dinomaly import Dinomaly
from zellige.models.efficient_ad import EfficientAd
from zellige.models.padim import Padim
from zellige.models.patchcore import PatchCore
from zellige.models.subspace import Subspace
from zellige.models.super_simple_net import SuperSimpleNet
from zellige.training import gradient
from zellige.training.checkpoint import load_checkpoint, save_checkpoint

DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "patchcore": lambda: PatchCore(bank_size=64),
    "patchcore other stages, unsmoothed": lambda: PatchCore(
        bank_size=32, stages=[1, 3], grid_stride=16, smoothing_patches=0
    ),
    "patchcore with places, re-weighted": lambda: PatchCore(bank_size=64, position_radius=4, reweight_neighbors=5),
    "subspace": Subspace,
    "padim": lambda: Padim(num_dims=16),
    "super_simple_net": lambda: SuperSimpleNet(score_channels=8),
    "dinomaly": lambda: Dinomaly(backbone=named("timm", "test_vit"), stages=[0, 1], decoder_blocks=2),
    "efficient_ad": lambda: EfficientAd(width=16, latent=4, stages=[2]),
}
TILE = 128
QUICK = {"epochs": 15, "batch_size": 2, "learning_rate": 5e-3, "patience": None}
EPOCHS = {"efficient_ad": 4}  # it looks at pixels, so that each takes longer

pytestmark = pytest.mark.parametrize("name", DETECTORS, indirect=True, scope="module")


def batch(*seeds: int, rgb: bool = False) -> torch.Tensor:
    """Good tiles (B, 1 or 3, 128, 128) uint8."""
    pictures = [texture(seed, rgb=rgb, size=(TILE, TILE)) for seed in seeds]
    return torch.from_numpy(np.stack([p.transpose(2, 0, 1) if rgb else p[None] for p in pictures]))


def with_defect(images: torch.Tensor) -> torch.Tensor:
    spoilt = images.clone()
    spoilt[..., 40:56, 48:64] = 255
    return spoilt


def fitted(name: str, images: torch.Tensor, **more: int) -> nn.Module:
    torch.manual_seed(0)
    detector = DETECTORS[name]().eval()
    if isinstance(detector, OnePassDetector):
        with torch.inference_mode():
            detector.build(detector.embed(part) for part in torch.split(images, 4))
        return detector
    assert isinstance(detector, GradientDetector)
    with tempfile.TemporaryDirectory() as folder:
        data = stored(images, Path(folder))
        fabric = Fabric(accelerator="cpu", devices=1)
        settings = QUICK | {"epochs": EPOCHS.get(name, QUICK["epochs"])} | more
        gradient.fit(detector, data, data, fabric=fabric, run_dir=Path(folder), **settings)
    return detector.eval()


def stored(images: torch.Tensor, folder: Path) -> TileDataset:
    """Write good images (B, C, H, W) as files, which is how a fit by gradient takes them."""
    samples = []
    for index, image in enumerate(images.numpy()):
        path = folder / f"{index}.png"
        save_image(path, image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        samples.append(Sample(id=path.name, image_path=path, kind="good", group_id=path.name))
    height, width = images.shape[-2:]
    geometry = Geometry(mode=GeometryMode.RESIZE, height=height, width=width)
    return TileDataset(samples, geometry=geometry, color=Color.GRAY if images.shape[1] == 1 else Color.RGB)


def look(detector: nn.Module, images: torch.Tensor) -> DetectorOutput:
    with torch.inference_mode():
        return detector(images)


@pytest.fixture(scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def gray(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A detector that was fitted on gray tiles, and four unseen good ones."""
    return fitted(name, batch(*range(10))), batch(*range(20, 24))


@pytest.fixture(scope="module", params=[False, True], ids=["gray", "rgb"])
def case(request: pytest.FixtureRequest, name: str, gray) -> tuple[nn.Module, torch.Tensor, bool]:
    """A fitted detector, four unseen good tiles of its colour, and whether they are RGB."""
    if not request.param:
        return *gray, False
    return fitted(name, batch(*range(10), rgb=True)), batch(*range(20, 24), rgb=True), True


def test_output_has_its_shape_and_is_finite(case) -> None:
    detector, good, _ = case
    for size in (1, 3):
        output = look(detector, good[:size])
        assert output.anomaly_map.shape == (size, 1, TILE, TILE)
        assert output.score.shape == (size,)
        assert output.anomaly_map.dtype == output.score.dtype == torch.float32
        assert output.anomaly_map.isfinite().all()
        assert output.score.isfinite().all()


@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_are_finite_too(case, level: int) -> None:
    detector, good, _ = case
    output = look(detector, torch.full_like(good, level))
    assert output.anomaly_map.isfinite().all()
    assert output.score.isfinite().all()


def test_higher_is_worse_in_score_and_map(case) -> None:
    detector, good, _ = case
    clean, spoilt = look(detector, good), look(detector, with_defect(good))
    assert spoilt.score.min() > clean.score.max()
    rise = spoilt.anomaly_map - clean.anomaly_map
    inside, far_away = rise[..., 40:56, 48:64], rise[..., -24:, -24:]
    assert (inside.mean((1, 2, 3)) > 2 * far_away.mean((1, 2, 3)).clamp(min=0)).all()
    assert (inside.mean((1, 2, 3)) > 0).all()


def test_two_fits_are_identical_to_the_bit(name: str, case) -> None:
    _, good, rgb = case
    detector, again = (fitted(name, batch(*range(10), rgb=rgb), epochs=2) for _ in range(2))
    state, other = detector.state_dict(), again.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[key], other[key]) for key in state)
    assert torch.equal(look(detector, good).anomaly_map, look(again, good).anomaly_map)


def test_batch_mates_do_not_matter(case) -> None:
    detector, good, _ = case
    mixed = torch.cat([good, with_defect(good)])
    together = look(detector, mixed)
    for index in range(len(mixed)):
        alone = look(detector, mixed[index : index + 1])
        assert alone.score.item() == pytest.approx(together.score[index].item(), rel=1e-4)
        assert torch.allclose(alone.anomaly_map[0], together.anomaly_map[index], rtol=1e-4, atol=1e-4)


def test_gray_repeated_three_times_is_the_same_image(case) -> None:
    detector, good, rgb = case
    if not rgb:
        assert torch.allclose(look(detector, good).score, look(detector, good.repeat(1, 3, 1, 1)).score, rtol=1e-5)


def test_training_mode_changes_nothing(case) -> None:
    detector, good, _ = case
    expected = look(detector, good).score
    detector.train()
    found = look(detector, good).score
    detector.eval()
    assert torch.equal(expected, found)


def test_a_checkpoint_gives_identical_outputs(name: str, case, tmp_path: Path) -> None:
    detector, good, _ = case
    save_checkpoint(detector, tmp_path / "detector.safetensors")
    loaded = DETECTORS[name]().eval()
    load_checkpoint(loaded, tmp_path / "detector.safetensors")
    expected, found = look(detector, good), look(loaded, good)
    assert torch.equal(expected.score, found.score)
    assert torch.equal(expected.anomaly_map, found.anomaly_map)


def test_onnx_runtime_says_the_same_for_any_batch(gray) -> None:
    """Gray alone, as an export takes seconds; the pipeline's tests export a detector for color."""
    detector, good = gray
    geometry = Geometry(mode=GeometryMode.RESIZE, height=TILE, width=TILE)
    graph = to_onnx(detector, geometry=geometry, color=Color.GRAY)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    images = torch.cat([good, with_defect(good)])
    for size in (1, 2, 8):
        expected = look(detector, images[-size:])
        maps, scores = session.run(["anomaly_map", "score"], {"images": images[-size:].numpy()})
        assert maps.shape == (size, 1, TILE, TILE)
        assert scores == pytest.approx(expected.score.numpy(), rel=1e-3)
        assert maps == pytest.approx(expected.anomaly_map.numpy(), rel=1e-3, abs=1e-3 * float(maps.max()))


@pytest.mark.parametrize("size", [(32, 32), (66, 70), (100, 131)])
def test_sides_that_no_stride_divides(name: str, size: tuple[int, int]) -> None:
    images = torch.from_numpy(np.stack([texture(seed, size=size)[None] for seed in range(3)]))
    output = look(fitted(name, images, epochs=2), images)
    assert output.anomaly_map.shape == (3, 1, *size)
    assert output.anomaly_map.isfinite().all()


def test_a_fit_on_one_image(name: str) -> None:
    detector = fitted(name, batch(0))
    assert look(detector, with_defect(batch(0))).score > look(detector, batch(0)).score
    assert look(detector, batch(1)).anomaly_map.isfinite().all()


@pytest.mark.parametrize("kind", ["equal", "flat"])
def test_a_fit_on_identical_images(name: str, kind: str) -> None:
    images = batch(0).repeat(6, 1, 1, 1) if kind == "equal" else torch.full((6, 1, TILE, TILE), 128, dtype=torch.uint8)
    detector = fitted(name, images)
    clean, spoilt = look(detector, images[:1]), look(detector, with_defect(images[:1]))
    assert clean.score.isfinite().all()
    assert spoilt.score > clean.score


def test_a_fit_on_nothing_is_refused(name: str) -> None:
    detector = DETECTORS[name]()
    learn = detector.build if isinstance(detector, OnePassDetector) else detector.measure
    with pytest.raises(InputError, match="expected at least one good training image, got none"):
        learn(iter([]))
