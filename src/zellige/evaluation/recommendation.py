"""Recommend one candidate: the quickest on the station of those that are as good as the best and keep the budget."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zellige.core.errors import ConfigError

Noise = Mapping[tuple[str, str], float]
"""Standard error of the difference in quality of two candidates, for both orders of their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the line allows; None is no limit. Both limits hold where both are set."""

    ms_per_frame: float | None = None
    """Most milliseconds for 95 % of the frames."""
    mp_per_s: float | None = None
    """Fewest megapixels per second."""

    def __post_init__(self) -> None:
        for name in ("ms_per_frame", "mp_per_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"budget.{name}: expected a number above 0 or null, got {value}")

    def overrun(self, row: "Measured") -> float:
        """Say how many times slower than allowed a candidate is; at most 1 keeps the budget."""
        by_frame = 0.0 if self.ms_per_frame is None else row.p95_ms / self.ms_per_frame
        by_area = 0.0 if self.mp_per_s is None else self.mp_per_s / row.mp_per_s
        return max(by_frame, by_area)

    def words(self) -> str:
        """Say the limits, or "" where there are none."""
        limits = []
        if self.ms_per_frame is not None:
            limits.append(f"{self.ms_per_frame:g} ms for 95 % of the frames")
        if self.mp_per_s is not None:
            limits.append(f"{self.mp_per_s:g} megapixels per second")
        return " and ".join(limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a recommendation is made from: one candidate whose runs all finished."""

    name: str
    quality: float
    """Mean image AUROC over the seeds, higher is better; NaN where TEST has one class only."""
    p50_ms: float
    p95_ms: float
    mp_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The outcome. `name` is None where no candidate fulfills the rule; `reason` says why, in sentences."""

    name: str | None
    best: str | None
    as_good: tuple[str, ...]
    """Candidates whose quality cannot be told from the best one's, the quickest first."""
    within_budget: tuple[str, ...]
    reason: str


RULE = (
    "The rule: a candidate is as good as the best one when its mean image AUROC is lower by no more than one standard "
    "error of the difference, in which the scatter over the seeds and the number of test images both count. Of those "
    "that are as good and keep the budget, the one with the lowest middle time per frame is recommended."
)


def recommend(rows: Sequence[Measured], noise: Noise, budget: Budget) -> Recommendation:
    """Apply the rule (see RULE), the one-standard-error rule of model choice with speed as the cost.

    Args:
        rows: the candidates that can be chosen.
        noise: for each ordered pair of their names; see `difference_noise`.
        budget: what the line allows.

    Source: L. Breiman, J. H. Friedman, R. A. Olshen, C. J. Stone, Classification and Regression Trees, 1984, 3.4.3.

    Example:
        >>> times = {"p95_ms": 30.0, "mp_per_s": 5.0}
        >>> rows = [Measured(name="a", quality=0.95, p50_ms=20, **times),
        ...         Measured(name="b", quality=0.94, p50_ms=10, **times)]
        >>> recommend(rows, {("a", "b"): 0.02, ("b", "a"): 0.02}, Budget()).name
        'b'
    """
    known = sorted((row for row in rows if not math.isnan(row.quality)), key=lambda row: (row.p50_ms, -row.quality))
    if not known:
        return _none("No candidate can be recommended: " + _why_not_known(rows))
    best = max(known, key=lambda row: row.quality)  # the quickest of equals
    as_good = [row for row in known if row is best or best.quality - row.quality <= noise[best.name, row.name]]
    fitting = [row for row in known if budget.overrun(row) <= 1]
    chosen = next((row for row in as_good if row in fitting), None)
    if chosen is not None:
        reason = _chosen_words(chosen, best, as_good, noise, budget)
    elif fitting:
        reason = _too_weak_words(fitting, best, budget)
    else:
        reason = _too_slow_words(known, as_good[0], budget)
    return Recommendation(
        name=None if chosen is None else chosen.name,
        best=best.name,
        as_good=tuple(row.name for row in as_good),
        within_budget=tuple(row.name for row in fitting),
        reason=reason,
    )


def _none(reason: str) -> Recommendation:
    return Recommendation(name=None, best=None, as_good=(), within_budget=(), reason=reason)


def _why_not_known(rows: Sequence[Measured]) -> str:
    if not rows:
        return "none has finished all of its runs."
    return "image AUROC needs good and defective test images."


def _chosen_words(chosen: Measured, best: Measured, as_good: Sequence[Measured], noise: Noise, budget: Budget) -> str:
    speed = f"{chosen.p50_ms:.3g} ms per frame on the station"
    if len(as_good) == 1:
        words = f"Take {chosen.name}: it finds defects best (image AUROC {best.quality:.4f}) and needs {speed}."
        words += " No other candidate comes close enough to be called as good."
    elif chosen is best:
        words = f"Take {chosen.name}: it has the highest image AUROC ({best.quality:.4f}) and needs {speed}."
        words += f" {_count(len(as_good) - 1)} as good, but not quicker within the budget."
    else:
        gap = best.quality - chosen.quality
        words = (
            f"Take {chosen.name}: it needs {speed} ({best.name}: {best.p50_ms:.3g} ms), and its image AUROC of "
            f"{chosen.quality:.4f} cannot be told from the highest, {best.quality:.4f} of {best.name} (lower by "
            f"{gap:.4f}, the noise of that difference is {noise[best.name, chosen.name]:.4f})."
        )
    if budget.words():
        words += f" It keeps the budget of {budget.words()}: {_speed_words(chosen, budget)}."
    return words


def _count(number: int) -> str:
    return "1 other is" if number == 1 else f"{number} others are"


def _too_weak_words(fitting: Sequence[Measured], best: Measured, budget: Budget) -> str:
    nearest = max(fitting, key=lambda row: row.quality)
    return (
        f"No candidate is both as good as the best and quick enough. {best.name} has the highest image AUROC "
        f"({best.quality:.4f}) but does not keep the budget of {budget.words()}: {_speed_words(best, budget)}. "
        f"Of those that keep it, {nearest.name} finds defects best: image AUROC {nearest.quality:.4f}, lower by "
        f"{best.quality - nearest.quality:.4f}, which is more than noise."
    )


def _too_slow_words(known: Sequence[Measured], without: Measured, budget: Budget) -> str:
    nearest = min(known, key=budget.overrun)
    return (
        f"No candidate keeps the budget of {budget.words()}. The nearest is {nearest.name}: "
        f"{_speed_words(nearest, budget)}, {budget.overrun(nearest):.2f} times too slow. "
        f"Without the budget it would be {without.name}."
    )


def _speed_words(row: Measured, budget: Budget) -> str:
    said = []
    if budget.ms_per_frame is not None:
        said.append(f"95 % of its frames take at most {row.p95_ms:.3g} ms")
    if budget.mp_per_s is not None:
        said.append(f"it reaches {row.mp_per_s:.3g} megapixels per second")
    return " and ".join(said)
