"""From `calibration.kind_rules` as it is written to the types of core."""

from collections.abc import Sequence
from dataclasses import dataclass

from zellige.core.errors import ConfigError
from zellige.core.kind_rules import KindRule, Severity


@dataclass
class KindRuleConfig:
    """What one kind of defect means for the decision; see zellige.core.kind_rules.KindRule."""

    kind: str = ""
    severity: str = "major"
    min_area_mm2: float | None = None
    min_area_px: float | None = None
    min_length_mm: float | None = None
    min_length_px: float | None = None


def to_kind_rules(entries: Sequence[KindRuleConfig]) -> tuple[KindRule, ...]:
    """Turn the entries into rules.

    Raises:
        ConfigError: an unknown severity, or sizes that a rule does not take.

    Example:
        >>> [str(rule) for rule in to_kind_rules([KindRuleConfig(kind="hole", severity="critical")])]
        ['hole: critical']
    """
    return tuple(_to_rule(entry, f"calibration.kind_rules[{number}]") for number, entry in enumerate(entries))


def _to_rule(entry: KindRuleConfig, where: str) -> KindRule:
    severities = [severity.value for severity in Severity]
    if entry.severity not in severities:
        raise ConfigError(f"{where}.severity: expected one of {', '.join(severities)}, got {entry.severity!r}")
    return KindRule(**{**vars(entry), "severity": Severity(entry.severity)})
