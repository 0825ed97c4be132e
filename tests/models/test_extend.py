"""Detectors that take in more good images: against a fit on all images at once, and against plain numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import texture
from zellige.core.errors import ConfigError, InputError
from zellige.models.coreset import StreamingCoreset, least_spacing
from zellige.models.detector import Extendable
from zellige.models.padim import Padim
from zellige.models.patchcore import GROWTH, PatchCore
from zellige.models.subspace import Subspace
from zellige.models.super_simple_net import SuperSimpleNet
from zellige.training.checkpoint import load_checkpoint, save_checkpoint
from zellige.training.one_pass import check_extendable

EXACT = {"subspace": Subspace, "padim": lambda: Padim(num_dims=16)}
MOVED = (0.4, 1.5)
"""A lamp that moved to the right."""
ALL = {"patchcore": lambda: PatchCore(bank_size=64), **EXACT}


def images(*seeds: int, lamp: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
    """Good tiles (B, 1, 96, 112) under a lamp that gives such shares of its light at the left and the right edge."""
    return torch.from_numpy(np.stack([under(lamp, texture(seed))[None] for seed in seeds]))


def under(lamp: tuple[float, float], pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels * np.linspace(*lamp, pixels.shape[1]), 0, 255).astype(np.uint8)


def with_defect(tiles: torch.Tensor) -> torch.Tensor:
    spoilt = tiles.clone()
    spoilt[..., 40:54, 48:62] = 255
    return spoilt


def fitted(make, tiles: torch.Tensor) -> Extendable:
    detector = make().eval()
    with torch.inference_mode():
        detector.build(detector.embed(part) for part in torch.split(tiles, 4))
    return check_extendable(detector)


def extended(detector: Extendable, tiles: torch.Tensor) -> Extendable:
    with torch.inference_mode():
        detector.extend(detector.embed(part) for part in torch.split(tiles, 4))
    return detector


def scores(detector, tiles: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return detector(tiles).score.numpy()


def state(detector: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in detector.state_dict().items()}


@pytest.mark.parametrize("name", EXACT)
def test_moments_that_join_are_those_of_all_images(name: str, tmp_path: Path) -> None:
    """In two steps and through a checkpoint: scores as after one fit on all, where the first fit alone differs."""
    first, more, unseen = (
        images(*range(6)),
        images(*range(10, 16), lamp=(0.7, 0.7)),
        images(*range(30, 34), lamp=(0.8, 0.8)),
    )
    save_checkpoint(fitted(EXACT[name], first), tmp_path / "detector.safetensors")
    loaded = EXACT[name]().eval()
    load_checkpoint(loaded, tmp_path / "detector.safetensors")
    before = scores(loaded, unseen)
    found = scores(extended(extended(loaded, more[:2]), more[2:]), unseen)
    expected = scores(fitted(EXACT[name], torch.cat([first, more])), unseen)
    assert found == pytest.approx(expected, rel=1e-3)
    assert np.abs(before / expected - 1).max() > 0.05


@pytest.mark.parametrize("name", ALL)
def test_an_extension_by_nothing_changes_nothing(name: str) -> None:
    detector = fitted(ALL[name], images(*range(4)))
    before = state(detector)
    detector.extend(iter([]))
    after = detector.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ALL)
def test_under_another_light_good_images_pass_again_and_defects_do_not(name: str) -> None:
    """The threshold is the highest score of held-out good images, before and after, as a calibration takes it."""
    detector = fitted(ALL[name], images(*range(16)))
    old_val, new_val = images(*range(40, 48)), images(*range(50, 58), lamp=MOVED)
    good, bad = images(*range(60, 72), lamp=MOVED), with_defect(images(*range(80, 88)))
    limit = scores(detector, old_val).max()
    rejected_before = (scores(detector, good) > limit).mean()
    extended(detector, images(*range(100, 116), lamp=MOVED))
    limit = scores(detector, torch.cat([old_val, new_val])).max()
    rejected_after = (scores(detector, good) > limit).mean()
    assert rejected_before >= 0.75
    assert rejected_after <= 0.25
    assert (scores(detector, bad) > limit).all()


def test_a_bank_only_grows_and_at_most_by_its_share() -> None:
    detector = fitted(ALL["patchcore"], images(*range(8)))
    old, unseen = [bank.vectors.clone() for bank in detector.banks], images(*range(20, 26))
    before = scores(detector, unseen)
    for lamp, times in ((MOVED, 1), ((0.3, 0.3), 2)):
        extended(detector, images(*range(30, 36), lamp=lamp))
        for bank, vectors in zip(detector.banks, old, strict=True):
            assert torch.equal(bank.vectors[:64], vectors)
            assert 64 < len(bank.vectors) <= 64 + times * round(GROWTH * 64)
    assert (scores(detector, unseen) <= before * (1 + 1e-5)).all()


def test_patches_that_the_bank_covers_do_not_join() -> None:
    detector = fitted(ALL["patchcore"], images(*range(8)))
    extended(detector, images(*range(8)))
    assert all(len(bank.vectors) <= 64 + 3 for bank in detector.banks)


def test_vectors_that_join_a_base_are_the_farthest_from_it() -> None:
    """One chunk against the farthest-first selection in numpy; narrower than the projection, distances are exact."""
    rng = np.random.default_rng(0)
    base, more = rng.normal(0, 1, (40, 6)).astype(np.float32), rng.normal(2, 2, (300, 6)).astype(np.float32)

    def gaps(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None].astype(np.float64) - centers[None], axis=2)

    between = gaps(base, base) + np.where(np.eye(40), np.inf, 0.0)
    assert least_spacing(torch.from_numpy(base)) == pytest.approx(between.min(), rel=1e-4)
    nearest, expected = gaps(more, base).min(1), []
    while len(expected) < 12:
        expected.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, gaps(more, more[expected[-1:]])[:, 0])
    coreset = StreamingCoreset(12, base=torch.from_numpy(base))
    coreset.add(torch.from_numpy(more))
    assert coreset.selected().numpy() == pytest.approx(more[expected])


def test_a_stream_of_extensions_covers_as_well_as_one_chunk() -> None:
    rng = np.random.default_rng(1)
    base, more = (torch.from_numpy(rng.normal(0, 1, (n, 5)).astype(np.float32)) for n in (20, 2000))
    radius = []
    for chunk in (2000, 70):
        coreset = StreamingCoreset(32, base=base, chunk=chunk)
        coreset.add(more)
        kept = torch.cat([base, coreset.selected()])
        assert len(kept) <= 20 + 32
        radius.append(float(torch.cdist(more, kept).amin(1).max()))
    assert radius[1] <= 1.5 * radius[0]


def test_images_of_another_size_are_refused() -> None:
    detector = fitted(EXACT["padim"], images(*range(4)))
    with pytest.raises(InputError, match="expected images of the size of the fit"):
        extended(detector, torch.zeros((1, 1, 64, 64), dtype=torch.uint8))


@pytest.mark.parametrize("name", EXACT)
def test_a_checkpoint_without_moments_still_scores_but_cannot_be_extended(name: str) -> None:
    detector = fitted(EXACT[name], images(*range(4)))
    older = {key: value for key, value in detector.state_dict().items() if ".kept." not in key}
    assert len(older) < len(detector.state_dict())
    loaded = EXACT[name]().eval()
    loaded.load_state_dict(older)
    unseen = images(20, 21)
    assert np.array_equal(scores(loaded, unseen), scores(detector, unseen))
    with pytest.raises(ConfigError, match="fit anew"):
        extended(check_extendable(loaded), unseen)


def test_a_net_that_learns_by_gradient_is_refused() -> None:
    with pytest.raises(ConfigError, match="got SuperSimpleNet, which cannot; train anew"):
        check_extendable(SuperSimpleNet(score_channels=8))
