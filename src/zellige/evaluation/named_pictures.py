"""The pictures of kinds: confusion matrices, curves, and the cases that matter with their boxes and names."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zellige.core.types import GOOD, MIXED, Decision, Sample
from zellige.evaluation.box_sheet import draw_box_sheet, load_box_case
from zellige.evaluation.found import Box
from zellige.evaluation.named_images import NamedImage
from zellige.evaluation.named_plots import plot_confusion, plot_curves
from zellige.evaluation.named_report import NamedReport

_TITLES = {
    "kinds_missed": ("Missed defects", "Nothing stands for them", "the images with the lowest scores first"),
    "kinds_wrong": ("Wrong names", "Found with the wrong kind", "the surest first"),
    "kinds_false_alarms": ("False alarms", "Found where nobody marked a defect", "the surest first"),
    "kinds_hits": ("Hits", "Found with the right kind", "of each kind in turn those with typical scores"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCase:
    """One defect to show; `focus` is None where nobody said where it is."""

    image: NamedImage
    kind: str
    score: float
    focus: Box | None
    facts: str


def write_named_pictures(
    samples: Sequence[Sample], report: NamedReport, out_dir: Path, *, max_cases: int = 8
) -> tuple[Path, ...]:
    """Draw what there is to draw, PNG, 1200 px wide: see the names in `named_html`.

    Memory is bounded by `max_cases`, whatever the number and size of the images.

    Args:
        samples: of the TEST predictions that the report is about.
        out_dir: an existing folder.

    Raises:
        InputError: a shown image cannot be read.
    """
    paths = []
    if report.whole.confusion.counts.size:
        words = f"{report.whole.accuracy.n} TEST images; in brackets how many of each, and each row adds up to 100 %"
        path = out_dir / "kinds_images.png"
        paths.append(plot_confusion(report.whole.confusion, "Kinds of whole images", words, path))
    if report.boxes.num_true:
        words = "TEST at the operating point, in brackets how many of each; matched where the IoU is above 0.33"
        path = out_dir / "kinds_defects.png"
        paths.append(plot_confusion(report.defects, "Kinds of single defects", words, path))
        paths.append(plot_curves(report.boxes, out_dir / "kinds_curves.png"))
    for name, cases in select_cases(report.images).items():
        if not cases:
            continue
        of_images = one_an_image(cases)
        shown = of_images[:max_cases]
        title, what, order = _TITLES[name]
        drawn = [load_box_case(samples[case.image.index], case.image, case.focus, case.facts) for case in shown]
        subtitle = f"{what}: {len(cases)}, in {len(of_images)} of the TEST images; {len(shown)} shown, {order}"
        paths.append(draw_box_sheet(title, subtitle, drawn, out_dir / f"{name}.png"))
    return tuple(paths)


def select_cases(images: Sequence[NamedImage]) -> dict[str, list[KindCase]]:
    """Sort the defects of all images into missed, wrongly named, false alarms and hits, each in the order to show.

    Images of which nobody said where their defects are count as one defect.
    """
    sorted_out: dict[str, list[KindCase]] = {name: [] for name in _TITLES}
    for image in images:
        for name, case in _cases_of(image):
            sorted_out[name].append(case)
    for name in ("kinds_wrong", "kinds_false_alarms"):
        sorted_out[name].sort(key=lambda case: (-case.score, case.image.index))
    sorted_out["kinds_missed"].sort(key=lambda case: (case.score, case.image.index))
    sorted_out["kinds_hits"] = _typical(sorted_out["kinds_hits"])
    return sorted_out


def one_an_image(cases: Sequence[KindCase]) -> list[KindCase]:
    """Keep the first case of each image."""
    firsts: dict[int, KindCase] = {}
    for case in cases:
        firsts.setdefault(case.image.index, case)
    return list(firsts.values())


def _cases_of(image: NamedImage) -> Iterator[tuple[str, KindCase]]:
    of_image = f"{image.decision.value}, score {image.score:.3g}"
    if image.true is None:
        if image.true_kind == MIXED:
            return
        is_named = image.decision is not Decision.ACCEPT
        name = "kinds_missed" if not is_named else "kinds_hits"
        if is_named and image.said_kind != image.true_kind:
            name = "kinds_wrong"
        facts = f"{image.true_kind}, said to be {image.said_kind}  ·  {of_image}"
        yield name, KindCase(image=image, kind=image.true_kind, score=image.score, focus=None, facts=facts)
        return
    taken = image.match().tolist()
    for row, place in zip(image.listed, taken, strict=True):
        if place < 0:
            what = f"{row.kind} {row.score:.2f} in a {GOOD} image" if not image.true else f"{row.kind} {row.score:.2f}"
            name, kind, focus = "kinds_false_alarms", row.kind, row.box
        else:
            kind, focus = image.true[place].kind, image.true[place].box
            is_right = kind == row.kind
            name = "kinds_hits" if is_right else "kinds_wrong"
            what = f"{kind} {row.score:.2f}" if is_right else f"{kind}, found as {row.kind} {row.score:.2f}"
        facts = f"{what}  ·  {of_image}"
        yield name, KindCase(image=image, kind=kind, score=row.score, focus=focus, facts=facts)
    for place, marked in enumerate(image.true):
        if place not in taken:
            facts = f"{marked.kind}  ·  {of_image}"
            case = KindCase(image=image, kind=marked.kind, score=image.score, focus=marked.box, facts=facts)
            yield "kinds_missed", case


def _typical(hits: Sequence[KindCase]) -> list[KindCase]:
    """Of each kind in turn the one whose score is nearest its median."""
    kinds: dict[str, list[KindCase]] = defaultdict(list)
    for case in hits:
        kinds[case.kind].append(case)
    queues = []
    for _, cases in sorted(kinds.items()):
        median = float(np.median([case.score for case in cases]))
        queues.append(sorted(cases, key=lambda case: (abs(case.score - median), case.image.index)))
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
