"""One run folder for all processes of a run: the first one claims its name, makes it and moves it into place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fabric import Fabric

from zellige.config import TrainConfig
from zellige.run_folder import check_run_name, new_run_name, run_folder
from zellige.tracking import check_run_name_free
from zellige.training.processes import on_first


def settle_name(config: TrainConfig, *, fabric: Fabric) -> str:
    """Give the run its name; refuse one that cannot be a folder's, or is taken in the runs folder or in MLflow.

    Raises:
        ConfigError: such a name, or a store that cannot be used.
    """

    def checked() -> str:
        tracking = config.tracking
        name = new_run_name(config.data.name, config.model.name) if config.run_name is None else config.run_name
        check_run_name(Path(config.runs_dir), name)
        if tracking.enabled:
            check_run_name_free(Path(tracking.store), tracking.experiment, name)
        return name

    return on_first(fabric, checked)


@contextmanager
def shared_run_folder(runs_dir: Path, name: str, *, fabric: Fabric) -> Iterator[Path]:
    """Give the same folder to all processes; see `run_folder`. It must be on a disk that all of them see.

    Only the first process may leave files in it after the last exchange with the others.
    """
    if not fabric.is_global_zero:
        yield on_first(fabric, Path)
        return
    with run_folder(runs_dir, name) as run_dir:
        on_first(fabric, lambda: run_dir)
        yield run_dir
