"""How numbers are written in the leaderboard's tables."""

import math
from collections.abc import Sequence

import numpy as np

from zellige.evaluation.intervals import mean_interval


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def spread(values: Sequence[float], *, is_seeded: bool) -> str:
    """The mean and its 95 % t-interval over the fits, or why there is none; empty for an unknown mean."""
    mean = float(np.mean(values))
    if not math.isfinite(mean):
        return ""
    if not is_seeded or len(values) < 2:
        return f"{mean:.3f} ({'one fit' if is_seeded else 'no seed'})"
    low, high = mean_interval(values)
    return f"{mean:.3f} [{max(low, 0):.3f}, {min(high, 1):.3f}]"


def number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def words(name: str) -> str:
    """A set's name as people write it."""
    return {"x_sdd": "X-SDD"}.get(name, name.replace("_", " "))
