"""Known defects of rolls in px of their recordings."""

from dataclasses import dataclass
from pathlib import Path

from zellige.core.known_defects import read_known_defects
from zellige.core.types import PixelSize


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnDefect:
    """A box on a roll, in px: x0, first line, x1, last line + 1."""

    kind: str
    box_px: tuple[float, float, float, float]

    def within(self, left: int, top: int, width: int, height: int) -> tuple[float, float, float, float] | None:
        """Its part of a window, in the window's px; None where there is none."""
        x0, y0, x1, y1 = self.box_px
        x0, x1 = max(0.0, x0 - left), min(float(width), x1 - left)
        y0, y1 = max(0.0, y0 - top), min(float(height), y1 - top)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def read_roll_defects(path: Path, pixel_size: PixelSize) -> dict[str, list[DrawnDefect]]:
    """Read the known defects by roll.

    Raises:
        InputError: see `zellige.core.known_defects.read_known_defects`.
    """
    across, down = pixel_size.cross_web_mm, pixel_size.down_web_mm
    found = {}
    for roll, known in read_known_defects(path).items():
        boxes = ((one.kind, one.box_mm) for one in known)
        found[roll] = [
            DrawnDefect(kind=kind, box_px=(x0 / across, y0 / down, x1 / across, y1 / down))
            for kind, (x0, y0, x1, y1) in boxes
        ]
    return found
