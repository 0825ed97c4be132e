"""Our best against the peer's best on a set, with the interval of the difference; and both by the defects' size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from leaderboard_cells import table, words
from leaderboard_plan import PROTOCOLS
from leaderboard_rows import Measured, Row

from zellige.evaluation.intervals import mean_interval
from zellige.evaluation.metrics import image_auroc
from zellige.evaluation.paired import unpaired_difference_noise

NORMAL_95 = 1.96
DUEL_METRICS = ("image_auroc", "aupro")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Duel:
    """The best of ours and of the peer's by one metric; `half_width` of the difference's interval may be NaN."""

    own: Row
    other: Row
    difference: float
    half_width: float

    @property
    def is_ahead(self) -> bool:
        return self.difference >= 0

    @property
    def is_clear(self) -> bool:
        return self.difference > self.half_width

    @property
    def words(self) -> str:
        if not math.isfinite(self.half_width):
            return f"{self.difference:+.3f} (one fit: no interval)"
        single = [side for side, row in (("ours", self.own), ("peer's", self.other)) if is_single(row)]
        return f"{self.difference:+.3f} ± {self.half_width:.3f}" + (
            f" ({', '.join(single)}: one fit)" if single else ""
        )


def duel(metric: str, found: Measured, ours: Sequence[Row]) -> Duel | None:
    """None where a side has no such number, such as AUPRO without masks."""
    own, other = best(ours, metric), best(found.peers, metric)
    if own is None or other is None:
        return None
    half_width = image_half_width(own, other, found.groups) if metric == "image_auroc" else fit_half_width(own, other)
    return Duel(own=own, other=other, difference=own.mean(metric) - other.mean(metric), half_width=half_width)


def best(rows: Sequence[Row], metric: str) -> Row | None:
    known = [row for row in rows if math.isfinite(row.mean(metric))]
    return max(known, key=lambda row: row.mean(metric), default=None)


def is_single(row: Row) -> bool:
    """Whether the fit draws something and was made once, so that its scatter is not known."""
    return row.is_seeded and row.num_fits == 1


def image_half_width(own: Row, other: Row, groups: dict[str, str]) -> float:
    """Half of the 95 % interval of the difference of the mean image AUROCs: over the test images and all fits."""
    order = [other.ids.index(i) for i in own.ids]
    is_defective = np.array([not is_good(i) for i in own.ids])
    noise = unpaired_difference_noise(own.scores, other.scores[:, order], is_defective, [groups[i] for i in own.ids])
    return NORMAL_95 * noise


def fit_half_width(own: Row, other: Row) -> float:
    """Half of the 95 % interval of the difference of two mean AUPROs over the fits; NaN where a side has but one."""
    halves = []
    for row in (own, other):
        low, high = mean_interval(row.values["aupro"]) if row.is_seeded else (0.0, 0.0)
        halves.append((high - low) / 2)
    return math.hypot(*halves)


def duel_table(sets: Sequence[Measured], protocols: Sequence[str]) -> str:
    """One line for each set on which both sides were measured, of our models in these protocols."""
    head = ("set", "image AUROC, ours", "peer", "difference", "AUPRO, ours", "peer", "difference")
    rows = []
    for found in sets:
        ours = [row for row in found.ours if row.protocol in protocols]
        if not ours or not found.peers:
            continue
        cells = [words(found.name)]
        for metric in DUEL_METRICS:
            one = duel(metric, found, ours)
            if one is None:
                cells += ["no masks", "", ""]
                continue
            cells += [f"{row.mean(metric):.3f} ({row.name.removeprefix('peer: ')})" for row in (one.own, one.other)]
            cells.append(one.words)
        rows.append(tuple(cells))
    return table(head, rows)


def size_table(sets: Sequence[Measured]) -> str:
    head = ("set", "defects", "n", "our best, squashed", "our best, real scale", "peer's best, squashed")
    return table(head, [row for found in sets if found.ours for row in _sizes(found)])


def _sizes(found: Measured) -> list[tuple[str, ...]]:
    by_protocol = [best([row for row in found.ours if row.protocol == p], "image_auroc") for p in PROTOCOLS]
    contenders = [*by_protocol, best(found.peers, "image_auroc")]
    sizes = found.ours[0].sizes
    classes = dict.fromkeys(size for i, size in sizes.items() if not is_good(i))
    rows = []
    for size in sorted(classes, key=_first_number):
        chosen = {i for i in sizes if is_good(i) or sizes[i] == size}
        cells = [_auroc_of(row, chosen) for row in contenders]
        rows.append((words(found.name), size, str(sum(not is_good(i) for i in chosen)), *cells))
    return rows if len(rows) > 1 else []


def _auroc_of(row: Row | None, chosen: set[str]) -> str:
    if row is None:
        return ""
    columns = [position for position, i in enumerate(row.ids) if i in chosen]
    is_defective = np.array([not is_good(row.ids[position]) for position in columns])
    values = [image_auroc(scores[columns], is_defective) for scores in row.scores]
    return f"{np.mean(values):.3f} ({row.model})"


def is_good(name: str) -> bool:
    return Path(name).parent.name == "good"


def _first_number(size: str) -> tuple[int, float]:
    if size.startswith("<"):
        return 0, 0.0
    digits = [word for word in size.replace(">=", "").split() if word.replace(".", "").isdigit()]
    return (1, float(digits[0])) if digits else (2, 0.0)
