"""The kinds that a detector tells apart, checked once, and when it says one of them.

Shapes: B images, K kinds, places (h, w).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zellige.core.errors import ConfigError
from zellige.core.named import UNKNOWN_KIND
from zellige.core.types import GOOD

_MOST_KINDS = 255
LEAST_DEFECTIVE = 0.05
"""Below this probability of a defect a place has no name: it is good."""


def check_kinds(kinds: Sequence[str], least_confidence: float) -> tuple[str, ...]:
    """Check a detector's settings `kinds` and `least_confidence` and return the kinds.

    Raises:
        ConfigError: a name twice, an empty one, "good", "unknown", or too many; a confidence that is no probability.
    """
    if len(set(kinds)) != len(kinds) or not all(kinds) or {GOOD, UNKNOWN_KIND} & {*kinds} or len(kinds) > _MOST_KINDS:
        raise ConfigError(f"kinds: expected up to {_MOST_KINDS} names of defects, once each, got {list(kinds)}")
    if not 0 <= least_confidence <= 1:
        raise ConfigError(f"least_confidence: expected 0 to 1, got {least_confidence}")
    return tuple(kinds)


def name_kinds(kind_logits: Tensor, is_defective: Tensor, least_confidence: float) -> Tensor:
    """Say which kind each place is.

    Args:
        kind_logits: (B, K, h, w), of the kinds where there is a defect.
        is_defective: (B, 1, h, w), the probability of one.
        least_confidence: a kind with less of the probability than this is not said.

    Returns:
        Numbers (B, 1, h, w) uint8: 0 where the place is good or the kind unknown, else from 1.
    """
    confidence, number = kind_logits.softmax(1).max(1, keepdim=True)
    is_named = (confidence >= least_confidence) & (is_defective >= LEAST_DEFECTIVE)
    return ((number + 1) * is_named).to(torch.uint8)
