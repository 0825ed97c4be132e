"""Watch the column profile of good material: the best sensor for an ageing lamp, a dead segment and dirt.

The profile is compared as a ratio to a reference profile. Its middle is the level (a lamp that ages, an exposure that
was changed), its slow part the shape (a segment of the lamp that is gone), what is sharp is dirt or a scratch on the
window.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.flat_field_estimate import local_median
from zellige.core.types import Pixels

Profile = NDArray[np.float64]
_EVERY_LINE = 8
"""One line in so many enters the profile: thousands are averaged anyhow, and a line costs as much as correcting it."""
_MIN_LEVEL_DN = 4.0
_BLACK = 0.05
_BLOCK_LINES = 256
"""Most lines behind one of the profiles that a window's mean is taken of."""
_OWN_MARGIN = 1.5
"""Limits are at least so many times what the material itself differs by, from window to window at the start."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Change:
    """Relative change of a profile against its reference, 0 for none; arrays (W,), 0 where nothing was compared."""

    level: float
    shape: Profile
    sharp: Profile


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
    _check_reference(reference)
    return _judge(_change(profile, reference, limits), limits)


class ProfileWatch:
    """Compares windows of lines with a reference and reports drift that two windows in a row agree on.

    They agree on the lesser of two changes of one sign, column by column: texture and streaks of the product move on,
    dirt and lamps stay. A window's profile is the mean over blocks of its lines without a quarter at either end, column
    by column, so that a defect which few blocks show leaves it as it is. Memory: the profiles of one window and of the
    start, however long it runs.
    """

    def __init__(
        self,
        reference: Profile | None,
        *,
        window_lines: int,
        num_start: int = 0,
        limits: DriftLimits = DEFAULT_LIMITS,
    ) -> None:
        """Begin.

        Args:
            reference: profile (W,) of good material, DN; None takes the mean of the first `num_start` windows.
            window_lines: least lines of a window.
            num_start: windows at the start that are not compared; what the material differs by between them, which is
                no drift, widens the limits. 0, or at least 2, and not 0 without a reference.
            limits: what they are before that.

        Raises:
            InputError: a reference that is black.
            ConfigError: too few windows at the start.
        """
        if num_start == 1 or (reference is None and num_start < 2):
            raise ConfigError(f"profile: num_start: expected at least 2 windows, got {num_start}")
        if reference is not None:
            _check_reference(reference)
        self.limits = limits
        self.num_lines = 0
        """Lines of the present window so far."""
        self._reference, self._reference_columns = reference, (0, 0 if reference is None else len(reference))
        self._window_lines, self._num_start = window_lines, num_start
        self._start: list[tuple[Profile, tuple[int, int]]] = []
        self._blocks: list[Profile] = []
        self._columns = (0, 0)
        self._before: _Change | None = None

    def add(self, pixels: Pixels, columns: tuple[int, int] | None = None) -> ProfileDrift | None:
        """Take the next corrected lines, (H, W) or (H, W, 3); say at the end of a window what it and the last agree on.

        The windows at the start, and one that has no column in common with the reference, say nothing.

        Args:
            pixels: lines of the web.
            columns: the first that shows web in all of them, and the one after the last; None is all.

        Raises:
            InputError: lines of another length than those before, or a start that is black.
        """
        width = pixels.shape[1]
        known = self._reference if self._reference is not None else next(iter(self._blocks), None)
        if known is not None and width != len(known):
            raise InputError(f"profile: expected {len(known)} columns, got {width}")
        first, last = self._columns if self._blocks else (0, width)
        self._columns = _common((first, last), (0, width) if columns is None else columns)
        self._blocks += [column_profile(part) for part in np.array_split(pixels, -(-len(pixels) // _BLOCK_LINES))]
        self.num_lines += len(pixels)
        return self._end_window() if self.num_lines >= self._window_lines else None

    def _end_window(self) -> ProfileDrift | None:
        left_out = len(self._blocks) // 4
        profile = np.sort(self._blocks, axis=0)[left_out : len(self._blocks) - left_out].mean(axis=0)
        columns, self._blocks, self.num_lines = self._columns, [], 0
        if len(self._start) < self._num_start:
            self._start.append((profile, columns))
            if len(self._start) == self._num_start:
                self._settle()
            return None
        assert self._reference is not None
        start, stop = _common(columns, self._reference_columns)
        if start >= stop:
            return None
        web = slice(start, stop)
        now = _placed(_change(profile[web], self._reference[web], self.limits), web, len(profile))
        none = _Change(level=0.0, shape=np.zeros(len(profile)), sharp=np.zeros(len(profile)))
        before, self._before = self._before or none, now
        return _judge(_lesser(now, before), self.limits)

    def _settle(self) -> None:
        """Take the limits, and the reference where there is none, from the windows at the start."""
        profiles = np.stack([profile for profile, _ in self._start])
        columns = (0, profiles.shape[1]) if self._reference is None else self._reference_columns
        for _, shown in self._start:
            columns = _common(columns, shown)
        if columns[0] >= columns[1]:
            self._start = []  # the web was elsewhere in each: begin again
            return
        web = profiles[:, slice(*columns)]
        _check_reference(web.mean(axis=0))
        others = [np.delete(web, i, axis=0).mean(axis=0) for i in range(len(web))]
        for other in others:
            _check_reference(other)
        own = [_change(one, other, self.limits) for one, other in zip(web, others, strict=True)]
        self.limits = replace(
            self.limits,
            level=max(self.limits.level, _OWN_MARGIN * max(abs(one.level) for one in own)),
            shape=max(self.limits.shape, _OWN_MARGIN * max(float(np.abs(one.shape).max()) for one in own)),
            dirt=max(self.limits.dirt, _OWN_MARGIN * max(float(np.abs(one.sharp).max()) for one in own)),
        )
        if self._reference is None:
            self._reference, self._reference_columns = profiles.mean(axis=0), columns


def _check_reference(reference: Profile) -> None:
    if float(reference.min()) < _MIN_LEVEL_DN:
        raise InputError(
            f"profile: expected a reference of at least {_MIN_LEVEL_DN:g} DN in every column, got "
            f"{reference.min():.1f}; give the columns of the web alone"
        )


def _change(profile: Profile, reference: Profile, limits: DriftLimits) -> _Change:
    ratio = profile / reference
    level = float(np.median(ratio))
    smooth = local_median(ratio[:, None], limits.neighborhood_px)[:, 0]
    if level <= _BLACK:  # nothing can be said but the level
        return _Change(level=level - 1, shape=np.zeros_like(ratio), sharp=np.zeros_like(ratio))
    return _Change(level=level - 1, shape=smooth / level - 1, sharp=(ratio - smooth) / level)


def _placed(change: _Change, columns: slice, width: int) -> _Change:
    """Give a change of some columns its place among all."""
    shape, sharp = np.zeros(width), np.zeros(width)
    shape[columns], sharp[columns] = change.shape, change.sharp
    return _Change(level=change.level, shape=shape, sharp=sharp)


def _lesser(one: _Change, other: _Change) -> _Change:
    """What two changes agree on: the lesser where they have one sign, else none."""

    def agreed(a: Profile, b: Profile) -> Profile:
        return np.asarray(np.where(a * b > 0, np.where(np.abs(a) < np.abs(b), a, b), 0.0))

    level = float(agreed(np.array(one.level), np.array(other.level)))
    return _Change(level=level, shape=agreed(one.shape, other.shape), sharp=agreed(one.sharp, other.sharp))


def _judge(change: _Change, limits: DriftLimits) -> ProfileDrift:
    worst = int(np.abs(change.shape).argmax())
    dirt = np.flatnonzero(np.abs(change.sharp) > limits.dirt)
    found = {
        DriftKind.LEVEL: abs(change.level) > limits.level,
        DriftKind.SHAPE: abs(float(change.shape[worst])) > limits.shape,
        DriftKind.DIRT: len(dirt) > 0,
    }
    return ProfileDrift(
        level_ratio=1 + change.level,
        worst_shape_ratio=1 + float(change.shape[worst]),
        worst_shape_column=worst,
        dirt_columns=tuple(int(x) for x in dirt),
        kinds=tuple(kind for kind, is_found in found.items() if is_found),
    )


def _common(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])
