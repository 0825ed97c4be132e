"""Which images a fit on few shots sees, and what it refuses."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import Fitted
from zellige.core.errors import ConfigError
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.models.detector import DetectorOutput, Features
from zellige.training.few_shot import draw_shots, shots_in_words
from zellige.training.one_pass import fit


class Witness(nn.Module):
    """A detector that remembers the tiles that it was built from."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles: list[bytes] = []

    def embed(self, images: Tensor) -> Features:
        self.tiles += [image.numpy().tobytes() for image in images]
        return (images.float(),)

    def build(self, features: Iterable[Features]) -> None:
        for _ in features:
            pass

    def forward(self, images: Tensor) -> DetectorOutput:
        return DetectorOutput(anomaly_map=images.float(), score=torch.zeros(len(images)))


def tiles_of(data: TileDataset) -> set[bytes]:
    return {tile.tobytes() for index in range(len(data)) for tile in data[index].pixels}


def seen(fitted: Fitted, run_dir: Path, policy: str = "jitter", **settings: int) -> list[bytes]:
    train, witness = fitted.dataset("train"), Witness()
    train.augment = Augment(policy, seed=0)
    fit(witness, train, train, fabric=fitted.fabric, run_dir=run_dir, **settings)
    return witness.tiles


def test_fewer_shots_are_a_part_of_more_and_the_seed_draws_them(fitted: Fitted) -> None:
    train = fitted.dataset("train")
    drawn = {(shots, seed): draw_shots(train, shots, seed=seed).samples for shots in (1, 2, 4, 8) for seed in range(5)}
    for (shots, seed), samples in drawn.items():
        assert len(set(samples)) == shots
        assert set(samples) <= set(drawn[8, seed])
        assert list(samples) == sorted(samples, key=train.samples.index)
    assert len({drawn[2, seed] for seed in range(5)}) > 1
    assert draw_shots(train, None, seed=0) is train


def test_a_fit_sees_the_shots_as_they_are_and_their_copies(fitted: Fitted, tmp_path: Path) -> None:
    """An image of 96 x 112 px is four tiles."""
    shots = draw_shots(fitted.dataset("train"), 2, seed=5)
    found = seen(fitted, tmp_path, num_shots=2, augmented_copies=3, seed=5)
    assert len(found) == 2 * 4 * (1 + 3)
    assert sum(tile in tiles_of(shots) for tile in found) == 2 * 4
    assert len(set(found)) == len(found)
    report = json.loads((tmp_path / "fit.json").read_text())
    assert (report["num_images"], report["augmented_copies"], report["num_tiles"]) == (2, 3, 32)


def test_the_seeds_decide_what_is_seen(fitted: Fitted, tmp_path: Path) -> None:
    settings = {"num_shots": 3, "augmented_copies": 2}
    first, again, other = (seen(fitted, tmp_path, **settings, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)


def test_one_image_is_said_to_be_few(fitted: Fitted, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(seen(fitted, tmp_path, policy="none", num_shots=1)) == 4
    assert "good training images: 1 only; a good form that they do not show will look like a defect" in caplog.text
    assert "experiment=few_shot" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_shots": 0}, r"trainer\.num_shots: expected null \(all\) or 1 to 10, .* got 0"),
        ({"num_shots": 11}, r"trainer\.num_shots: .* got 11"),
        ({"augmented_copies": -1}, r"trainer\.augmented_copies: expected 0 to 1000, got -1"),
        ({"augmented_copies": 2, "policy": "none"}, r"trainer\.augmented_copies=2: .* data\.augment=jitter, got none"),
    ],
)
def test_refusals(fitted: Fitted, tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        seen(fitted, tmp_path, **settings)
    assert not (tmp_path / "fit.json").exists()


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"num_shots": None, "augmented_copies": 0}, {}),
        ({"epochs": 3}, {}),
        ({"num_shots": 4}, {"good training images": "4 of 40, drawn with seed 7"}),
        ({"augmented_copies": 8}, {"good training images": "40, each as it is and in 8 changed copies"}),
        (
            {"num_shots": 1, "augmented_copies": 8},
            {"good training images": "1 of 40, drawn with seed 7, each as it is and in 8 changed copies"},
        ),
    ],
)
def test_what_a_report_says(trainer: dict, words: dict[str, str]) -> None:
    assert shots_in_words(SimpleNamespace(seed=7, **trainer), 40) == words
