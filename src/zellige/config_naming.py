"""The schema of scripts/name_kinds.py."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from zellige.config_kind_rules import KindRuleConfig


@dataclass
class NamingConfig:
    """A finished run and labelled defects to learn names from; all other settings are the run's."""

    run: str = MISSING
    defects: str | None = None
    run_name: str | None = None
    runs_dir: str | None = None
    on_bad: str | None = None
    kinds: list[str] = field(default_factory=list)
    kind_rules: list[KindRuleConfig] = field(default_factory=list)
    least_confidence: float = 0.3
    known_share: float = 0.95
