"""What a proof counts, from images and maps made by hand: one statistic, the brightest pixel of a cell, is limited."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.evaluation.conftest import Piece
from zellige.core.screen import STATISTICS, Screen
from zellige.core.types import Calibration, Color, Geometry, GeometryMode
from zellige.evaluation.predictions import PredictionSet
from zellige.evaluation.screen_proof import ScreenProof, prove_screen

GEOMETRY = Geometry(mode=GeometryMode.TILES, height=32, width=32)
CALIBRATION = Calibration(
    pixel_threshold=0.5, reject_score=0.8, accept_score=0.6, fitted_on="v", target="t", guarantee="g"
)
Place = tuple[int, int]


@pytest.fixture
def prove(predictions_of: Callable[[str, Sequence[Piece]], PredictionSet]) -> Callable[..., ScreenProof]:
    """Pieces: kind, score, places where the map is 0.9 (and 0.7 after the first), places that are bright."""

    def run(pieces: Sequence[tuple[str, float, list[Place], list[Place]]], **asked: Any) -> ScreenProof:
        stored = []
        for kind, score, peaks, _ in pieces:
            anomaly_map = np.full((32, 96), 0.1, np.float32)
            for level, (y, x) in zip((0.9, *[0.7] * len(peaks)), peaks, strict=False):
                anomaly_map[y, x] = level
            stored.append(Piece(kind=kind, score=score, anomaly_map=anomaly_map))
        predictions = predictions_of("test", stored)
        for sample, (_, _, _, bright) in zip(predictions.samples, pieces, strict=True):
            pixels = np.full((32, 96), 100, np.uint8)
            for y, x in bright:
                pixels[y, x] = 200
            save(sample.image_path, pixels)
        high = np.full((len(STATISTICS), 1), 1e6, np.float32)
        low = -high
        high[STATISTICS.index("brightest")] = 50
        settings = {"geometry": GEOMETRY, "max_loss": 0.5, "confidence": 0.95, **asked}
        return prove_screen(
            Screen(cell_px=16, low=low, high=high),
            [predictions],
            CALIBRATION,
            color=Color.GRAY,
            **settings,
        )

    return run


def save(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def test_lost_is_what_no_passed_tile_shows_the_worst_of(prove: Callable[..., ScreenProof]) -> None:
    """Tiles of 32 px: columns 0 to 31, 32 to 63 and 64 to 95."""
    proof = prove(
        [
            ("good", 0.1, [], []),
            ("good", 0.1, [], [(3, 3), (20, 40)]),  # two tiles are passed
            ("hole", 0.9, [(5, 5)], [(10, 10)]),  # seen
            ("hole", 0.7, [(5, 40), (5, 80)], [(10, 50)]),  # undecided counts as found; the tile of one is not passed
            ("hole", 0.7, [(5, 40), (5, 80)], [(10, 50), (10, 80)]),  # both are
            ("hole", 0.9, [(5, 5)], [(10, 80)]),  # a tile is passed, and not that of the hole
            ("hole", 0.9, [(5, 5)], []),  # no tile is passed
            ("hole", 0.3, [], []),  # the net does not find it: nothing to lose
        ]
    )
    assert proof.num_found == 5
    assert proof.lost_ids == ("test/hole/3", "test/hole/5", "test/hole/6")
    assert (proof.num_regions, proof.num_regions_lost) == (7, 3)
    assert (proof.num_good_tiles, proof.num_good_passed) == (6, 2)


def test_every_tile_over_the_place_must_be_passed(prove: Callable[..., ScreenProof]) -> None:
    """Which of them the score is from is not known. Tiles begin at columns 0, 16, 32, 48 and 64; two hold column 20."""
    overlapping = Geometry(mode=GeometryMode.TILES, height=32, width=32, overlap_px=16)
    proof = prove(
        [
            ("hole", 0.9, [(5, 20)], [(10, 20)]),  # both are passed
            ("hole", 0.9, [(5, 20)], [(10, 5)]),  # the first alone
        ],
        geometry=overlapping,
    )
    assert (proof.num_found, proof.lost_ids) == (2, ("test/hole/1",))


def test_the_bound_is_exact_and_decides(prove: Callable[..., ScreenProof]) -> None:
    """Without a loss among n the bound is 1 - 0.05^(1/n): 0.5271 for 4 and 0.4507 for 5."""
    seen = ("hole", 0.9, [(5, 5)], [(10, 10)])
    four, five = prove([seen] * 4), prove([seen] * 5)
    assert four.bound == pytest.approx(1 - 0.05 ** (1 / 4))
    assert five.bound == pytest.approx(1 - 0.05 ** (1 / 5))
    assert (four.is_shown, five.is_shown) == (False, True)
    assert "OFF, NOT SHOWN: 0 of 4" in four.in_words()
    assert "takes 5 found with 0 lost" in four.in_words()
    assert five.in_words().startswith("on: 0 of 5")
    assert five.to_json()["is_on"] is True
    assert prove([seen] * 5, confidence=0.99).is_shown is False
    assert prove([("good", 0.1, [], [])]).is_shown is False
