"""The screen on a roll: which tiles of a frame the net sees, and what goes on from one frame into the next."""

import numpy as np
from numpy.typing import NDArray

from zellige.core.named import Named
from zellige.core.screen import Screen, pick_tiles, shown_pixels
from zellige.core.screened_map import SCREENED
from zellige.core.tiling import Layout
from zellige.core.types import AnomalyMap, Pixels
from zellige.station.runtime import Runtime
from zellige.station.screened_run import run_picked


class RollScreen:
    """Runs the net on the tiles that the screen passes, and counts the others."""

    def __init__(self, runtime: Runtime, screen: Screen) -> None:
        self._runtime, self._screen = runtime, screen
        self._threshold = runtime.bundle.manifest.calibration.pixel_threshold
        self._open: tuple[int, NDArray[np.intp]] | None = None
        """The line after the last one that counts, and the columns above the pixel threshold in that last one."""
        self.num_tiles = 0
        """Tiles that show web to be judged."""
        self.num_screened = 0
        """Those that the net did not see."""

    def run(
        self, pixels: Pixels, layout: Layout, shown: list[bool], first_line: int
    ) -> tuple[list[float], AnomalyMap, Named | None]:
        """Return the scores of the tiles that the net saw, the frame's map (H, W), `SCREENED` elsewhere, and the kinds.

        Args:
            pixels: of the frame, with the web mirrored where there is none.
            layout: of the same frame.
            shown: of each tile whether it shows web to be judged; the net sees no others.
            first_line: absolute number of the frame's first line.
        """
        is_shown = np.array(shown)
        picked = pick_tiles(self._screen, shown_pixels(pixels, layout), layout) | self._reached(layout, first_line)
        numbers = np.flatnonzero(picked & is_shown).tolist()
        seen = run_picked(self._runtime, layout, numbers, left_out=np.flatnonzero(~is_shown).tolist())
        self.num_tiles += int(is_shown.sum())
        self.num_screened += int(is_shown.sum()) - len(seen.maps)
        named = seen.named(self._runtime.bundle.manifest.kinds)
        if not seen.maps:
            return [], np.broadcast_to(SCREENED, layout.frame_size), named
        return list(seen.scores.values()), seen.joined(), named

    def remember(self, last_kept: AnomalyMap, next_line: int) -> None:
        """Take the last line (W,) of a frame's map that counts: what is above the threshold there goes on.

        The next frame's tiles at that place are run, whatever the screen says, so that a defect is not cut at a frame's
        border where it becomes faint.
        """
        self._open = (next_line, np.flatnonzero(last_kept > self._threshold))

    def to_json(self) -> dict[str, int]:
        """Give the counts as they are in roll.json."""
        return {"num_tiles": self.num_tiles, "num_screened": self.num_screened}

    def _reached(self, layout: Layout, first_line: int) -> NDArray[np.bool_]:
        """Tiles that show the first line to count next at the columns that are open."""
        reached = np.zeros(len(layout.parts), bool)
        if self._open is None or not len(self._open[1]):
            return reached
        row, columns = self._open[0] - first_line, self._open[1]
        height, width = layout.geometry.height, layout.geometry.width
        for number, (y, x) in enumerate(layout.corners):
            if y <= row < y + height:
                reached[number] = bool(((columns >= x - 1) & (columns <= x + width)).any())
        return reached
