"""The schema of scripts/extend.py."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class ExtendConfig:
    """A finished run and the good images that join it; all other settings are the run's."""

    run: str = MISSING
    added: str = MISSING  # or data= on the command line
    run_name: str | None = None
    runs_dir: str | None = None
    on_bad: str | None = None
