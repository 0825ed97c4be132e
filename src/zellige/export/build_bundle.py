"""The release of a detector: graph, parity gate, golden frames, one bundle file that replays before it is final."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

import zellige
from zellige.core.bundle import MAX_GOLDEN_PX, TEMPLATE, ModelBundle, encode_golden, read_bundle, write_bundle
from zellige.core.decision import decide
from zellige.core.errors import InputError
from zellige.core.image_files import read_sample, read_template
from zellige.core.manifest import build_manifest
from zellige.core.named import Named
from zellige.core.tiling import cut
from zellige.core.types import (
    AnomalyMap,
    Calibration,
    Color,
    Decision,
    Frame,
    Geometry,
    Pixels,
    PixelSize,
    Prediction,
    Sample,
)
from zellige.evaluation.predictions import PredictionSet
from zellige.export.onnx import to_onnx
from zellige.export.parity import Parity, verify_parity
from zellige.models.backbones import origin_of
from zellige.station.runtime import Runtime, replay_golden
from zellige.training.frame_output import TileOutputs, kinds_of


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """How the detector sees: its geometry, color and pixel size, and how far a camera's pixel size may be off."""

    geometry: Geometry
    color: Color
    pixel_size: PixelSize | None
    pixel_size_tolerance: float = 0.02
    target_dn: float | None = None
    """Target level of the flat field that the images were corrected with; None: nobody said."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which run, data and code a bundle comes from."""

    run_name: str
    data_fingerprint: str
    git_commit: str | None
    detector_name: str


def common_pixel_size(samples: Sequence[Sample]) -> PixelSize | None:
    """Return the pixel size that all samples share, None where all are uncalibrated.

    Raises:
        InputError: the samples disagree: one detector learns one scale.
    """
    sizes = {sample.pixel_size for sample in samples}
    if len(sizes) > 1:
        raise InputError(f"pixel size: expected one for all samples, got {len(sizes)} different ones")
    return next(iter(sizes), None)


def export_bundle(
    detector: nn.Module,
    calibration: Calibration,
    report: Mapping[str, Any],
    predictions: PredictionSet,
    optics: Optics,
    identity: Identity,
    path: Path,
    *,
    score_tolerance: float = 1e-3,
    num_golden: int = 4,
    more_members: Mapping[str, bytes] = MappingProxyType({}),
    template: Path | None = None,
) -> tuple[ModelBundle, Parity]:
    """Write a bundle that a station accepts, or nothing.

    Args:
        predictions: the detector's predictions of TEST, with maps: what the graph is compared with, image by image.
        report: the JSON-able report that travels along; its rates become the expected rates.
        more_members: content by name that travels along, such as screen.json.
        path: the bundle's file; an older one is replaced only by a bundle that has replayed its golden frames.
        template: an image that travels along, for a detector that compares: that of all images which come without one.

    Raises:
        BundleError: torch and ONNX Runtime disagree, or the bundle cannot be written.
    """
    onnx = to_onnx(detector, geometry=optics.geometry, color=optics.color)
    golden, members = _golden_frames(detector, predictions, calibration, optics, num_golden)
    members |= more_members
    members |= {"model.onnx": onnx, "report.json": json.dumps(report, indent=2, sort_keys=True).encode()}
    if template is not None:
        members[TEMPLATE] = encode_golden(read_common_template(template, optics.color))
    fields = _manifest_fields(detector, calibration, report, optics, identity)
    fields |= {"golden": golden, "score_tolerance": score_tolerance, "kinds": predictions.kinds}
    untested = {"max_relative_score_difference": 0.0, "tolerance": score_tolerance, "num_images": 0}
    draft = build_manifest({**fields, "parity": untested}, members, str(path))
    draft_id = hashlib.sha256(draft.to_bytes()).hexdigest()
    runtime = Runtime(ModelBundle(id=draft_id, manifest=draft, members=members))
    parity = verify_parity(predictions, runtime, calibration, color=optics.color, tolerance=score_tolerance)
    replay_golden(runtime)
    tested = {
        "max_relative_score_difference": parity.max_relative_score_difference,
        "tolerance": score_tolerance,
        "num_images": parity.num_images,
    }
    write_bundle(path, members=members, **fields, parity=tested)
    return read_bundle(path), parity


def read_common_template(path: Path, color: Color) -> Pixels:
    """Read the template that a bundle carries for all images.

    Raises:
        InputError: unreadable, of another color, or larger than a station takes.
    """
    pixels = read_template(path, color=color)
    if pixels.shape[0] * pixels.shape[1] > MAX_GOLDEN_PX:
        raise InputError(
            f"template {path}: expected at most {MAX_GOLDEN_PX} px, got {pixels.shape[0]} x {pixels.shape[1]}"
        )
    return pixels


def _manifest_fields(
    detector: nn.Module, calibration: Calibration, report: Mapping[str, Any], optics: Optics, identity: Identity
) -> dict[str, Any]:
    return {
        "run_name": identity.run_name,
        "zellige_version": zellige.__version__,
        "git_commit": identity.git_commit,
        "data_fingerprint": identity.data_fingerprint,
        "detector": {
            "class_path": f"{type(detector).__module__}.{type(detector).__qualname__}",
            "name": identity.detector_name,
        },
        "backbone": _backbone(detector),
        "geometry": optics.geometry,
        "color": optics.color,
        "pixel_size": optics.pixel_size,
        "pixel_size_tolerance": optics.pixel_size_tolerance,
        "calibration": calibration,
        "expected_rates": {name: report.get(name) for name in ("escape_rate", "false_reject_rate")},
        "is_pair": bool(getattr(detector, "is_pair", False)),
        "target_dn": optics.target_dn,
    }


def _backbone(detector: nn.Module) -> dict[str, str] | None:
    origin = origin_of(detector)
    if origin is None:
        return None
    return {
        "name": origin.name,
        "weights_sha256": origin.sha256,
        "source": origin.source,
        "license": origin.license,
    }


def _golden_frames(
    detector: nn.Module, predictions: PredictionSet, calibration: Calibration, optics: Optics, count: int
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Choose typical accepted and rejected images; what torch says of them is what the station must say."""
    chosen = _typical(predictions, calibration, count)
    entries, members = [], {}
    for index, (prediction, decision) in enumerate(chosen):
        name = f"golden/{index:02d}.png"
        sample, score = prediction.sample, prediction.score
        frame = read_sample(sample, color=optics.color)
        if frame.size[0] * frame.size[1] > MAX_GOLDEN_PX:
            is_whole_rows = bool(optics.geometry.ignore)
            frame = window_around_peak(
                frame, prediction.anomaly_map, most_px=MAX_GOLDEN_PX, is_whole_rows=is_whole_rows
            )
            score, anomaly_map, named = _score(detector, frame, optics.geometry)
            decision, _, _ = decide(score, anomaly_map, calibration, pixel_size=frame.pixel_size, named=named)
        members[name] = encode_golden(frame.pixels)
        entry: dict[str, Any] = {"member": name, "decision": decision, "score": score, "source_kind": sample.kind}
        if frame.template is not None:
            entry["template"] = f"golden/{index:02d}_template.png"
            members[entry["template"]] = encode_golden(frame.template)
        entries.append(entry)
    return entries, members


def window_around_peak(frame: Frame, anomaly_map: AnomalyMap, *, most_px: int, is_whole_rows: bool = False) -> Frame:
    """Cut at most `most_px` px out of a frame, around the highest place of its map.

    About as high as wide; or as wide as the frame (`is_whole_rows`), where columns of it are ignored.
    """
    height, width = frame.size
    cols = width if is_whole_rows else min(width, max(math.isqrt(most_px), most_px // height))
    rows = min(height, most_px // cols)
    y, x = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    top = min(max(0, int(y) - rows // 2), height - rows)
    left = min(max(0, int(x) - cols // 2), width - cols)
    window = (slice(top, top + rows), slice(left, left + cols))
    template = None if frame.template is None else frame.template[window]
    return dataclasses.replace(frame, pixels=frame.pixels[window], template=template)


def _score(detector: nn.Module, frame: Frame, geometry: Geometry) -> tuple[float, AnomalyMap, Named | None]:
    """Score one frame with torch, a few tiles at a time: its score, its map (H, W) and what is named."""
    tiles = cut(frame, geometry)
    device = next(itertools.chain(detector.buffers(), detector.parameters())).device
    with torch.inference_mode():
        outputs = [detector(batch.to(device)) for batch in torch.split(torch.from_numpy(tiles.pixels), 8)]
    return TileOutputs.gather(outputs, kinds_of(detector)).of_frame(0, tiles)


def _typical(predictions: PredictionSet, calibration: Calibration, count: int) -> list[tuple[Prediction, Decision]]:
    by_decision: dict[Decision, list[int]] = {}
    for index, prediction in enumerate(predictions):
        decision, _, _ = decide(
            prediction.score,
            prediction.anomaly_map,
            calibration,
            pixel_size=prediction.sample.pixel_size,
            named=prediction.named,
        )
        by_decision.setdefault(decision, []).append(index)
    chosen = []
    share = max(1, count // max(1, len(by_decision)))
    for decision, indices in sorted(by_decision.items()):
        ordered = sorted(indices, key=lambda i: float(predictions.scores[i]))
        # From the middle of the scores: far from the threshold, where rounding cannot turn the verdict.
        places = np.linspace(0.25, 0.75, share) * (len(ordered) - 1)
        picked = dict.fromkeys(ordered[round(float(place))] for place in places)
        chosen += [(predictions[i], decision) for i in picked]
    return chosen
