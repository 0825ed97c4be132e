"""Learning from few good images: which of them are drawn, and what is said of it.

Two settings of `trainer=one_pass`: `num_shots` draws some of the training images, to find out how many are needed;
`augmented_copies` adds changed copies of each, so that the little that there is shows more of what is good.
"""

from typing import Any

import numpy as np

from zellige.core.errors import ConfigError
from zellige.data.dataset import TileDataset

_MOST_COPIES = 1000


def check_shots(num_shots: int | None, num_images: int) -> None:
    """Refuse a number of shots that cannot be drawn from the training images.

    Raises:
        ConfigError: below one, or more than there are.
    """
    if num_shots is not None and not 1 <= num_shots <= num_images:
        raise ConfigError(
            f"trainer.num_shots: expected null (all) or 1 to {num_images}, the good training images that there are, "
            f"got {num_shots}"
        )


def draw_shots(train: TileDataset, num_shots: int | None, *, seed: int) -> TileDataset:
    """Draw some of the good training images at random, in their order; None takes all.

    Fewer shots are a part of more shots of the same seed.

    Raises:
        ConfigError: see `check_shots`.
    """
    check_shots(num_shots, len(train))
    if num_shots is None:
        return train
    drawn = np.random.default_rng(seed).permutation(len(train))[:num_shots]
    return train.only([int(index) for index in np.sort(drawn)])


def check_num_copies(augmented_copies: int) -> None:
    """Refuse a number of copies out of range.

    Raises:
        ConfigError: see above.
    """
    if not 0 <= augmented_copies <= _MOST_COPIES:
        raise ConfigError(f"trainer.augmented_copies: expected 0 to {_MOST_COPIES}, got {augmented_copies}")


def check_copies(augmented_copies: int, train: TileDataset) -> None:
    """Refuse a number of copies out of range, and copies that would all be the same.

    Raises:
        ConfigError: see above.
    """
    check_num_copies(augmented_copies)
    if augmented_copies and (train.augment is None or train.augment.policy == "none"):
        raise ConfigError(
            f"trainer.augmented_copies={augmented_copies}: expected a data.augment that changes the copies, such as "
            "data.augment=jitter, got none"
        )


def shots_in_words(trainer: Any, num_images: int) -> dict[str, str]:
    """What a run's report says of a fit on drawn images or copies; empty where all images were taken as they are."""
    num_shots, copies = getattr(trainer, "num_shots", None), getattr(trainer, "augmented_copies", 0)
    words = [str(num_images)]
    if num_shots is not None:
        words = [f"{num_shots} of {num_images}, drawn with seed {trainer.seed}"]
    if copies:
        words.append(f"each as it is and in {copies} changed copies")
    return {"good training images": ", ".join(words)} if copies or num_shots is not None else {}
