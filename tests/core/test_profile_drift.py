"""Drift of the column profile: each fault as it looks on a line, and what is not a fault."""

import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.core.profile_drift import DriftKind, ProfileWatch, column_profile, compare_profiles

WIDTH = 400
REFERENCE = 120 - 20 * np.linspace(-1, 1, WIDTH) ** 2
COLUMNS = np.arange(WIDTH)


@pytest.mark.parametrize(
    ("factor", "kinds"),
    [
        (np.full(WIDTH, 1.0), ()),
        (np.full(WIDTH, 0.95), ()),
        (np.full(WIDTH, 0.7), (DriftKind.LEVEL,)),
        (np.full(WIDTH, 1.3), (DriftKind.LEVEL,)),
        (np.where(abs(COLUMNS - 200) < 2, 0.9, 1.0), (DriftKind.DIRT,)),
        (1 - 0.4 / (1 + np.exp((COLUMNS - 100) / 10.0)), (DriftKind.SHAPE,)),
        (np.zeros(WIDTH), (DriftKind.LEVEL,)),
    ],
    ids=["same", "a little", "lamp at 70 %", "brighter", "dirt", "segment gone", "black"],
)
def test_what_has_changed(factor: np.ndarray, kinds: tuple[DriftKind, ...]) -> None:
    found = compare_profiles(REFERENCE * factor, REFERENCE)
    assert found.kinds == kinds
    assert found.level_ratio == pytest.approx(np.median(factor))
    if DriftKind.DIRT in kinds:
        assert found.dirt_columns == (199, 200, 201)


def lines(factor: float | np.ndarray = 1.0, num_lines: int = 512, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 3, (num_lines, WIDTH))
    return np.clip(np.rint(REFERENCE * factor + noise), 0, 255).astype(np.uint8)


def test_profile_is_the_mean_of_lines() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 30, 3)).astype(np.uint8)
    np.testing.assert_allclose(column_profile(pixels), pixels[::8].mean(axis=(0, 2)))
    np.testing.assert_allclose(column_profile(pixels[..., 0]), pixels[::8, :, 0].mean(axis=0))


def test_drift_must_last_for_two_windows() -> None:
    watch = ProfileWatch(REFERENCE, window_lines=1024)
    streak = np.where(abs(COLUMNS - 200) < 2, 0.5, 1.0)
    found = [watch.add(lines(f, seed=i)) for i, f in enumerate([1, 1, streak, streak, 1, 1, 0.8, 0.8, 0.8, 0.8])]
    assert [f is not None for f in found] == [False, True] * 5
    assert [f.kinds for f in found if f] == [(), (), (), (), (DriftKind.LEVEL,)]
    assert found[-1] is not None
    assert found[-1].level_ratio == pytest.approx(0.8, abs=0.01)


def test_bad_profiles() -> None:
    with pytest.raises(InputError, match="expected 400 columns, got 399"):
        ProfileWatch(REFERENCE, window_lines=8).add(lines()[:, :-1])
    with pytest.raises(InputError, match=r"at least 4 DN in every column, got 0\.0"):
        ProfileWatch(np.where(COLUMNS < 10, 0, REFERENCE), window_lines=8)
