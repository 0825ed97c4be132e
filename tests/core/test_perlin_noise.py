from math import cos, floor, pi, sin, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zellige.core.perlin_noise import perlin_noise


def slow_noise(size: tuple[int, int], cells: tuple[int, int], seed: int) -> np.ndarray:
    """Perlin's noise, pixel by pixel, from the paper's words."""
    angles = np.random.default_rng(seed).uniform(0, 2 * pi, (cells[0] + 1, cells[1] + 1))
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = i / size[0] * cells[0], j / size[1] * cells[1]
            fade = [6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y - floor(y), x - floor(x))]
            for row in (floor(y), floor(y) + 1):
                for column in (floor(x), floor(x) + 1):
                    pull = cos(angles[row, column]) * (x - column) + sin(angles[row, column]) * (y - row)
                    down = fade[0] if row > floor(y) else 1 - fade[0]
                    right = fade[1] if column > floor(x) else 1 - fade[1]
                    out[i, j] += sqrt(2) * pull * down * right
    return out


@pytest.mark.parametrize(("size", "cells"), [((12, 20), (3, 2)), ((7, 9), (2, 5)), ((16, 16), (1, 1))])
def test_it_is_perlins_noise(size: tuple[int, int], cells: tuple[int, int]) -> None:
    found = perlin_noise(size, cells, np.random.default_rng(5))
    assert found.dtype == np.float32
    assert found == pytest.approx(slow_noise(size, cells, 5), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_it_stays_in_its_range_is_smooth_and_zero_at_the_corners(seed: int, rows: int, columns: int) -> None:
    px = 16
    noise = perlin_noise((rows * px, columns * px), (rows, columns), np.random.default_rng(seed))
    assert np.abs(noise).max() <= 1
    assert np.abs(noise[::px, ::px]).max() < 1e-6
    # A unit gradient and the steepest fade (15 / 8) between pulls that differ by at most 2 bound the slope per cell.
    steepest = sqrt(2) * (1 + 2 * 15 / 8) / px
    assert np.abs(np.diff(noise, axis=0)).max() <= steepest
    assert np.abs(np.diff(noise, axis=1)).max() <= steepest


def test_it_varies() -> None:
    noise = perlin_noise((128, 128), (8, 8), np.random.default_rng(0))
    assert noise.std() > 0.2
    assert abs(noise.mean()) < 0.1
