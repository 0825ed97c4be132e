"""Where the web lies in the camera's lines: both edges for every block of lines, and what is not web.

A position across the web is in px from the left border of column 0, so column i covers [i, i + 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.screened_map import SCREENED
from zellige.core.types import AnomalyMap, Pixels, PixelSize

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Background(StrEnum):
    """How what is beside the web looks to the camera."""

    DARK = "dark"
    BRIGHT = "bright"


class WebState(StrEnum):
    """What a block of lines shows. Only WEB may be judged; every other state is UNDECIDED, never ACCEPT."""

    WEB = "web"
    NO_WEB = "no_web"
    """Background alone: a web break, or none threaded yet."""
    WRONG_WIDTH = "wrong_width"
    """Both edges are seen, and their distance is not the product's width: folded, torn, another product."""
    OUT_OF_VIEW = "out_of_view"
    """An edge that should be seen is not: the web has left the camera's view."""
    BLACK = "black"
    """No light at all: lamp off, lens covered. On a dark background this cannot be told from no web."""
    SATURATED = "saturated"


class Datum(StrEnum):
    """From where positions across the web are counted; they grow from left to right, whatever the datum."""

    LEFT_EDGE = "left_edge"
    RIGHT_EDGE = "right_edge"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRule:
    """How the edges of one product are found by one camera."""

    background: Background
    threshold_dn: float
    """Level between background and web, about halfway."""
    width_px: float | None
    """Width of the product; None where this camera does not see both edges."""
    width_tolerance: float = 0.02
    """Largest relative difference from `width_px`."""
    sees_left_edge: bool = True
    sees_right_edge: bool = True
    """False for the cameras whose side of the web lies in another camera's view."""
    min_run_px: int = 8
    """Narrower than this it is not web: a thread, a speck on the background."""
    block_lines: int = 32
    """Lines that are averaged for one pair of edges: few enough that the web does not wander within them."""
    black_dn: float = 2.0
    max_saturated_share: float = 0.25
    """Of the web's columns."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold_dn < 255:
            raise ConfigError(f"web threshold_dn: expected a level in (0, 255), got {self.threshold_dn}")
        if self.min_run_px < 1 or self.block_lines < 1:
            raise ConfigError(
                f"web min_run_px, block_lines: expected at least 1, got {self.min_run_px}, {self.block_lines}"
            )
        if self.width_px is not None and not (self.sees_left_edge and self.sees_right_edge):
            raise ConfigError("web width_px: expected None where the camera does not see both edges")
        if self.width_px is not None and not self.width_px >= self.min_run_px:
            raise ConfigError(f"web width_px: expected at least min_run_px={self.min_run_px}, got {self.width_px}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebBlock:
    """A block of lines and where the web lies in it; NaN edges where none were found."""

    first_line: int
    num_lines: int
    state: WebState
    left_px: float
    right_px: float

    @property
    def center_line(self) -> float:
        """Middle of the block, in lines from the start of the web (a line covers [n, n + 1))."""
        return self.first_line + self.num_lines / 2


def find_web(pixels: Pixels, rule: EdgeRule, *, first_line: int = 0) -> tuple[WebBlock, ...]:
    """Find the web's edges in each block of lines, to a part of a pixel.

    Each block is measured by itself, so a tear shows where it is. A hole in the web does not move the edges.

    Args:
        pixels: uint8 (H, W) or (H, W, 3).
        rule: how edges look.
        first_line: absolute number of the first line.

    Example:
        >>> import numpy as np
        >>> lines = np.zeros((32, 100), np.uint8); lines[:, 20:80] = 120
        >>> rule = EdgeRule(background=Background.DARK, threshold_dn=60, width_px=60)
        >>> [(b.state.value, b.left_px, b.right_px) for b in find_web(lines, rule)]
        [('web', 20.0, 80.0)]
    """
    blocks = []
    for start in range(0, len(pixels), rule.block_lines):
        part = pixels[start : start + rule.block_lines]
        sums = cv2.reduce(part.reshape(len(part), -1), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
        profile = np.asarray(sums.reshape(part.shape[1], -1).sum(axis=1) / (part.size // part.shape[1]), np.float64)
        state, left, right = _judge(profile, rule)
        blocks.append(
            WebBlock(first_line=first_line + start, num_lines=len(part), state=state, left_px=left, right_px=right)
        )
    return tuple(blocks)


def alike_table(own: EdgeRule, rule: EdgeRule) -> NDArray[np.uint8]:
    """Make the table (256,) that turns a camera's gray levels into those of another rule, for `find_web`.

    Where cameras side by side see other levels or another background, their lines can be measured as one afterwards:
    the threshold becomes the other threshold, background becomes background.

    Example:
        >>> dark = EdgeRule(background=Background.DARK, threshold_dn=60, width_px=None)
        >>> bright = EdgeRule(background=Background.BRIGHT, threshold_dn=180, width_px=None)
        >>> alike_table(bright, dark)[[0, 180, 255]].tolist()
        [255, 60, 0]
    """
    levels, threshold = np.arange(256.0), own.threshold_dn
    if own.background is not rule.background:
        levels, threshold = 255 - levels, 255 - threshold
    table = np.interp(levels, (0.0, threshold, 255.0), (0.0, rule.threshold_dn, 255.0))
    return np.asarray(np.round(table), np.uint8)


def _judge(profile: Floats, rule: EdgeRule) -> tuple[WebState, float, float]:
    if float(profile.max()) <= rule.black_dn:
        return WebState.BLACK, math.nan, math.nan
    is_web = profile > rule.threshold_dn if rule.background is Background.DARK else profile < rule.threshold_dn
    steps = np.flatnonzero(np.diff(is_web, prepend=False, append=False))
    starts, stops = steps[::2], steps[1::2]
    wide = np.flatnonzero(stops - starts >= rule.min_run_px)
    if len(wide) == 0:
        return WebState.NO_WEB, math.nan, math.nan
    first, last = int(starts[wide[0]]), int(stops[wide[-1]])
    if float((profile[first:last] >= 254.5).mean()) > rule.max_saturated_share:
        return WebState.SATURATED, math.nan, math.nan
    left = _crossing(profile, first, rule.threshold_dn) if rule.sees_left_edge else 0.0
    right = _crossing(profile, last, rule.threshold_dn) if rule.sees_right_edge else float(len(profile))
    if (rule.sees_left_edge and first == 0) or (rule.sees_right_edge and last == len(profile)):
        return WebState.OUT_OF_VIEW, left, right
    if rule.width_px is not None and abs(right - left - rule.width_px) > rule.width_tolerance * rule.width_px:
        return WebState.WRONG_WIDTH, left, right
    return WebState.WEB, left, right


def _crossing(profile: Floats, border: int, threshold: float) -> float:
    """Where the profile crosses the threshold between the centers of columns border - 1 and border, px."""
    if not 0 < border < len(profile):
        return float(border)
    before, after = float(profile[border - 1]), float(profile[border])
    return border - 0.5 + (threshold - before) / (after - before)


def edge_lines(blocks: Sequence[WebBlock]) -> tuple[Floats, Floats]:
    """Left and right edge at each line, (N,) px each: straight from block to block, NaN where there is no web."""
    centers = np.concatenate([b.first_line + np.arange(b.num_lines) + 0.5 for b in blocks])
    is_web = np.repeat([b.state is WebState.WEB for b in blocks], [b.num_lines for b in blocks])
    good = [b for b in blocks if b.state is WebState.WEB]
    if not good:
        return np.full(len(centers), np.nan), np.full(len(centers), np.nan)
    known = np.array([b.center_line for b in good])
    left = _straight(centers, known, np.array([b.left_px for b in good]))
    right = _straight(centers, known, np.array([b.right_px for b in good]))
    return np.where(is_web, left, np.nan), np.where(is_web, right, np.nan)


def _straight(lines: Floats, known: Floats, values: Floats) -> Floats:
    """Interpolate, and go on with the slope of the two outermost blocks before the first center and after the last."""
    inside = np.interp(lines, known, values)
    if len(known) < 2:
        return inside
    slopes = np.diff(values) / np.diff(known)
    before, after = values[0] + (lines - known[0]) * slopes[0], values[-1] + (lines - known[-1]) * slopes[-1]
    return np.where(lines < known[0], before, np.where(lines > known[-1], after, inside))


def web_mask(blocks: Sequence[WebBlock], width_px: int, *, margin_px: float = 0.0) -> Mask:
    """Tell which pixels are web: bool (H, W), true where a pixel lies wholly between the edges less the margin.

    Args:
        blocks: of consecutive lines, from `find_web`; blocks that are not WEB are false throughout.
        width_px: width W of the lines.
        margin_px: what is left out at each edge: fraying, selvedge.

    Example:
        >>> block = WebBlock(first_line=0, num_lines=1, state=WebState.WEB, left_px=1.2, right_px=4.9)
        >>> web_mask([block], 6).tolist()
        [[False, False, True, True, False, False]]
    """
    left, right = edge_lines(blocks)
    starts, stops = np.ceil(left + margin_px), np.floor(right - margin_px)
    mask = np.zeros((len(left), width_px), bool)
    # Line by line: comparing every column with its line's edges takes twenty times as long.
    for line in np.flatnonzero(stops > np.maximum(starts, 0)):  # a comparison with NaN is false: no web
        mask[line, max(0, int(starts[line])) : int(stops[line])] = True
    return mask


def mask_outside(anomaly_map: AnomalyMap, mask: Mask) -> AnomalyMap:
    """Return the map with `SCREENED` wherever there is no web, so that nothing outside can be a defect.

    The frame's score must then be taken from the masked map too.

    Raises:
        InputError: map and mask of two sizes.

    Example:
        >>> import numpy as np
        >>> mask_outside(np.array([[9, 2, 3]], np.float32), np.array([[False, True, True]])).tolist()
        [[-2.535301200456459e+30, 2.0, 3.0]]
    """
    if anomaly_map.shape != mask.shape:
        raise InputError(f"web mask: expected the map's size {anomaly_map.shape}, got {mask.shape}")
    return np.where(mask, anomaly_map, SCREENED)


def cross_web_mm(x_px: float, block: WebBlock, datum: Datum, pixel_size: PixelSize, *, camera_mm: float = 0.0) -> float:
    """Position across the web, mm from the datum.

    Args:
        x_px: position in the camera's line, px.
        block: the block of lines where it was seen.
        datum: what the position is counted from; the right edge gives values below zero.
        pixel_size: of the camera.
        camera_mm: where the camera's column 0 lies on the machine (datum CAMERA).

    Raises:
        InputError: an edge is the datum and was not found here.

    Example:
        >>> size = PixelSize(cross_web_mm=0.5, down_web_mm=0.5)
        >>> block = WebBlock(first_line=0, num_lines=32, state=WebState.WEB, left_px=20.0, right_px=80.0)
        >>> cross_web_mm(30, block, Datum.LEFT_EDGE, size), cross_web_mm(30, block, Datum.RIGHT_EDGE, size)
        (5.0, -25.0)
    """
    if datum is Datum.CAMERA:
        return camera_mm + x_px * pixel_size.cross_web_mm
    edge = block.left_px if datum is Datum.LEFT_EDGE else block.right_px
    if math.isnan(edge):
        raise InputError(f"web: expected the {datum.value} at line {block.first_line}, got state {block.state.value}")
    return (x_px - edge) * pixel_size.cross_web_mm
