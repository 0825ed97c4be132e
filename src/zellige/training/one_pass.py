"""Fit a detector that learns in one pass over the good images, a bank or a Gaussian; extend one by more images."""

import logging
from pathlib import Path

from lightning_fabric import Fabric

from zellige.core.errors import ConfigError
from zellige.data.dataset import TileDataset
from zellige.models.detector import Extendable, OnePassDetector
from zellige.training.feature_passes import FeaturePasses, FitReport, check_batches
from zellige.training.few_shot import check_copies, check_num_copies, draw_shots
from zellige.training.suspicion import Suspicion

log = logging.getLogger(__name__)

MOST_DROPPED = 0.5
_FEW = 8


def fit(
    detector: OnePassDetector,
    train: TileDataset,
    val: TileDataset,
    *,
    fabric: Fabric,
    run_dir: Path,
    batch_size: int = 8,
    num_shots: int | None = None,
    augmented_copies: int = 0,
    seed: int = 0,
    rank_suspicious: bool = False,
    drop_suspicious: float = 0.0,
) -> FitReport:
    """Build the detector from the training tiles and write `fit.json` into the run folder.

    Several processes share the work of the backbone, each reading all images, and end with the same detector as one
    process would.

    Args:
        detector: see `OnePassDetector`.
        train: good tiles.
        val: not looked at: a one-pass detector has nothing to stop early.
        fabric: where to run.
        run_dir: folder of the run.
        batch_size: tiles that pass the backbone together.
        num_shots: learn from so many of the training images, drawn at random; None takes all.
        augmented_copies: so many copies of each image are learned too, changed by the data set's `augment`; the image
            itself is then learned as it is. 0: each image is seen once, changed by `augment`.
        seed: of the order and of the draw.
        rank_suspicious: also write which training images look least like the others; see `write_suspicious`.
        drop_suspicious: share of the images, the most suspicious ones, that are not learned from, 0 to `MOST_DROPPED`;
            costs a second pass through the backbone.

    Raises:
        ConfigError: a setting out of range, copies without a policy that changes them, or a detector that does not
            learn in one pass.
        InputError: no training images, or one that cannot be read.
    """
    check_settings(batch_size=batch_size, augmented_copies=augmented_copies, seed=seed, drop_suspicious=drop_suspicious)
    if not isinstance(detector, OnePassDetector):
        name = type(detector).__name__
        raise ConfigError(
            f"trainer: {name} does not learn in one pass, expected trainer=gradient, got trainer=one_pass"
        )
    passes = FeaturePasses(detector, fabric, batch_size, seed, augmented_copies)
    check_copies(augmented_copies, train)
    train = draw_shots(train, num_shots, seed=seed)
    _warn(train, augmented_copies)
    ranking = _ranking(train, seed) if rank_suspicious or drop_suspicious else None
    dropped: list[int] = []
    if ranking is not None and drop_suspicious:
        dropped = passes.find_suspicious(train, ranking, drop_suspicious)
        passes.learn(detector.build, train.without(dropped), None)
    else:
        passes.learn(detector.build, train, ranking)
    train.warn("fit")
    return passes.finish(train, ranking, dropped, run_dir)


def check_settings(*, batch_size: int, augmented_copies: int, seed: int, drop_suspicious: float) -> None:
    """Refuse settings of `fit` that no images could make right.

    Raises:
        ConfigError: one that is out of range.
    """
    check_batches(batch_size, seed)
    check_num_copies(augmented_copies)
    if not 0 <= drop_suspicious <= MOST_DROPPED:
        raise ConfigError(f"trainer.drop_suspicious: expected 0 to {MOST_DROPPED}, got {drop_suspicious}")


def check_extendable(detector: object) -> Extendable:
    """Return the detector, known as one that can take in more good images.

    Raises:
        ConfigError: it cannot.
    """
    if not isinstance(detector, Extendable):
        raise ConfigError(
            f"extend: expected a detector that can take in more images, got {type(detector).__name__}, which cannot; "
            "train anew with scripts/train.py data.additions=[FOLDER]"
        )
    return detector


def extend(
    detector: Extendable,
    added: TileDataset,
    *,
    fabric: Fabric,
    run_dir: Path,
    batch_size: int = 8,
    seed: int = 0,
    rank_suspicious: bool = False,
) -> FitReport:
    """Let a fitted detector learn from more good images; `fit.json` and the ranking are about these alone.

    Raises:
        ConfigError: a number out of range, or a detector that cannot take in more.
        InputError: an image that cannot be read or does not fit the detector.
    """
    passes = FeaturePasses(check_extendable(detector), fabric, batch_size, seed)
    ranking = _ranking(added, seed) if rank_suspicious else None
    passes.learn(detector.extend, added, ranking)
    return passes.finish(added, ranking, [], run_dir)


def _ranking(data: TileDataset, seed: int) -> Suspicion:
    return Suspicion([sample.group_id for sample in data.samples], seed=seed)


def _warn(train: TileDataset, augmented_copies: int) -> None:
    """Say what a user may not expect: labels that are not used, and what few images cannot show."""
    if train.defects:
        log.warning(
            "%d labelled defective images in train are not used: this model learns from good ones", len(train.defects)
        )
    if 0 < len(train) < _FEW:
        log.warning(
            "good training images: %d only; a good form that they do not show will look like a defect%s",
            len(train),
            "" if augmented_copies else "; experiment=few_shot learns changed copies of them too",
        )
