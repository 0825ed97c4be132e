"""A cross-validation as one HTML page that needs nothing else, and as lines for a terminal."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from zellige.core.errors import InputError
from zellige.evaluation.html import class_table, html_page, rate_words
from zellige.evaluation.html_parts import accuracy_card, card, figures, percent, right_words
from zellige.evaluation.named_html import whole_images

Json = Mapping[str, Any]

NAMES = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "escape_rate": "Escapes",
    "false_reject_rate": "False rejects",
    "accuracy": "Accuracy of kinds",
    "macro_f1": "Macro-averaged F1 of kinds",
    "good_or_defective": "Good or defective",
    "map_33": "mAP, IoU above 0.33",
    "map_50": "mAP, IoU 0.5",
    "map": "mAP, IoU 0.5 to 0.95",
    "f_best": "Best F-score",
    "mean_iou": "Mean IoU of pixels",
    "fit_seconds": "Fit, s",
}
"""The numbers of a single fold that are shown."""
_PICTURES = {"kinds_images": "Whole images: what each is, and what it is said to be."}
_NOTE = (
    "Every image was judged once, by the fold that did not see it. Each fold has its own detector and its own "
    "thresholds: decisions and names are pooled, scores are compared within a fold alone. The intervals are those of a "
    "single test on as many images; that the folds share most of their training images is not in them."
)
_DEPENDENT = " Images of one group resemble each other, so the true intervals of the rates are wider."


def write_folds_html(content: Json, pictures_dir: Path, out: Path) -> None:
    """Write the page.

    Args:
        content: of folds.json: name, pooled (`PooledReport.to_json()`), folds (a record each, with the numbers of
            NAMES), mean (by the names of NAMES), facts, and next (what to do with it, and the command).
        pictures_dir: where kinds_images.png may be.
        out: the file to write.

    Raises:
        InputError: `out` cannot be written.
    """
    pooled = content["pooled"]
    scope = (
        f"{len(content['folds'])} folds; {pooled['num_images']} images from {pooled['num_groups']} groups: "
        f"{pooled['num_good']} good, {pooled['num_defective']} defective"
    )
    dependent = _DEPENDENT if pooled["num_groups"] < pooled["num_images"] else ""
    following = content["next"]
    command = f"<p><code>{escape(following['command'])}</code></p>"
    bundle = f"<p><b>Which bundle</b></p><p>{escape(following['words'])}</p>{command}"
    try:
        parts = [
            f'<header><h1>{escape(content["name"])}</h1><div class="muted">{escape(scope)}.</div></header>',
            f'<div class="cards">{"".join(_cards(pooled))}</div>',
            f'<div class="note"><p>{_NOTE}{dependent}</p></div>',
            f'<div class="note warn">{bundle}</div>',
            _kinds(pooled["kinds"], pictures_dir),
            class_table("By kind, at the operating points of the folds", "Kind", pooled["by_kind"]),
            _by_fold(content),
            "<h2>What was judged</h2>" + _pairs(content["facts"]),
        ]
        out.write_text(html_page(content["name"], parts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"page {out}: cannot be written ({error.strerror}: {error.filename})") from None


def pooled_lines(pooled: Json) -> list[str]:
    """Say the numbers of all folds together, a line each.

    Args:
        pooled: `PooledReport.to_json()`.
    """
    lines = [
        f"{pooled['num_images']} images from {pooled['num_groups']} groups, each judged by the fold that did not see it"
    ]
    kinds = pooled["kinds"]
    if kinds is not None:
        whole, two = kinds["whole"], kinds["good_or_defective"]["accuracy"]
        rates = {"kinds named right": whole["accuracy"], "good or defective": two}
        lines += [f"{what}: {percent(rate['value'])}, {right_words(rate)}" for what, rate in rates.items() if rate["n"]]
        lines.append(f"macro-averaged F1 of kinds: {_estimate(whole['macro_f1'])}")
    if pooled["num_defective"]:
        lines.append(rate_words("defective", "accepted", pooled["escape_rate"]))
    if pooled["num_good"]:
        lines.append(rate_words("good", "rejected", pooled["false_reject_rate"]))
    if pooled["image_auroc_within_folds"] is not None:
        lines.append(f"image AUROC within the folds: {_auroc(pooled)}")
    return lines


def _cards(pooled: Json) -> list[str]:
    cards, kinds = [], pooled["kinds"]
    if kinds is not None:
        whole, two = kinds["whole"], kinds["good_or_defective"]["accuracy"]
        cards.append(accuracy_card("Accuracy of kinds", whole["accuracy"], kinds["undefined"].get("accuracy", "")))
        cards.append(card("Macro-averaged F1", _number(whole["macro_f1"]["value"]), _estimate(whole["macro_f1"])))
        if two["n"]:
            cards.append(
                accuracy_card("Good or defective", two, "; each fold by the threshold that is best on its VAL")
            )
    for what, name, event, key in (
        ("Escapes", "defective", "accepted", "escape_rate"),
        ("False rejects", "good", "rejected", "false_reject_rate"),
    ):
        rate = pooled[key]
        cards.append(card(what, percent(rate["value"]), rate_words(name, event, rate)))
    if pooled["image_auroc_within_folds"] is not None:
        cards.append(card("Image AUROC", _number(pooled["image_auroc_within_folds"]), _auroc(pooled)))
    return cards


def _kinds(kinds: Json | None, pictures_dir: Path) -> str:
    if kinds is None:
        return ""
    return f"<h2>Kinds</h2>{whole_images(kinds)}{figures(pictures_dir, _PICTURES)}"


def _by_fold(content: Json) -> str:
    shown = [key for key in NAMES if any(fold[key] is not None for fold in content["folds"])]
    head = "".join(f"<th>{escape(word)}</th>" for word in ("Fold", "Run", "Images", *(NAMES[key] for key in shown)))
    rows = [
        [str(fold["fold"]), fold["run"], str(fold["num_images"]), *(_number(fold[key]) for key in shown)]
        for fold in content["folds"]
    ]
    mean = content["mean"]
    rows.append(["mean", "", "", *("–" if mean[key] is None else _number(mean[key]["mean"]) for key in shown)])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<h2>By fold</h2><table><tr>{head}</tr>{body}</table>"


def _pairs(facts: Mapping[str, str]) -> str:
    cells = (f'<tr><td class="key">{escape(key)}</td><td>{escape(value)}</td></tr>' for key, value in facts.items())
    return f"<table>{''.join(cells)}</table>"


def _auroc(pooled: Json) -> str:
    low, high = pooled["image_auroc_interval"]
    return f"{pooled['image_auroc_within_folds']:.4f}, between {low:.3f} and {high:.3f}"


def _estimate(estimate: Json) -> str:
    if estimate["low"] is None:
        return _number(estimate["value"])
    return f"{_number(estimate['value'])}, between {_number(estimate['low'])} and {_number(estimate['high'])}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if value >= 100 else f"{value:.4f}"
