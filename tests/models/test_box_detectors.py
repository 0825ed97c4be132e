"""Every detector that draws boxes: shapes, ranges, batches, export, a short fit that finds what it was shown."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torchvision.ops import box_iou

from tests.conftest import save_image, texture
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, Geometry, GeometryMode, LabelledBox, Sample
from zellige.data.dataset import TileDataset
from zellige.export.onnx import to_onnx
from zellige.models.box_detector import BoxDetector
from zellige.models.detector import BoxOutput, KindTargets, SupervisedDetector
from zellige.models.reference_pair import ReferencePair
from zellige.training import supervised
from zellige.training.checkpoint import load_checkpoint, save_checkpoint

TILE = 64
KINDS = ("dark", "light")
STEPS = {"box_detector": 40, "reference_pair": 40}
MAKERS: dict[str, Callable[..., nn.Module]] = {
    "box_detector": lambda seed=0: BoxDetector(kinds=KINDS, stages=[1, 2], width=16, depth=1, seed=seed),
    "reference_pair": lambda seed=0: ReferencePair(kinds=KINDS, width=16, depth=1, seed=seed),
}


def tiles(name: str, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tiles (count, C, 64, 64) uint8 with one square each, dark or light in turn, and its box (count, 1, 5).

    The template of a pair lies a pixel beside.
    """
    pictures, boxes = [], []
    for index in range(first, first + count):
        rng, number = np.random.default_rng(index), index % 2
        big = texture(index, size=(TILE + 1, TILE + 1))
        x, y, side = (int(v) for v in (*rng.integers(2, TILE - 26, 2), rng.integers(12, 25)))
        picture = big[1:, 1:].copy()
        picture[y : y + side, x : x + side] = (20, 235)[number]
        pictures.append(np.stack([picture, big[:-1, :-1]]) if name == "reference_pair" else picture[None])
        boxes.append([[x, y, x + side, y + side, number + 1]])
    return torch.from_numpy(np.stack(pictures)), torch.tensor(boxes, dtype=torch.float32)


def targets(boxes: torch.Tensor) -> KindTargets:
    count = len(boxes)
    return KindTargets(
        kind_masks=torch.zeros((count, TILE, TILE), dtype=torch.uint8),
        has_mask=torch.zeros(count, dtype=torch.bool),
        kind=boxes[:, 0, 4].long(),
        boxes=boxes,
        has_boxes=torch.ones(count, dtype=torch.bool),
    )


def fitted(name: str) -> tuple[nn.Module, list[float]]:
    detector = MAKERS[name]()
    objective = detector.objective().train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    losses = []
    for step in range(STEPS[name]):
        images, boxes = tiles(name, 8 * step, 8)
        loss = objective(images, targets(boxes), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return detector.eval(), losses


def look(detector: nn.Module, images: torch.Tensor) -> BoxOutput:
    with torch.inference_mode():
        return detector(images)


@pytest.fixture(scope="module", params=MAKERS)
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module, list[float]]:
    """Name, fitted detector and its losses."""
    return request.param, *fitted(request.param)


def test_a_short_fit_finds_and_names_the_squares(case) -> None:
    name, detector, losses = case
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    images, boxes = tiles(name, 10_000, 8)
    best = look(detector, images).boxes[:, 0]
    overlaps = box_iou(best[:, :4], boxes[:, 0, :4]).diagonal()
    assert (overlaps > 0.5).sum() >= 7
    assert (best[:, 5] == boxes[:, 0, 4]).sum() >= 7


def test_output_has_its_shape_and_range(case) -> None:
    name, detector, _ = case
    assert isinstance(detector, SupervisedDetector)
    output = look(detector, tiles(name, 500, 3)[0])
    assert output.anomaly_map.shape == (3, 1, TILE, TILE)
    assert output.boxes.shape == (3, 100, 6)
    assert output.boxes.dtype == output.anomaly_map.dtype == output.score.dtype == torch.float32
    assert 0 <= output.anomaly_map.min() <= output.anomaly_map.max() <= 1
    score, number = output.boxes[..., 4], output.boxes[..., 5]
    assert torch.equal(score, score.sort(dim=1, descending=True).values)
    assert torch.equal(output.score, score[:, 0])
    assert set(number[score > 0].tolist()) <= {1.0, 2.0}
    assert not output.boxes[score == 0].any()
    detector.train()
    assert torch.equal(look(detector, tiles(name, 500, 3)[0]).boxes, output.boxes)
    detector.eval()
    assert output.boxes[..., :4].min() >= 0
    assert output.boxes[..., :4].max() <= TILE


def test_batch_mates_do_not_matter(case) -> None:
    name, detector, _ = case
    images, _ = tiles(name, 500, 3)
    together = look(detector, images)
    for index in range(3):
        alone = look(detector, images[index : index + 1])
        assert_same_boxes(alone.boxes[0], together.boxes[index])
        assert torch.allclose(alone.anomaly_map[0], together.anomaly_map[index], atol=1e-4)


def assert_same_boxes(first: torch.Tensor, second: torch.Tensor) -> None:
    """The surest boxes agree in place, kind and score; near the least score rounding may tip one."""
    count = int((first[:, 4] > 0.02).sum())
    assert count > 0
    assert torch.allclose(first[:count, 4], second[:count, 4], atol=1e-3)
    assert torch.equal(first[:count, 5], second[:count, 5])
    assert box_iou(first[:count, :4], second[:count, :4]).diagonal().min() > 0.99


def test_onnx_runtime_draws_the_same_boxes_for_any_batch(case) -> None:
    name, detector, _ = case
    images, _ = tiles(name, 500, 5)
    geometry = Geometry(mode=GeometryMode.RESIZE, height=TILE, width=TILE)
    graph = to_onnx(detector, geometry=geometry, color=Color.GRAY)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for size in (1, 5):
        expected = look(detector, images[:size])
        maps, scores, boxes = session.run(None, {"images": images[:size].numpy()})
        assert maps == pytest.approx(expected.anomaly_map.numpy(), abs=1e-3)
        assert scores == pytest.approx(expected.score.numpy(), abs=1e-3)
        for ours, theirs in zip(expected.boxes, torch.from_numpy(boxes), strict=True):
            assert_same_boxes(ours, theirs)


def test_a_checkpoint_gives_identical_outputs(case, tmp_path: Path) -> None:
    name, detector, _ = case
    save_checkpoint(detector, tmp_path / "detector.safetensors")
    loaded = MAKERS[name](seed=9).eval()
    load_checkpoint(loaded, tmp_path / "detector.safetensors")
    images, _ = tiles(name, 500, 2)
    assert torch.equal(look(detector, images).boxes, look(loaded, images).boxes)


@pytest.mark.parametrize("name", MAKERS)
def test_the_seed_decides_the_first_weights_and_each_step(name: str) -> None:
    images, boxes = tiles(name, 0, 2)
    states = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(noise)
        detector = MAKERS[name](seed=seed)
        detector.objective().train()(images, targets(boxes), 0).backward()
        torch.optim.AdamW(detector.parameters()).step()
        states.append(detector.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not all(torch.equal(value, states[2][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", MAKERS)
def test_tiles_of_unknown_boxes_do_not_count(name: str) -> None:
    detector = MAKERS[name]().eval()
    objective = detector.objective()
    images, boxes = tiles(name, 0, 2)
    known = objective(images[:1], targets(boxes[:1]), 0)
    both = targets(boxes)._replace(has_boxes=torch.tensor([True, False]))
    assert objective(images, both, 0).item() == pytest.approx(known.item(), rel=1e-4)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("size", [(32, 32), (66, 101)])
def test_sides_that_no_stride_divides(name: str, size: tuple[int, int]) -> None:
    channels = 2 if name == "reference_pair" else 1
    output = look(MAKERS[name]().eval(), torch.full((2, channels, *size), 128, dtype=torch.uint8))
    assert output.anomaly_map.shape == (2, 1, *size)
    assert output.boxes.shape == (2, 100, 6)
    assert output.boxes.isfinite().all()


@pytest.mark.parametrize("name", MAKERS)
def test_color_and_gray_repeated_are_one(name: str) -> None:
    detector, (images, _) = MAKERS[name]().eval(), tiles(name, 0, 2)
    rgb = images.repeat_interleave(3, dim=1)
    assert torch.allclose(look(detector, images).anomaly_map, look(detector, rgb).anomaly_map, atol=1e-5)


def test_the_supervised_trainer_fits_it(tmp_path: Path) -> None:
    samples = []
    for index in range(10):
        picture, box = (part[0] for part in tiles("box_detector", index, 1))
        path = tmp_path / f"{index}.png"
        save_image(path, picture[0].numpy())
        *corners, number = box[0].tolist()
        kind = KINDS[int(number) - 1]
        label = LabelledBox(kind=kind, box_px=tuple(corners))
        samples.append(Sample(id=path.name, image_path=path, kind=kind, group_id=path.name, boxes=(label,)))
    look_at = {"geometry": Geometry(mode=GeometryMode.RESIZE, height=TILE, width=TILE), "color": Color.GRAY}
    train, val = TileDataset([], defects=samples[:8], **look_at), TileDataset(samples[8:], **look_at)
    fabric = Fabric(accelerator="cpu", devices=1)
    recipe = {"epochs": 6, "batch_size": 4, "warmup_epochs": 0}
    report = supervised.fit(MAKERS["box_detector"](), train, val, fabric=fabric, run_dir=tmp_path, **recipe)
    curve = json.loads((tmp_path / "learning_curve.json").read_text())
    assert (report.kinds, report.num_defects, report.num_left_out) == (KINDS, 8, 0)
    assert report.best_val_loss < curve[0]["val_loss"]


def test_settings_that_cannot_be_are_refused() -> None:
    for settings, message in (
        ({"kinds": ["hole", "hole"]}, "once each"),
        ({"kinds": KINDS, "width": 4}, "model.width: expected a multiple of 16"),
        ({"kinds": KINDS, "depth": 0}, "model.depth"),
        ({"kinds": KINDS, "overlap": 1.0}, "model.overlap"),
    ):
        with pytest.raises(ConfigError, match=message):
            ReferencePair(**settings)
    with pytest.raises(InputError, match="expected an image and its template, 2 or 6 channels, got 1"):
        ReferencePair(kinds=KINDS)(torch.zeros((1, 1, 64, 64), dtype=torch.uint8))
