"""The folder of suggested images: a table, the images, labels to correct, a page to look at, and what was left out."""

import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from zellige.config_suggest import SuggestConfig
from zellige.core.decision import decide
from zellige.core.errors import InputError
from zellige.core.types import MIXED, Decision, Splits
from zellige.data.annotations import AnnotatedImage, check_kind
from zellige.data.coco_labels import coco_text
from zellige.data.convert_labels import copy_images
from zellige.data.dataset import TileDataset
from zellige.data.formats import Skipped
from zellige.data.proposal_page import proposal_page
from zellige.data.proposals import propose
from zellige.export.build_bundle import Optics
from zellige.finished_run import FinishedRun
from zellige.models.detector import SupervisedDetector
from zellige.run_folder import write_json
from zellige.suggestion import Suggested
from zellige.training.predict import predict

COLUMNS = ("rank", "image", "why", "score", "uncertainty", "novelty", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """The suggested images, each with the labels that the detector proposes, and how often it decides what."""

    images: tuple[AnnotatedImage, ...]
    kinds: tuple[str, ...]
    decisions: Counter[Decision]
    num_without_region: int
    """Images that the detector does not accept, while their map shows no region."""


def propose_labels(run: FinishedRun, suggested: Suggested, optics: Optics, *, fabric: Fabric, work: Path) -> Proposals:
    """Let the detector find the defects of the suggested images, as a station would list them.

    Args:
        work: a folder that may be written to; nothing stays in it.
    """
    samples = [one.sample for one in suggested.suggestions]
    data = TileDataset(samples, geometry=optics.geometry, color=optics.color)
    maps, size = work / ".maps", run.config.engine.batch_size
    images, decisions, num_without = [], Counter[Decision](), 0
    for found in predict(run.detector, data, "test", fabric=fabric, out_dir=maps, batch_size=size):
        sample = found.sample
        size_mm, named = sample.pixel_size, found.named
        decision, defects, _ = decide(found.score, found.anomaly_map, run.calibration, pixel_size=size_mm, named=named)
        decisions[decision] += 1
        num_without += decision is not Decision.ACCEPT and not defects
        height, width = found.anomaly_map.shape
        labels = propose(defects, found.anomaly_map, run.calibration.pixel_threshold)
        images.append(AnnotatedImage(id=sample.id, image_path=sample.image_path, size=(height, width), defects=labels))
    shutil.rmtree(maps)
    own = run.detector.kinds if isinstance(run.detector, SupervisedDetector) else ()
    known = dict.fromkeys([*own, *_kinds_of(run.splits), *sorted({kind for image in images for kind in image.kinds})])
    return Proposals(images=tuple(images), kinds=tuple(known), decisions=decisions, num_without_region=num_without)


def write_suggestions(
    run: FinishedRun, suggested: Suggested, proposals: Proposals, settings: SuggestConfig, out: Path
) -> list[str]:
    """Write suggestions.csv, images/, coco.json, suggestions.html and report.json; return the report in words."""
    lines, warnings = _in_words(suggested, proposals, settings), _warnings(suggested, proposals, settings)
    _write_table(suggested, out / "suggestions.csv")
    copy_images(proposals.images, out / "images", link=not settings.copy)
    (out / "coco.json").write_text(coco_text(proposals.images, proposals.kinds), encoding="utf-8")
    words = [f"{one.rank} · {one.why} · score {one.score:.4g}" for one in suggested.suggestions]
    title = f"{len(words)} images to label, suggested by {run.name}"
    page = proposal_page(title, lines, warnings, proposals.images, proposals.kinds, words)
    (out / "suggestions.html").write_text(page, encoding="utf-8")
    write_json(out / "report.json", _report(run, suggested, settings, [*lines, *warnings]))
    return [*lines, *(f"warning: {text}" for text in warnings)]


def _write_table(suggested: Suggested, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in suggested.suggestions:
            numbers = (f"{one.score:.6g}", f"{one.uncertainty:.3f}", f"{one.novelty:.3f}")
            writer.writerow([one.rank, one.sample.id, one.why, *numbers, "yes" if one.is_random else "no"])


def _in_words(suggested: Suggested, proposals: Proposals, settings: SuggestConfig) -> list[str]:
    folder, number = suggested.folder, len(suggested.suggestions)
    num_random = sum(one.is_random for one in suggested.suggestions)
    num_labels = sum(len(image.defects) for image in proposals.images)
    decided = ", ".join(f"{proposals.decisions[decision]} {decision.value}" for decision in Decision)
    known = ", ".join(f"{count} in {split}" for split, count in folder.known_in.items())
    weights = f"weights {settings.weights.uncertainty:g} uncertainty, {settings.weights.novelty:g} novelty"
    by = f"{number - num_random} by usefulness ({weights}), {num_random} at random"
    lines = [
        f"{number} of {suggested.num_candidates} images suggested: {by}",
        f"the detector says: {decided}; {num_labels} regions are proposed as labels",
        f"{len(suggested.unusable)} files cannot be used{_first(suggested.unusable)}",
        f"{len(folder.known)} images are left out that the run has already{f' ({known})' if known else ''}",
        f"{len(folder.repeated)} images are left out that show the same as another of the folder, which comes once",
    ]
    if folder.num_ignored:
        lines.append(f"{folder.num_ignored} files that are no images, hidden files or links are not looked at")
    return lines


def _first(skipped: Sequence[Skipped]) -> str:
    return f", first {skipped[0].path}: {skipped[0].reason}" if skipped else ""


def _warnings(suggested: Suggested, proposals: Proposals, settings: SuggestConfig) -> list[str]:
    found, warnings = suggested.num_candidates, list[str]()
    if found < settings.number:
        warnings.append(f"number={settings.number}: there are {found} images to choose from, all are suggested")
    if proposals.num_without_region:
        warnings.append(
            f"{proposals.num_without_region} images are not accepted, but no region of theirs is above the pixel "
            "threshold: nothing is proposed for them, which does not mean that they are good"
        )
    return warnings


def _report(run: FinishedRun, suggested: Suggested, settings: SuggestConfig, words: Sequence[str]) -> dict[str, Any]:
    folder = suggested.folder
    return {
        "run": run.name,
        "bundle": run.report["run"]["bundle"],
        "settings": asdict(settings),
        "words": list(words),
        "num_candidates": suggested.num_candidates,
        "num_suggested": len(suggested.suggestions),
        "num_random": sum(one.is_random for one in suggested.suggestions),
        "num_ignored": folder.num_ignored,
        "known_in": dict(folder.known_in),
        "unusable": [asdict(one) for one in suggested.unusable],
        "known": [asdict(one) for one in folder.known],
        "repeated": [asdict(one) for one in folder.repeated],
    }


def _kinds_of(splits: Splits) -> list[str]:
    """The kinds that somebody has named so far, which a labelling tool then offers."""
    samples = [sample for samples in splits.labelled().values() for sample in samples if sample.is_defective]
    named = {box.kind for sample in samples for box in sample.boxes} | {sample.kind for sample in samples}
    return sorted(kind for kind in named - {MIXED} if _is_usable(kind))


def _is_usable(kind: str) -> bool:
    try:
        check_kind(kind, "kind")
    except InputError:
        return False
    return True
