"""Search settings without defects and without TEST, and say how to train with the best ones."""

import sys
from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from zellige.comparison_plan import quote_list
from zellige.config import SweepConfig
from zellige.core.errors import ConfigError
from zellige.program import run
from zellige.sweep import sweep

WIDTH = 140  # where the output is no terminal
INTERRUPTED = "interrupted: the finished trials are kept; call it again with the same settings to go on"


def main(composed: DictConfig) -> None:
    config = cast(SweepConfig, OmegaConf.to_object(composed))
    done = sweep(config, list(HydraConfig.get().overrides.task))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(done.to_table())
    console.print("~ cannot be told from the best on these images", soft_wrap=True)
    for result in done.failed:
        console.print(f"[red]failed: trial {result.number}: {escape(result.error)}[/]", soft_wrap=True)
    console.print(f"all trials: {done.folder / 'sweep.json'}\ntrain with the best settings:", soft_wrap=True)
    print(f"  {done.command}")
    if done.untracked:
        raise ConfigError(f"{done.folder} is complete, but MLflow does not have all of it: {done.untracked}")


if __name__ == "__main__":
    sys.argv[1:] = [quote_list(argument) for argument in sys.argv[1:]]
    run(main, "sweep", interrupted=INTERRUPTED)
