"""The runtime on real ONNX models: what it computes, what it refuses, and that no fault becomes ACCEPT."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.station.conftest import (
    TILE,
    bad_pixels,
    bundle_fields,
    bundle_members,
    good_pixels,
    make_model,
)
from zellige.core.bundle import encode_golden, read_bundle, write_bundle
from zellige.core.errors import BundleError, InputError
from zellige.core.types import Color, Decision, Frame, Geometry, GeometryMode, PixelSize
from zellige.station.runtime import Runtime, inspect, inspect_with_map, replay_golden

SIZE = PixelSize(cross_web_mm=0.5, down_web_mm=0.25)


def make_runtime(folder: Path, *, model: bytes | None = None, **changes: Any) -> Runtime:
    write_bundle(folder / "b.zellige", members=bundle_members(model), **bundle_fields(**changes))
    return Runtime(read_bundle(folder / "b.zellige"), num_threads=1)


def frame(pixels: np.ndarray, pixel_size: PixelSize | None = SIZE) -> Frame:
    return Frame(pixels=pixels, pixel_size=pixel_size, source_id="f")


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width)).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (100, 333), (700, 130)])
def test_map_and_score_of_a_frame_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    """The model works on single pixels, so the joined map must be the formula on the whole frame: no seams."""
    pixels = random_pixels(*size)
    score, anomaly_map, named = make_runtime(tmp_path).run(frame(pixels))
    expected = np.abs(pixels.astype(np.float64) - 128) / 128
    np.testing.assert_allclose(anomaly_map, expected, atol=1e-5)
    assert score == pytest.approx(expected.max())
    assert named is None


def test_color_model(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    golden = [{"member": "golden/c.png", "decision": "REJECT", "score": 1.0, "source_kind": "noise"}]
    members = {"model.onnx": make_model(3), "report.json": b"{}", "golden/c.png": encode_golden(pixels)}
    write_bundle(tmp_path / "c.zellige", members=members, **bundle_fields(color=Color.RGB, golden=golden))
    _, anomaly_map, _ = Runtime(read_bundle(tmp_path / "c.zellige")).run(frame(pixels))
    np.testing.assert_allclose(anomaly_map, (np.abs(pixels - 128.0) / 128).mean(axis=2), atol=1e-5)


def test_resize_geometry(tmp_path: Path) -> None:
    geometry = Geometry(mode=GeometryMode.RESIZE, height=TILE, width=TILE)
    golden = [{"member": "golden/good.png", "decision": "ACCEPT", "score": 0.0, "source_kind": "good"}]
    score, anomaly_map, _ = make_runtime(tmp_path, geometry=geometry, golden=golden).run(
        frame(np.full((200, 300), 160, np.uint8))
    )
    assert anomaly_map.shape == (200, 300)
    np.testing.assert_allclose(anomaly_map, 0.25)
    assert score == 0.25


def test_verdicts_in_mm(tmp_path: Path) -> None:
    runtime = make_runtime(tmp_path)
    verdict = inspect(runtime, frame(bad_pixels()))
    (defect,) = verdict.defects
    assert verdict.decision is Decision.REJECT
    assert verdict.bundle_id == runtime.bundle.id
    assert defect.box_px == (40, 30, 80, 35)
    assert defect.box_mm == pytest.approx((20.0, 7.5, 40.0, 8.75))
    assert (defect.length_mm, defect.area_mm2) == pytest.approx((20.0, 25.0))
    assert inspect(runtime, frame(good_pixels())).decision is Decision.ACCEPT
    assert inspect(runtime, frame(np.full((64, 64), 192, np.uint8))).decision is Decision.UNDECIDED  # 0.5


def test_one_bundle_gives_the_same_verdict_with_any_number_of_threads(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields())
    bundle = read_bundle(tmp_path / "b.zellige")
    maps = [Runtime(bundle, num_threads=n).run(frame(random_pixels(200, 300)))[1] for n in (1, 2, None)]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


# Frames that do not fit


@pytest.mark.parametrize(
    ("pixels", "pixel_size", "message"),
    [
        (np.zeros((96, 96, 3), np.uint8), SIZE, "expected 1 channel"),
        (np.zeros((63, 96), np.uint8), SIZE, "expected at least one tile of 64 x 64 px, got 63 x 96"),
        (good_pixels(), None, "expected pixel size 0.5 x 0.25 mm, got none"),
        (good_pixels(), PixelSize(cross_web_mm=0.5, down_web_mm=0.2), "got 0.5 x 0.2 mm"),
        (good_pixels(), PixelSize(cross_web_mm=0.25, down_web_mm=0.5), "got 0.25 x 0.5 mm"),
        (good_pixels(), PixelSize(cross_web_mm=0.511, down_web_mm=0.25), "within 0.02"),
    ],
)
def test_frame_that_does_not_fit_is_undecided(
    tmp_path: Path, pixels: np.ndarray, pixel_size: PixelSize | None, message: str
) -> None:
    runtime = make_runtime(tmp_path)
    with pytest.raises(InputError, match=message):
        runtime.run(frame(pixels, pixel_size))
    verdict, anomaly_map = inspect_with_map(runtime, frame(pixels, pixel_size))
    assert verdict.decision is Decision.UNDECIDED
    assert message in verdict.reason
    assert math.isnan(verdict.score)
    assert anomaly_map is None


def test_pixel_size_within_the_tolerance(tmp_path: Path) -> None:
    near = PixelSize(cross_web_mm=0.509, down_web_mm=0.2455)
    verdict = inspect(make_runtime(tmp_path), frame(bad_pixels(), near))
    assert verdict.defects[0].length_mm == pytest.approx(40 * 0.509)  # the station's own size counts


def test_uncalibrated_bundle_takes_frames_without_a_pixel_size_only(tmp_path: Path) -> None:
    runtime = make_runtime(tmp_path, pixel_size=None)
    verdict = inspect(runtime, frame(bad_pixels(), None))
    assert verdict.defects[0].length_mm is None
    assert inspect(runtime, frame(bad_pixels())).decision is Decision.UNDECIDED


# Models that misbehave


def test_nan_in_the_map_is_undecided(tmp_path: Path) -> None:
    verdict = inspect(make_runtime(tmp_path, model=make_model(poison=float("nan"))), frame(good_pixels()))
    assert verdict.decision is Decision.UNDECIDED
    assert "not finite" in verdict.reason


def test_nan_score_of_a_later_tile_is_undecided(tmp_path: Path) -> None:
    """0 / 0 in one tile only: a plain max() over tiles would pass over it."""
    model = onnx.load_from_string(make_model())
    model.graph.node[-1].output[0] = "worst"
    model.graph.node.extend(
        [
            helper.make_node("Div", ["worst", "worst"], ["one_or_nan"]),
            helper.make_node("Mul", ["worst", "one_or_nan"], ["score"]),
        ]
    )
    pixels = good_pixels(64, 192)
    pixels[:, 128:] = 128
    verdict = inspect(make_runtime(tmp_path, model=model.SerializeToString()), frame(pixels))
    assert verdict.decision is Decision.UNDECIDED
    assert "nan" in verdict.reason


def test_error_inside_the_model_is_undecided(tmp_path: Path) -> None:
    """A model that fails on frames brighter than some level: ONNX Runtime raises while it runs."""
    model = onnx.load_from_string(make_model())
    model.graph.initializer.append(helper.make_tensor("table", TensorProto.FLOAT, [2], [0.0, 0.0]))
    model.graph.node[-1].output[0] = "worst"
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["worst", "table_length"], ["place"]),
            helper.make_node("Cast", ["place"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["nothing"]),
            helper.make_node("Add", ["worst", "nothing"], ["score"]),
        ]
    )
    model.graph.initializer.append(helper.make_tensor("table_length", TensorProto.FLOAT, [], [4.0]))
    runtime = make_runtime(tmp_path, model=model.SerializeToString())
    assert inspect(runtime, frame(good_pixels())).decision is Decision.ACCEPT
    verdict = inspect(runtime, frame(bad_pixels()))
    assert verdict.decision is Decision.UNDECIDED
    assert "\n" not in verdict.reason


def with_signature(edit: str) -> bytes:
    model = onnx.load_from_string(make_model(3 if edit == "channels" else 1, 96 if edit == "tile" else TILE))
    graph = model.graph
    if edit == "input name":
        graph.input[0].name = graph.node[0].input[0] = "pictures"
    elif edit == "input type":
        graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    elif edit == "fixed batch":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    elif edit == "missing output":
        del graph.output[1]
    elif edit == "second input":
        graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    elif edit == "score shape":
        graph.node[-1].attribute[0].i = 1
        del graph.output[1].type.tensor_type.shape.dim[:]
        graph.output[1].CopyFrom(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1, 1, 1]))
    return model.SerializeToString()


@pytest.mark.parametrize(
    "edit",
    ["channels", "tile", "input name", "input type", "fixed batch", "missing output", "second input", "score shape"],
)
def test_model_that_is_not_what_the_manifest_says(tmp_path: Path, edit: str) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: ") as caught:
        make_runtime(tmp_path, model=with_signature(edit))
    assert "\n" not in str(caught.value)


def test_model_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    model = onnx.load_from_string(make_model())
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="ONNX Runtime refuses it"):
        make_runtime(tmp_path, model=model.SerializeToString())


# Golden frames


def golden(member: str, decision: str, score: float) -> dict[str, Any]:
    return {"member": member, "decision": decision, "score": score, "source_kind": "k"}


def test_golden_frames_replay(tmp_path: Path) -> None:
    replay_golden(make_runtime(tmp_path))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (golden("golden/good.png", "REJECT", 10 / 128), "expected REJECT, got ACCEPT"),
        (golden("golden/bar.png", "ACCEPT", 127 / 128), "expected ACCEPT, got REJECT"),
        (golden("golden/bar.png", "REJECT", 1.002 * 127 / 128), "expected score 0.99"),
        (golden("golden/good.png", "ACCEPT", 0.998 * 10 / 128), "expected score 0.07"),
    ],
)
def test_golden_mismatch(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        replay_golden(make_runtime(tmp_path, golden=[entry]))
    assert entry["member"] in str(caught.value)


def test_golden_score_within_the_tolerance(tmp_path: Path) -> None:
    replay_golden(make_runtime(tmp_path, golden=[golden("golden/bar.png", "REJECT", 1.0005 * 127 / 128)]))


def test_another_model_does_not_replay(tmp_path: Path) -> None:
    """A model whose weights differ a little, in a bundle that is otherwise intact."""
    with pytest.raises(BundleError, match="golden frame"):
        replay_golden(make_runtime(tmp_path, model=make_model(offset=127.0)))


# The process


def test_station_loads_no_training_package(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    """All of them are installed here; the whole program must not import one."""
    program = (
        "import json, sys\n"
        "from zellige.station.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(json.dumps([code, sorted({m.split('.')[0] for m in sys.modules})]))\n"
    )
    arguments = ["inspect", bundle_path, images, "--out", tmp_path / "out", "--overlays", "all"]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    forbidden = {"torch", "torchvision", "lightning_fabric", "hydra", "omegaconf", "mlflow", "albumentations"}
    forbidden |= {"onnx", "scipy", "sklearn", "timm", "pandas", "matplotlib", "PIL"}
    assert code == 1
    assert "onnxruntime" in modules
    assert not forbidden & set(modules)


def test_large_image_stays_within_memory(tmp_path: Path) -> None:
    """8000 x 2000 px, most of them rejected, overlay included: at most 400 MB resident."""
    tile = 256
    geometry = Geometry(mode=GeometryMode.TILES, height=tile, width=tile, overlap_px=32)
    large = np.random.default_rng(0).integers(0, 256, (2000, 8000)).astype(np.uint8)
    entry = golden("golden/large.png", "ACCEPT", 0.0)
    members = {
        "model.onnx": make_model(tile=tile),
        "report.json": b"{}",
        "golden/large.png": encode_golden(np.full((tile, tile), 128, np.uint8)),
    }
    write_bundle(tmp_path / "b.zellige", members=members, **bundle_fields(geometry=geometry, golden=[entry]))
    (tmp_path / "large.png").write_bytes(encode_golden(large))
    program = (
        "import pathlib, sys\n"
        "from zellige.station.cli import main\n"
        "assert main(sys.argv[1:]) == 1\n"
        "print(int(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024)\n"
    )
    arguments = ["inspect", tmp_path / "b.zellige", tmp_path / "large.png", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout.splitlines()[-1]) < 400
