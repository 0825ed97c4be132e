"""Learning-rate schedules: pure functions from progress in [0, 1) to a factor in (0, 1]."""

import math
from collections.abc import Callable, Mapping


def cosine(progress: float) -> float:
    """Fall from 1 towards 0 along half a cosine.

    Source: Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv:1608.03983, equation 5 without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def step(progress: float) -> float:
    """Stay at 1, fall to 0.4 after four fifths and to 0.16 after nine tenths.

    Source: arXiv:2408.03143 (SuperSimpleNet), implementation details.
    """
    return 0.4 ** ((progress >= 0.8) + (progress >= 0.9))


def constant(progress: float) -> float:
    """Stay at 1."""
    return 1.0


SCHEDULES: Mapping[str, Callable[[float], float]] = {"cosine": cosine, "step": step, "constant": constant}
