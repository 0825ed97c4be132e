"""Pictures that are known everywhere, not on pixels alone: the same one as seen from a fraction of a pixel away."""

import numpy as np


def surface(seed: int, size: tuple[int, int], dy: float = 0.0, dx: float = 0.0) -> np.ndarray:
    """A sum of 80 waves of up to 0.2 cycles a px, moved down by dy and to the right by dx; (H, W) uint8."""
    rng = np.random.default_rng(seed)
    length, turn, phase = rng.uniform(0.005, 0.2, 80), rng.uniform(0, 2 * np.pi, 80), rng.uniform(0, 2 * np.pi, 80)
    weight = 1 / length**0.5
    y, x = (np.arange(extent)[None] - by for extent, by in zip(size, (dy, dx), strict=True))
    down = np.exp(2j * np.pi * (length * np.sin(turn))[:, None] * y + 1j * phase[:, None]) * weight[:, None]
    across = np.exp(2j * np.pi * (length * np.cos(turn))[:, None] * x)
    waves = (down.T @ across).real
    return np.clip(128 + 40 * waves / np.sqrt((weight**2).sum() / 2), 0, 255).round().astype(np.uint8)


def print_with(seed: int, size: tuple[int, int], dy: float = 0.0, dx: float = 0.0) -> np.ndarray:
    """Sharp bright boxes on dark ground: each pixel is as bright as the share of it that they cover; (H, W) uint8."""
    rng = np.random.default_rng(seed)
    covered = np.zeros(size)
    for _ in range(25):
        h, w = rng.uniform(3, size[0] / 4), rng.uniform(3, size[1] / 4)
        y, x = rng.uniform(-h, size[0]) + dy, rng.uniform(-w, size[1]) + dx
        covered = np.maximum(covered, np.outer(_share(size[0], y, y + h), _share(size[1], x, x + w)))
    return (20 + 200 * covered).round().astype(np.uint8)


def _share(length: int, start: float, stop: float) -> np.ndarray:
    """The share of each pixel, which reaches from i to i + 1, between two places."""
    pixel = np.arange(length)
    return np.clip(np.minimum(pixel + 1, stop) - np.maximum(pixel, start), 0, 1)
