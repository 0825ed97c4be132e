"""An endless synthetic web and the line camera above it.

A line's content depends on its absolute number alone, so however the web is cut into blocks, they join without a seam.
The signal chain: reflectance of the web, shifted sideways by the wander; optics; lamp profile, level and flicker;
column gain and offset; shot and read noise; 8 bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError
from zellige.core.types import Color, Pixels, PixelSize
from zellige.data.synthetic_materials import Material, surface
from zellige.data.synthetic_mosaic import PERIOD_MM
from zellige.data.synthetic_noise import Floats, WebWindow, child_seed, draw, gauss, smooth_noise, uniform

WANDER_MM = 1.0
"""The web never strays further than this from its roll's mean lateral position, mm."""
_MIN_FRAME_MM = 40.0
"""Wide enough for one whole tile of the mosaic."""
_PIXEL_RANGE_MM = (0.05, 0.5)
_FULL_SCALE_DN = 235.0
_ELECTRONS_PER_DN = 45.0
_READ_NOISE_DN = 0.8
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticWeb:
    """Settings of a synthetic data set: what is on the web, how it is seen, how many frames of each sort.

    Frames are `height` x `width` px; `num_defective` counts the test frames of each kind of defect.
    Rolls are shared out between train, val and test, never straddling two of them.
    """

    material: Material
    height: int = 384
    width: int = 512
    pixel_size: PixelSize = field(default_factory=lambda: PixelSize(cross_web_mm=0.2, down_web_mm=0.2))
    color: Color = Color.RGB
    num_train_good: int = 80
    num_val_good: int = 64
    num_test_good: int = 40
    num_defective: int = 10
    num_rolls: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.material not in tuple(Material):
            raise ConfigError(f"synthetic material: expected one of {', '.join(Material)}, got {self.material!r}")
        if self.color not in (Color.RGB, Color.GRAY):
            raise ConfigError(f"synthetic color: expected rgb or gray, got {self.color!r}")
        # A config gives names: from here on they are the enumerations.
        object.__setattr__(self, "material", Material(self.material))
        object.__setattr__(self, "color", Color(self.color))
        limits = {
            "num_train_good": 1,
            "num_val_good": 1,
            "num_test_good": 1,
            "num_defective": 0,
            "num_rolls": 3,
            "seed": 0,
        }
        for name, low in limits.items():
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ConfigError(f"synthetic {name}: expected a whole number from {low} up, got {value!r}")
        self._check_frame()

    @property
    def rolls(self) -> dict[str, range]:
        """The rolls of each split: about a quarter for test, a quarter for val, the rest for train."""
        share = max(1, self.num_rolls // 4)
        return {"test": range(share), "val": range(share, 2 * share), "train": range(2 * share, self.num_rolls)}

    def _check_frame(self) -> None:
        low, high = _PIXEL_RANGE_MM
        for name, axis in (("width", "cross_web_mm"), ("height", "down_web_mm")):
            pixel_mm, length_px = getattr(self.pixel_size, axis), getattr(self, name)
            if not low <= pixel_mm <= high:
                raise ConfigError(f"synthetic pixel size {axis}: expected {low} to {high} mm, got {pixel_mm}")
            smallest = ceil(_MIN_FRAME_MM / pixel_mm)
            if type(length_px) is not int or not smallest <= length_px <= 8192:
                raise ConfigError(
                    f"synthetic {name}: expected {smallest} to 8192 px ({_MIN_FRAME_MM:g} mm), got {length_px!r}"
                )


def lines(web: SyntheticWeb, roll: int, first_line: int, num_lines: int) -> Pixels:
    """Scan good lines of a roll, uint8 (num_lines, W) gray or (num_lines, W, 3) RGB.

    Args:
        web: the settings; the numbers of frames play no part.
        roll: number of the roll, from 0.
        first_line: absolute number of the first line, from 0; there is no last one.
        num_lines: how many lines, from 1.
    """
    return expose(see(web, roll, first_line, num_lines), web, roll, first_line)


def line_blocks(web: SyntheticWeb, roll: int, block_lines: int, first_line: int = 0) -> Iterator[Pixels]:
    """Scan a roll without end, block by block of `block_lines` lines."""
    while True:
        yield lines(web, roll, first_line, block_lines)
        first_line += block_lines


def wander_mm(web: SyntheticWeb, roll: int, line_numbers: NDArray[np.int64]) -> Floats:
    """Tell how far the web has strayed sideways at each line, (N,) float32 mm, within +-WANDER_MM."""
    seed, y = child_seed(web.seed, roll, 1), line_numbers.astype(np.float64) * web.pixel_size.down_web_mm
    drift = 0.75 * smooth_noise(seed, y, 420.0) + 0.25 * smooth_noise(seed + 1, y, 130.0)
    return np.asarray(drift * np.float32(WANDER_MM), np.float32)


def roll_window(web: SyntheticWeb, roll: int, first_line: int, num_lines: int) -> WebWindow:
    """Find the part of the material under the camera where the web does not wander."""
    # Each roll is threaded at its own place across the pattern, and those of two splits further apart: frames of two
    # splits that show the mosaic at the same place would be near-duplicates.
    gaps = sum(roll >= rolls.start for rolls in web.rolls.values())
    place = draw(child_seed(web.seed, 2), 0.0, 1.0) + 0.5 * roll / web.num_rolls + 0.5 * gaps / 3
    start_mm = PERIOD_MM * place
    return WebWindow(
        first_column=int(start_mm / web.pixel_size.cross_web_mm),
        first_line=first_line,
        width=web.width,
        height=num_lines,
        pixel_size=web.pixel_size,
    )


def grown(window: WebWindow, columns: int, num_lines: int) -> WebWindow:
    """Grow a window by columns on both sides and by lines at both ends."""
    return WebWindow(
        first_column=window.first_column - columns,
        first_line=window.first_line - num_lines,
        width=window.width + 2 * columns,
        height=window.height + 2 * num_lines,
        pixel_size=window.pixel_size,
    )


def surface_seed(web: SyntheticWeb, roll: int) -> int:
    """Seed of a roll's material."""
    return child_seed(web.seed, roll, 3) >> 1


def see(web: SyntheticWeb, roll: int, first_line: int, num_lines: int) -> Floats:
    """Reflectance under the camera, (num_lines + 2, W + 2, 3) float32: one pixel more on each side, for the optics."""
    window = grown(roll_window(web, roll, first_line, num_lines), wander_margin(web) + 1, 1)
    return wandered(surface(web.material, window, surface_seed(web, roll)), web, roll, first_line - 1)


def wander_margin(web: SyntheticWeb) -> int:
    """Columns that are needed on each side of what is seen, for wander and interpolation."""
    return ceil(WANDER_MM / web.pixel_size.cross_web_mm) + 2


def wandered(image: Floats, web: SyntheticWeb, roll: int, first_line: int) -> Floats:
    """Shift each line sideways by the web's wander (cubic interpolation): (H, W + 2 margin, ...) -> (H, W, ...)."""
    margin, height = wander_margin(web), image.shape[0]
    width = image.shape[1] - 2 * margin
    numbers = np.arange(first_line, first_line + height, dtype=np.int64)
    shift = np.round(wander_mm(web, roll, numbers).astype(np.float64) / web.pixel_size.cross_web_mm * 32) / 32
    whole = np.floor(shift).astype(np.int64)
    f = (shift - whole).astype(np.float32)
    taps = [
        f * (-0.5 + f * (1.0 - 0.5 * f)),
        1 + f * f * (-2.5 + 1.5 * f),
        f * (0.5 + f * (2.0 - 1.5 * f)),
        f * f * (-0.5 + 0.5 * f),
    ]
    out = np.empty((height, width, *image.shape[2:]), np.float32)
    cuts = [0, *(np.flatnonzero(np.diff(whole)) + 1).tolist(), height]
    for start, stop in pairwise(cuts):
        left = margin + int(whole[start]) - 1
        weights = [t[start:stop].reshape(-1, *[1] * (image.ndim - 1)) for t in taps]
        block = image[start:stop]
        total = block[:, left : left + width] * weights[0]
        for k in range(1, 4):
            total += block[:, left + k : left + k + width] * weights[k]
        out[start:stop] = total
    return out


def expose(reflectance: Floats, web: SyntheticWeb, roll: int, first_line: int) -> Pixels:
    """Scan what is seen (num_lines + 2, W + 2, 3) into uint8 lines (num_lines, W) or (num_lines, W, 3)."""
    signal = reflectance if web.color is Color.RGB else _luma(reflectance)[..., None]
    signal = signal[1:-1] * np.float32(0.7) + (signal[:-2] + signal[2:]) * np.float32(0.15)
    signal = signal[:, 1:-1] * np.float32(0.7) + (signal[:, :-2] + signal[:, 2:]) * np.float32(0.15)
    num_lines, width, channels = signal.shape
    numbers = np.arange(first_line, first_line + num_lines, dtype=np.int64)
    gain, offset = _column_response(web, width, channels)
    lamp = _lamp(web, roll, numbers)
    signal *= gain
    signal *= lamp[:, None, None]
    np.clip(signal, 0, 300, out=signal)
    noise = gauss(child_seed(web.seed, roll, 4), numbers[:, None], np.arange(width)[None, :], channels=channels)
    noise *= np.sqrt(signal * np.float32(1 / _ELECTRONS_PER_DN) + np.float32(_READ_NOISE_DN**2))
    signal += noise
    signal += offset + np.float32(0.5)
    pixels = np.clip(signal, 0, 255).astype(np.uint8)
    return pixels if channels == 3 else np.ascontiguousarray(pixels[..., 0])


def _luma(reflectance: Floats) -> Floats:
    red, green, blue = (reflectance[..., c] * _LUMA[c] for c in range(3))
    return np.asarray(red + green + blue, np.float32)


def _column_response(web: SyntheticWeb, width: int, channels: int) -> tuple[Floats, Floats]:
    """Gain (W, C) in DN per reflectance, with the lamp's profile, and dark offset (W, C) in DN; fixed to the camera."""
    seed, columns = child_seed(web.seed, 1_000_003), np.arange(width, dtype=np.int64)
    place = (2 * columns + 1) / width - 1
    profile = 1 - 0.16 * place * place - 0.035 * place
    gain = 1 + 0.006 * gauss(seed, columns, channels=channels)
    offset = 3 + 0.5 * gauss(seed + 1, columns, channels=channels)
    return (gain * (_FULL_SCALE_DN * profile)[:, None]).astype(np.float32), offset.astype(np.float32)


def _lamp(web: SyntheticWeb, roll: int, numbers: NDArray[np.int64]) -> Floats:
    """Lamp level at each line, (N,): the roll's own level, a slow drift and a slight flicker from line to line."""
    seed = child_seed(web.seed, roll, 5)
    level = draw(seed, 0.95, 1.05)
    place = numbers.astype(np.float64)
    drift = 0.01 * smooth_noise(seed + 1, place, 600.0) + 0.006 * smooth_noise(seed + 2, place, 23.0)
    return np.asarray(level * (1 + drift + 0.0025 * uniform(seed + 3, numbers)), np.float32)
