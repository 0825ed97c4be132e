"""The setting `model.kinds` of a detector that names defects: a list, or empty for those of the training split."""

from pathlib import Path

from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf

from zellige.config import TrainConfig
from zellige.core.errors import InputError
from zellige.core.types import Splits
from zellige.data.supervised_tiles import kinds_of


def settle_kinds(
    composed: DictConfig, config: TrainConfig, splits: Splits, *, fabric: Fabric, run_dir: Path
) -> dict[str, str]:
    """Where `model.kinds` is empty, put the kinds of the training split into both configs and config.yaml.

    So does `model.has_good`, whether there are good training images, where the model has that setting. A model without
    kinds is left alone.

    Returns:
        What the report says of it; empty for a model without kinds.

    Raises:
        InputError: no labelled defects in the training split.
    """
    model = config.model
    if not hasattr(model, "kinds"):
        return {}
    if not model.kinds:
        found = kinds_of(splits.train_defects)
        if not found:
            raise InputError(
                "model.kinds: expected labelled defects in the training split, got none; set "
                "data.fractions.train_defects and data.fractions.val_defects, or declare the splits"
            )
        model.kinds = composed.model.kinds = found
    if hasattr(model, "has_good"):
        model.has_good = composed.model.has_good = bool(splits.train)
    if fabric.is_global_zero:
        OmegaConf.save(composed, run_dir / "config.yaml", resolve=True)
    return {"kinds": ", ".join(model.kinds)}
