"""PaDiM's distances against plain inverses of covariances in numpy, position by position; its sizes and refusals."""

import numpy as np
import pytest
import torch

from tests.conftest import texture
from zellige.core.errors import ConfigError, InputError
from zellige.models.moments import Moments
from zellige.models.padim import Padim, PositionGaussians, semi_orthogonal


def images(*seeds: int, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    return torch.from_numpy(np.stack([texture(seed, size=size)[None] for seed in seeds]))


def fitted(train: torch.Tensor, **settings: int) -> Padim:
    detector = Padim(**settings)
    with torch.inference_mode():
        detector.build(detector.embed(part) for part in torch.split(train, 3))
    return detector


def learned(features: np.ndarray, prior_images: int) -> PositionGaussians:
    """A stage without projection, fitted on features (B, h, w, D)."""
    stage = PositionGaussians(torch.eye(features.shape[3]))
    stage.place(*features.shape[1:3])
    vectors = stage.by_position(torch.from_numpy(features).float())
    moments = Moments(vectors.mean(1))
    moments.add(vectors)
    stage.learn(moments, prior_images)
    return stage


def distances(stage: PositionGaussians, features: np.ndarray) -> np.ndarray:
    return stage(torch.from_numpy(features).float())[:, 0].numpy()


def covariance(vectors: np.ndarray) -> np.ndarray:
    moved = vectors - vectors.mean(0)
    return np.einsum("ni,nj->ij", moved, moved) / len(vectors)


def reference(train: np.ndarray, test: np.ndarray, prior_images: int) -> np.ndarray:
    """Distances (B, h, w) of features (B, h, w, D) by the definition, with a loop over positions."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    num, height, width, dims = train.shape
    own = np.zeros((height, width, dims, dims))
    for row in range(height):
        for col in range(width):
            own[row, col] = covariance(train[:, row, col])
    means = train.mean(0)
    pooled = own.mean((0, 1)) + covariance(means.reshape(-1, dims)) / num
    weight = prior_images / (num + prior_images)
    gaps, squares = np.zeros(test.shape[:3]), []
    for row in range(height):
        for col in range(width):
            shrunk = (1 - weight) * own[row, col] + weight * pooled
            inverse = np.linalg.inv(shrunk + 0.01 * np.trace(pooled) / dims * np.eye(dims))
            moved = test[:, row, col] - means[row, col]
            gaps[:, row, col] = np.sqrt(np.sum(moved @ inverse * moved, axis=1))
            squares.append(np.trace(inverse @ shrunk))
    return gaps / np.sqrt(np.mean(squares))


@pytest.mark.parametrize(("num", "num_dims", "prior_images"), [(12, 8, 4), (5, 32, 32), (1, 16, 32)])
def test_distances_of_real_features_are_those_of_numpy(num: int, num_dims: int, prior_images: int) -> None:
    train, test = images(*range(num)), images(50, 51)
    detector = fitted(train, num_dims=num_dims, prior_images=prior_images)
    with torch.inference_mode():
        stages = zip(detector.gaussians, detector.embed(train), detector.embed(test), strict=True)
        for stage, seen, new in stages:
            small = [(features @ stage.projection).numpy() for features in (seen, new)]
            assert small[0].shape[3] == min(num_dims, seen.shape[3])
            assert stage(new)[:, 0].numpy() == pytest.approx(reference(*small, prior_images), rel=1e-3, abs=1e-4)


def test_a_place_has_its_own_mean_and_spread() -> None:
    """Left patches lie around 0 and vary little, right ones around 9 and vary ten times as much."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (500, 1, 2, 4)) * np.array([0.1, 1.0])[:, None] + np.array([0.0, 9.0])[:, None]
    stage = learned(features, prior_images=1)
    probes = np.zeros((2, 1, 2, 4))
    probes[:, :, 1] = 9.0
    probes[1] += 1.0
    found = distances(stage, probes)[:, 0]
    assert found[0] == pytest.approx([0, 0], abs=0.2)
    assert found[1, 1] == pytest.approx(1, rel=0.1)
    assert found[1, 0] > 5
    swapped = distances(stage, np.flip(probes[:1], 2).copy())[0, 0]
    assert swapped.min() > 7


def test_good_patches_lie_about_one_from_their_mean() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.normal(0, 1, (6, 6))
    stage = learned(rng.normal(0, 3, (400, 2, 2, 6)) @ mixing, prior_images=32)
    unseen = distances(stage, rng.normal(0, 3, (400, 2, 2, 6)) @ mixing)
    assert np.sqrt(np.mean(unseen**2)) == pytest.approx(1, rel=0.1)


def test_few_images_borrow_the_spread_of_the_others() -> None:
    """A place that happened not to vary in three images must not call every deviation a defect."""
    features = np.random.default_rng(2).normal(0, 1, (3, 4, 4, 5))
    features[:, 0, 0] = 0.0
    assert distances(learned(features, prior_images=32), np.full((1, 4, 4, 5), 0.5))[0, 0, 0] < 2


def test_state_is_single_precision_and_as_large_as_said() -> None:
    detector = fitted(images(0, 1), num_dims=16)
    for stage in detector.gaussians:
        height, width, dims = stage.mean.shape
        assert stage.whitening.shape == (height * width, dims, dims)
        assert stage.mean.dtype == stage.whitening.dtype == torch.float32
        assert stage.megabytes() * 1e6 == 4 * height * width * dims * (dims + 1)


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (128, 192)])
def test_images_of_another_size_than_the_fit_are_refused(size: tuple[int, int]) -> None:
    detector = fitted(images(0, 1))
    message = (
        rf"images of the size of the fit \(a grid of 8 x 12 patches\), got {size[0] // 8} x {size[1] // 8} patches"
    )
    with torch.inference_mode(), pytest.raises(InputError, match=message):
        detector(images(0, size=size))


def test_a_fit_on_two_sizes_is_refused() -> None:
    detector = Padim()
    batches = [detector.embed(images(0)), detector.embed(images(1, size=(96, 96)))]
    with pytest.raises(InputError, match=r"a grid of 8 x 12 patches.*, got 12 x 12 patches"):
        detector.build(batches)


def test_a_fit_on_another_size_starts_anew() -> None:
    detector = fitted(images(0, 1))
    with torch.inference_mode():
        other = images(0, 1, size=(96, 96))
        detector.build([detector.embed(other)])
        assert detector(other).anomaly_map.shape == (2, 1, 96, 96)


def test_gaussians_that_would_fill_the_memory_are_refused_before_they_are_made() -> None:
    detector = Padim(stages=[2], num_dims=32)
    with pytest.raises(ConfigError, match="expected Gaussians of at most 128 MB, got 216 MB"):
        detector.build([(torch.zeros(1, 1, 1, 40).expand(1, 256, 200, 40),)])


def test_the_projection_is_semi_orthogonal_and_the_seed_decides() -> None:
    before = torch.get_rng_state()
    first, again, other = (semi_orthogonal(40, 12, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.T.numpy() @ first.numpy() == pytest.approx(np.eye(12), abs=1e-6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(Padim(seed=1).gaussians[2].projection, Padim(seed=2).gaussians[2].projection)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_dims": 0}, "num_dims: expected 1 to 256, got 0"),
        ({"num_dims": 257}, "num_dims: expected 1 to 256, got 257"),
        ({"prior_images": 0}, "prior_images: expected 1 to 1000000, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Padim(**settings)
