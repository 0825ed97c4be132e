"""Draw what a verdict rests on: the frame, a faint heat where the map is high, the defects' outlines and a caption."""

import cv2
import numpy as np

from zellige.core.hatching import hatch
from zellige.core.roi import is_inspected, to_draw
from zellige.core.types import ANOMALY, AnomalyMap, Calibration, Decision, Defect, Frame, Pixels, Verdict

_SIDES_PX = (512, 1600)
"""The picture's longer side: a smaller frame is enlarged, a larger one reduced."""
_LINE_PX = 20
_LABEL_PX = 18
_MAX_NUMBERED = 9
_COLORS = {Decision.ACCEPT: (90, 200, 120), Decision.REJECT: (255, 80, 70), Decision.UNDECIDED: (255, 190, 40)}
_PAPER, _INK = (24, 24, 28), (235, 235, 235)


def draw_overlay(frame: Frame, anomaly_map: AnomalyMap | None, verdict: Verdict, calibration: Calibration) -> Pixels:
    """Draw a frame with its verdict; what is not inspected is hatched.

    Args:
        frame: the inspected frame.
        anomaly_map: (H, W) float32, higher = worse; None where the frame could not be inspected.
        verdict: the verdict on this frame.
        calibration: its `pixel_threshold` is where the outlines run.

    Returns:
        (h, w, 3) uint8 RGB, the caption below the frame.
    """
    height, width = frame.size
    low, high = _SIDES_PX
    scale = min(high / max(height, width), max(1, low // max(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    resized = cv2.resize(frame.pixels, size, interpolation=method)
    picture = np.array(resized if resized.ndim == 3 else cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), np.uint8)
    color = _COLORS[verdict.decision]
    if anomaly_map is not None:
        picture = hatch(picture, is_inspected(anomaly_map))
        shown = cv2.resize(to_draw(anomaly_map), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        _heat(picture, np.asarray(shown, np.float32), calibration.pixel_threshold)
        _outline(picture, anomaly_map, calibration.pixel_threshold, color)
    for defect in verdict.defects:
        if defect.kind != ANOMALY:
            _frame_defect(picture, defect, scale, color)
    for number, defect in enumerate(verdict.defects[:_MAX_NUMBERED], start=1):
        _number(picture, defect, number, scale, color)
    return np.asarray(np.vstack([picture, _caption(verdict, picture.shape[1], color)]), np.uint8)


def _heat(picture: Pixels, anomaly_map: AnomalyMap, threshold: float) -> None:
    """Tint in place: nothing at the map's floor, half opaque at its peak (or the threshold, if that is higher)."""
    floor, peak = float(anomaly_map.min()), float(anomaly_map.max())
    start = (floor + threshold) / 2 if floor < threshold else floor
    level = np.clip((anomaly_map - start) / max(max(peak, threshold) - start, 1e-12), 0, 1)
    colors = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = (0.5 * level)[..., None]
    picture[:] = (picture * (1 - alpha) + colors * alpha).astype(np.uint8)


def _outline(picture: Pixels, anomaly_map: AnomalyMap, threshold: float, color: tuple[int, int, int]) -> None:
    height, width = picture.shape[:2]
    above = (anomaly_map > threshold).view(np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    factor = np.array([width / anomaly_map.shape[1], height / anomaly_map.shape[0]])
    scaled = [np.round((contour + 0.5) * factor - 0.5).astype(np.int32) for contour in contours]
    cv2.drawContours(picture, scaled, -1, color, 2, cv2.LINE_AA)


def _frame_defect(picture: Pixels, defect: Defect, scale: float, color: tuple[int, int, int]) -> None:
    """Draw the box of a defect with a name, thinly: what was named is the box or lies in it."""
    x0, y0, x1, y1 = (round(value * scale) for value in defect.box_px)
    cv2.rectangle(picture, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), color, 1)


def _number(picture: Pixels, defect: Defect, number: int, scale: float, color: tuple[int, int, int]) -> None:
    """Put a defect's number in a small box at the upper right corner of its region, inside the picture."""
    height, width = picture.shape[:2]
    x = min(round(defect.box_px[2] * scale) + 4, width - _LABEL_PX)
    y = min(max(round(defect.box_px[1] * scale) - _LABEL_PX, 0), height - _LABEL_PX)
    cv2.rectangle(picture, (x, y), (x + _LABEL_PX - 1, y + _LABEL_PX - 1), color, -1)
    cv2.putText(picture, str(number), (x + 4, y + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _PAPER, 2, cv2.LINE_AA)


def _caption(verdict: Verdict, width: int, color: tuple[int, int, int]) -> Pixels:
    lines = [f"{verdict.decision.value}: {verdict.reason}"]
    lines += [f"{i}: {_size_in_words(d)}" for i, d in enumerate(verdict.defects[:_MAX_NUMBERED], start=1)]
    if len(verdict.defects) > _MAX_NUMBERED:
        lines.append(f"and {len(verdict.defects) - _MAX_NUMBERED} more")
    columns = max(20, (width - 16) // 9)
    rows = [line[i : i + columns] for line in lines for i in range(0, len(line), columns)]
    strip = np.full((12 + _LINE_PX * len(rows), width, 3), _PAPER, np.uint8)
    strip[:4] = color
    for i, row in enumerate(rows):
        ink = color if i == 0 else _INK
        text = row.encode("ascii", "replace").decode()
        cv2.putText(strip, text, (8, 22 + _LINE_PX * i), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
    return strip


def _size_in_words(defect: Defect) -> str:
    peak = f"peak {defect.peak_score:.3g}"
    name = "" if defect.kind == ANOMALY else f"{defect.kind}, "
    if defect.length_mm is None or defect.area_mm2 is None:
        return f"{name}{_short(defect.length_px)} px long, {defect.area_px} px2 (uncalibrated), {peak}"
    return f"{name}{_short(defect.length_mm)} mm long, {_short(defect.area_mm2)} mm2, {peak}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
