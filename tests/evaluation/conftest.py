"""Build small prediction sets on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.types import PixelSize, Sample
from zellige.evaluation.predictions import PredictionSet, PredictionWriter


@dataclass(frozen=True, kw_only=True)
class Piece:
    kind: str = "good"
    score: float = 0.0
    anomaly_map: np.ndarray = field(default_factory=lambda: np.zeros((4, 4), np.float32))
    mask: np.ndarray | None = None
    group_id: str = ""
    pixel_size: PixelSize | None = None


def write_predictions(folder: Path, split: str, pieces: Sequence[Piece]) -> PredictionSet:
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index, piece in enumerate(pieces):
        mask_path = None
        if piece.mask is not None:
            mask_path = folder / f"{split}_{index}_mask.png"
            cv2.imwrite(str(mask_path), piece.mask.astype(np.uint8) * 255)
        sample = Sample(
            id=f"{split}/{piece.kind}/{index}",
            image_path=folder / f"{index}.png",
            kind=piece.kind,
            group_id=piece.group_id or str(index),
            mask_path=mask_path,
            pixel_size=piece.pixel_size,
        )
        samples.append(sample)
    with PredictionWriter(folder / split, split, samples) as writer:
        for sample, piece in zip(samples, pieces, strict=True):
            writer.write(sample.id, piece.score, piece.anomaly_map.astype(np.float32))
        return writer.close()


@pytest.fixture
def piece() -> type[Piece]:
    return Piece


@pytest.fixture
def predictions_of(tmp_path: Path) -> Callable[[str, Sequence[Piece]], PredictionSet]:
    folders = iter(range(1_000_000))
    return lambda split, pieces: write_predictions(tmp_path / str(next(folders)), split, pieces)
