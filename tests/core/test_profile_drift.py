"""Drift of the column profile: each fault as it looks on a line, and what is not a fault."""

import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
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


def test_the_start_may_be_the_reference() -> None:
    watch = ProfileWatch(None, window_lines=512, num_start=2)
    found = [watch.add(lines(f, seed=i)) for i, f in enumerate([0.7, 0.7, 0.49, 0.49])]
    assert found[:2] == [None, None]
    assert [f.kinds for f in found if f] == [(), (DriftKind.LEVEL,)]
    assert found[-1] is not None
    assert found[-1].level_ratio == pytest.approx(0.7, abs=0.01)


def test_a_defect_in_few_blocks_leaves_a_profile_as_it_is() -> None:
    """In 1 of a window's 4 blocks it does; in 3 of them it does not."""
    spot = np.where(abs(COLUMNS - 200) < 5, 2.0, 1.0)
    for num_spoiled, kinds in ((1, ()), (3, (DriftKind.DIRT,))):
        watch = ProfileWatch(REFERENCE, window_lines=1024)
        factors = [spot] * num_spoiled + [1.0] * (4 - num_spoiled)
        found = [watch.add(lines(f, 256, seed=i)) for i, f in enumerate(factors * 2)]
        assert [f.kinds for f in found if f] == [(), kinds]


def test_the_pattern_of_a_web_that_wanders_is_no_drift() -> None:
    """Stripes 20 % brighter that move by 7 columns a window; dirt stays where it is, and must be more than they are."""
    stripes = [1 + 0.2 * ((COLUMNS + 7 * i) % 40 < 4) for i in range(14)]
    dirt = np.where(abs(COLUMNS - 200) < 2, 0.5, 1.0)
    windows = [lines(one * (1.0 if i < 10 else dirt), seed=i) for i, one in enumerate(stripes)]
    start = np.mean([column_profile(window) for window in windows[:4]], axis=0)
    taken_in = ProfileWatch(start, window_lines=512)
    assert any(f.kinds for f in map(taken_in.add, windows[4:10]) if f)
    watch = ProfileWatch(None, window_lines=512, num_start=4)
    found = [f for f in map(watch.add, windows) if f]
    assert [f.kinds for f in found] == [()] * 7 + [(DriftKind.DIRT,)] * 3
    assert {f.dirt_columns for f in found[7:]} == {(199, 200, 201)}
    assert watch.limits.dirt > 0.2
    assert watch.limits.level == 0.1


def test_columns_beside_the_web_do_not_count() -> None:
    """Columns 100 to 300 show web, 110 to 320 later; what is common is compared, and named as the camera counts."""
    watch = ProfileWatch(None, window_lines=512, num_start=2)
    dirt = np.where(abs(COLUMNS - 200) < 2, 0.5, 1.0)
    first, later = (np.isin(COLUMNS, range(*web)) for web in ((100, 300), (110, 320)))
    for seed in range(2):
        assert watch.add(lines(1.0 * first, seed=seed), (100, 300)) is None
    found = [watch.add(lines(dirt * later, seed=seed), (110, 320)) for seed in range(2)]
    assert [(f.kinds, f.dirt_columns) for f in found if f] == [((), ()), ((DriftKind.DIRT,), (199, 200, 201))]
    assert watch.add(lines(), (310, 320)) is None


def test_bad_profiles() -> None:
    with pytest.raises(InputError, match="expected 400 columns, got 399"):
        ProfileWatch(REFERENCE, window_lines=8).add(lines()[:, :-1])
    with pytest.raises(InputError, match=r"at least 4 DN in every column, got 0\.0"):
        ProfileWatch(np.where(COLUMNS < 10, 0, REFERENCE), window_lines=8)
    with pytest.raises(InputError, match=r"at least 4 DN in every column, got 0\.0"):
        list(map(ProfileWatch(None, window_lines=1, num_start=2).add, [0 * lines()] * 2))
    stripe = np.where(abs(COLUMNS - 200) < 3, 0, 1)  # as dark as no light in three of the four windows of the start
    dark = lines() * stripe.astype(np.uint8)
    watch = ProfileWatch(None, window_lines=512, num_start=4)
    with pytest.raises(InputError, match="at least 4 DN in every column, got"):
        list(map(watch.add, [lines(), dark, dark, dark]))
    with pytest.raises(ConfigError, match="expected at least 2 windows, got 0"):
        ProfileWatch(None, window_lines=1)
