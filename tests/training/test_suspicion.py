"""The ranking of training images: against brute force in numpy, and on sets with defects that nobody labelled."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.conftest import save_image, texture
from zellige.core.errors import ConfigError
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.models.dinomaly import Dinomaly
from zellige.models.efficient_ad import EfficientAd
from zellige.models.padim import Padim
from zellige.models.patchcore import PatchCore
from zellige.models.subspace import Subspace
from zellige.models.super_simple_net import SuperSimpleNet
from zellige.training import gradient
from zellige.training import suspicion as module
from zellige.training.one_pass import fit
from zellige.training.suspicion import Suspicion

HIDDEN = (7, 19)


def features(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two stages of N tiles: (N, 6, 7, 5) and (N, 3, 4, 8)."""
    rng = np.random.default_rng(seed)
    return tuple(torch.from_numpy(rng.normal(0, 1, (num, *size)).astype(np.float32)) for size in ((6, 7, 5), (3, 4, 8)))


def border(height: int, width: int) -> np.ndarray:
    """Square root of the share of the 3 x 3 neighbors that exist."""
    rows, cols = (np.minimum(np.arange(n), 1) + np.minimum(np.arange(n)[::-1], 1) + 1 for n in (height, width))
    return np.sqrt(rows[:, None] * cols[None] / 9)


def brute_force(stages: tuple[torch.Tensor, torch.Tensor], halves: np.ndarray) -> np.ndarray:
    """Mean over the stages of each tile's worst patch, as far as it is from all patches of the other half."""
    found = []
    for stage in stages:
        patches = stage.double().numpy()
        flat = patches.reshape(-1, patches.shape[3])
        unit = np.sqrt(((flat - flat.mean(0)) ** 2).sum(1).mean())
        per_tile = []
        for own, tile in zip(halves, patches, strict=True):
            others = patches[halves != own].reshape(-1, patches.shape[3])
            gap = np.linalg.norm(tile[:, :, None] - others, axis=3).min(2) / unit
            per_tile.append((gap * border(*gap.shape)).max())
        found.append(per_tile)
    return np.mean(found, axis=0)


def test_scores_are_the_distances_to_the_other_half() -> None:
    """With banks that hold every patch."""
    stages, halves = features(8), np.arange(8) % 2
    found = Suspicion([f"roll {index}" for index in range(8)])
    for start in range(0, 8, 3):
        part = slice(start, start + 3)
        found.add(tuple(stage[part] for stage in stages), list(range(8))[part])
    assert found.scores() == pytest.approx(brute_force(stages, halves), rel=1e-4)


def test_late_images_are_judged_by_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = features(12)
    monkeypatch.setattr(module, "REFERENCE_IMAGES", 8)
    found = Suspicion([str(index) for index in range(12)])
    for index in range(12):
        found.add(tuple(stage[index : index + 1] for stage in stages), [index])
    first = brute_force(tuple(stage[:8] for stage in stages), np.arange(8) % 2)
    scores = found.scores()
    assert scores[:8] == pytest.approx(first, rel=1e-4)
    assert np.isfinite(scores[8:]).all()


def test_a_group_is_not_judged_by_itself() -> None:
    """Two images of one piece, unlike all others: as one group both stand out, as two they excuse each other."""
    stages = features(9)
    for stage in stages:
        stage[8] = stage[7] = stage[7] + 4
    as_group, apart = Suspicion([*map(str, range(7)), "x", "x"]), Suspicion([*map(str, range(9))])
    for found in (as_group, apart):
        found.add(stages, range(9))
    assert as_group.scores()[7:].min() > 2 * as_group.scores()[:7].max()
    assert apart.scores()[7:].max() < apart.scores()[:7].max()


def test_the_worst_tile_is_the_images() -> None:
    stages = features(6)
    stages[0][5] += 9
    found = Suspicion(["a", "b", "c"])
    found.add(stages, [0, 0, 1, 1, 2, 2])
    assert int(np.argmax(found.scores())) == 2


def test_a_single_image_has_nothing_to_be_compared_with() -> None:
    found = Suspicion(["a"])
    found.add(features(3), [0, 0, 0])
    assert found.scores() is None


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> TileDataset:
    """30 images that are called good; two of them have a scratch."""
    folder, samples = tmp_path_factory.mktemp("spoilt"), []
    for index in range(30):
        pixels = texture(index, size=(96, 96))
        if index in HIDDEN:
            cv2.line(pixels, (20, 30 + index), (70, 40 + index), 250, 3)
        save_image(folder / f"{index:02}.png", pixels)
        path = folder / f"{index:02}.png"
        samples.append(Sample(id=path.name, image_path=path, kind="good", group_id=path.name))
    geometry = Geometry(mode=GeometryMode.TILES, height=64, width=64, overlap_px=32)
    return TileDataset(samples, geometry=geometry, color=Color.GRAY)


def fitted(
    make: Callable[[], nn.Module], data: TileDataset, run_dir: Path, share: float
) -> tuple[nn.Module, list[dict]]:
    """A detector fitted without this share, and what was listed."""
    fabric, detector = Fabric(accelerator="cpu", devices=1), make()
    report = fit(detector, data, data, fabric=fabric, run_dir=run_dir, rank_suspicious=True, drop_suspicious=share)
    assert report.num_images == len(data) - round(len(data) * share)
    assert report.rank_seconds > 0
    return detector, json.loads((run_dir / "suspicious_train.json").read_text())["images"]


@pytest.mark.parametrize("make", [lambda: PatchCore(bank_size=256), Subspace, lambda: Padim(num_dims=16)])
def test_unlabelled_defects_come_first(make: Callable[[], nn.Module], spoilt: TileDataset, tmp_path: Path) -> None:
    _, listed = fitted(make, spoilt, tmp_path, 0.0)
    assert {row["id"] for row in listed[:2]} == {f"{index:02}.png" for index in HIDDEN}
    assert [row["rank"] for row in listed] == list(range(1, 31))
    assert all(row["learned_from"] for row in listed)
    picture = cv2.imread(str(tmp_path / "pictures/suspicious_train.png"))
    assert min(picture.shape[:2]) > 300


def test_what_is_left_out_is_not_learned_from(spoilt: TileDataset, tmp_path: Path) -> None:
    scores = []
    for share in (0.0, 0.1):
        detector, listed = fitted(Subspace, spoilt, tmp_path, share)
        assert [row["learned_from"] for row in listed] == [rank >= round(30 * share) for rank in range(30)]
        with torch.inference_mode():
            scores.append([float(detector(torch.from_numpy(spoilt[i].pixels)).score.max()) for i in HIDDEN])
    assert all(dropped > learned for learned, dropped in zip(*scores, strict=True))


def test_ranking_changes_nothing_of_the_fit(spoilt: TileDataset, tmp_path: Path) -> None:
    states = []
    for rank in (False, True):
        detector = PatchCore(bank_size=64)
        fit(detector, spoilt, spoilt, fabric=Fabric(accelerator="cpu"), run_dir=tmp_path, rank_suspicious=rank)
        states.append(detector.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SuperSimpleNet(hidden=8, score_channels=2),
        lambda: EfficientAd(width=4, latent=2),
        lambda: Dinomaly(decoder_blocks=1),
    ],
)
def test_a_fit_by_gradient_ranks_too_and_learns_the_same(
    make: Callable[[], nn.Module], spoilt: TileDataset, tmp_path: Path
) -> None:
    states, fabric = [], Fabric(accelerator="cpu", devices=1)
    for rank in (False, True):
        detector = make()
        settings = {"epochs": 1, "rank_suspicious": rank}
        report = gradient.fit(detector, spoilt, spoilt.only([0, 1]), fabric=fabric, run_dir=tmp_path, **settings)
        assert (report.rank_seconds > 0) == rank == (tmp_path / "suspicious_train.json").exists()
        (tmp_path / "resume.safetensors").unlink()
        states.append(detector.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    listed = json.loads((tmp_path / "suspicious_train.json").read_text())["images"]
    assert {row["id"] for row in listed[:2]} == {f"{index:02}.png" for index in HIDDEN}
    assert min(cv2.imread(str(tmp_path / "pictures/suspicious_train.png")).shape[:2]) > 300


def test_equal_features_are_ranked_alike_by_both_trainers(spoilt: TileDataset, tmp_path: Path) -> None:
    """By default PatchCore and SuperSimpleNet look at the same patches."""
    _, by_one_pass = fitted(lambda: PatchCore(bank_size=64), spoilt, tmp_path, 0.0)
    (tmp_path / "net").mkdir()
    settings = {"epochs": 1, "cache_mb": 0, "rank_suspicious": True}
    net, fabric = SuperSimpleNet(hidden=8, score_channels=2), Fabric(accelerator="cpu", devices=1)
    gradient.fit(net, spoilt, spoilt.only([0]), fabric=fabric, run_dir=tmp_path / "net", **settings)
    by_gradient = json.loads((tmp_path / "net/suspicious_train.json").read_text())["images"]
    assert {row["id"]: row["score"] for row in by_gradient} == pytest.approx(
        {row["id"]: row["score"] for row in by_one_pass}, rel=1e-5
    )


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_a_share_out_of_range(spoilt: TileDataset, tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.drop_suspicious: expected 0 to 0\.5"):
        fit(Subspace(), spoilt, spoilt, fabric=Fabric(accelerator="cpu"), run_dir=tmp_path, drop_suspicious=share)
