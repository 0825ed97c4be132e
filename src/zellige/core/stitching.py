"""Join what frame borders cut: one physical defect is one record, of its full size, wherever the borders fall.

Regions that reach the last line stay open and go on with what touches them in the next line (8-neighborhood, as in
`core.regions`). Carried over are box, area, peak and the convex hull of each open region and one label for each column,
so the memory does not grow with the length of the web.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import ConfigError, InputError
from zellige.core.named import UNKNOWN_KIND
from zellige.core.open_region import OpenRegion, WebDefect, close, measure, merge
from zellige.core.regions import MAX_DEFECTS
from zellige.core.tiling import KindNumbers
from zellige.core.types import AnomalyMap, PixelSize

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchRule:
    """What a defect is, and when an endless one is closed."""

    width_px: int
    pixel_threshold: float
    """A pixel belongs to a defect when its value is greater than this."""
    max_length_lines: int
    """An open defect is closed at this length and goes on in a further record: a streak must not stay open for ever."""
    min_area_px: float = 0.0
    """Whole defects with fewer pixels are dropped; the parts of one are added first."""
    pixel_size: PixelSize | None = None
    """None leaves the mm fields of each record None."""
    seams_px: tuple[int, ...] = ()
    """Columns where two cameras' views meet (`core.camera_row`)."""
    seam_tolerance_px: int = 0
    """Regions this near to each other across a seam are one: cameras are registered to so many pixels."""
    kinds: tuple[str, ...] = ()
    """What the model names; then each record has the kind that most of its pixels have, weighted by the map."""

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.max_length_lines < 1:
            raise ConfigError(
                f"stitching: expected width_px and max_length_lines of at least 1, got {self.width_px} and "
                f"{self.max_length_lines}"
            )
        if self.seam_tolerance_px < 0 or any(not 0 < s < self.width_px for s in self.seams_px):
            raise ConfigError(
                f"stitching: expected seams inside 0 to {self.width_px} px and a tolerance of at least 0, got "
                f"{self.seams_px} and {self.seam_tolerance_px}"
            )


class Stitcher:
    """Takes the maps of consecutive lines and gives each defect once, when it has ended.

    Example:
        >>> import numpy as np
        >>> m = np.zeros((8, 8), np.float32); m[:, 2:4] = 0.9
        >>> stitcher = Stitcher(StitchRule(width_px=8, pixel_threshold=0.5, max_length_lines=100))
        >>> stitcher.add(m, first_line=0), stitcher.add(m, first_line=8)
        ((), ())
        >>> [(d.box_px, d.area_px) for d in stitcher.finish()]
        [((2, 0, 4, 16), 32)]
    """

    def __init__(self, rule: StitchRule) -> None:
        self.rule = rule
        self._open: dict[int, OpenRegion] = {}
        # One more column at each side, so that every column has two neighbors.
        self._border = np.zeros(rule.width_px + 2, np.int32)
        self._next_line: int | None = None
        self._is_after_gap = False
        self._has_borders: bool | None = None
        self.num_dropped = 0
        """Regions beyond the largest `MAX_DEFECTS` of a block: noise. Where it grows, the lines are UNDECIDED."""

    @property
    def num_open(self) -> int:
        return len(self._open)

    def add(
        self,
        anomaly_map: AnomalyMap,
        first_line: int,
        *,
        borders_mm: Floats | None = None,
        kind_numbers: KindNumbers | None = None,
    ) -> tuple[WebDefect, ...]:
        """Take the map of the next lines and return the defects that have ended, in the order of their first lines.

        Where lines are missing since the last call, everything open is closed there and marked as cut.

        Args:
            anomaly_map: (H, W) float32, higher = worse; each line of the web once.
            first_line: absolute number of its first line.
            borders_mm: (H + 1,) place of each line's borders along the web, from the encoder; None takes
                lines x pixel size. Needs the rule's pixel size.
            kind_numbers: (H, W) uint8, 0 without a name and k for `kinds[k - 1]`, where the rule has kinds.

        Raises:
            InputError: another width, values that are not finite, lines that came before, borders that run back, or
                kinds where there are none or the other way round.
        """
        self._check(anomaly_map, first_line, borders_mm)
        expected = anomaly_map.shape if self.rule.kinds else None
        if (None if kind_numbers is None else kind_numbers.shape) != expected:
            raise InputError(
                f"map at line {first_line}: expected kinds of its size where the rule has kinds, else none"
            )
        closed: list[WebDefect] = []
        if self._next_line is not None and first_line > self._next_line:
            closed += self._close_all(is_cut=True)
            self._is_after_gap = True
        is_above = anomaly_map > self.rule.pixel_threshold
        height, row = len(anomaly_map), 0
        if not self._open and not is_above.any():
            row = height
        while row < height:
            stop = min(height, self._limit(first_line + row) - first_line)
            band = slice(row, stop)
            borders = None if borders_mm is None else borders_mm[row : stop + 1]
            numbers = None if kind_numbers is None else kind_numbers[band]
            closed += self._add_band(is_above[band], anomaly_map[band], first_line + row, borders, numbers)
            row = stop
        self._next_line, self._is_after_gap = first_line + height, False
        return _in_order(closed)

    def finish(self) -> tuple[WebDefect, ...]:
        """Close what is open: the web has ended."""
        return _in_order(self._close_all(is_cut=False))

    def _check(self, anomaly_map: AnomalyMap, first_line: int, borders_mm: Floats | None) -> None:
        where = f"map at line {first_line}"
        if anomaly_map.ndim != 2 or anomaly_map.shape[1] != self.rule.width_px:
            raise InputError(f"{where}: expected width {self.rule.width_px} px, got shape {anomaly_map.shape}")
        if not np.isfinite(anomaly_map).all():
            raise InputError(f"{where}: expected finite values; leave the lines out, and the gap is marked")
        if self._next_line is not None and first_line < self._next_line:
            raise InputError(f"{where}: expected line {self._next_line} or later, these lines came before")
        if self._has_borders not in (None, borders_mm is not None):
            raise InputError(f"{where}: expected borders in mm with every map or with none")
        self._has_borders = borders_mm is not None
        if borders_mm is None:
            return
        if self.rule.pixel_size is None or len(borders_mm) != len(anomaly_map) + 1:
            raise InputError(
                f"{where}: expected a pixel size and {len(anomaly_map) + 1} borders in mm, got {self.rule.pixel_size} "
                f"and {len(borders_mm)}"
            )
        if not (np.diff(borders_mm) >= 0).all():
            raise InputError(f"{where}: expected borders that grow along the web, got some that run back")

    def _limit(self, line: int) -> int:
        """Line up to which a band may go so that no region in it grows beyond the maximum length."""
        longest = self.rule.max_length_lines
        ends = [region.first_line + longest for region in self._open.values()]
        # What is at its full length already is closed by the next band, or has ended.
        return min([line + longest, *(end for end in ends if end > line)])

    def _add_band(
        self,
        is_above: Mask,
        anomaly_map: AnomalyMap,
        line: int,
        borders_mm: Floats | None,
        numbers: KindNumbers | None,
    ) -> list[WebDefect]:
        labels, regions = self._find_regions(is_above, anomaly_map, line, borders_mm)
        if numbers is not None:
            self._vote(regions, labels, is_above, anomaly_map, numbers)
        if self._is_after_gap:
            for label in set(labels[0].tolist()) - {0}:
                regions[label] = replace(regions[label], is_cut=True)
            self._is_after_gap = False
        pairs = _touching(self._border, labels[0])
        is_full = {key for key, region in self._open.items() if line - region.first_line >= self.rule.max_length_lines}
        going_on = {key for key, _ in pairs if key in is_full}
        continuations = {label for key, label in pairs if key in is_full}
        groups = _groups(list(regions), list(self._open), [p for p in pairs if p[0] not in is_full])
        reaching = set(np.unique(labels[-1]).tolist()) - {0}
        closed, still_open, renamed = [], {}, np.zeros(max(regions, default=0) + 1, np.int32)
        for number, (own, carried) in enumerate(groups, start=1):
            parts = [self._open[key] for key in carried] + [regions[label] for label in own]
            whole = merge(parts, is_continuation=bool(continuations & set(own)))
            if reaching & set(own):
                still_open[number] = whole
                renamed[own] = number
            else:
                closed.append((whole, bool(going_on & set(carried))))
        self._open = still_open
        self._border[1:-1] = renamed[labels[-1]]
        return [d for whole, is_continuing in closed for d in self._close(whole, is_continuing=is_continuing)]

    def _find_regions(
        self, is_above: Mask, anomaly_map: AnomalyMap, line: int, borders_mm: Floats | None
    ) -> tuple[Labels, dict[int, OpenRegion]]:
        """Label a band's regions, measure the largest of them, and set the labels of the others to 0."""
        linked = self._bridged(is_above)
        _, raw, stats, _ = cv2.connectedComponentsWithStats(linked.view(np.uint8), connectivity=8)
        labels = np.asarray(raw, np.int32)
        areas = stats[1:, cv2.CC_STAT_AREA]
        kept = np.arange(1, len(stats))
        if len(kept) > MAX_DEFECTS:
            self.num_dropped += len(kept) - MAX_DEFECTS
            kept = np.sort(np.argsort(-areas, kind="stable")[:MAX_DEFECTS]) + 1
            is_kept = np.zeros(len(stats), bool)
            is_kept[kept] = True
            labels[~is_kept[labels]] = 0
        regions = {}
        for label in kept.tolist():
            x, y, w, h = (int(v) for v in stats[label][:4])
            window = (slice(y, y + h), slice(x, x + w))
            # Bridges across a seam link, they are not part of the defect.
            region = (labels[window] == label) & is_above[window]
            regions[label] = measure(region, anomaly_map[window], x, y, line, self.rule.pixel_size, borders_mm)
        return labels, regions

    def _vote(
        self,
        regions: dict[int, OpenRegion],
        labels: Labels,
        is_above: Mask,
        anomaly_map: AnomalyMap,
        numbers: KindNumbers,
    ) -> None:
        """Give each region of a band the sums of the map by number of the kind."""
        size = (max(regions, default=0) + 1, len(self.rule.kinds) + 1)
        inside = np.flatnonzero((labels > 0) & is_above)
        places = np.ravel_multi_index((labels.ravel()[inside], numbers.ravel()[inside]), size)
        weights = anomaly_map.ravel()[inside].astype(np.float64).clip(0)
        votes = np.bincount(places, weights, minlength=size[0] * size[1])
        for label, row in enumerate(votes.reshape(size)):
            if label in regions:
                regions[label] = replace(regions[label], votes=np.asarray(row, np.float64))

    def _bridged(self, is_above: Mask) -> Mask:
        """Widen regions near a seam along the line, so that what two cameras see of one defect touches."""
        tolerance = self.rule.seam_tolerance_px
        if not self.rule.seams_px or tolerance == 0:
            return is_above
        linked = is_above.copy()
        kernel = np.ones((1, 2 * tolerance + 1), np.uint8)
        for seam in self.rule.seams_px:
            near = slice(max(0, seam - 2 * tolerance), seam + 2 * tolerance)
            linked[:, near] = cv2.dilate(np.ascontiguousarray(is_above[:, near]).view(np.uint8), kernel).view(np.bool_)
        return linked

    def _close(self, region: OpenRegion, *, is_continuing: bool = False, is_cut: bool = False) -> list[WebDefect]:
        # A minimum in mm2 divided by a pixel's area may come out a hair above the whole number it stands for. A part
        # of a streak is never too small: the streak is not.
        is_part = is_continuing or region.is_continuation
        if region.area_px < self.rule.min_area_px * (1 - 1e-9) and not is_part:
            return []
        defect = close(region, self.rule.pixel_size, is_continuing=is_continuing, is_cut=is_cut)
        return [defect if region.votes is None else replace(defect, kind=self._kind(region.votes))]

    def _kind(self, votes: Floats) -> str:
        number = int(votes.argmax())
        return self.rule.kinds[number - 1] if number else UNKNOWN_KIND

    def _close_all(self, *, is_cut: bool) -> list[WebDefect]:
        closed = [d for region in self._open.values() for d in self._close(region, is_cut=is_cut)]
        self._open = {}
        self._border[:] = 0
        return closed


def _in_order(defects: list[WebDefect]) -> tuple[WebDefect, ...]:
    return tuple(sorted(defects, key=lambda d: (d.box_px[1], d.box_px)))


def _touching(border: Labels, first_line: Labels) -> set[tuple[int, int]]:
    """Pairs (open key, label) that touch across the border, diagonally too. `border` has a column more on each side."""
    pairs: set[tuple[int, int]] = set()
    for shift in range(3):
        above = border[shift : shift + len(first_line)]
        both = np.flatnonzero((above > 0) & (first_line > 0))
        pairs |= set(zip(above[both].tolist(), first_line[both].tolist(), strict=True))
    return pairs


def _groups(labels: list[int], keys: list[int], pairs: list[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """Group labels and open keys that are linked, directly or through others: union-find over both."""
    parent = {("label", label): ("label", label) for label in labels} | {("key", key): ("key", key) for key in keys}

    def root(node: tuple[str, int]) -> tuple[str, int]:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for key, label in pairs:
        parent[root(("key", key))] = root(("label", label))
    groups: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    for node in parent:
        group = groups.setdefault(root(node), ([], []))
        group[0 if node[0] == "label" else 1].append(node[1])
    return list(groups.values())
