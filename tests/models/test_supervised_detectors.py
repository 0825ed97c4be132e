"""The contract of every detector that learns from labels: one line of DETECTORS for each."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.conftest import save_image, texture
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.export.onnx import to_onnx
from zellige.models.classifier import Classifier
from zellige.models.detector import NamedOutput
from zellige.models.segmenter import Segmenter
from zellige.training import supervised
from zellige.training.checkpoint import load_checkpoint, save_checkpoint

KINDS = ("hole", "line")
DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "segmenter": lambda: Segmenter(kinds=KINDS, width=16),
    "classifier": lambda: Classifier(kinds=KINDS, hidden=32),
}
TILE = 64
GEOMETRY = Geometry(mode=GeometryMode.RESIZE, height=TILE, width=TILE)
QUICK = {"epochs": 12, "batch_size": 6, "warmup_epochs": 1, "balance": 1.0}
RATES = {  # few steps ask for large ones
    "segmenter": {"learning_rate": 3e-2, "backbone_rate": 0.05},
    "classifier": {"learning_rate": 5e-3, "backbone_rate": 0.2},
}

pytestmark = pytest.mark.parametrize("name", DETECTORS, indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def picture(seed: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A cloudy image with a black disc (hole) or a bright stroke (line), and its mask."""
    pixels, mask = texture(seed, size=(TILE, TILE)), np.zeros((TILE, TILE), np.uint8)
    y, x = 12 + 17 * seed % 40, 12 + 23 * seed % 40
    if kind == "hole":
        rows, columns = np.mgrid[:TILE, :TILE]
        mask[(rows - y) ** 2 + (columns - x) ** 2 < 64] = 255
        pixels[mask > 0] = 0
    elif kind == "line":
        mask[y : y + 3, x - 10 : x + 10] = 255
        pixels[mask > 0] = 255
    return pixels, mask


def sets(root: Path) -> tuple[TileDataset, TileDataset]:
    parts: dict[str, list[Sample]] = {"train": [], "val": []}
    for split, first, count in (("train", 0, 6), ("val", 60, 3)):
        for number in range(count):
            for offset, kind in enumerate(("good", *KINDS)):
                pixels, mask = picture(first + 3 * number + offset, kind)
                path = root / f"{split}-{kind}-{number}.png"
                save_image(path, pixels)
                save_image(path.with_suffix(".mask.png"), mask)
                mask_path = path.with_suffix(".mask.png") if kind != "good" else None
                parts[split].append(
                    Sample(id=path.name, image_path=path, kind=kind, group_id=path.name, mask_path=mask_path)
                )
    train = [sample for sample in parts["train"] if not sample.is_defective]
    bad = [sample for sample in parts["train"] if sample.is_defective]
    look = {"geometry": GEOMETRY, "color": Color.GRAY}
    return (
        TileDataset(train, augment=Augment("flips", seed=0), defects=bad, **look),
        TileDataset(parts["val"], **look),
    )


def unseen(*kinds: str) -> tuple[torch.Tensor, np.ndarray]:
    """Tiles (B, 1, 64, 64) uint8 and their masks (B, 64, 64) bool."""
    drawn = [picture(200 + index, kind) for index, kind in enumerate(kinds)]
    return torch.from_numpy(np.stack([pixels[None] for pixels, _ in drawn])), np.stack([mask > 0 for _, mask in drawn])


def look(detector: nn.Module, images: torch.Tensor) -> NamedOutput:
    with torch.inference_mode():
        return detector(images)


@pytest.fixture(scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def fitted(name: str, root: Path) -> tuple[nn.Module, list[float]]:
    root.mkdir()
    detector, fabric = DETECTORS[name](), Fabric(accelerator="cpu", devices=1)
    before = detector(unseen("good")[0]).score.item()
    assert 0 <= before <= 1
    report = supervised.fit(detector, *sets(root), fabric=fabric, run_dir=root, **QUICK, **RATES[name])
    assert report.best_epoch > 1

    curve = json.loads((root / "learning_curve.json").read_text())
    return detector.eval(), [entry["val_loss"] for entry in curve]


@pytest.fixture(scope="module")
def case(name: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, list[float]]:
    return fitted(name, tmp_path_factory.mktemp("fits") / name)


def test_the_output_has_its_shapes_and_ranges(case) -> None:
    detector, _ = case
    images, _ = unseen("good", "hole", "line")
    for size in (1, 3):
        output = look(detector, images[:size])
        assert isinstance(output, NamedOutput)
        assert output.anomaly_map.shape == output.kind_map.shape == (size, 1, TILE, TILE)
        assert output.score.shape == (size,)
        assert output.anomaly_map.dtype == output.score.dtype == torch.float32
        assert output.kind_map.dtype == torch.uint8
        for part in (output.anomaly_map, output.score):
            assert part.min() >= 0
            assert part.max() <= 1
        assert output.kind_map.max() <= len(KINDS)
    for level in (0, 255):
        assert look(detector, torch.full_like(images, level)).anomaly_map.isfinite().all()


def test_a_fit_lowers_the_loss_and_finds_and_names_drawn_defects(case, name: str) -> None:
    detector, losses = case
    assert min(losses) < 0.5 * losses[0]
    images, masks = unseen("good", "good", "hole", "line", "hole", "line")
    output = look(detector, images)
    assert output.score[2:].min() > output.score[:2].max()
    assert output.score[:2].max() < 0.5 < output.score[2:].min()
    for index, number in ((2, 1), (3, 2), (4, 1), (5, 2)):
        anomaly_map, mask = output.anomaly_map[index, 0].numpy(), masks[index]
        everywhere = np.ones_like(mask)
        if name == "segmenter":
            assert anomaly_map[mask].mean() > 2 * anomaly_map[~mask].mean()
        else:
            assert anomaly_map.mean() > 2 * output.anomaly_map[:2].mean()
        kinds = output.kind_map[index, 0].numpy()[mask if name == "segmenter" else everywhere]
        assert np.bincount(kinds, minlength=3).argmax() == number


def test_batch_mates_do_not_matter(case) -> None:
    detector, _ = case
    images, _ = unseen("good", "hole", "line")
    together = look(detector, images)
    for index in range(3):
        alone = look(detector, images[index : index + 1])
        assert alone.score.item() == pytest.approx(together.score[index].item(), rel=1e-4, abs=1e-6)
        assert torch.allclose(alone.anomaly_map[0], together.anomaly_map[index], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone.kind_map[0], together.kind_map[index])


def test_training_mode_and_gray_repeated_change_nothing(case) -> None:
    detector, _ = case
    images, _ = unseen("good", "hole")
    expected = look(detector, images)
    detector.train()
    assert torch.equal(look(detector, images).score, expected.score)
    detector.eval()
    assert torch.allclose(look(detector, images.repeat(1, 3, 1, 1)).score, expected.score, rtol=1e-5)


def test_two_fits_are_identical_and_a_checkpoint_gives_identical_outputs(case, name: str, tmp_path: Path) -> None:
    detector, losses = case
    again, other_losses = fitted(name, tmp_path / "again")
    state, other = detector.state_dict(), again.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[key], other[key]) for key in state)
    assert losses == other_losses
    save_checkpoint(detector, tmp_path / "detector.safetensors")
    loaded = DETECTORS[name]().eval()
    load_checkpoint(loaded, tmp_path / "detector.safetensors")
    images, _ = unseen("good", "hole", "line")
    expected, found = look(detector, images), look(loaded, images)
    for part in ("score", "anomaly_map", "kind_map"):
        assert torch.equal(getattr(expected, part), getattr(found, part))


def test_onnx_runtime_says_the_same_for_any_batch(case) -> None:
    detector, _ = case
    graph = to_onnx(detector, geometry=GEOMETRY, color=Color.GRAY)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    images, _ = unseen("good", "hole", "line", "good")
    for size in (1, 3, 4):
        expected = look(detector, images[-size:])
        found = dict(zip(names, session.run(names, {"images": images[-size:].numpy()}), strict=True))
        assert found["score"] == pytest.approx(expected.score.numpy(), rel=1e-3, abs=1e-5)
        assert found["anomaly_map"] == pytest.approx(expected.anomaly_map.numpy(), rel=1e-3, abs=1e-4)
        if "kind_map" in found:
            assert np.mean(found["kind_map"] != expected.kind_map.numpy()) < 1e-3


@pytest.mark.parametrize("size", [(32, 32), (66, 70)])
def test_sides_that_no_stride_divides(name: str, size: tuple[int, int]) -> None:
    images = torch.from_numpy(np.stack([texture(seed, size=size)[None] for seed in range(2)]))
    output = look(DETECTORS[name]().eval(), images)
    assert output.anomaly_map.shape == output.kind_map.shape == (2, 1, *size)
    assert output.anomaly_map.isfinite().all()
