"""The setting `model.stages`: a list of backbone stages, or `auto` for a choice from the training images."""

from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf

from zellige.config import TrainConfig
from zellige.core.errors import ConfigError
from zellige.data.dataset import TileDataset
from zellige.models.backbones import SOURCES
from zellige.run_folder import write_json
from zellige.training.choose_stages import choose_stages
from zellige.training.few_shot import draw_shots
from zellige.training.processes import on_first

AUTO = "auto"


def check_stages(model: Any) -> None:
    """Refuse a `stages` setting that is neither a list of stages nor `auto`; a model without one is fine.

    A model that does not place its stages on grids of their own has no use for `auto`. How many stages there are is
    known here for the backbones of `SOURCES` alone; others say it when they are loaded.

    Raises:
        ConfigError: anything else.
    """
    value = getattr(model, "stages", AUTO)
    source = SOURCES.get(getattr(model, "backbone", ""))
    count = len(source.strides) if source else None
    is_list = isinstance(value, list) and all(
        type(stage) is int and stage >= 0 and (count is None or stage < count) for stage in value
    )
    if value == AUTO and hasattr(model, "stages") and not hasattr(model, "grid_stride"):
        raise ConfigError(f"model.stages: expected a list such as [3], got {AUTO}, which {model.name} cannot use")
    if value != AUTO and not (is_list and value and value == sorted(set(value))):
        up_to = f" to {count - 1}" if count else ""
        raise ConfigError(
            f"model.stages: expected ascending numbers from 0{up_to} such as [1,2,3], or {AUTO}, got {value!r}"
        )


def settle_stages(
    composed: DictConfig, config: TrainConfig, train: TileDataset, *, fabric: Fabric, run_dir: Path
) -> dict[str, str]:
    """Where `model.stages` is `auto`, choose and put the list into both configs, config.yaml and stages.json.

    Returns:
        What the report says of it; empty where the stages were given.

    Raises:
        InputError: too few training images to choose from.
        ConfigError: `trainer.num_shots` out of range.
    """
    if getattr(config.model, "stages", None) != AUTO:
        return {}
    model, trainer = config.model, config.trainer
    # Images that the fit does not see must not choose for it.
    train = draw_shots(train, getattr(trainer, "num_shots", None), seed=trainer.seed)
    look = {"backbone": model.backbone, "grid_stride": model.grid_stride}
    choice = on_first(fabric, lambda: choose_stages(train, **look, fabric=fabric, seed=config.seed))
    model.stages = composed.model.stages = list(choice.stages)
    if fabric.is_global_zero:
        OmegaConf.save(composed, run_dir / "config.yaml", resolve=True)
        write_json(run_dir / "stages.json", choice.to_json())
    return {"backbone stages": f"{model.stages}, chosen from good images alone (stages.json)"}
