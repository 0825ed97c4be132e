"""The section of a report's page that says which kinds of defects were found, named and missed."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from zellige.evaluation.html_parts import accuracy_card, card, figures, percent

Json = Mapping[str, Any]

_WHOLE = {"kinds_images": "Whole images: what each is, and what it is said to be."}
_DEFECTS = {
    "kinds_defects": "Single defects at the operating point: what each is, and what it is said to be.",
    "kinds_curves": "Precision and recall of each kind, whatever the threshold.",
}
_INTERVALS = (
    "<p class='muted'>In brackets: 95 % intervals, exact for rates of independent images (in %), from the bootstrap "
    "over groups for all other numbers. A bootstrap interval that is a point says that all images agree, not that the "
    "number is certain.</p>"
)
_CASES = {
    "kinds_missed": "Defects that nothing stands for.",
    "kinds_wrong": "Defects that were found and got the wrong name.",
    "kinds_false_alarms": "Found where nobody marked a defect.",
    "kinds_hits": "Defects that were found and got the right name.",
}


def named_section(kinds: Json | None, pictures_dir: Path) -> str:
    """Write the section; nothing for a detector that names no kinds.

    Args:
        kinds: `NamedReport.to_json()`.
        pictures_dir: where `write_named_pictures` put its PNG files; those present are embedded.

    Raises:
        OSError: a picture cannot be read.

    Example:
        >>> named_section(None, Path())
        ''
    """
    if kinds is None:
        return ""
    return "".join(
        [
            "<h2>Kinds of defects</h2>",
            _cards(kinds),
            whole_images(kinds),
            figures(pictures_dir, _WHOLE),
            _boxes(kinds),
            figures(pictures_dir, _DEFECTS),
            _masks(kinds["masks"]),
            _INTERVALS,
            _cases(figures(pictures_dir, _CASES)),
        ]
    )


def _cards(kinds: Json) -> str:
    boxes, masks, why = kinds["boxes"], kinds["masks"], kinds["undefined"]
    accuracy, two = kinds["whole"]["accuracy"], kinds["good_or_defective"]
    cards = [accuracy_card("Accuracy of kinds", accuracy, why.get("accuracy", ""))]
    if two["threshold"] is not None:
        where = f"; rejecting scores above {two['threshold']:.4g}, which is best on VAL"
        cards.append(accuracy_card("Good or defective", two["accuracy"], where))
    if boxes["num_true"]:
        best = boxes["f_best"]
        words = why.get("f_best", f"{_between(best['f'])}; one threshold, from VAL")
        cards += [
            card("mAP, IoU 0.5", _share(boxes["map_50"]["value"]), f"{_between(boxes['map_50'])}; mean of the kinds"),
            card("Best F-score", _share(best["f"]["value"]), words),
        ]
    if masks is not None and masks["by_kind"]:
        words = f"{_between(masks['mean_iou'])}; mean of the kinds"
        cards.append(card("Mean IoU of pixels", _share(masks["mean_iou"]["value"]), words))
    return f'<div class="cards">{"".join(cards)}</div>'


def whole_images(kinds: Json) -> str:
    """Make the table of kinds of whole images, and say what it is about.

    Args:
        kinds: "whole", "named_right", "num_mixed", "ap_det" and "undefined" of `NamedReport.to_json()`.
    """
    whole, named = kinds["whole"], kinds["named_right"]
    if not whole["by_kind"]:
        return f"<h3>Whole images</h3><p class='muted'>{escape(kinds['undefined']['accuracy'])}.</p>"
    rows = [
        [
            row["kind"],
            str(row["recall"]["n"]),
            _rate(row["precision"]),
            _rate(row["recall"]),
            _number(row["f1"]),
        ]
        for row in whole["by_kind"]
    ]
    rows.append(["mean of the kinds", str(whole["accuracy"]["n"]), "", "", _number(whole["macro_f1"])])
    words = (
        "An image is said to be good where it is accepted at the operating point, else it has the kind that the "
        f"detector names. Named right, whatever the decision: {round((named['value'] or 0) * named['n'])} of "
        f"{named['n']} defective images."
    )
    if kinds["num_mixed"]:
        words += f" {kinds['num_mixed']} images with defects of several kinds are in none of these numbers."
    if kinds["ap_det"] is not None:
        words += f" Average precision of the score for defective against good images: {kinds['ap_det']:.4f}."
    head = ("Kind", "Images", "Precision", "Recall", "F1")
    return f"<h3>Whole images</h3><p class='muted'>{escape(words)}</p>{_table(head, rows)}"


def _boxes(kinds: Json) -> str:
    boxes = kinds["boxes"]
    if not boxes["num_true"]:
        return ""
    rows = [
        [row["kind"], str(row["num_true"]), *(_number(row[name]) for name in ("ap_33", "ap_50", "ap"))]
        for row in boxes["by_kind"]
    ]
    mean = [_number(boxes[name]) for name in ("map_33", "map_50", "map")]
    rows.append(["mean of the kinds", str(boxes["num_true"]), *mean])
    words = f"{boxes['num_true']} marked defects in {boxes['num_images']} images"
    if kinds["num_unplaced"]:
        words += f"; {kinds['num_unplaced']} more images, of which nobody said where the defects are, are left out"
    head = ("Kind", "Defects", "AP, IoU above 0.33", "AP, IoU 0.5", "AP, IoU 0.5 to 0.95")
    return (
        f"<h3>Single defects</h3><p class='muted'>{escape(words)}. AP is the average precision over all thresholds: "
        "above 0.33 by the protocol of DeepPCB, the others by that of COCO.</p>"
        f"{_table(head, rows)}{_f_scores(kinds)}"
    )


def _f_scores(kinds: Json) -> str:
    boxes = kinds["boxes"]
    names = {"f_best": "best on VAL", "f_limit": "best on TEST: an upper limit"}
    rows = [
        [
            f"{name}" + ("" if boxes[key]["threshold"] is None else f" ({boxes[key]['threshold']:.4g})"),
            *(_number(boxes[key][part]) for part in ("f", "precision", "recall")),
        ]
        for key, name in names.items()
    ]
    head = ("Threshold for all kinds", "F-score", "Precision", "Recall")
    return f"<p></p>{_table(head, rows)}"


def _masks(masks: Json | None) -> str:
    if masks is None or not masks["by_kind"]:
        return ""
    rows = [[kind, _number(value)] for kind, value in masks["by_kind"].items()]
    rows += [["mean of the kinds", _number(masks["mean_iou"])], ["any defect", _number(masks["defect_iou"])]]
    words = f"All pixels of {masks['num_images']} images, above the pixel threshold of the operating point."
    if masks["num_left_out"]:
        words += f" {masks['num_left_out']} defective images without a mask of known kinds are left out."
    table = _table(("Kind", "Intersection over union"), rows)
    return f"<h3>Pixels</h3><p class='muted'>{escape(words)}</p>{table}"


def _cases(shown: str) -> str:
    return f"<h3>Cases</h3>{shown}" if shown else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"


def _rate(rate: Json) -> str:
    if rate["value"] is None:
        return "– (never said)"
    return f"{percent(rate['value'])} ({percent(rate['low'])} to {percent(rate['high'])})"


def _number(estimate: Json) -> str:
    if estimate["low"] is None:
        return _share(estimate["value"])
    return f"{_share(estimate['value'])} ({_share(estimate['low'])} to {_share(estimate['high'])})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _between(estimate: Json) -> str:
    if estimate["value"] is None or estimate["low"] is None:
        return "no interval"
    return f"between {_share(estimate['low'])} and {_share(estimate['high'])}"
