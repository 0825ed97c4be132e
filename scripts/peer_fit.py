"""Fit a peer's model in its own environment and judge what its network says by our metrics."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from bench_quality import SQUASHED, quality

from zellige.core.image_files import read_pixels
from zellige.core.tiling import cut, join
from zellige.core.types import Frame, Sample
from zellige.evaluation.metrics import image_auroc
from zellige.evaluation.predictions import PredictionWriter

HERE = Path(__file__).resolve().parent
PEER = Path(".venv-peer/bin/python")


class PeerError(RuntimeError):
    """A fit of the peer's ended with an error; the message is its last line."""


def fit_peer(data: Path, folder: Path, *options: str) -> dict[str, Any]:
    """Fit once, in a process of its own; return its quality, its cost and its scores by test image.

    Args:
        data: a set of `bench_sets.py`, or any other in the MVTec form.
        folder: for what it says and what it leaves behind; made anew.
        options: of `bench_peer.py`.

    Raises:
        PeerError: the fit failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Without what zellige sets for its own threads (see zellige/__init__.py): the peer has its own defaults.
    plain = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    # Not resolved: the link's place tells Python its environment. Run in `folder`, where its inferencer leaves a cache.
    command = [str(PEER.absolute()), str(HERE / "bench_peer.py"), str(data.resolve()), str(folder.resolve()), *options]
    done = subprocess.run(command, check=False, env=plain, cwd=folder, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise PeerError(last_line(done.stderr, done.returncode))
    stored = json.loads((folder / "scores.json").read_text())
    scores, openvino = stored["scores"], stored["openvino"]
    samples = [_sample(data, name) for name in scores]
    with PredictionWriter(folder / "test", "test", samples) as writer:
        for number, (sample, score) in enumerate(zip(samples, scores.values(), strict=True)):
            squashed = np.load(folder / "maps" / f"{number:05d}.npy", allow_pickle=False)
            writer.write(sample.id, score, _enlarged(squashed, sample.image_path))
        judged = quality(writer.close())
    shutil.rmtree(folder / "maps")
    shutil.rmtree(folder / "test")
    if "scores" in openvino:
        is_defective = np.array([sample.is_defective for sample in samples])
        openvino["image_auroc"] = image_auroc(np.array([openvino["scores"][s.id] for s in samples]), is_defective)
        del openvino["scores"]
    exported = {f"openvino_{key}": value for key, value in openvino.items()}
    return {**stored["cost"], **judged, **exported, "scores": scores}


def last_line(text: str, code: int) -> str:
    """Say why a process ended: its last words, or its exit status where it had none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), f"exit status {code}")


def read_groups(data: Path) -> dict[str, str]:
    """The group of each file of a set of `bench_sets.py`."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["group"] for row in csv.DictReader(file)}


def _sample(data: Path, name: str) -> Sample:
    path, kind = data / name, Path(name).parent.name
    mask = data / "ground_truth" / kind / f"{path.stem}_mask.png"
    return Sample(id=name, image_path=path, kind=kind, group_id=name, mask_path=mask if mask.is_file() else None)


def _enlarged(squashed: np.ndarray, image: Path) -> np.ndarray:
    """A squashed map at its image's size, as our own maps are brought there."""
    frame = Frame(pixels=read_pixels(image), pixel_size=None, source_id=str(image))
    return join(squashed[None], cut(frame, SQUASHED))
