import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.training.conftest import GEOMETRY, Fitted
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, Sample
from zellige.data.dataset import TileDataset
from zellige.models.patchcore import PatchCore
from zellige.training.one_pass import fit


def refit(fitted: Fitted, run_dir: Path, **settings) -> PatchCore:
    detector = PatchCore(bank_size=128)
    fit(detector, fitted.dataset("train"), fitted.dataset("val"), fabric=fitted.fabric, run_dir=run_dir, **settings)
    return detector


def test_the_report_counts_images_and_tiles_and_is_stored(fitted: Fitted) -> None:
    report = fitted.report
    assert report.num_images == len(fitted.splits.train) == 10
    # 96 x 112 px in tiles of 64 px that share 16: two by two.
    assert report.num_tiles == 40
    assert 0 < report.embed_seconds < report.fit_seconds
    assert json.loads((fitted.run_dir / "fit.json").read_text()) == asdict(report)


def test_the_bank_is_filled_to_its_size_and_not_beyond(fitted: Fitted) -> None:
    for bank in fitted.detector.banks:
        assert bank.vectors.shape[0] == 128
        assert bank.vectors.isfinite().all()


def test_the_seed_decides_and_no_global_state_does(fitted: Fitted, tmp_path: Path) -> None:
    torch.manual_seed(1234)
    again = refit(fitted, tmp_path, batch_size=8, seed=0)
    expected = fitted.detector.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
    other = refit(fitted, tmp_path, batch_size=8, seed=1)
    assert not torch.equal(other.banks[0].vectors, fitted.detector.banks[0].vectors)


def test_nothing_of_a_fit_needs_gradients(fitted: Fitted) -> None:
    assert not any(value.requires_grad for value in fitted.detector.state_dict().values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batch_size": 0}, r"trainer\.batch_size: expected at least 1, got 0"), ({"seed": -1}, r"trainer\.seed: .*-1")],
)
def test_numbers_out_of_range(fitted: Fitted, tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refit(fitted, tmp_path, **settings)


def test_a_damaged_training_image_ends_the_fit_in_one_line(fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(b"no image")
    samples = (*fitted.splits.train, Sample(id="bad", image_path=path, kind="good", group_id="bad"))
    dataset = TileDataset(samples, geometry=GEOMETRY, color=Color.GRAY)
    with pytest.raises(InputError, match=r"image .*bad\.png: not a readable image"):
        fit(PatchCore(bank_size=8), dataset, dataset, fabric=fitted.fabric, run_dir=tmp_path)
    assert not (tmp_path / "fit.json").exists()
