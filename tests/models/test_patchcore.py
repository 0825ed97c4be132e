"""What is PatchCore's own: odd sizes, how it treats the border, re-weighted scores, and positions."""

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from zellige.core.errors import ConfigError
from zellige.models.patchcore import Bank, PatchCore


def textures(num: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    images = [cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 2) for _ in range(num)]
    pixels = [np.clip(128 + 20 * image / image.std(), 0, 255).astype(np.uint8) for image in images]
    return torch.from_numpy(np.stack(pixels)[:, None])


def fitted(images: torch.Tensor, **settings: object) -> PatchCore:
    detector = PatchCore(bank_size=256, **settings)  # type: ignore[arg-type]
    with torch.inference_mode():
        detector.build([detector.embed(images)])
    return detector


@pytest.mark.parametrize(
    ("stages", "grid_stride", "size"),
    [((2, 3), 8, (100, 100)), ((1, 2), 8, (100, 92)), ((2, 3), 16, (200, 136)), ((1, 2, 3), 8, (72, 90))],
)
def test_any_size_and_grid(stages: tuple[int, ...], grid_stride: int, size: tuple[int, int]) -> None:
    images = textures(2, *size)
    detector = fitted(images, stages=stages, grid_stride=grid_stride)
    with torch.inference_mode():
        for features, stage in zip(detector.embed(images), stages, strict=True):
            assert features.shape[:3] == (2, *(-(-side // max(grid_stride, 2 << stage)) for side in size))
        assert detector(images).anomaly_map.shape == (2, 1, *size)


def test_a_defect_at_the_border_stands_out_like_one_in_the_middle() -> None:
    detector = fitted(textures(6, 128, 128))
    middle, corner = textures(2, 128, 128, seed=1)
    middle, corner = middle.clone(), corner.clone()
    middle[:, 56:72, 56:72] = 255
    corner[:, :16, :16] = 255
    with torch.inference_mode():
        output = detector(torch.stack([middle, corner]))
    peaks = output.anomaly_map.amax((1, 2, 3))
    assert peaks[1] > 0.75 * peaks[0]
    y, x = divmod(int(output.anomaly_map[1].argmax()), 128)
    assert max(y, x) < 32


def test_a_grid_that_is_no_stride_is_refused() -> None:
    with pytest.raises(ConfigError, match="grid_stride: expected one of"):
        PatchCore(grid_stride=10)


def test_without_options_distances_are_the_plain_ones_to_the_bit() -> None:
    """The formula as it stood before there were options, and a checkpoint that holds nothing new."""
    images = textures(3, 96, 96)
    detector = fitted(images[:2])
    assert {key.split(".")[-1] for key in detector.banks.state_dict()} == {"center", "spread", "vectors"}
    with torch.inference_mode():
        for bank, features in zip(detector.banks, detector.embed(images), strict=True):
            patches = ((features - bank.center) / bank.spread).flatten(0, 2)
            nearest = (bank.vectors.square().sum(1) - 2.0 * patches @ bank.vectors.T).amin(1)
            expected = (patches.square().sum(1) + nearest).clamp(min=1e-9).sqrt()
            assert torch.equal(bank(features).flatten(), expected)


def reference_scores(detector: PatchCore, images: torch.Tensor, neighbors: int) -> list[float]:
    """Re-weighted scores by the definition (Roth et al. 2022, eq. 7, for the worst 1 % of a stage's patches)."""
    with torch.inference_mode():
        stages = [features.double().numpy() for features in detector.embed(images)]
    scores = np.zeros((len(stages), len(images)))
    for number, (bank, features) in enumerate(zip(detector.banks, stages, strict=True)):
        center, spread, vectors = (getattr(bank, name).double().numpy() for name in ("center", "spread", "vectors"))
        for index, grid in enumerate(features):
            height, width = grid.shape[:2]
            rated = []
            for y, x in np.ndindex(height, width):
                gaps = np.linalg.norm(vectors - (grid[y, x] - center) / spread, axis=1)
                match = int(gaps.argmin())
                around = np.linalg.norm(vectors - vectors[match], axis=1).argsort()[:neighbors]
                factor = 1 - np.exp(gaps[match]) / np.exp(gaps[around]).sum()
                beside = sum(0 <= y + i < height and 0 <= x + j < width for i in (-1, 0, 1) for j in (-1, 0, 1))
                weighted = gaps[match] * np.sqrt(beside / 9)
                rated.append((weighted, weighted * factor))
            worst = sorted(rated, reverse=True)[: max(1, round(0.01 * height * width))]
            scores[number, index] = np.mean([reweighted for _, reweighted in worst])
    return list(scores.mean(0))


@pytest.mark.parametrize("neighbors", [2, 5, 64])
def test_the_reweighted_score_is_that_of_the_paper(neighbors: int) -> None:
    """With 64 neighbors and a bank of 40 vectors, all of them are taken."""
    images = textures(4, 136, 200)
    images[3, :, 40:60, 40:60] = 255
    plain = PatchCore(bank_size=40)
    with torch.inference_mode():
        plain.build([plain.embed(images[:2])])
    detector = PatchCore(bank_size=40, reweight_neighbors=neighbors)
    detector.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        before, after = plain(images), detector(images)
    assert after.score.tolist() == pytest.approx(reference_scores(detector, images, neighbors), rel=1e-4)
    assert (after.score < before.score).all()
    assert torch.equal(after.anomaly_map, before.anomaly_map)


def test_one_vector_in_the_bank_is_not_reweighted() -> None:
    flat = torch.full((1, 1, 64, 64), 128, dtype=torch.uint8)
    spoilt = flat.clone()
    spoilt[..., 20:40, 20:40] = 255
    scores = []
    for neighbors in (0, 9):
        detector = PatchCore(bank_size=1, reweight_neighbors=neighbors)
        with torch.inference_mode():
            detector.build([detector.embed(flat)])
            scores.append(detector(spoilt).score.item())
    assert scores[0] == scores[1] > 0


def plates(num: int, seed: int, *, defective: bool = False) -> torch.Tensor:
    """Plates that lie still: bright dots in three corners belong there, one in the fourth is the defect."""
    images = textures(num, 128, 128, seed=seed)
    for y, x in [(32, 32), (32, 96), (96, 32)] + [(96, 96)] * defective:
        images[:, 0, y - 8 : y + 8, x - 8 : x + 8] = 230
    return images


def test_positions_find_what_is_good_elsewhere() -> None:
    train, good, bad = plates(12, 0), plates(12, 1), plates(12, 2, defective=True)
    aurocs = {}
    for radius in (None, 4.0):
        detector = PatchCore(bank_size=512, position_radius=radius)
        with torch.inference_mode():
            detector.build(detector.embed(part) for part in torch.split(train, 4))
            scores = torch.cat([detector(good).score, detector(bad).score])
            output = detector(bad[:1])
        aurocs[radius] = roc_auc_score([0] * 12 + [1] * 12, scores.numpy())
    assert aurocs[None] < 0.9
    assert aurocs[4.0] > 0.98
    y, x = divmod(int(output.anomaly_map[0].argmax()), 128)
    assert (abs(y - 96) < 16, abs(x - 96) < 16) == (True, True)


def test_the_distance_counts_way_and_features() -> None:
    """One patch moved by rows and columns, against its distance by hand: cells of 8 and of 16 px, radius 2 cells."""
    detector = PatchCore(position_radius=2.0)
    for bank, cell in zip(detector.banks, (0.5, 1.0), strict=True):
        assert isinstance(bank, Bank)
        features = torch.zeros(1, 5, 6, bank.center.shape[0])
        features[0, 3, 4, 0] = 2.0
        described = bank.describe(features).view(5, 6, -1)
        bank.vectors = described[1, 1][None]
        expected = np.sqrt(2.0**2 + (cell * 2) ** 2 + (cell * 3) ** 2)
        assert bank(features)[0, 0, 3, 4].item() == pytest.approx(expected, rel=1e-5)
        assert bank(features)[0, 0, 1, 1].item() == pytest.approx(0, abs=1e-3)


def test_a_bank_with_positions_does_not_load_without() -> None:
    detector = fitted(textures(1, 64, 64), position_radius=3.0)
    with pytest.raises(RuntimeError, match=r"banks\.0\.vectors"):
        PatchCore().load_state_dict(detector.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reweight_neighbors": 1}, r"reweight_neighbors: expected 0 \(off\) or 2 to 64, got 1"),
        ({"reweight_neighbors": 65}, "reweight_neighbors: .* got 65"),
        ({"position_radius": 0.5}, r"position_radius: expected null \(off\) or 1 to 1024 cells, got 0.5"),
        ({"position_radius": float("nan")}, "position_radius: .* got nan"),
        ({"bank_size": 0}, "bank_size: expected 1 to 1000000, got 0"),
    ],
)
def test_numbers_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PatchCore(**settings)
