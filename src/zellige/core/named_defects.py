"""The defects of a frame with their kinds, sorted by what the rules of the kinds say of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zellige.core.kind_rules import KindRule, Severity
from zellige.core.named import FoundBoxes, Named
from zellige.core.regions import MAX_DEFECTS, find_defects
from zellige.core.types import AnomalyMap, Calibration, Defect, PixelSize


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedDefects:
    """What is above the pixel threshold, the worst first."""

    rejecting: tuple[Defect, ...]
    """Those that may reject."""
    noted: tuple[Defect, ...]
    """Minor ones: they are listed."""
    dropped: tuple[Defect, ...]
    """Ignored kinds and what is too small: they are not listed."""
    is_cut: bool
    """Whether there are more than so many, which nobody looked at."""

    @property
    def listed(self) -> tuple[Defect, ...]:
        return tuple(sorted((*self.rejecting, *self.noted), key=_worst_first))

    def excused_in_words(self) -> str:
        """Say why those that do not reject do not.

        Example:
            >>> none = SortedDefects(rejecting=(), noted=(), dropped=(), is_cut=False)
            >>> none.excused_in_words()
            ''
        """
        return ", ".join(
            f"{count} {kind} ({why})"
            for why, defects in (("minor", self.noted), ("ignored or too small", self.dropped))
            for kind, count in sorted(Counter(defect.kind for defect in defects).items())
        )


def sort_defects(
    anomaly_map: AnomalyMap,
    calibration: Calibration,
    *,
    min_area_px: float,
    pixel_size: PixelSize | None,
    first_line: int,
    named: Named | None,
) -> SortedDefects:
    """List what is above the pixel threshold and sort it by the rules; `min_area_px` is that of kinds without one."""
    rules = {rule.kind: rule for rule in calibration.kind_rules}
    threshold = calibration.pixel_threshold
    if isinstance(named, FoundBoxes):
        found = box_defects(named, threshold=threshold, pixel_size=pixel_size, first_line=first_line)
    else:
        found = find_defects(
            anomaly_map,
            pixel_threshold=threshold,
            # With rules the kind comes first: the size that counts is the kind's.
            min_area_px=0.0 if rules else min_area_px,
            pixel_size=pixel_size,
            first_line=first_line,
            kind_map=named,
        )
    rejecting: list[Defect] = []
    noted: list[Defect] = []
    dropped: list[Defect] = []
    for defect in found:
        rule = rules.get(defect.kind)
        if may_reject(defect, rule, min_area_px):
            rejecting.append(defect)
        elif rule is not None and rule.severity is Severity.MINOR and not is_too_small(defect, rule, min_area_px):
            noted.append(defect)
        else:
            dropped.append(defect)
    return SortedDefects(
        rejecting=tuple(rejecting),
        noted=tuple(noted),
        dropped=tuple(dropped),
        is_cut=len(found) == MAX_DEFECTS,
    )


def may_reject(defect: Defect, rule: KindRule | None, min_area_px: float) -> bool:
    """Whether a defect may reject, by its kind and its size."""
    if rule is None or rule.severity is Severity.MAJOR:
        return not is_too_small(defect, rule, min_area_px)
    return rule.severity is Severity.CRITICAL


def is_too_small(defect: Defect, rule: KindRule | None, min_area_px: float) -> bool:
    """Whether a defect is smaller than its rule's minimum size, or than the general area where the rule has none."""
    if rule is None or not rule.has_size:
        return defect.area_px < min_area_px * (1 - 1e-9)
    sizes = (
        (rule.min_area_px, defect.area_px),
        (rule.min_length_px, defect.length_px),
        (rule.min_area_mm2, defect.area_mm2),
        (rule.min_length_mm, defect.length_mm),
    )
    for least, size in sizes:
        if least is None:
            continue
        assert size is not None, "refused by check_units"
        if size < least * (1 - 1e-9):
            return True
    return False


def box_defects(
    found: FoundBoxes, *, threshold: float, pixel_size: PixelSize | None = None, first_line: int = 0
) -> tuple[Defect, ...]:
    """Turn the boxes with a score above the threshold into defects, the worst first, at most `MAX_DEFECTS`.

    Area and length are the box's; its edges are rounded outwards to whole pixels.

    Example:
        >>> boxes = np.array([[1.5, 2, 6, 4, 0.9, 1], [0, 0, 1, 1, 0.2, 1]], np.float32)
        >>> found = FoundBoxes(boxes=boxes, kinds=("hole",))
        >>> [(d.kind, d.box_px, d.area_px) for d in box_defects(found, threshold=0.5)]
        [('hole', (1, 2, 6, 4), 9)]
    """
    above = FoundBoxes(boxes=found.boxes[found.boxes[:, 4] > threshold], kinds=found.kinds)
    rows = zip(above.boxes.astype(np.float64), above.names, strict=True)
    defects = sorted((_box_defect(row.tolist(), kind, pixel_size, first_line) for row, kind in rows), key=_worst_first)
    return tuple(defects[:MAX_DEFECTS])


def _box_defect(row: Sequence[float], kind: str, pixel_size: PixelSize | None, first_line: int) -> Defect:
    x0, y0, x1, y1, score = row[:5]
    width, height = x1 - x0, y1 - y0
    left, top = int(np.floor(x0)), int(np.floor(y0))
    defect = Defect(
        box_px=(left, top, max(left + 1, int(np.ceil(x1))), max(top + 1, int(np.ceil(y1)))),
        area_px=max(1, round(width * height)),
        length_px=round(max(width, height), 6),
        peak_score=score,
        kind=kind,
    )
    if pixel_size is None:
        return defect
    sx, sy = pixel_size.cross_web_mm, pixel_size.down_web_mm
    return replace(
        defect,
        box_mm=(x0 * sx, (y0 + first_line) * sy, x1 * sx, (y1 + first_line) * sy),
        area_mm2=width * height * pixel_size.area_mm2,
        length_mm=round(max(width * sx, height * sy), 6),
    )


def counted_score(
    score: float, named: Named | None, calibration: Calibration, *, min_area_px: float, pixel_size: PixelSize | None
) -> float:
    """The score that the thresholds are for: of boxes that of the best one that may reject, 0 without any.

    Of a map of kinds nobody but the detector knows how its score would be without one of them: there it stays.

    Example:
        >>> limits = {"pixel_threshold": 0.5, "reject_score": 0.5, "accept_score": 0.5}
        >>> rules = (KindRule(kind="dust", severity=Severity.IGNORE),)
        >>> c = Calibration(**limits, fitted_on="", target="", guarantee="", kind_rules=rules)
        >>> boxes = FoundBoxes(boxes=np.array([[0, 0, 9, 9, 0.75, 1]], np.float32), kinds=("dust",))
        >>> counted_score(0.75, boxes, c, min_area_px=0, pixel_size=None)
        0.0
    """
    is_plain = not calibration.kind_rules and min_area_px <= 0
    if is_plain or not isinstance(named, FoundBoxes) or not np.isfinite(score):
        return score
    rules = {rule.kind: rule for rule in calibration.kind_rules}
    found = box_defects(named, threshold=-np.inf, pixel_size=pixel_size)
    counting = [d.peak_score for d in found if may_reject(d, rules.get(d.kind), min_area_px)]
    return min(score, max(counting, default=0.0))


def has_finite_content(anomaly_map: AnomalyMap, named: Named | None) -> bool:
    """Whether all that was said of a frame is finite."""
    return bool(np.isfinite(anomaly_map).all()) and not (isinstance(named, FoundBoxes) and not named.is_finite)


def _worst_first(defect: Defect) -> tuple[float, tuple[int, int, int, int], str]:
    return -defect.peak_score, defect.box_px, defect.kind
