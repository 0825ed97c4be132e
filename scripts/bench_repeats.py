"""Measure how long the search for repeats takes on dense rolls; print one JSON line for each number of defects.

A web of 1 m with defects anywhere, so many on a square metre, and three rollers that marked it on four turns of five
over the whole roll. `rollers_found` counts those of which nearly all marks are in one repeat of their period.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass

import numpy as np

from zellige.core.repeats import Repeat, find_repeats
from zellige.core.roll_records import RollDefect

WIDTH_MM = 1000
ROLLERS = {150.0: 200.0, 220.0: 500.0, 400.0: 800.0}
"""Diameter, and where across, mm."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The marks of one roller."""

    numbers: frozenset[int]
    period_mm: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defects", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--per-m2", type=float, default=100)
    parser.add_argument("--min-count", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for num_defects in args.defects:
        length_mm = num_defects / args.per_m2 / (WIDTH_MM / 1000) * 1000
        defects, rollers = make_roll(np.random.default_rng(args.seed), num_defects, length_mm)
        start = time.process_time()
        found = find_repeats(
            defects, across_mm=5, along_mm=3, min_period_mm=50, max_period_mm=5000, min_count=args.min_count
        )
        seconds = time.process_time() - start
        result = {
            "defects": len(defects),
            "length_m": length_mm / 1000,
            "per_m2": args.per_m2,
            "min_count": args.min_count,
            "seconds": round(seconds, 2),
            "us_per_defect": round(1e6 * seconds / len(defects), 1),
            "repeats": len(found),
            "rollers_found": sum(is_found(roller, found) for roller in rollers),
        }
        print(json.dumps(result), flush=True)


def make_roll(rng: np.random.Generator, num_defects: int, length_mm: float) -> tuple[list[RollDefect], list[Marks]]:
    """Make so many defects; a roller has its part of them where the roll is long enough."""
    places: list[tuple[float, float]] = []
    rollers = []
    for diameter, x in ROLLERS.items():
        period = math.pi * diameter
        turns = np.flatnonzero(rng.random(int(length_mm / period)) < 0.8)
        first = len(places)
        places += [(x + rng.uniform(-1, 1), t * period + rng.uniform(-0.5, 0.5)) for t in turns.tolist()]
        rollers.append(Marks(numbers=frozenset(range(first, len(places))), period_mm=period))
    rest = num_defects - len(places)
    places += list(zip(rng.uniform(0, WIDTH_MM, rest).tolist(), rng.uniform(0, length_mm, rest).tolist(), strict=True))
    return [to_defect(number, x, y) for number, (x, y) in enumerate(places)], rollers


def to_defect(number: int, x_mm: float, y_mm: float) -> RollDefect:
    return RollDefect(
        number=number,
        x_mm=x_mm,
        y_mm=y_mm,
        width_mm=1,
        extent_mm=1,
        length_mm=1,
        area_mm2=1,
        kind="anomaly",
        score=1,
        lanes=(),
    )


def is_found(roller: Marks, found: tuple[Repeat, ...]) -> bool:
    return any(
        abs(repeat.period_mm / roller.period_mm - 1) < 1e-3
        and len(roller.numbers & set(repeat.numbers)) >= 0.9 * len(roller.numbers)
        for repeat in found
    )


if __name__ == "__main__":
    main()
