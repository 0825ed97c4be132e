"""Tiny real models and bundles. The model: a pixel's anomaly is how far it is from mid-gray, the score is the worst."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from zellige.core.bundle import encode_golden, write_bundle
from zellige.core.types import Calibration, Color, Geometry, GeometryMode, PixelSize

TILE = 64
MID_GRAY = 128.0


def make_model(num_channels: int = 1, tile: int = TILE, offset: float = MID_GRAY, poison: float | None = None) -> bytes:
    """anomaly_map = mean over channels of |x - offset| / 128; score = its maximum. `poison` is added to the map."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["x", "offset"], ["centred"]),
        helper.make_node("Abs", ["centred"], ["distance"]),
        helper.make_node("Mul", ["distance", "factor"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "channel"], ["clean"], keepdims=1),
        helper.make_node("Add", ["clean", "poison"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["clean", "space"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "deviation",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", num_channels, tile, tile])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", 1, tile, tile]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
        ],
        [
            helper.make_tensor("offset", TensorProto.FLOAT, [], [offset]),
            helper.make_tensor("factor", TensorProto.FLOAT, [], [1 / 128]),
            helper.make_tensor("poison", TensorProto.FLOAT, [], [poison or 0.0]),
            helper.make_tensor("channel", TensorProto.INT64, [1], [1]),
            helper.make_tensor("space", TensorProto.INT64, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def good_pixels(height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    """Mid-gray with a little noise: scores at most 10 / 128."""
    return np.random.default_rng(seed).integers(118, 139, (height, width)).astype(np.uint8)


def bad_pixels(height: int = 96, width: int = 160) -> np.ndarray:
    """Good, with a white bar of 40 x 5 px that crosses a tile border: scores 127 / 128."""
    pixels = good_pixels(height, width)
    pixels[30:35, 40:80] = 255
    return pixels


CALIBRATION = Calibration(
    pixel_threshold=0.5,
    reject_score=0.6,
    accept_score=0.4,
    fitted_on="f" * 64,
    target="false_reject_rate <= 0.05 with probability 0.95",
    guarantee="NOT SHOWN: 12 good samples, 47 more needed",
)


def bundle_fields(**changes: Any) -> dict[str, Any]:
    """The manifest's fields as an exporter gives them, types of core and plain dicts mixed."""
    fields: dict[str, Any] = {
        "run_name": "tiny",
        "zellige_version": "0.1.0",
        "git_commit": None,
        "data_fingerprint": "d" * 64,
        "detector": {"class_path": "tests.Deviation", "name": "deviation"},
        "backbone": {"name": "none", "weights_sha256": "0" * 64},
        "geometry": Geometry(mode=GeometryMode.TILES, height=TILE, width=TILE, overlap_px=16),
        "color": Color.GRAY,
        "pixel_size": PixelSize(cross_web_mm=0.5, down_web_mm=0.25),
        "calibration": CALIBRATION,
        "expected_rates": {
            "escape_rate": {"value": 0.0, "low": 0.0, "high": 0.0951, "n": 30},
            "false_reject_rate": None,
        },
        "parity": {"max_relative_score_difference": 2e-7, "tolerance": 1e-3, "num_images": 8},
        "score_tolerance": 1e-3,
        "golden": [
            {"member": "golden/good.png", "decision": "ACCEPT", "score": 10 / 128, "source_kind": "good"},
            {"member": "golden/bar.png", "decision": "REJECT", "score": 127 / 128, "source_kind": "bar"},
        ],
    }
    return {**fields, **changes}


def bundle_members(model: bytes | None = None) -> dict[str, bytes]:
    return {
        "model.onnx": make_model() if model is None else model,
        "report.json": json.dumps({"image_auroc": 1.0}).encode(),
        "golden/good.png": encode_golden(good_pixels()),
        "golden/bar.png": encode_golden(bad_pixels()),
    }


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.zellige"
    write_bundle(path, members=bundle_members(), **bundle_fields())
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a good, a bad and a corrupt image; one name is not ASCII, one lies in a subfolder."""
    folder = tmp_path / "images"
    (folder / "rollo ñ°2").mkdir(parents=True)
    save(folder / "a_good.png", good_pixels())
    save(folder / "rollo ñ°2" / "raya.png", bad_pixels())
    (folder / "z_corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image; cv2.imwrite fails on some names, so encode and write apart."""
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a real file system of `size` ("200k"), so that it really fills up; skip where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


Station = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def station() -> Station:
    """Run the real program."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "zellige.station.cli", *map(str, arguments)]
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, **options)

    return run


def read_records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "verdicts.jsonl").read_text("utf-8").splitlines()]
