"""The table of a comparison: per candidate what its runs reached over the seeds, what they cost, how quick it is."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zellige.core.errors import InputError
from zellige.evaluation.intervals import mean_interval

Json = Mapping[str, Any]

QUALITIES = ("image_auroc", "pixel_auroc", "aupro")
RATES = ("escape_rate", "false_reject_rate")
JUDGED_BY_PIECES = ("image_auroc", *RATES)
COSTS = ("fit_seconds", "peak_memory_mb", "bundle_mb")
_HIGHEST = dict.fromkeys((*QUALITIES, *RATES), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean over the seeds and its 95 % t-interval; NaN where undefined, the bounds also with one seed."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecesRange:
    """What the number of test pieces allows: the 95 % interval of every run, joined.

    The runs judge the same pieces, so their counts must not be added up: that would make the interval too narrow.
    """

    low: float
    high: float
    n: int
    unit: str
    """Of what there are n: pieces, or groups where a group has several pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationSpeed:
    """Time of one frame on the station, all measured frames together."""

    p50_ms: float
    p95_ms: float
    mp_per_s: float
    peak_memory_mb: float
    num_frames: int
    num_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One row. `errors` has a line for each run that failed and for a speed that could not be measured."""

    name: str
    settings: str
    seeds: tuple[int, ...]
    """Of the runs that finished."""
    spreads: Mapping[str, Spread]
    """By name: QUALITIES, RATES and COSTS; empty where no run finished."""
    pieces: Mapping[str, PiecesRange]
    """By name: JUDGED_BY_PIECES. Exact (Clopper-Pearson) for rates, Newcombe's for the AUROC."""
    speed: StationSpeed | None
    errors: tuple[str, ...]


def spread_of(values: Sequence[float | None], highest: float = math.inf) -> Spread:
    """Average over the seeds; the interval is cut off at 0 and `highest`. An undefined value makes the mean NaN.

    Example:
        >>> spread = spread_of([0.5, 0.75], 1.0)
        >>> spread.mean, spread.low, spread.high
        (0.625, 0.0, 1.0)
    """
    numbers = tuple(math.nan if value is None else float(value) for value in values)
    low, high = mean_interval(numbers)
    return Spread(mean=float(np.mean(numbers)), low=_cut(low, highest), high=_cut(high, highest), values=numbers)


def speed_of(frame_ms: Sequence[float], frame_mp: Sequence[float], peak_mb: float, num_threads: int) -> StationSpeed:
    """Summarize measured frames: percentiles are interpolated, megapixels per second are all over all.

    Example:
        >>> speed = speed_of([10.0, 20.0, 30.0], [0.5, 0.5, 0.5], 100.0, 1)
        >>> speed.p50_ms, speed.p95_ms, speed.mp_per_s
        (20.0, 29.0, 25.0)
    """
    p50, p95 = np.percentile(frame_ms, [50, 95])
    return StationSpeed(
        p50_ms=float(p50),
        p95_ms=float(p95),
        mp_per_s=1000 * sum(frame_mp) / sum(frame_ms),
        peak_memory_mb=peak_mb,
        num_frames=len(frame_ms),
        num_threads=num_threads,
    )


def summarize(
    name: str,
    settings: str,
    runs: Mapping[int, Json],
    *,
    bundle_mb: Sequence[float],
    speed: StationSpeed | None,
    errors: Sequence[str],
) -> Candidate:
    """Make the row of a candidate.

    Args:
        name: the candidate's name.
        settings: how it differs from the others.
        runs: report.json of each finished run, by seed.
        bundle_mb: size of each finished run's bundle, MB, in the order of `runs`.
        speed: of one of its bundles.
        errors: one line each.
    """
    reports = list(runs.values())
    spreads: dict[str, Spread] = {}
    pieces: dict[str, PiecesRange] = {}
    if reports:
        values: dict[str, list[float | None]] = {key: [report[key] for report in reports] for key in QUALITIES}
        values |= {key: [report[key]["value"] for report in reports] for key in RATES}
        values |= {key: [report[key] for report in reports] for key in COSTS[:2]}
        values["bundle_mb"] = list(bundle_mb)
        spreads = {key: spread_of(numbers, _HIGHEST.get(key, math.inf)) for key, numbers in values.items()}
        pieces = {key: _joined([report[key] for report in reports]) for key in RATES}
        pieces["image_auroc"] = _joined([_auroc_interval(report) for report in reports])
    return Candidate(
        name=name,
        settings=settings,
        seeds=tuple(runs),
        spreads=spreads,
        pieces=pieces,
        speed=speed,
        errors=tuple(errors),
    )


def to_record(row: Candidate) -> dict[str, Any]:
    """Flatten a row to one level of strict values: None for what is undefined or was not measured."""
    record: dict[str, Any] = {"candidate": row.name, "settings": row.settings, "finished_runs": len(row.seeds)}
    for key in (*QUALITIES, *RATES, *COSTS):
        spread = row.spreads.get(key)
        record[key] = None if spread is None else _number(spread.mean)
        if key not in COSTS:
            record[f"{key}_low"] = None if spread is None else _number(spread.low)
            record[f"{key}_high"] = None if spread is None else _number(spread.high)
        if key in JUDGED_BY_PIECES:
            found = row.pieces.get(key)
            record |= {
                f"{key}_pieces_{part}": None if found is None else getattr(found, part) for part in ("low", "high")
            }
            record[f"{key}_n"] = None if found is None else found.n
    measured = {} if row.speed is None else asdict(row.speed)
    for field in ("p50_ms", "p95_ms", "mp_per_s", "peak_memory_mb", "num_frames", "num_threads"):
        record[f"station_{field}"] = measured.get(field)
    record["error"] = "; ".join(row.errors)
    return record


def write_csv(rows: Sequence[Candidate], path: Path, *, recommended: str | None) -> None:
    """Write one line per candidate; an undefined number is an empty cell.

    Raises:
        InputError: the file cannot be written.
    """
    records = [{**to_record(row), "recommended": "yes" if row.name == recommended else ""} for row in rows]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    except OSError as error:
        raise InputError(f"table {path}: cannot be written ({error.strerror})") from None


def _joined(rates: Sequence[Json]) -> PiecesRange:
    return PiecesRange(
        low=min(rate["low"] for rate in rates),
        high=max(rate["high"] for rate in rates),
        n=int(rates[0]["n"]),
        unit=str(rates[0].get("unit", "pieces")),
    )


def _auroc_interval(report: Json) -> Json:
    """Of an AUROC: it is taken over groups, see `EvaluationReport.image_auroc_interval`."""
    low, high = report["image_auroc_interval"]
    unit = "pieces" if report["num_groups"] == report["num_images"] else "groups of pieces"
    return {"low": low, "high": high, "n": report["num_groups"], "unit": unit}


def _cut(bound: float, highest: float) -> float:
    return bound if math.isnan(bound) else min(max(bound, 0.0), highest)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
