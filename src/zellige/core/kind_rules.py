"""What each kind of defect means for the decision: it always counts, it counts by size, it is noted, or it is nothing.

Kinds without a rule are major: they reject, where they reach the calibration's minimum area.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from zellige.core.errors import ConfigError
from zellige.core.named import UNKNOWN_KIND

_SIZES = ("min_area_mm2", "min_area_px", "min_length_mm", "min_length_px")


class Severity(StrEnum):
    """What a defect of a kind does to a frame whose score is above the threshold."""

    CRITICAL = "critical"
    """Rejects whatever its size and whatever the minimum area."""
    MAJOR = "major"
    """Rejects where it reaches its minimum size; that of the calibration where the rule has none."""
    MINOR = "minor"
    """Is listed, and rejects never."""
    IGNORE = "ignore"
    """Is not listed, and rejects never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRule:
    """The rule of one kind. A minimum size of its own replaces the calibration's minimum area.

    A smaller defect of the kind counts for nothing. With an area and a length it must reach both.

    Example:
        >>> print(KindRule(kind="scratch", severity=Severity.MAJOR, min_length_mm=2))
        scratch: major, at least 2 mm long
    """

    kind: str
    severity: Severity = Severity.MAJOR
    min_area_mm2: float | None = None
    min_area_px: float | None = None
    min_length_mm: float | None = None
    min_length_px: float | None = None

    def __post_init__(self) -> None:
        where = f"calibration.kind_rules of {self.kind!r}"
        if not self.kind:
            raise ConfigError("calibration.kind_rules: expected a kind, got an empty name")
        if not isinstance(self.severity, Severity):
            raise ConfigError(f"{where}: expected one of {', '.join(Severity)}, got severity {self.severity!r}")
        given = [name for name in _SIZES if getattr(self, name) is not None]
        for name in given:
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{where}: expected {name} above 0, got {getattr(self, name)}")
        if len({name.rsplit("_", 1)[0] for name in given}) < len(given):
            raise ConfigError(f"{where}: expected an area or a length in one unit, got {' and '.join(given)}")
        if given and self.severity in (Severity.CRITICAL, Severity.IGNORE):
            raise ConfigError(f"{where}: expected no minimum size with {self.severity}, got {' and '.join(given)}")

    @property
    def has_size(self) -> bool:
        return any(getattr(self, name) is not None for name in _SIZES)

    @property
    def is_in_mm(self) -> bool:
        return self.min_area_mm2 is not None or self.min_length_mm is not None

    @property
    def can_reject(self) -> bool:
        return self.severity in (Severity.CRITICAL, Severity.MAJOR)

    def __str__(self) -> str:
        """Say the rule in words."""
        units = {"min_area_mm2": "mm2", "min_area_px": "px", "min_length_mm": "mm long", "min_length_px": "px long"}
        sizes = [f"{getattr(self, n):g} {unit}" for n, unit in units.items() if getattr(self, n) is not None]
        return f"{self.kind}: {self.severity.value}" + (f", at least {' and '.join(sizes)}" if sizes else "")


def check_kind_rules(rules: Sequence[KindRule], kinds: Sequence[str]) -> None:
    """Refuse rules for kinds that the detector does not name; of what it cannot name, the kind is "unknown".

    Raises:
        ConfigError: an unknown kind, a kind twice, or a detector that names none.

    Example:
        >>> check_kind_rules([KindRule(kind="hole")], ["hole", "scratch"])
    """
    if rules and not kinds:
        raise ConfigError(
            "calibration.kind_rules: expected a model that names kinds, got one without, "
            f"and a rule for {rules[0].kind!r}"
        )
    known = {*kinds, UNKNOWN_KIND}
    seen: set[str] = set()
    for rule in rules:
        if rule.kind not in known:
            raise ConfigError(
                f"calibration.kind_rules: expected one of {', '.join([*kinds, UNKNOWN_KIND])}, got kind {rule.kind!r}"
            )
        if rule.kind in seen:
            raise ConfigError(f"calibration.kind_rules: expected each kind once, got {rule.kind!r} twice")
        seen.add(rule.kind)


def check_units(rules: Sequence[KindRule], *, is_calibrated: bool) -> None:
    """Refuse rules in mm where nobody stated the pixel size.

    Raises:
        ConfigError: such a rule.
    """
    in_mm = [rule for rule in rules if rule.is_in_mm]
    if in_mm and not is_calibrated:
        raise ConfigError(
            f"calibration.kind_rules {in_mm[0]}: expected a calibrated pixel size, got none; set data.pixel_size_mm "
            "or use min_area_px and min_length_px"
        )
