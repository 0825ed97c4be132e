"""Gradient noise after K. Perlin, "Improving Noise", SIGGRAPH 2002: smooth, and without a preferred gray level."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def perlin_noise(size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Draw noise (H, W) float32 in [-1, 1] that is zero at the corners of its cells.

    Args:
        size: (H, W) px.
        cells: number of cells along (H, W); features are about half a cell large.
        rng: gives one angle for each corner, (cells + 1 along H, cells + 1 along W), in [0, 2 pi).

    Source: unit gradients and the fade 6 t^5 - 15 t^4 + 10 t^3 of the paper; the largest value of such noise in two
    dimensions is sqrt(1/2), so it is multiplied by sqrt(2).
    """
    angles = rng.uniform(0.0, 2.0 * np.pi, (cells[0] + 1, cells[1] + 1))
    along_y, along_x = np.sin(angles), np.cos(angles)
    y, x = (np.arange(n) / n * c for n, c in zip(size, cells, strict=True))
    row, column = y.astype(int), x.astype(int)
    above, left = (y - row)[:, None], (x - column)[None, :]

    def pull(dy: int, dx: int) -> NDArray[np.float64]:
        corner = np.ix_(row + dy, column + dx)
        return np.asarray(along_y[corner] * (above - dy) + along_x[corner] * (left - dx))

    down, right = _fade(above), _fade(left)
    top = pull(0, 0) + right * (pull(0, 1) - pull(0, 0))
    bottom = pull(1, 0) + right * (pull(1, 1) - pull(1, 0))
    return np.asarray(np.sqrt(2.0) * (top + down * (bottom - top)), np.float32)


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(t * t * t * (t * (t * 6.0 - 15.0) + 10.0))
