"""From pairs on disk to a station's verdicts, with a detector that only subtracts: the road of every pair model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import save_image
from tests.export.conftest import IDENTITY
from tests.shifted import surface
from zellige.core.bundle import read_bundle
from zellige.core.image_files import read_sample
from zellige.core.types import Decision, Geometry, GeometryMode, Registration
from zellige.data.dataset import TileDataset
from zellige.data.index import Fractions, load_splits
from zellige.data.pairs import with_templates
from zellige.evaluation.calibrate import Target, calibrate
from zellige.evaluation.report import evaluate
from zellige.export.build_bundle import Optics, export_bundle
from zellige.models.detector import DetectorOutput, PairDetector
from zellige.station.inspection import Options, Overlays, inspect_images
from zellige.station.records import RECORDS
from zellige.station.runtime import Runtime, inspect, replay_golden
from zellige.training.predict import predict

SIZE = (72, 100)
GEOMETRY = Geometry(
    mode=GeometryMode.TILES, height=64, width=64, overlap_px=16, registration=Registration.TRANSLATION, search_px=4
)


class AbsoluteDifference(nn.Module):
    """|image - template| / 255, averaged over the channels and 5 x 5 px; there is nothing to learn."""

    is_pair = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 255))

    def forward(self, images: Tensor) -> DetectorOutput:
        image, template = images.float().chunk(2, dim=1)
        difference = (image - template).abs().mean(1, keepdim=True) * self.scale
        anomaly_map = F.avg_pool2d(difference, 5, stride=1, padding=2)
        return DetectorOutput(anomaly_map=anomaly_map, score=anomaly_map.amax((1, 2, 3)))


def write_pairs(root: Path) -> Path:
    """40 good and 6 bad pieces of one print, each moved by up to 3 px; one template for all."""
    rng, rows = np.random.default_rng(0), ["path,kind,template"]
    save_image(root / "gold.png", print_of(0, 0))
    for index in range(46):
        dy, dx = rng.uniform(-3, 3, 2)
        pixels = (print_of(dy, dx) + rng.normal(0, 2, SIZE)).clip(0, 255)
        is_bad = index >= 40
        if is_bad:
            y, x = rng.integers(8, 50), rng.integers(8, 80)
            pixels[y : y + 9, x : x + 9] = 255 - pixels[y : y + 9, x : x + 9]
        save_image(root / f"img/{index:02}.png", pixels.round().astype(np.uint8))
        rows.append(f"img/{index:02}.png,{'blot' if is_bad else 'good'},gold.png")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def print_of(dy: float, dx: float) -> np.ndarray:
    return surface(11, SIZE, dy, dx)


def test_pairs_go_the_whole_road(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "set")
    splits, _ = load_splits(root, "manifest", Fractions(), seed=0, duplicates="ignore")
    splits = with_templates(splits, root)
    detector, fabric = AbsoluteDifference(), Fabric(accelerator="cpu", devices=1)
    assert isinstance(detector, PairDetector)
    on_val, on_test = (
        predict(
            detector,
            TileDataset(getattr(splits, split), geometry=GEOMETRY, color=splits.color),
            split,
            fabric=fabric,
            out_dir=tmp_path / "predictions",
        )
        for split in ("val", "test")
    )
    calibration = calibrate(on_val, Target(false_reject_rate=0.2))
    report = evaluate(on_test, calibration)
    assert report.image_auroc == pytest.approx(1.0)
    path = tmp_path / "pair.zellige"
    bundle, parity = export_bundle(
        detector,
        calibration,
        report.to_json(),
        on_test,
        Optics(geometry=GEOMETRY, color=splits.color, pixel_size=None),
        IDENTITY,
        path,
        template=root / "gold.png",
    )
    assert bundle.manifest.is_pair
    assert parity.num_images == len(splits.test)
    assert parity.max_relative_score_difference < 1e-4
    runtime = Runtime(bundle)
    replay_golden(runtime)
    frame = read_sample(splits.test[-1], color=splits.color)
    np.testing.assert_array_equal(bundle.template(), frame.template)
    assert inspect(runtime, frame).decision is Decision.REJECT
    images = [sample.image_path for sample in splits.test]
    inspect_images(path, images, tmp_path / "out", Options(num_threads=1, overlays=Overlays.NONE))
    records = [json.loads(line) for line in (tmp_path / "out" / RECORDS).read_text().splitlines()]
    for record, sample, score in zip(records, splits.test, on_test.scores, strict=True):
        assert record["score"] == pytest.approx(float(score), rel=1e-4)
        assert (record["decision"] == "REJECT") >= sample.is_defective


def test_a_window_of_a_huge_pair_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden frame of an image that is too large is a window, of image and template alike."""
    root = write_pairs(tmp_path / "set")
    splits, _ = load_splits(root, "manifest", Fractions(), seed=0, duplicates="ignore")
    detector, fabric = AbsoluteDifference(), Fabric(accelerator="cpu", devices=1)
    test = TileDataset(splits.test, geometry=GEOMETRY, color=splits.color)
    on_test = predict(detector, test, "test", fabric=fabric, out_dir=tmp_path)
    val = TileDataset(splits.val, geometry=GEOMETRY, color=splits.color)
    calibration = calibrate(
        predict(detector, val, "val", fabric=fabric, out_dir=tmp_path), Target(false_reject_rate=0.2)
    )
    monkeypatch.setattr("zellige.export.build_bundle.MAX_GOLDEN_PX", SIZE[0] * SIZE[1] - 1)
    optics = Optics(geometry=GEOMETRY, color=splits.color, pixel_size=None)
    path = tmp_path / "windows.zellige"
    export_bundle(detector, calibration, evaluate(on_test, calibration).to_json(), on_test, optics, IDENTITY, path)
    bundle = read_bundle(path)
    for _, frame in bundle.golden_frames():
        assert frame.template is not None
        assert frame.template.shape == frame.pixels.shape != SIZE
    assert bundle.template() is None
