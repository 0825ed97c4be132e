"""A roll's comparison with its list as lines to read, as a table and as JSON."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from zellige.core.types import Rate
from zellige.evaluation.intervals import rate
from zellige.evaluation.roll_comparison import Outcome, RollComparison, box_of

_COLUMNS = ("outcome", "kind", "x_mm", "y_mm", "w_mm", "h_mm", "record", "score", "dx_mm", "dy_mm", "dw_mm", "dh_mm")
_FAR_IOU = 0.1
"""Below it a record is far larger than the known defect, or lies beside it."""
_ERRORS = ("middle across", "middle along", "width", "extent")


def to_json(comparison: RollComparison) -> dict[str, object]:
    """Give the numbers as strict JSON values; what has no hit or no area is null."""
    errors, names = comparison.errors_mm(), ("dx_mm", "dy_mm", "dw_mm", "dh_mm")
    found = {outcome.value: len(comparison.of(outcome)) for outcome in Outcome}
    rates = {kind: found_rate(comparison, kind) for kind in sorted({one.known.kind for one in comparison.compared})}
    return {
        "num_known": len(comparison.compared),
        **{f"num_{outcome}": count for outcome, count in found.items()},
        "found": _rate_json(found_rate(comparison)),
        "by_kind": {kind: _rate_json(one) for kind, one in rates.items()},
        "num_records": comparison.num_records,
        "num_false_alarms": len(comparison.false_alarms),
        "false_alarms_per_m2": false_alarms_per_m2(comparison),
        "area_m2": comparison.area_m2,
        "box_share": comparison.box_share,
        "chance_share": comparison.chance_share,
        "num_far_hits": num_far_hits(comparison),
        "errors_mm": {
            name: {"median": float(np.median(column)), "p90_abs": float(np.quantile(np.abs(column), 0.9))}
            for name, column in zip(names, errors.T, strict=True)
            if len(column)
        },
    }


def _rate_json(one: Rate) -> dict[str, float | int]:
    return {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def found_rate(comparison: RollComparison, kind: str | None = None) -> Rate:
    """The share of the known defects, or of those of a kind, that were found, with its exact 95 % interval."""
    outcomes = [one.outcome for one in comparison.compared if kind in (None, one.known.kind)]
    return rate(outcomes.count(Outcome.HIT), len(outcomes))


def num_far_hits(comparison: RollComparison) -> int:
    """Count the hits whose record and known box have an IoU below 0.1."""
    return int((comparison.ious() < _FAR_IOU).sum())


def false_alarms_per_m2(comparison: RollComparison) -> float | None:
    """Count of false alarms for each square metre that was judged; None where nothing was."""
    return len(comparison.false_alarms) / comparison.area_m2 if comparison.area_m2 > 0 else None


def in_words(comparison: RollComparison) -> list[str]:
    """Say what was found, line by line."""
    counts = Counter(one.outcome for one in comparison.compared)
    density = false_alarms_per_m2(comparison)
    errors = comparison.errors_mm()
    kinds = sorted({one.known.kind for one in comparison.compared})
    judged = "nothing was judged" if density is None else f"{density:.4g} per m2 of {comparison.area_m2:.4g} m2 judged"
    left = f"{counts[Outcome.MISSED]} missed, {counts[Outcome.UNDECIDED]} where nobody judged"
    chance, share = 100 * comparison.chance_share, 100 * comparison.box_share
    lines = [
        f"known defects: {_percent(found_rate(comparison))} found; {left}",
        *(f"  {kind}: {_percent(found_rate(comparison, kind))}" for kind in kinds if len(kinds) > 1),
        f"false alarms: {len(comparison.false_alarms)} of {comparison.num_records} records, {judged}",
        f"by chance: the same records elsewhere along the roll would meet {chance:.1f} % of the known defects",
        f"the records' boxes have {share:.2g} % of the web's area",
    ]
    if len(errors):
        middles = zip(_ERRORS, np.median(errors, axis=0), np.quantile(np.abs(errors), 0.9, axis=0), strict=True)
        texts = (f"{name} {middle:+.3g} mm ({limit:.3g})" for name, middle, limit in middles)
        far = num_far_hits(comparison)
        lines.append(f"of the hits, {far} by a record that is far larger or lies beside (IoU below {_FAR_IOU:g})")
        lines.append(f"found minus known, median (and the 90 % of all within): {', '.join(texts)}")
    return lines


def _percent(one: Rate) -> str:
    value, low, high = (f"{100 * share:.1f}" for share in (one.value, one.low, one.high))
    return f"{round(one.value * one.n)} of {one.n} ({value} %, between {low} and {high} %)"


def write_table(path: Path, comparison: RollComparison) -> None:
    """Write a line for each known defect, with its record where it has one, and for each false alarm."""
    errors = iter(comparison.errors_mm())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for one in comparison.compared:
            place = _place(one.known.box_mm)
            if one.record is None:
                writer.writerow([one.outcome, one.known.kind, *place, *[""] * 6])
            else:
                own = [round(float(value), 4) for value in next(errors)]
                writer.writerow([one.outcome, one.known.kind, *place, one.record.number, one.record.score, *own])
        for record in comparison.false_alarms:
            place = _place(box_of(record, comparison.datum_mm))
            writer.writerow(["false alarm", record.kind, *place, record.number, record.score, *[""] * 4])


def _place(box: tuple[float, float, float, float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [round(value, 4) for value in (x0, y0, x1 - x0, y1 - y0)]
