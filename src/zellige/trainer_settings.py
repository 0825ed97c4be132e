"""Settings of a trainer that are out of range are refused before anything is read."""

from typing import Any

from zellige.config_models import GradientConfig, OnePassConfig, SupervisedConfig
from zellige.training.one_pass import check_settings
from zellige.training.recipe import Recipe
from zellige.training.supervised_recipe import SupervisedRecipe

_OF_THE_IMAGES = ("num_shots", "rank_suspicious")


def check_trainer(trainer: Any) -> None:
    """Refuse what the fit would refuse, as far as the settings say it; an unknown trainer is left to `build`.

    Args:
        trainer: its typed config node.

    Raises:
        ConfigError: a setting out of range, or settings that contradict each other.
    """
    named = {key: value for key, value in vars(trainer).items() if not key.startswith("_")}
    settings = {key: value for key, value in named.items() if key not in _OF_THE_IMAGES}
    if trainer._target_ == OnePassConfig._target_:
        check_settings(**settings)
    elif trainer._target_ == GradientConfig._target_:
        Recipe(**settings)
    elif trainer._target_ == SupervisedConfig._target_:
        SupervisedRecipe(**settings)
