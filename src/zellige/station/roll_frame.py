"""Where titles, axes, labels and the legend of a roll's map lie, in px; the SVG and the PNG both draw this."""

from collections.abc import Iterator
from dataclasses import dataclass

from zellige.station.roll_layout import (
    MARKER_PX,
    RollLayout,
    density_text,
    is_in_m,
    lane_grades,
    length_words,
    marker_share,
    ticks,
)

WIDTH, LEFT, RIGHT = 1600, 96, 190
TOP, PLOT, STRIP = 106, 360, 90
INK, MUTED = "#1f2933", "#4d5a66"
_AXIS, _LEGEND_ROW, _LANE_PX = 58, 30, 19
_MAX_TEXT, _LANE_LETTERS = 90, 20


def density_words(layout: RollLayout) -> str:
    """Say what the strip shows."""
    along = f"{layout.bin_mm / 1000:g} m" if layout.bin_mm >= 1000 else f"{layout.bin_mm:g} mm"
    what = "Defects per m²" if layout.roll.summary.width_mm else "Number of defects"
    return f"{what}, in steps of {along}; peak {density_text(max(layout.densities))}"


@dataclass(frozen=True, slots=True)
class MapPage:
    """The page around the plot."""

    """Where everything outside the plot lies, in px; both pictures draw this."""

    layout: RollLayout

    @property
    def plot_px(self) -> int:
        return WIDTH - LEFT - RIGHT

    @property
    def strip_top(self) -> int:
        return TOP + PLOT + _AXIS + 12

    @property
    def height(self) -> int:
        return max((y for _, y, _, _ in self.legend()), default=self.strip_top + STRIP + 30) + 54

    @property
    def marker_px(self) -> list[float]:
        return [round(px * marker_share(len(self.layout.markers)), 1) for px in MARKER_PX]

    def marker_css(self) -> str:
        return "".join(f".s{i}{{stroke-width:{px:g}px}}" for i, px in enumerate(self.marker_px))

    def x_px(self, along_mm: float) -> float:
        return LEFT + along_mm / self.layout.roll.length_mm * self.plot_px

    def y_px(self, across_mm: float) -> float:
        """`across_mm` from the datum."""
        roll = self.layout.roll
        return TOP + (across_mm - roll.left_mm) / roll.width_mm * PLOT

    def description(self) -> str:
        roll = self.layout.roll
        length = length_words(round(roll.length_mm, 1), in_m=is_in_m(roll)) + (" m" if is_in_m(roll) else " mm")
        state = "complete" if roll.summary.complete else "NOT COMPLETE"
        parts = [f"{length} x {roll.summary.width_mm or roll.width_mm:,.1f} mm", f"{len(roll.defects)} defects"]
        if len(self.layout.markers) < len(roll.defects):
            parts.append(f"the {len(self.layout.markers)} most notable are drawn")
        if roll.summary.undecided:
            parts.append(f"{len(roll.summary.undecided)} undecided stretches")
        return ", ".join([*parts, state])

    def across_ticks(self) -> list[float]:
        roll = self.layout.roll
        return ticks(roll.left_mm, roll.left_mm + roll.width_mm, 8)

    def lines(self) -> Iterator[tuple[float, float, float, float]]:
        bottom = TOP + PLOT
        for value in ticks(0, self.layout.roll.length_mm, 12):
            yield self.x_px(value), bottom, self.x_px(value), bottom + 7
        for value in self.across_ticks():
            yield LEFT - 7, self.y_px(value), LEFT, self.y_px(value)
        yield LEFT, self.strip_top + STRIP, LEFT + self.plot_px, self.strip_top + STRIP

    def texts(self) -> Iterator[tuple[float, float, str, int, str, str]]:
        """Give x, y of the baseline, text, size in px, anchor, color."""
        roll = self.layout.roll
        yield 24, 34, short_text(roll.summary.source), 22, "start", INK
        yield 24, 62, short_text(self.description()), 17, "start", MUTED
        in_m = is_in_m(roll)
        for value in ticks(0, roll.length_mm, 12):
            yield self.x_px(value), TOP + PLOT + 26, length_words(value, in_m=in_m), 16, "middle", INK
        yield WIDTH - RIGHT + 36, TOP + PLOT + 26, "m along" if in_m else "mm along", 16, "start", MUTED
        for value in self.across_ticks():
            yield LEFT - 12, self.y_px(value) + 5, f"{value:.10g}", 16, "end", INK
        yield LEFT - 12, TOP - 10, "mm across", 16, "end", MUTED
        last = -_LANE_PX * 1.0
        for lane, grade in lane_grades(roll):
            middle = self.y_px((lane.from_mm + lane.to_mm) / 2)
            if middle - last >= _LANE_PX:
                yield WIDTH - RIGHT + 14, middle + 6, _lane_label(lane.name, grade), 17, "start", INK
                last = middle
        yield LEFT, self.strip_top - 8, density_words(self.layout), 16, "start", MUTED
        for x, y, _, name in self.legend():
            yield x + 21, y, name, 16, "start", INK
        yield 24, self.height - 20, self._explanation(), 15, "start", MUTED

    def _explanation(self) -> str:
        small, middle, large = self.marker_px
        roll = self.layout.roll
        hatch = "Hatched: undecided, not judged. " if roll.summary.undecided else ""
        names = short_text(", ".join(camera.name for camera in roll.summary.cameras), 40)
        seams = f"Dashed: between cameras {names}. " if roll.seams_mm else ""
        return (
            f"{hatch}{seams}Smallest marker {small:g} px; {middle:g} px and {large:g} px for the longest or "
            "highest-scored 40 % and 10 %. Length and width have different scales."
        )

    def legend(self) -> list[tuple[int, int, str, str]]:
        """Give x, y of the baseline, color and name of each kind, in rows."""
        x, y = LEFT, self.strip_top + STRIP + 32
        items = []
        for kind, color, count in self.layout.kinds:
            name = f"{short_text(kind, 40)} ({count})"
            width = 46 + round(8.6 * len(name))
            if x > LEFT and x + width > WIDTH - 20:
                x, y = LEFT, y + _LEGEND_ROW
            items.append((x, y, color, name))
            x += width
        return items


def _lane_label(name: str, grade: str | None) -> str:
    """Shorten the name rather than the grade."""
    if grade is None:
        return short_text(name, _LANE_LETTERS)
    grade = short_text(grade, _LANE_LETTERS - 8)
    return f"{short_text(name, _LANE_LETTERS - 2 - len(grade))}: {grade}"


def short_text(text: str, most: int = _MAX_TEXT) -> str:
    """Cut a long text, and replace what XML cannot hold: control characters, halves of surrogate pairs."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."
