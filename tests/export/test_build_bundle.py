import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.export.conftest import IDENTITY, Judged
from zellige.core.bundle import read_bundle
from zellige.core.errors import InputError
from zellige.core.image_files import read_pixels
from zellige.core.types import Decision, Frame, PixelSize, Sample
from zellige.export.build_bundle import common_pixel_size, window_around_peak
from zellige.models.backbone_weights import SOURCES
from zellige.station.runtime import Runtime, inspect, replay_golden


def test_a_station_accepts_it(judged: Judged, bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    replay_golden(Runtime(bundle))
    manifest = bundle.manifest
    assert manifest.run_name == IDENTITY.run_name
    assert manifest.git_commit == IDENTITY.git_commit
    assert manifest.data_fingerprint == IDENTITY.data_fingerprint
    assert manifest.calibration == judged.calibration
    assert manifest.geometry == judged.optics.geometry
    assert manifest.color is judged.fitted.splits.color
    assert not manifest.is_calibrated
    assert manifest.target_dn == 180
    assert manifest.detector.class_path == "zellige.models.patchcore.PatchCore"
    source = SOURCES["efficientnet_lite0"]
    backbone = manifest.backbone
    assert (backbone.name, backbone.weights_sha256) == ("efficientnet_lite0", source.sha256)
    assert (backbone.source, backbone.license) == (source.requirement, "Apache-2.0")
    assert manifest.parity.num_images == len(judged.test)
    assert bundle.report == json.loads(json.dumps(judged.report))
    for name in ("escape_rate", "false_reject_rate"):
        rate = getattr(manifest.expected_rates, name)
        assert rate is not None
        assert rate.model_dump() == judged.report[name]


def test_golden_frames_are_test_images_of_both_verdicts(judged: Judged, bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    stored = {read_pixels(sample.image_path).tobytes(): sample for sample in judged.test.samples}
    scores = dict(zip([s.id for s in judged.test.samples], judged.test.scores.tolist(), strict=True))
    decisions = set()
    for entry, frame in bundle.golden_frames():
        sample = stored[frame.pixels.tobytes()]
        assert entry.source_kind == sample.kind
        assert entry.score == scores[sample.id]
        assert inspect(Runtime(bundle), frame).decision is entry.decision
        decisions.add(entry.decision)
    assert decisions == {Decision.ACCEPT, Decision.REJECT}
    assert len(bundle.manifest.golden) == 4


def test_the_same_detector_gives_the_same_bytes(judged: Judged, bundle_path: Path, tmp_path: Path) -> None:
    bundle, _ = judged.export(tmp_path / "again.zellige")
    assert (tmp_path / "again.zellige").read_bytes() == bundle_path.read_bytes()
    assert bundle.id == read_bundle(bundle_path).id


def test_a_golden_frame_of_a_huge_image_is_a_window_around_the_worst_place() -> None:
    pixels = np.arange(60 * 90, dtype=np.uint32).astype(np.uint8).reshape(60, 90)
    anomaly_map = np.zeros((60, 90), np.float32)
    anomaly_map[55, 3] = 1
    frame = Frame(pixels=pixels, pixel_size=None, source_id="web")
    window = window_around_peak(frame, anomaly_map, most_px=900)
    assert np.array_equal(window.pixels, pixels[30:60, :30])
    strip = window_around_peak(dataclasses.replace(frame, pixels=pixels[:10]), anomaly_map[:10], most_px=300)
    assert strip.size == (10, 30)


def test_huge_images_replay_as_windows(judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = read_pixels(judged.test.samples[0].image_path).shape[:2]
    monkeypatch.setattr("zellige.export.build_bundle.MAX_GOLDEN_PX", height * width - 1)
    bundle, _ = judged.export(tmp_path / "windows.zellige")
    assert all(frame.size[0] * frame.size[1] < height * width for _, frame in bundle.golden_frames())
    replay_golden(Runtime(bundle))


def sample(name: str, pixel_size: PixelSize | None) -> Sample:
    return Sample(id=name, image_path=Path(name), kind="good", group_id=name, pixel_size=pixel_size)


def test_one_pixel_size_for_all() -> None:
    fine, coarse = (PixelSize(cross_web_mm=mm, down_web_mm=mm) for mm in (0.1, 0.2))
    assert common_pixel_size([sample("a", fine), sample("b", fine)]) == fine
    assert common_pixel_size([sample("a", None)]) is None
    for other in (coarse, None):
        with pytest.raises(InputError, match="expected one for all samples, got 2 different ones"):
            common_pixel_size([sample("a", fine), sample("b", other)])
