"""Train several candidates with several seeds on one data set, measure them, and say which to take."""

import sys
from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from zellige.comparison import compare
from zellige.comparison_plan import quote_list
from zellige.config import CompareConfig
from zellige.core.errors import ConfigError
from zellige.program import run

WIDTH = 140  # where the output is no terminal
INTERRUPTED = "interrupted: the finished runs are kept; call it again with the same settings to go on"


def main(composed: DictConfig) -> None:
    config = cast(CompareConfig, OmegaConf.to_object(composed))
    done = compare(config, list(HydraConfig.get().overrides.task))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(done.to_table())
    console.print(escape(done.recommendation.reason), soft_wrap=True)
    console.print(f"page: {done.folder / 'comparison.html'}", soft_wrap=True)
    for failure in done.failures:
        console.print(f"[red]failed: {escape(failure)}[/]", soft_wrap=True)
    if done.failures:
        more = f" and {len(done.failures) - 1} more" if len(done.failures) > 1 else ""
        raise ConfigError(f"{done.folder} is complete but for what failed: {done.failures[0]}{more}")


if __name__ == "__main__":
    sys.argv[1:] = [quote_list(argument) for argument in sys.argv[1:]]
    run(main, "compare", interrupted=INTERRUPTED)
