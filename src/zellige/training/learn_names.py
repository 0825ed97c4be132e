"""Learn to name what a detector finds, from a few labelled defects of each kind; the detector stays as it is.

Everything that is chosen (how much the covariance is shrunken, the temperature, how far is too far) is chosen on
examples that were not learned from: each group of images is held out once.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from zellige.core.errors import ConfigError, InputError
from zellige.core.named import UNKNOWN_KIND
from zellige.core.regions import majority_kind
from zellige.core.types import Rate
from zellige.data.dataset import TileDataset
from zellige.evaluation.intervals import rate
from zellige.evaluation.kind_metrics import rate_json
from zellige.models.kind_head import KindHead
from zellige.models.named_detector import NamedDetector
from zellige.training.kind_examples import KindExample, collect_examples, count_by_kind

LEAST_GROUPS = 3
"""Images of each kind, or groups of images that belong together, without which nothing can be held out."""
_MOST_FOLDS = 5
_SHRINKAGES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_TEMPERATURES = np.geomspace(1.0, 1000.0, 61)
"""Never below 1: a few examples that are all named right would make it as certain as it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedNames:
    """What was learned, and how well examples are named that were held out."""

    counts: Mapping[str, int]
    """Examples of each kind."""
    left_out: Mapping[str, int]
    pairs: tuple[tuple[str, str], ...]
    """Of each held-out example the kind that it is and the kind that is said."""
    shrinkage: float
    temperature: float
    limit: float
    seconds: float

    @property
    def right(self) -> Rate:
        return rate(sum(true == said for true, said in self.pairs), len(self.pairs))

    @property
    def unknown(self) -> Rate:
        return rate(sum(said == UNKNOWN_KIND for _, said in self.pairs), len(self.pairs))

    def to_json(self) -> dict[str, object]:
        """Give it as strict JSON values."""
        return {
            "examples": dict(self.counts),
            "left_out": dict(self.left_out),
            "held_out": {"right": rate_json(self.right), "unknown": rate_json(self.unknown)},
            "held_out_pairs": [list(pair) for pair in self.pairs],
            "shrinkage": self.shrinkage,
            "temperature": self.temperature,
            "limit": self.limit,
        }


def learn_names(
    detector: NamedDetector,
    dataset: TileDataset,
    *,
    fabric: Fabric,
    pixel_threshold: float,
    known_share: float = 0.95,
    batch_size: int = 8,
) -> LearnedNames:
    """Fit the head of a detector.

    Args:
        detector: what finds is fitted; the head is what is changed.
        dataset: labelled defective samples, with the geometry and color of the detector.
        fabric: where to run.
        pixel_threshold: level of the map from which on a pixel belongs to a defect.
        known_share: so many of the held-out examples lie within the distance up to which a kind is said.
        batch_size: tiles at a time.

    Raises:
        ConfigError: a share out of range.
        InputError: too few examples of a kind; see `collect_examples` too.
    """
    if not 0 < known_share <= 1:
        raise ConfigError(f"known_share: expected above 0, at most 1, got {known_share}")
    started = time.perf_counter()
    head, kinds = detector.head, detector.kinds
    found = collect_examples(detector, dataset, fabric=fabric, pixel_threshold=pixel_threshold, batch_size=batch_size)
    examples = found.taken
    _check_enough(examples, kinds, found.left_out)
    folds = _deal(examples)
    tried = [_held_out(head, examples, folds, shrinkage) for shrinkage in _SHRINKAGES]
    choices = [_best_temperature(distances, examples) for distances in tried]
    best = min(range(len(tried)), key=lambda index: choices[index][0])
    distances, temperature = tried[best], choices[best][1]
    medians = [float(one.amin(1).median()) for one in distances]
    head.temperature = torch.full_like(head.temperature, temperature)
    head.limit = torch.full_like(head.limit, float(np.quantile(medians, known_share, method="higher")))
    said = [_named(head, one, example) for one, example in zip(distances, examples, strict=True)]
    _learn(head, examples, _SHRINKAGES[best])
    return LearnedNames(
        counts=count_by_kind(examples, kinds),
        left_out=found.left_out,
        pairs=tuple(
            (kinds[example.kind], kinds[number - 1] if number else UNKNOWN_KIND)
            for example, number in zip(examples, said, strict=True)
        ),
        shrinkage=_SHRINKAGES[best],
        temperature=temperature,
        limit=float(head.limit),
        seconds=time.perf_counter() - started,
    )


def _check_enough(examples: Sequence[KindExample], kinds: Sequence[str], left_out: Mapping[str, int]) -> None:
    groups = defaultdict[int, set[str]](set)
    for example in examples:
        groups[example.kind].add(example.group_id)
    few = [f"{kind} {len(groups[number])}" for number, kind in enumerate(kinds) if len(groups[number]) < LEAST_GROUPS]
    if few:
        reasons = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
        raise InputError(
            f"names: expected examples of each kind from at least {LEAST_GROUPS} images that do not belong together, "
            f"got {', '.join(few)}{reasons}; label more, or leave the kind out by kinds=[...]"
        )


def _deal(examples: Sequence[KindExample]) -> list[int]:
    """Number of the fold of each example: whole groups, and those of a kind over all folds.

    A group of several kinds counts as one of its rarest, which would else be in one fold alone.
    """
    kinds_of = defaultdict[str, set[int]](set)
    for example in examples:
        kinds_of[example.group_id].add(example.kind)
    counts = Counter(kind for kinds in kinds_of.values() for kind in kinds)
    rarest = {group: min(kinds, key=lambda kind: (counts[kind], kind)) for group, kinds in kinds_of.items()}
    ordered = sorted(rarest, key=lambda group: (rarest[group], group))
    folds = {group: place % _MOST_FOLDS for place, group in enumerate(ordered)}
    return [folds[example.group_id] for example in examples]


def _held_out(head: KindHead, examples: Sequence[KindExample], folds: Sequence[int], shrinkage: float) -> list[Tensor]:
    """Squared distances (P, K) of each example to kinds that were learned without its fold."""
    found: dict[int, Tensor] = {}
    for fold in sorted(set(folds)):
        _learn(head, [e for e, own in zip(examples, folds, strict=True) if own != fold], shrinkage)
        held = [index for index, own in enumerate(folds) if own == fold]
        found |= {index: head.distances(examples[index].patches).cpu() for index in held}
    return [found[index] for index in range(len(examples))]


def _learn(head: KindHead, examples: Sequence[KindExample], shrinkage: float) -> None:
    head.cpu().learn(
        torch.cat([example.patches for example in examples]),
        torch.cat([torch.full((len(example.patches),), example.kind) for example in examples]),
        torch.cat([example.weights for example in examples]),
        shrinkage,
    )


def _best_temperature(distances: Sequence[Tensor], examples: Sequence[KindExample]) -> tuple[float, float]:
    """The least loss and its temperature: of the log-probability of the right kind, each kind weighing the same."""
    counts = Counter(example.kind for example in examples)
    points = torch.cat(list(distances)).double()
    labels = torch.cat([torch.full((len(e.patches),), e.kind) for e in examples])
    weights = torch.cat([e.weights / counts[e.kind] for e in examples])
    losses = [
        float((F.cross_entropy(-0.5 * points / t, labels, reduction="none") * weights).sum() / weights.sum())
        for t in _TEMPERATURES
    ]
    best = int(np.argmin(losses))
    return losses[best], float(_TEMPERATURES[best])


def _named(head: KindHead, distances: Tensor, example: KindExample) -> int:
    """Number of the kind that is said of an example, as `core.regions` says it of a region; 0 for unknown."""
    numbers: NDArray[np.uint8] = head.named(distances).numpy()
    return majority_kind(numbers, example.weights.float().numpy())
