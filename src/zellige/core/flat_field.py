"""Flat field: one offset and one gain per column, so that an even target gives an even image.

out[x] = (in[x] - offset[x]) * gain[x] with gain[x] = target / (bright[x] - dark[x]); x is a column, in color a column
of one channel. A column whose pixel is dead or hot takes the value of its nearest good neighbor.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Pixels

Columns = NDArray[np.float32]
MAX_TARGET_DN = 250.0
_SAME_LEVEL_DN = 0.5
"""Levels that differ by no more than this are one level."""
_BLOCK_VALUES = 1 << 15
"""Values corrected at a time: the block, its factors and its scratch stay in a core's second-level cache."""


class Reference(StrEnum):
    """What the bright lines were taken from; it is said wherever the flat field is named."""

    WHITE = "white"
    """An even white target that moved while it was taken."""
    GOOD_MATERIAL = "good_material"
    """Good product: its own unevenness across the web is then corrected away too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatField:
    """A camera's correction, uint8 in and uint8 out. `offset_dn` and `gain` are float32 (W,) or (W, 3 RGB)."""

    offset_dn: Columns
    gain: Columns
    target_dn: float
    """Gray level that the bright reference is brought to."""
    reference: Reference
    num_dark_lines: int
    num_bright_lines: int
    bad_columns: tuple[int, ...] = ()
    """Dead or hot columns, in order; each is replaced by its nearest good neighbor."""

    def __post_init__(self) -> None:
        shape = self.offset_dn.shape
        if shape != self.gain.shape or len(shape) not in (1, 2) or shape[1:] not in ((), (3,)) or 0 in shape:
            raise InputError(f"flat field: expected offset and gain (W,) or (W, 3), got {shape} and {self.gain.shape}")
        for name, values, low, high in (("offset", self.offset_dn, 0, 255), ("gain", self.gain, 1e-3, 100)):
            # Written so that NaN is refused too.
            if not bool(((values >= low) & (values <= high)).all()):
                raise InputError(f"flat field: expected every {name} in [{low}, {high}], got values outside")
        check_target_level(self.target_dn, "flat field")
        bad = self.bad_columns
        if list(bad) != sorted(set(bad)) or (bad and not (bad[0] >= 0 and bad[-1] < shape[0])) or len(bad) >= shape[0]:
            raise InputError(f"flat field: expected bad columns in order within 0 to {shape[0] - 1}, got {bad[:9]}")

    @property
    def width_px(self) -> int:
        return int(self.gain.shape[0])

    @property
    def id(self) -> str:
        """Sha256 (hex) over all that the correction is; equal content has an equal id."""
        return hashlib.sha256(json.dumps(to_content(self), sort_keys=True).encode()).hexdigest()


def to_content(flat_field: FlatField) -> dict[str, Any]:
    """Turn a flat field into plain JSON values; float32 survives the way there and back to the bit."""
    return {
        "reference": flat_field.reference.value,
        "target_dn": float(flat_field.target_dn),
        "num_dark_lines": flat_field.num_dark_lines,
        "num_bright_lines": flat_field.num_bright_lines,
        "bad_columns": list(flat_field.bad_columns),
        "offset_dn": flat_field.offset_dn.tolist(),
        "gain": flat_field.gain.tolist(),
    }


def check_target_level(target_dn: float, where: str) -> None:
    """Refuse a target level that leaves no room above it, or is not a level.

    Raises:
        ConfigError: outside (0, 250] DN.
    """
    if not 0 < target_dn <= MAX_TARGET_DN:
        raise ConfigError(f"{where}: expected a target level in (0, {MAX_TARGET_DN:g}] DN, got {target_dn}")


def is_same_level(one_dn: float, other_dn: float) -> bool:
    """Tell whether two target levels are one: they differ by at most half a gray level.

    Example:
        >>> is_same_level(180, 180.5), is_same_level(180, 181)
        (True, False)
    """
    return abs(one_dn - other_dn) <= _SAME_LEVEL_DN


def check_flat_field_fits(flat_field: FlatField, expected_target_dn: float, where: str) -> None:
    """Refuse a flat field that brings white to another level than the one a model was trained for.

    Args:
        flat_field: the station's correction.
        expected_target_dn: the level that the bundle declares.
        where: opens the message.

    Raises:
        InputError: the levels differ by more than half a gray level.
    """
    if not is_same_level(flat_field.target_dn, expected_target_dn):
        raise InputError(
            f"{where}: expected a flat field with target {expected_target_dn:g} DN, got {flat_field.target_dn:g} DN "
            f"(flat field {flat_field.id[:12]})"
        )


def check_lines_fit(flat_field: FlatField, width_px: int, num_channels: int, where: str) -> None:
    """Refuse a flat field that was taken for other lines: of another width, or with another number of channels.

    Raises:
        InputError: the shapes differ.
    """
    shape = (width_px,) if num_channels == 1 else (width_px, num_channels)
    if flat_field.gain.shape != shape:
        raise InputError(
            f"{where}: expected a flat field for lines of shape {shape}, got {flat_field.gain.shape}"
            f" (flat field {flat_field.id[:12]})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corrector:
    """A flat field made ready by `prepare`. It owns its scratch memory: one for each thread that corrects."""

    offset_dn: Columns
    """(B, N): the same row B times; N values in a line, B lines at a time."""
    gain: Columns
    """(B, N)"""
    scratch: Columns
    """(B, N)"""
    bad: NDArray[np.intp]
    """Positions (in a line of N values) that are replaced, and by which ones."""
    good: NDArray[np.intp]
    line_shape: tuple[int, ...]


def prepare(flat_field: FlatField) -> Corrector:
    """Make a flat field ready to be applied quickly."""
    gain = flat_field.gain.reshape(1, -1)
    num_lines = max(1, _BLOCK_VALUES // gain.shape[1])
    rows = np.repeat(gain, num_lines, axis=0)
    bad, good = _replacements(flat_field.bad_columns, flat_field.width_px)
    channels = np.arange(gain.shape[1] // flat_field.width_px)
    return Corrector(
        offset_dn=np.repeat(flat_field.offset_dn.reshape(1, -1), num_lines, axis=0),
        gain=rows,
        scratch=np.empty_like(rows),
        bad=(bad[:, None] * len(channels) + channels).ravel(),
        good=(good[:, None] * len(channels) + channels).ravel(),
        line_shape=flat_field.gain.shape,
    )


def apply_flat_field(pixels: Pixels, corrector: Corrector, out: Pixels | None = None) -> Pixels:
    """Correct lines; rounds to the nearest level and saturates at 0 and 255.

    Args:
        pixels: uint8 (H, W) or (H, W, 3), as the camera gives them.
        corrector: from `prepare`.
        out: where the result goes, contiguous, of the same shape; may be `pixels` itself. Made where None.

    Raises:
        InputError: lines of another length or another number of channels than the flat field's.

    Example:
        >>> import numpy as np
        >>> ones = np.ones(4, np.float32)
        >>> f = FlatField(offset_dn=5 * ones, gain=2 * ones, target_dn=180, reference=Reference.WHITE,
        ...               num_dark_lines=64, num_bright_lines=64)
        >>> apply_flat_field(np.array([[0, 5, 45, 255]], np.uint8), prepare(f)).tolist()
        [[0, 0, 80, 255]]
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != corrector.line_shape:
        raise InputError(
            f"flat field: expected 8-bit lines of shape {corrector.line_shape}, got {pixels.dtype} {pixels.shape[1:]}"
        )
    out = np.empty(pixels.shape, np.uint8) if out is None else out
    source, target = pixels.reshape(len(pixels), -1), out.reshape(len(pixels), -1)
    step = len(corrector.gain)
    for start in range(0, len(pixels), step):
        lines = min(step, len(pixels) - start)
        scratch = corrector.scratch[:lines]
        # Two passes of OpenCV, in float32 between them. Tried: the same by numpy, in fixed point, by a table for each
        # column (cv2.LUT with many channels); all slower or, in 8 bits throughout, off by up to 1.8 levels.
        cv2.subtract(source[start : start + lines], corrector.offset_dn[:lines], dst=scratch, dtype=cv2.CV_32F)
        cv2.multiply(scratch, corrector.gain[:lines], dst=target[start : start + lines], dtype=cv2.CV_8U)
    if len(corrector.bad):
        target[:, corrector.bad] = target[:, corrector.good]
    return out


def _replacements(bad_columns: tuple[int, ...], width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Bad columns, and the nearest good column of each (the left one where two are equally near)."""
    bad = np.array(bad_columns, np.intp)
    good = np.setdiff1d(np.arange(width, dtype=np.intp), bad)
    nearest = [int(np.abs(good - b).argmin()) for b in bad]
    return bad, good[np.array(nearest, np.intp)]
