"""Where a template lies on its image: a translation to a fraction of a pixel, and how well the two then fit.

A defect is what differs, so the fit must not follow it. Phase correlation finds the shift to a pixel on a small version
of both; then least squares refine it on larger and larger ones, together with the image's gain and offset, on pixels
with a gradient alone, and pixels that do not fit lose their weight.

Source: C. D. Kuglin and D. C. Hines, "The Phase Correlation Image Alignment Method", IEEE Int. Conf. on Cybernetics
and Society, 1975. S. Baker, R. Gross, I. Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", parts 2 (robust
weights) and 3 (gain and offset), CMU-RI-TR-03-01 and -35, 2003. Weights: A. E. Beaton and J. W. Tukey, Technometrics
16, 1974. Moving by a fraction of a pixel: R. G. Keys, "Cubic Convolution Interpolation", IEEE Trans. ASSP 29, 1981.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.roi import Roi, fill
from zellige.core.types import Frame, Geometry, Pixels, Registration

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MIN_QUALITY = 0.5
"""Least correlation of an image with its moved template. Where noise is as strong as the structure it is 0.5; other
products, and the same one beyond the search range, stay well below."""

_FLAT_DN = 2.0
"""A template whose standard deviation, gray levels after a slight blur, is smaller looks the same wherever it lies."""
_SMALL_PX = 256
"""Longer side, about, of the version on which the search starts."""
_LEAST_PX = 32
_MOST_PX = 1 << 22
"""Largest version on which the fit is refined: half the resolution of a frame of 16 megapixels, a known memory."""
_MOST_POINTS = 1 << 18
_SIGMA_PX = 1.0
"""Blur of both before the fit: interpolation and noise then do not pull it towards half pixels."""
_BAND = 0.15
"""Standard deviation, cycles per px, of the band in which phases count: above it there is noise alone."""
_NUM_STEPS = 20
_SMALL_STEP_PX = 0.003
_GRAIN_PX = 2.0**-10
"""Shifts are multiples of it, far below what can be known: rounding errors do not move a template that lies right."""
_BLOCK = 1024
_DAMPING = 1e-3
_TUKEY = 4.685
_TIE = 0.02
"""Of two places with nearly the same correlation the nearer one is right: stripes fit anywhere along themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far a template is moved down and to the right, px, to lie on its image; `quality` is their correlation."""

    dy_px: float
    dx_px: float
    quality: float


def place_template(
    frame: Frame, pixels: Pixels, geometry: Geometry, roi: Roi | None, shift: Shift | None = None
) -> tuple[Pixels | None, Shift | None]:
    """Bring a frame's template to its place as the geometry says; (None, None) for a frame without a template.

    Args:
        frame: the frame.
        pixels: its pixels, what is not inspected filled.
        geometry: says whether to register and how far to search.
        roi: what is inspected. The rest of the template is filled too, so it has no influence either.
        shift: where it was found before; None searches.

    Returns:
        The template (H, W) or (H, W, 3) uint8, and the shift; None where the geometry does not register.

    Raises:
        InputError: see `find_shift`.
    """
    if frame.template is None:
        return None, None
    template = frame.template if roi is None else fill(frame.template, roi.inspected)
    if geometry.registration is Registration.NONE:
        return template, None
    if shift is None:
        inspected = None if roi is None else roi.inspected
        where = f"frame {frame.source_id}"
        shift = find_shift(template, pixels, search_px=geometry.search_px, where=where, inspected=inspected)
    moved = move(template, shift.dy_px, shift.dx_px)
    return moved if roi is None else fill(moved, roi.inspected), shift


def find_shift(
    template: Pixels, image: Pixels, *, search_px: int, where: str = "image", inspected: Mask | None = None
) -> Shift:
    """Find the translation that lays a template on its image; none for a flat template, which lies right anywhere.

    Args:
        template, image: (H, W) or (H, W, 3 RGB) uint8 of one shape.
        search_px: largest shift along either axis.
        where: opens every message.
        inspected: (H, W) bool; only these pixels count.

    Raises:
        InputError: the two do not fit, or the template lies further away than `search_px`.

    Example:
        >>> template = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        >>> found = find_shift(template, np.roll(template, (2, -3), (0, 1)), search_px=8)
        >>> round(found.dy_px, 1), round(found.dx_px, 1)
        (2.0, -3.0)
    """
    scales, templates = _pyramid(_gray(template))
    if float(cv2.meanStdDev(templates[0])[1].item()) < _FLAT_DN:
        return Shift(dy_px=0.0, dx_px=0.0, quality=1.0)
    _, images = _pyramid(_gray(image))
    masks = [None if inspected is None else inspected[::scale, ::scale] for scale in scales]
    found = _search(templates[-1], images[-1], masks[-1], search_px / scales[-1])
    for one, other, mask in zip(templates[-2::-1], images[-2::-1], masks[-2::-1], strict=True):
        found = _refine(one, other, mask, (2 * found.dy_px, 2 * found.dx_px))
    dy, dx = (round(shift * scales[0] / _GRAIN_PX) * _GRAIN_PX for shift in (found.dy_px, found.dx_px))
    found = Shift(dy_px=dy, dx_px=dx, quality=found.quality)
    if not found.quality >= MIN_QUALITY:
        raise InputError(
            f"{where}: expected its template to fit within {search_px} px, got a correlation of {found.quality:.2f} "
            f"(at least {MIN_QUALITY:g}): another product, or moved too far"
        )
    if max(abs(found.dy_px), abs(found.dx_px)) > search_px:
        raise InputError(
            f"{where}: expected its template within {search_px} px, got one that lies {found.dy_px:+.1f} px down-web "
            f"and {found.dx_px:+.1f} px cross-web"
        )
    return found


def move(pixels: Pixels, dy_px: float, dx_px: float) -> Pixels:
    """Move an image (H, W) or (H, W, 3) uint8 down and to the right; what comes in from outside repeats the border.

    Whole pixels are moved as they are, fractions by cubic convolution.

    Example:
        >>> move(np.array([[0, 100, 200]], np.uint8), 0, 1).tolist()
        [[0, 0, 100]]
    """
    return np.asarray(_moved(pixels, dy_px, dx_px), np.uint8)


def _moved(image: NDArray[np.generic], dy: float, dx: float) -> NDArray[np.generic]:
    height, width = image.shape[:2]
    whole_y, whole_x = math.floor(dy), math.floor(dx)
    if whole_y or whole_x:
        rows = (np.arange(height) - whole_y).clip(0, height - 1)
        columns = (np.arange(width) - whole_x).clip(0, width - 1)
        image = image[rows][:, columns]
    if dy == whole_y and dx == whole_x:
        return image
    kernels = _keys(dx - whole_x), _keys(dy - whole_y)
    return np.asarray(cv2.sepFilter2D(np.ascontiguousarray(image), -1, *kernels, borderType=cv2.BORDER_REPLICATE))


def _keys(fraction: float) -> Floats:
    """Weights of the five pixels around each, for a value `fraction` px before it (Keys, a = -1/2)."""
    distance = np.abs(np.arange(-2, 3) + fraction)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


def _gray(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _pyramid(gray: Pixels) -> tuple[list[int], list[Floats]]:
    """Blurred versions, the largest first, each of half the size of the one before, and how often smaller they are.

    Pixel i of one is pixel 2 i of the one before.
    """
    scales, levels = [1], [gray]
    while max(levels[-1].shape) > _SMALL_PX and min(levels[-1].shape) >= 2 * _LEAST_PX:
        scales.append(2 * scales[-1])
        levels.append(np.asarray(cv2.pyrDown(levels[-1]), np.uint8))
    used = [(scale, level) for scale, level in zip(scales, levels, strict=True) if level.size <= _MOST_PX]
    used = used or [(scales[-1], levels[-1])]
    blurred = [cv2.GaussianBlur(level.astype(np.float32), (0, 0), _SIGMA_PX) for _, level in used]
    return [scale for scale, _ in used], [np.asarray(level, np.float32) for level in blurred]


def _search(template: Floats, image: Floats, mask: Mask | None, search_px: float) -> Shift:
    """Find the best place on small versions: at the highest peak within the search range, anywhere, or no shift."""
    peaks = _phase_correlation(template, image)
    height, width = peaks.shape
    dy, dx = np.meshgrid(np.fft.fftfreq(height, 1 / height), np.fft.fftfreq(width, 1 / width), indexing="ij")
    in_range = np.maximum(np.abs(dy), np.abs(dx)) <= search_px + 1
    starts = [(0.0, 0.0)]
    for allowed in (in_range, np.ones_like(in_range)):
        at = int(np.where(allowed, peaks, -np.inf).argmax())
        starts.append((float(dy.flat[at]), float(dx.flat[at])))
    best, *others = (_refine(template, image, mask, start) for start in dict.fromkeys(starts))
    for other in others:
        if other.quality > best.quality + _TIE:
            best = other
    return best


def _phase_correlation(template: Floats, image: Floats) -> Floats:
    """Correlation of the phases alone, (H, W): the peak lies at the shift, negative ones at the far end."""
    height, width = image.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    cross = np.fft.rfft2((image - image.mean()) * window) * np.fft.rfft2((template - template.mean()) * window).conj()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    phases = cross / np.maximum(np.abs(cross), 1e-9) * np.exp(-((frequency / _BAND) ** 2) / 2)
    return np.asarray(np.fft.irfft2(phases, (height, width)), np.float32)


def _refine(template: Floats, image: Floats, mask: Mask | None, start: tuple[float, float]) -> Shift:
    """Refine a shift by robust least squares from `start`, and say how well it fits."""
    limits = [length / 4 for length in image.shape]
    dy, dx = start
    for _ in range(_NUM_STEPS):
        if abs(dy) > limits[0] or abs(dx) > limits[1]:
            return Shift(dy_px=dy, dx_px=dx, quality=0.0)
        step = _step(*_overlap(template, image, mask, dy, dx))
        dy, dx = dy + step[0], dx + step[1]
        if max(map(abs, step)) < _SMALL_STEP_PX:
            break
    if abs(dy) > limits[0] or abs(dx) > limits[1]:
        return Shift(dy_px=dy, dx_px=dx, quality=0.0)
    moved, fixed, counts = _overlap(template, image, mask, dy, dx)
    if counts is not None:
        moved, fixed = moved[counts], fixed[counts]
    return Shift(dy_px=dy, dx_px=dx, quality=_correlation(moved, fixed))


def _overlap(
    template: Floats, image: Floats, mask: Mask | None, dy: float, dx: float
) -> tuple[Floats, Floats, Mask | None]:
    """The moved template, the image and what counts, where all the template's pixels come from inside it."""
    height, width = image.shape
    y, x = math.ceil(abs(dy)) + 2, math.ceil(abs(dx)) + 2
    inside = (slice(y, height - y), slice(x, width - x))
    moved = np.asarray(_moved(template, dy, dx), np.float32)[inside]
    return moved, image[inside], None if mask is None else mask[inside]


def _step(moved: Floats, fixed: Floats, counts: Mask | None) -> tuple[float, float]:
    """One step of Gauss and Newton for shift, gain and offset, weighted by how well each pixel fits already."""
    down, right = moved[2:, 1:-1] - moved[:-2, 1:-1], moved[1:-1, 2:] - moved[1:-1, :-2]
    energy = down * down
    energy += right * right
    if counts is not None:
        energy *= counts[1:-1, 1:-1]
    points = np.flatnonzero(energy > energy.mean())
    points = points[:: 1 + len(points) // _MOST_POINTS]
    if len(points) < 16:
        return 0.0, 0.0
    y, x = np.divmod(points, energy.shape[1])
    levels, values = (grid[y + 1, x + 1].astype(np.float64) for grid in (moved, fixed))
    slopes = [np.take(grid, points).astype(np.float64) / -2 for grid in (down, right)]
    columns = np.stack([*slopes, levels, np.ones(len(points))], axis=1)
    weights = np.ones(len(points))
    for with_shift in (False, True):
        # First gain and offset alone say what fits; the shift is found on that.
        used = columns if with_shift else columns[:, 2:]
        normal = used.T @ (used * weights[:, None])
        if with_shift:
            normal[[0, 1], [0, 1]] += _DAMPING * max(normal[0, 0], normal[1, 1])
        solved = np.linalg.lstsq(normal, used.T @ (values * weights), rcond=None)[0]
        left = np.abs(values - columns[:, 2:] @ solved[-2:])
        scale = max(1.4826 * float(np.median(left)), 1.0)
        weights = np.maximum(0, 1 - (left / (_TUKEY * scale)) ** 2) ** 2
    gain = float(solved[2])
    if gain < 1e-2:
        return 0.0, 0.0
    limit = 2.0  # px: beyond it the gradient says nothing
    return (
        float(np.clip(solved[0] / gain, -limit, limit)),
        float(np.clip(solved[1] / gain, -limit, limit)),
    )


def _correlation(first: Floats, second: Floats) -> float:
    """Correlation coefficient of two sets of gray levels; 0 where one of them is flat."""
    if not first.size:
        return 0.0
    a, b = (one.ravel() - one.mean(dtype=np.float64).astype(np.float32) for one in (first, second))
    spread = math.sqrt(_dot(a, a) * _dot(b, b))
    return _dot(a, b) / spread if spread else 0.0


def _dot(a: Floats, b: Floats) -> float:
    """Sum of products, in blocks: of millions float32 alone would lose what matters."""
    whole = len(a) // _BLOCK * _BLOCK
    blocks = np.einsum("ij,ij->i", a[:whole].reshape(-1, _BLOCK), b[:whole].reshape(-1, _BLOCK))
    return float(blocks.sum(dtype=np.float64)) + float(a[whole:] @ b[whole:])
