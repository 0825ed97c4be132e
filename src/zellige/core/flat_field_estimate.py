"""From dark and bright lines to a flat field: averaged, checked, and refused where a reference is not one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.flat_field import FlatField, Reference, check_target_level
from zellige.core.types import Pixels

Profile = NDArray[np.float64]
SATURATED_DN = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLimits:
    """What a reference must hold to be used. Levels in DN, shares from 0 to 1."""

    min_lines: int = 64
    max_saturated_share: float = 1e-3
    """Of a column's bright values."""
    min_contrast_dn: float = 40.0
    """Bright minus dark, middle column; below it the correction multiplies noise."""
    dead_share: float = 0.5
    """A column that responds less than this share of its neighborhood is dead."""
    hot_dn: float = 10.0
    """A column that is brighter in the dark than its neighborhood by more than this is hot."""
    max_bad_columns: int = 8
    max_streak_share: float = 0.04
    """A column that departs by more than this from its neighborhood is dust or a scratch (white reference)."""
    max_streak_share_material: float = 0.10
    """The same for good material, whose own structure does not average away entirely."""
    neighborhood_px: int = 63


DEFAULT_LIMITS = ReferenceLimits()


def estimate_flat_field(
    dark: Pixels,
    bright: Pixels,
    *,
    target_dn: float,
    reference: Reference = Reference.WHITE,
    limits: ReferenceLimits = DEFAULT_LIMITS,
) -> FlatField:
    """Estimate a flat field from reference lines.

    Args:
        dark: uint8 (N, W) or (N, W, 3): lines without light, lens covered.
        bright: uint8 (M, W) or (M, W, 3): lines of an evenly lit target that moved, not saturated, about half of full
            scale; or of good material.
        target_dn: level that the bright reference is brought to.
        reference: what `bright` shows.
        limits: when a reference is refused.

    Raises:
        InputError: too few lines, other shapes, dark and bright exchanged, saturated, too dim, too many bad columns,
            or a streak of dust.
        ConfigError: a target that is not a level.

    Source: two-point correction as in camera makers' manuals; see docs/guide/web.md.

    Example:
        >>> import numpy as np
        >>> dark, bright = np.full((64, 8), 5, np.uint8), np.full((64, 8), 105, np.uint8)
        >>> estimate_flat_field(dark, bright, target_dn=200).gain.tolist()[:2]
        [2.0, 2.0]
    """
    check_target_level(target_dn, "flat field")
    _check_lines(dark, bright, limits)
    dark_dn, bright_dn = _profile(dark), _profile(bright)
    _check_levels(bright, dark_dn, bright_dn, limits)
    response = bright_dn - dark_dn
    around = local_median(response, limits.neighborhood_px)
    is_dead = response < limits.dead_share * around
    is_hot = dark_dn - local_median(dark_dn, limits.neighborhood_px) > limits.hot_dn
    is_bad = (is_dead | is_hot).any(axis=1)
    if int(is_bad.sum()) > limits.max_bad_columns:
        raise InputError(
            f"flat field: expected at most {limits.max_bad_columns} dead or hot columns, got {int(is_bad.sum())}: "
            f"{ranges_in_words(np.flatnonzero(is_bad))}"
        )
    share = limits.max_streak_share if reference is Reference.WHITE else limits.max_streak_share_material
    is_streak = (np.abs(response / around - 1) > share).any(axis=1) & ~is_bad
    if is_streak.any():
        raise InputError(
            f"flat field: {reference.value} reference: expected columns within {100 * share:g} % of their neighbors, "
            f"got a streak (dust, a scratch?) at column {ranges_in_words(np.flatnonzero(is_streak))}; clean the window "
            "and the target, and move the target while taking it"
        )
    response[is_bad] = around[is_bad]
    shape = dark.shape[1:]
    return FlatField(
        offset_dn=dark_dn.astype(np.float32).reshape(shape),
        gain=(target_dn / response).astype(np.float32).reshape(shape),
        target_dn=float(target_dn),
        reference=reference,
        num_dark_lines=len(dark),
        num_bright_lines=len(bright),
        bad_columns=tuple(int(x) for x in np.flatnonzero(is_bad)),
    )


def local_median(profile: Profile, neighborhood_px: int) -> Profile:
    """Median of each column's neighborhood, (W, C) to (W, C); beyond the ends the profile goes on as a straight line.

    Example:
        >>> import numpy as np
        >>> local_median(np.array([1.0, 1, 9, 1, 1])[:, None], 3).ravel().tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    half = min(neighborhood_px // 2, len(profile) - 1)
    padded = np.concatenate([_beyond(profile, half)[::-1], profile, _beyond(profile[::-1], half)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return np.asarray(np.median(windows, axis=-1), np.float64)


def _beyond(profile: Profile, num_columns: int) -> Profile:
    """Extend a profile before its first column, (W, C) to (num_columns, C), nearest first.

    Along a line through the medians of two neighboring parts: a lens darkens steeply at its rim, and the first column
    may be dead.
    """
    if num_columns == 0:
        return profile[:0]
    part = max(1, num_columns // 2)
    near, far = np.median(profile[:part], axis=0), np.median(profile[part : 2 * part], axis=0)
    steps = np.arange(1, num_columns + 1)[:, None] + (part - 1) / 2
    return np.asarray(near + (near - far) / part * steps, np.float64)


def ranges_in_words(columns: NDArray[np.intp]) -> str:
    """Say which columns, at most five groups.

    Example:
        >>> import numpy as np
        >>> ranges_in_words(np.array([3, 4, 5, 9]))
        '3-5, 9'
    """
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    words = [f"{g[0]}-{g[-1]}" if len(g) > 1 else f"{g[0]}" for g in groups[:5]]
    return ", ".join(words) + (f" and {len(groups) - 5} more" if len(groups) > 5 else "")


def _profile(lines: Pixels) -> Profile:
    mean = lines.mean(axis=0, dtype=np.float64)
    return np.asarray(mean.reshape(len(mean), -1), np.float64)


def _check_lines(dark: Pixels, bright: Pixels, limits: ReferenceLimits) -> None:
    for name, lines in (("dark", dark), ("bright", bright)):
        if lines.dtype != np.uint8 or lines.ndim not in (2, 3) or lines.shape[2:] not in ((), (3,)):
            raise InputError(
                f"flat field: {name} reference: expected uint8 (N, W) or (N, W, 3), got {lines.dtype} {lines.shape}"
            )
        if len(lines) < limits.min_lines:
            raise InputError(
                f"flat field: {name} reference: expected at least {limits.min_lines} lines, got {len(lines)}"
            )
    if dark.shape[1:] != bright.shape[1:]:
        raise InputError(
            f"flat field: expected dark and bright lines of one length, got {dark.shape[1:]} and {bright.shape[1:]}"
        )


def _check_levels(bright: Pixels, dark_dn: Profile, bright_dn: Profile, limits: ReferenceLimits) -> None:
    dark_level, bright_level = float(np.median(dark_dn)), float(np.median(bright_dn))
    if dark_level >= bright_level:
        raise InputError(
            f"flat field: expected the dark reference below the bright one, got {dark_level:.1f} and "
            f"{bright_level:.1f} DN; were they exchanged?"
        )
    saturated = (bright == SATURATED_DN).mean(axis=0).reshape(len(bright_dn), -1).max(axis=1)
    over = np.flatnonzero(saturated > limits.max_saturated_share)
    # One hot pixel saturates on its own; a lamp or an exposure saturates many columns.
    if len(over) > limits.max_bad_columns:
        raise InputError(
            f"flat field: bright reference: expected no saturated columns, got {len(over)} of {len(saturated)} "
            f"({ranges_in_words(over)}); shorten the exposure to about half of full scale"
        )
    if bright_level - dark_level < limits.min_contrast_dn:
        raise InputError(
            f"flat field: expected the bright reference at least {limits.min_contrast_dn:g} DN above the dark one, got "
            f"{bright_level - dark_level:.1f} DN; lengthen the exposure"
        )
