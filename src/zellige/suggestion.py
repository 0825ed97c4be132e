"""Which unlabelled images to label next: what scripts/suggest.py does; suggestion_files.py writes it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from zellige.config_suggest import SuggestConfig, WeightsConfig
from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import in_color
from zellige.core.types import Calibration, Sample
from zellige.data.dataset import TileDataset
from zellige.data.formats import Listing, Skipped, image_files
from zellige.data.unlabelled import Unlabelled, read_unlabelled
from zellige.data.whole_folder import check_new
from zellige.evaluation.predictions import PredictionSet
from zellige.export.build_bundle import Optics
from zellige.finished_run import FinishedRun
from zellige.training.looks import Looks, look
from zellige.training.usefulness import Chosen, choose, common_units, doubt_of

AT_RANDOM = "drawn at random, whatever the detector says of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """An image to label and why; uncertainty and novelty are from 0 to 1, higher = more useful."""

    rank: int
    sample: Sample
    why: str
    score: float
    uncertainty: float
    novelty: float
    is_random: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """The images to label, the most useful first, and the others of their folder."""

    suggestions: tuple[Suggestion, ...]
    num_candidates: int
    folder: Unlabelled
    unusable: tuple[Skipped, ...]
    """Files that cannot be read, or not as the run's images are."""


def check_places(settings: SuggestConfig) -> tuple[Path, Path]:
    """Refuse before anything is read what cannot be meant; return the folder of images and `out`.

    Raises:
        ConfigError: a number out of range, or `out` lies among the images.
        InputError: no images, or `out` is not empty.
    """
    settings.check()
    images, out = Path(settings.images), Path(settings.out)
    check_new(out)
    image_files(images, Listing())
    if out.resolve().is_relative_to(images.resolve()):
        raise ConfigError(f"out: expected a place outside of {images}, whose images would come again, got {out}")
    return images, out


def list_candidates(run: FinishedRun, optics: Optics, images: Path) -> Unlabelled:
    """Read the images of a folder and leave out those that the run has, in any split.

    Raises:
        InputError: see `read_unlabelled`.
    """
    return read_unlabelled(
        images,
        run.splits.labelled(),
        lambda pixels, where: in_color(pixels, optics.color, where),
        pixel_size=optics.pixel_size,
        is_near_enough=run.config.data.duplicates != "ignore",
    )


def rank(run: FinishedRun, folder: Unlabelled, optics: Optics, settings: SuggestConfig, *, fabric: Fabric) -> Suggested:
    """Let the run's detector look at the images and choose those whose labels would be of most use.

    Raises:
        InputError: no image that the detector can look at, or the run's scores of VAL are gone.
        ConfigError: novelty is wanted of a detector without features.
    """
    val = PredictionSet.load(run.folder / "predictions" / "val", run.splits.val).scores
    seen, labelled = (
        look(
            run.detector,
            TileDataset(samples, geometry=optics.geometry, color=optics.color),
            fabric=fabric,
            batch_size=run.config.engine.batch_size,
            pixel_threshold=run.calibration.pixel_threshold,
            title=title,
        )
        for samples, title in ((folder.samples, "look"), (run.splits.train + run.splits.train_defects, "compare with"))
    )
    if not seen.samples:
        raise InputError(
            f"images {settings.images}: expected some that fit the run, got none: {seen.unusable[0].reason}"
        )
    if settings.weights.novelty > 0 and not any(block.shape[1] for block in seen.features):
        raise ConfigError(f"weights.novelty: expected 0, {run.name} has no features to compare images by")
    band = {"accept_score": run.calibration.accept_score, "reject_score": run.calibration.reject_score}
    doubt = doubt_of(seen.scores, val, **band)
    chosen = choose(
        np.maximum(doubt.uncertainty, seen.kind_doubt),
        *common_units(seen.features, labelled.features),
        settings.number,
        weights=(settings.weights.uncertainty, settings.weights.novelty),
        random_share=settings.random_share,
        seed=settings.seed,
    )
    suggestions = []
    for place, one in enumerate(chosen, start=1):
        between = f"{doubt.num_between[one.index]} of {len(val)} VAL images between"
        uncertainty = max(float(doubt.uncertainty[one.index]), float(seen.kind_doubt[one.index]))
        suggestions.append(
            Suggestion(
                rank=place,
                sample=seen.samples[one.index],
                why=_why(one, seen, uncertainty, between, run.calibration, settings.weights),
                score=float(seen.scores[one.index]),
                uncertainty=uncertainty,
                novelty=one.novelty,
                is_random=one.is_random,
            )
        )
    return Suggested(
        suggestions=tuple(suggestions),
        num_candidates=len(seen.samples),
        folder=folder,
        unusable=(*folder.unusable, *seen.unusable),
    )


def _why(
    one: Chosen, seen: Looks, uncertainty: float, between: str, calibration: Calibration, weights: WeightsConfig
) -> str:
    """Say in words what speaks for an image, the stronger reason first."""
    if one.is_random:
        return AT_RANDOM
    score, doubt = float(seen.scores[one.index]), float(seen.kind_doubt[one.index])
    if 0 < doubt >= uncertainty:
        near = "the kind of a defect is in doubt"
    elif calibration.accept_score < score <= calibration.reject_score:
        near = "undecided"
    else:
        near = f"score {'above' if score > calibration.reject_score else 'below'} the threshold, {between}"
    far = f"less like what is labelled or suggested before than {round(100 * one.novelty)} % of the folder"
    reasons = [(weights.uncertainty * uncertainty, near), (weights.novelty * one.novelty, far)]
    return "; ".join(text for value, text in sorted(reasons, key=lambda reason: -reason[0]) if value > 0)
