"""Watch the column profile of good material: the best sensor for an ageing lamp, a dead segment and dirt.

The profile is compared as a ratio to a reference profile. Its middle is the level (a lamp that ages, an exposure that
was changed), its slow part the shape (a segment of the lamp that is gone), what is sharp is dirt or a scratch on the
window.
"""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.flat_field_estimate import local_median
from zellige.core.types import Pixels

Profile = NDArray[np.float64]
_EVERY_LINE = 8
"""One line in so many enters the profile: thousands are averaged anyhow, and a line costs as much as correcting it."""
_MIN_LEVEL_DN = 4.0
_BLACK = 0.05


class DriftKind(StrEnum):
    """What has changed since the reference was taken."""

    LEVEL = "level"
    SHAPE = "shape"
    DIRT = "dirt"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftLimits:
    """Largest relative change of each sort that is not drift."""

    level: float = 0.10
    shape: float = 0.10
    dirt: float = 0.04
    neighborhood_px: int = 63


DEFAULT_LIMITS = DriftLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileDrift:
    """How a profile differs from its reference. Ratios: 1 is no change."""

    level_ratio: float
    worst_shape_ratio: float
    worst_shape_column: int
    dirt_columns: tuple[int, ...]
    kinds: tuple[DriftKind, ...]
    """What is beyond its limit; empty where nothing drifted."""


def column_profile(pixels: Pixels) -> Profile:
    """Mean of every eighth line, over channels too: uint8 (H, W) or (H, W, 3) to (W,) float64, DN.

    Example:
        >>> import numpy as np
        >>> column_profile(np.array([[4, 8], [0, 0]], np.uint8)).tolist()
        [4.0, 8.0]
    """
    lines = pixels[::_EVERY_LINE]
    sums = cv2.reduce(lines.reshape(len(lines), -1), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums.reshape(pixels.shape[1], -1).mean(axis=1) / len(lines), np.float64)


def compare_profiles(profile: Profile, reference: Profile, limits: DriftLimits = DEFAULT_LIMITS) -> ProfileDrift:
    """Compare a profile (W,) with its reference (W,), both in DN.

    Raises:
        InputError: profiles of two lengths, or a reference that is black.

    Example:
        >>> import numpy as np
        >>> reference = np.full(200, 100.0)
        >>> dim = compare_profiles(0.7 * reference, reference)
        >>> round(dim.level_ratio, 3), [str(k) for k in dim.kinds]
        (0.7, ['level'])
    """
    if profile.shape != reference.shape:
        raise InputError(f"profile: expected {len(reference)} columns, got {len(profile)}")
    if float(reference.min()) < _MIN_LEVEL_DN:
        raise InputError(
            f"profile: expected a reference of at least {_MIN_LEVEL_DN:g} DN in every column, got "
            f"{reference.min():.1f}; give the columns of the web alone"
        )
    ratio = profile / reference
    level = float(np.median(ratio))
    smooth = local_median(ratio[:, None], limits.neighborhood_px)[:, 0]
    shape, sharp = np.zeros_like(ratio), np.zeros_like(ratio)
    if level > _BLACK:  # else nothing can be said but the level
        shape, sharp = smooth / level - 1, (ratio - smooth) / level
    worst = int(np.abs(shape).argmax())
    dirt = np.flatnonzero(np.abs(sharp) > limits.dirt)
    found = {
        DriftKind.LEVEL: abs(level - 1) > limits.level,
        DriftKind.SHAPE: abs(float(shape[worst])) > limits.shape,
        DriftKind.DIRT: len(dirt) > 0,
    }
    return ProfileDrift(
        level_ratio=level,
        worst_shape_ratio=1 + float(shape[worst]),
        worst_shape_column=worst,
        dirt_columns=tuple(int(x) for x in dirt),
        kinds=tuple(kind for kind, is_found in found.items() if is_found),
    )


class ProfileWatch:
    """Averages windows of lines and reports drift that two windows in a row agree on.

    One window alone may be a streak on the product. Memory: two profiles, however long it runs.
    """

    def __init__(self, reference: Profile, *, window_lines: int, limits: DriftLimits = DEFAULT_LIMITS) -> None:
        self._reference, self._limits, self._window_lines = reference, limits, window_lines
        self._sum = np.zeros_like(reference)
        self._num_lines = 0
        self._before: frozenset[DriftKind] = frozenset()
        compare_profiles(reference, reference, limits)

    def add(self, pixels: Pixels) -> ProfileDrift | None:
        """Take the corrected lines of good material, (H, W) or (H, W, 3); return a finding at the end of a window.

        Its `kinds` are those that the window before showed too.

        Raises:
            InputError: lines of another length than the reference's.
        """
        if pixels.shape[1] != len(self._reference):
            raise InputError(f"profile: expected {len(self._reference)} columns, got {pixels.shape[1]}")
        self._sum += column_profile(pixels) * len(pixels)
        self._num_lines += len(pixels)
        if self._num_lines < self._window_lines:
            return None
        found = compare_profiles(self._sum / self._num_lines, self._reference, self._limits)
        lasting = tuple(kind for kind in found.kinds if kind in self._before)
        self._before = frozenset(found.kinds)
        self._sum = np.zeros_like(self._reference)
        self._num_lines = 0
        return ProfileDrift(
            level_ratio=found.level_ratio,
            worst_shape_ratio=found.worst_shape_ratio,
            worst_shape_column=found.worst_shape_column,
            dirt_columns=found.dirt_columns,
            kinds=lasting,
        )
