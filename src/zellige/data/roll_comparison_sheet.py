"""One picture of a roll's comparison with its list: hits, missed defects and false alarms, cut out of the recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from zellige.core.types import Pixels, PixelSize
from zellige.data.roll_windows import Window, cut_windows, inside_run, whole_runs
from zellige.evaluation.roll_comparison import Outcome, RollComparison, box_of
from zellige.station.sources import RollSource

_KNOWN_RGB, _FOUND_RGB, _INK, _MUTED = (0, 150, 190), (226, 55, 30), (34, 48, 60), (107, 120, 132)
_FRAME = (214, 220, 226)
_WINDOW_PX = 128
_SIDE_PX, _GAP_PX, _CAPTION_PX, _TITLE_PX = 192, 8, 24, 34
_PER_ROW = 6

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is shown in one cell; boxes in mm from column 0 and line 0."""

    caption: str
    known: Box | None
    found: Box | None

    @property
    def middle(self) -> Box:
        """The box that the cell is centered on."""
        box = self.known or self.found
        assert box is not None
        return box


def comparison_sheet(comparison: RollComparison, source: RollSource, pixel_size: PixelSize, *, rows: int = 2) -> Pixels:
    """Draw up to `rows` rows of each outcome, evenly chosen: uint8 RGB (H, W, 3).

    A cell shows 128 x 128 px of the recording, or more where a box is larger. Cyan is a known defect, red a record.

    Args:
        comparison: of the roll.
        source: the roll's recording.
        pixel_size: of the recording.
        rows: most rows of six for hits, for missed defects and for false alarms.

    Raises:
        InputError: a recording that cannot be read.
    """
    parts: list[Pixels] = []
    for title, cases in _sections(comparison):
        chosen = [cases[i] for i in _evenly(len(cases), rows * _PER_ROW)]
        parts.append(_title(f"{title}: {len(cases)}" + (f", {len(chosen)} shown" if len(chosen) < len(cases) else "")))
        cells = _cells(chosen, source, pixel_size)
        parts += [_row(cells[i : i + _PER_ROW]) for i in range(0, len(cells), _PER_ROW)]
    parts.append(_legend())
    return np.vstack(parts)


def _sections(comparison: RollComparison) -> list[tuple[str, list[_Case]]]:
    sections = []
    titles = {Outcome.HIT: "Hits", Outcome.MISSED: "Missed", Outcome.UNDECIDED: "Known defects where nobody judged"}
    for outcome, title in titles.items():
        cases = [
            _Case(
                caption=f"{one.known.kind} {_size(one.known.box_mm)}",
                known=one.known.box_mm,
                found=None if one.record is None else box_of(one.record, comparison.datum_mm),
            )
            for one in comparison.of(outcome)
        ]
        if cases or outcome is not Outcome.UNDECIDED:
            sections.append((title, cases))
    boxes = [box_of(record, comparison.datum_mm) for record in comparison.false_alarms]
    alarms = [_Case(caption=_size(box), known=None, found=box) for box in boxes]
    return [*sections, ("False alarms", alarms)]


def _size(box: Box) -> str:
    return f"{box[2] - box[0]:.2g} x {box[3] - box[1]:.2g} mm"


def _evenly(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []


def _cells(cases: Sequence[_Case], source: RollSource, pixel_size: PixelSize) -> list[Pixels]:
    runs = whole_runs(source)
    windows = [_window(case, runs, source.width_px, pixel_size) for case in cases]
    pictures = dict(cut_windows(source, sorted({window for window in windows if window is not None})))
    return [
        _cell(case, window, None if window is None else pictures[window], pixel_size)
        for case, window in zip(cases, windows, strict=True)
    ]


def _window(case: _Case, runs: Sequence[tuple[int, int]], width_px: int, pixel_size: PixelSize) -> Window | None:
    """The window around a case, or None where the recording has a hole there."""
    x0, y0, x1, y1 = _in_px(case.middle, pixel_size)
    side = min(width_px, max(_WINDOW_PX, round(1.2 * max(x1 - x0, y1 - y0))))
    top = inside_run(runs, (y0 + y1) / 2, side)
    if top is None:
        return None
    left = min(max(0, round((x0 + x1 - side) / 2)), width_px - side)
    return Window(first_line=top, left_px=left, height=side, width=side)


def _in_px(box: Box, pixel_size: PixelSize) -> Box:
    across, down = pixel_size.cross_web_mm, pixel_size.down_web_mm
    return box[0] / across, box[1] / down, box[2] / across, box[3] / down


def _cell(case: _Case, window: Window | None, pixels: Pixels | None, pixel_size: PixelSize) -> Pixels:
    cell = np.full((_SIDE_PX + _CAPTION_PX, _SIDE_PX, 3), 255, np.uint8)
    if window is not None and pixels is not None:
        scale = _SIDE_PX / window.width
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(pixels, (_SIDE_PX, _SIDE_PX), interpolation=method)
        cell[:_SIDE_PX] = picture if picture.ndim == 3 else picture[..., None]
        for box, color, margin in ((case.found, _FOUND_RGB, 0), (case.known, _KNOWN_RGB, 3)):
            if box is not None:
                x0, y0, x1, y1 = _in_px(box, pixel_size)
                corners = (x0 - window.left_px, y0 - window.first_line, x1 - window.left_px, y1 - window.first_line)
                left, top, right, bottom = (round(value * scale) for value in corners)
                view = cell[:_SIDE_PX]
                cv2.rectangle(view, (left - margin, top - margin), (right + margin, bottom + margin), color, 2)
        cv2.rectangle(cell, (0, 0), (_SIDE_PX - 1, _SIDE_PX - 1), _FRAME, 1)
    _put(cell, case.caption, 2, _SIDE_PX + 16, _MUTED)
    return cell


def _row(cells: Sequence[Pixels]) -> Pixels:
    width = _PER_ROW * (_SIDE_PX + _GAP_PX) + _GAP_PX
    row = np.full((_SIDE_PX + _CAPTION_PX + _GAP_PX, width, 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        left = _GAP_PX + place * (_SIDE_PX + _GAP_PX)
        row[: len(cell), left : left + _SIDE_PX] = cell
    return row


def _title(text: str) -> Pixels:
    title = np.full((_TITLE_PX, _PER_ROW * (_SIDE_PX + _GAP_PX) + _GAP_PX, 3), 255, np.uint8)
    _put(title, text, _GAP_PX, _TITLE_PX - 11, _INK, 0.6)
    return title


def _legend() -> Pixels:
    legend = _title("")
    left = _GAP_PX
    for text, color in (("known defect", _KNOWN_RGB), ("record of the station", _FOUND_RGB)):
        cv2.rectangle(legend, (left, 8), (left + 18, 24), color, 2)
        _put(legend, text, left + 28, 22, _INK)
        left += 190
    return legend


def _put(canvas: Pixels, text: str, x: int, y: int, color: tuple[int, int, int], scale: float = 0.45) -> None:
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, ascii_text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
