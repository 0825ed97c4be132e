"""The evaluation report as one HTML page that needs nothing else: no network, no script, pictures inside."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from zellige.core.errors import InputError
from zellige.evaluation.calibrate import NOT_SHOWN, PRESUMES
from zellige.evaluation.html_parts import card, figures, percent
from zellige.evaluation.html_style import CSS
from zellige.evaluation.named_html import named_section

Json = Mapping[str, Any]

_PICTURES = {
    "scores": "Scores of the TEST pieces and the operating point that was chosen on VAL.",
    "roc_pr": "How well the scores rank, whatever the threshold.",
    "escapes": "Defective pieces that were accepted.",
    "false_rejects": "Good pieces that were rejected.",
    "undecided": "Pieces that a person has to decide.",
    "hits": "Defective pieces that were rejected.",
    "suspicious_train": "Training images that look least like the others. Is each of them really good?",
}
_METRICS = (
    ("image_auroc", "Image AUROC", "chance that a defective piece scores above a good one"),
    ("average_precision", "Average precision", "mean precision over all thresholds"),
    ("f1_max", "Best F1", "with a threshold picked on TEST: an upper limit, not the operating point"),
    ("pixel_auroc", "Pixel AUROC", "the same for pixels inside and outside the drawn defects"),
    ("pixel_ap", "Pixel average precision", ""),
    ("aupro", "AUPRO (0.3)", "share of each drawn defect that is found, up to 30 % false pixels"),
)
_COSTS = (
    ("fit_seconds", "Fit, s"),
    ("predict_ms_per_image", "Prediction per image, ms"),
    ("peak_memory_mb", "Peak memory, MB"),
)


def write_html(report: Json, pictures_dir: Path, out: Path) -> None:
    """Write the page.

    Args:
        report: `EvaluationReport.to_json()`, and where known: "data" (a data report's JSON: splits, warnings,
            shortcut, duplicates, skipped), "run" (names and values that identify the run; its "name" is the title),
            "fit_seconds", "predict_ms_per_image", "peak_memory_mb", and "kinds" (`NamedReport.to_json()`).
        pictures_dir: where `write_pictures` put its PNG files; those present are embedded.
        out: the file to write.

    Raises:
        InputError: `out` or a picture cannot be written or read.

    Example:
        >>> rate_words("good", "rejected", {"value": 0.0, "low": 0.0, "high": 0.0381, "n": 95})
        '0 of 95 good pieces rejected: at most 3.8 %'
    """
    run = report.get("run", {})
    title = str(run.get("name", "Evaluation"))
    parts = [
        _header(title, report),
        _cards(report),
        _guarantee(report["calibration"]),
        class_table("By kind", "Kind", report["by_kind"]),
        class_table("By size of the largest drawn defect", "Length", report["by_size"]),
        _metrics(report),
    ]
    try:
        parts += [named_section(report.get("kinds"), pictures_dir), _data(report.get("data"))]
        parts.append(_pictures(pictures_dir))
        page = html_page(title, [*parts, _identity(report, run), _footer(report)])
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"report {out}: cannot be written ({error.strerror}: {error.filename})") from None


def rate_words(class_name: str, event: str, rate: Json) -> str:
    """Say a rate with its interval and n so that a quality engineer can repeat it.

    Example:
        >>> rate_words("defective", "accepted", {"value": 0.1, "low": 0.0123, "high": 0.317, "n": 20})
        '2 of 20 defective pieces accepted: 10 %, between 1.2 % and 31.7 %'
    """
    if rate["value"] is None:
        return f"no {class_name} pieces in TEST: nothing is known"
    events = round(rate["value"] * rate["n"])
    count = f"{events} of {rate['n']} {class_name} pieces {event}"
    if events == 0:
        return f"{count}: at most {percent(rate['high'])}"
    if events == rate["n"]:
        return f"{count}: at least {percent(rate['low'])}"
    return f"{count}: {percent(rate['value'])}, between {percent(rate['low'])} and {percent(rate['high'])}"


def html_page(title: str, parts: Iterable[str]) -> str:
    """Wrap parts of HTML into a page that loads nothing and runs nothing; the title is escaped here, the parts are not.

    Example:
        >>> "<title>a &amp; b</title>" in html_page("a & b", ["<p>text</p>"])
        True
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _header(title: str, report: Json) -> str:
    badge = "" if report["calibrated"] else ' <span class="badge">uncalibrated</span>'
    scope = (
        f"{report['num_images']} TEST pieces from {_groups(report)}: "
        f"{report['num_good']} good, {report['num_defective']} defective"
    )
    ignored = len(report.get("ignored_defects", ()))
    if ignored:
        scope += f"; {ignored} more, whose defects lie in ignored regions alone, are in none of the numbers"
    unit = "" if report["calibrated"] else ". The pixel size is not known: all sizes are in pixels"
    return f'<header><h1>{escape(title)}{badge}</h1><div class="muted">{scope}{unit}.</div></header>'


def _cards(report: Json) -> str:
    low, high = report["image_auroc_interval"]
    auroc = report["image_auroc"]
    auroc_words = report["undefined"].get("image_auroc", f"between {low:.3f} and {high:.3f}")
    undecided = (report["undecided_defective_rate"], report["undecided_good_rate"])
    events = [round((rate["value"] or 0) * rate["n"]) for rate in undecided]
    names = ("defective", "good")
    left = [f"{k} of {rate['n']} {name}" for k, rate, name in zip(events, undecided, names, strict=True)]
    cards = [
        _rate_card("Escapes", rate_words("defective", "accepted", report["escape_rate"]), report["escape_rate"]),
        _rate_card(
            "False rejects", rate_words("good", "rejected", report["false_reject_rate"]), report["false_reject_rate"]
        ),
        card("Undecided", str(sum(events)), " and ".join(left) + " pieces left to a person"),
        card("Image AUROC", "–" if auroc is None else f"{auroc:.4f}", auroc_words),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _rate_card(what: str, words: str, rate: Json) -> str:
    return card(what, "–" if rate["value"] is None else percent(rate["value"]), words)


def _guarantee(calibration: Json) -> str:
    claims = str(calibration["guarantee"]).split("; ")
    is_plain = not calibration["guarantee"].startswith(NOT_SHOWN) and PRESUMES not in calibration["guarantee"]
    lines = "".join(f"<p>{escape(claim)}</p>" for claim in _rejoin(claims))
    rules = [("Asked for", calibration["target"]), ("REJECT above score", f"{calibration['reject_score']:.6g}")]
    if calibration["accept_score"] < calibration["reject_score"]:
        rules.append(("ACCEPT up to score (UNDECIDED between)", f"{calibration['accept_score']:.6g}"))
    rules.append(("Pixel threshold of the anomaly map", f"{calibration['pixel_threshold']:.6g}"))
    for name, unit in (("min_area_mm2", "mm²"), ("min_area_px", "px")):
        if calibration[name] is not None:
            rules.append(("Smallest defect that rejects", f"{calibration[name]:g} {unit}"))
    note = f'<div class="note {"ok" if is_plain else "warn"}"><p><b>What the calibration supports</b></p>{lines}'
    drift = '<p class="muted">For independent pieces of the same process; it ends when the process drifts.</p></div>'
    return f"<h2>Operating point</h2>{note}{drift}{_key_values(rules)}"


def _rejoin(claims: Sequence[str]) -> list[str]:
    """Keep "...; what 20 show: ..." with the claim that it belongs to."""
    joined: list[str] = []
    for claim in claims:
        if claim.startswith("what ") and joined:
            joined[-1] += f"; {claim}"
        else:
            joined.append(claim)
    return joined


def class_table(title: str, name: str, rows: Sequence[Json]) -> str:
    """Make a table of decisions with bars for the rates; nothing without rows.

    Args:
        rows: `class_rates_json()` of each class.

    Example:
        >>> class_table("By kind", "Kind", [])
        ''
    """
    if not rows:
        return ""
    body = "".join(
        f"<tr><td>{escape(row['name'])}</td>"
        + "".join(f'<td class="count">{row[count]}</td>' for count in ("n", "accept", "undecided", "reject"))
        + f'<td class="wrong">{_interval(row["error_rate"])}{_error_words(row)}</td></tr>'
        for row in rows
    )
    counts = "".join(f'<th class="count">{word}</th>' for word in ("Pieces", "Accepted", "Undecided", "Rejected"))
    head = f"<tr><th>{escape(name)}</th>{counts}<th>Wrong, with 95 % interval</th></tr>"
    return f"<h2>{escape(title)}</h2><table>{head}{body}</table>"


def _error_words(row: Json) -> str:
    rate = row["error_rate"]
    word = "rejected" if row["name"] == "good" else "escaped"
    return f"{percent(rate['value'])} {word} ({percent(rate['low'])} to {percent(rate['high'])})"


def _interval(rate: Json) -> str:
    """A bar from 0 to 100 %: the interval, and the value as a dot."""
    low, high, value = (4 + 162 * rate[key] for key in ("low", "high", "value"))
    color = "#a63f2a" if rate["value"] > 0 else "#35678b"
    return (
        '<svg class="interval" viewBox="0 0 170 14" aria-hidden="true">'
        '<line x1="4" x2="166" y1="7" y2="7" stroke="#dfe4e8" stroke-width="2"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="7" y2="7" stroke="{color}" stroke-width="4" opacity="0.45"/>'
        f'<circle cx="{value:.1f}" cy="7" r="4" fill="{color}"/></svg>'
    )


def _metrics(report: Json) -> str:
    rows = []
    for key, name, meaning in _METRICS:
        value = report[key]
        text = f"not defined: {report['undefined'].get(key, '')}" if value is None else f"{value:.4f}"
        rows.append(f'<tr><td class="key">{name}</td><td>{escape(text)}</td><td class="muted">{meaning}</td></tr>')
    left_out = report["num_defective_without_mask"]
    remark = f"<p class='muted'>{left_out} defective pieces without a mask are in none of the pixel numbers.</p>"
    return f"<h2>Ranking and localization</h2><table>{''.join(rows)}</table>{remark if left_out else ''}"


def _data(data: Json | None) -> str:
    if not data:
        return ""
    counts = ("good", "defective", "groups", "with_mask")
    head = "".join(f'<th class="count">{word}</th>' for word in ("Good", "Defective", "Groups", "With mask"))
    rows = "".join(
        f"<tr><td>{escape(split)}</td>"
        + "".join(f'<td class="count">{row.get(key, "–")}</td>' for key in counts)
        + f"<td>{escape(', '.join(f'{kind} {n}' for kind, n in row.get('kinds', {}).items()))}</td></tr>"
        for split, row in data.get("splits", {}).items()
    )
    table = f"<table><tr><th>Split</th>{head}<th>Kinds</th></tr>{rows}</table>" if rows else ""
    warnings = dict.fromkeys([*data.get("warnings", []), data.get("shortcut", {}).get("warning", "")])
    items = "".join(f"<p>{escape(text)}</p>" for text in warnings if text)
    note = f'<div class="note warn"><p><b>Warnings about the data</b></p>{items}</div>' if items else ""
    return f"<h2>Data</h2>{note}{table}{_key_values(_data_facts(data))}"


def _data_facts(data: Json) -> list[tuple[str, str]]:
    facts = []
    shortcut, duplicates = data.get("shortcut", {}), data.get("duplicates", {})
    if shortcut.get("auroc") is not None:
        low, high = shortcut["low"], shortcut["high"]
        text = f"AUROC {shortcut['auroc']:.3f} ({low:.3f} to {high:.3f}); 0.5 is what it should be"
        facts.append(("Labels predicted from size and brightness alone", text))
    if duplicates:
        text = (
            f"{duplicates['exact_pairs']} exact and {duplicates['near_pairs']} near pairs; "
            f"{duplicates['straddling_pairs']} would lie in two splits; setting: {duplicates['setting']}"
        )
        facts.append(("Duplicates", text))
    if data.get("skipped"):
        first = data["skipped"][0]
        facts.append(("Files left out", f"{len(data['skipped'])}, first {first['path']}: {first['reason']}"))
    facts += [
        (name.capitalize(), str(data[name])) for name in ("root", "layout", "color", "fingerprint") if name in data
    ]
    return facts


def _pictures(folder: Path) -> str:
    shown = figures(folder, _PICTURES)
    return f"<h2>Pictures</h2>{shown}" if shown else ""


def _identity(report: Json, run: Json) -> str:
    rows = [(str(name), str(value)) for name, value in run.items()]
    rows += [(name, f"{report[key]:.4g}") for key, name in _COSTS if report.get(key) is not None]
    rows.append(("VAL predictions", report["calibration"]["fitted_on"]))
    rows.append(("TEST predictions", report["test_fingerprint"]))
    return f"<h2>Run</h2>{_key_values(rows)}"


def _key_values(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f'<tr><td class="key">{escape(key)}</td><td>{escape(value)}</td></tr>' for key, value in rows)
    return f"<table>{cells}</table>" if cells else ""


def _footer(report: Json) -> str:
    dependent = report["num_groups"] < report["num_images"]
    caution = (
        f"The {report['num_images']} pieces come from {_groups(report)} (rolls, lots, items); pieces of "
        "one group resemble each other, so the true intervals of the rates are wider. "
        if dependent
        else ""
    )
    return (
        "<footer>Rates: exact two-sided 95 % intervals (Clopper-Pearson) for independent pieces. AUROC: Newcombe's "
        f"interval over groups. {caution}"
        "UNDECIDED is neither an escape nor a false reject and is counted apart.</footer>"
    )


def _groups(report: Json) -> str:
    return f"{report['num_groups']} group{'' if report['num_groups'] == 1 else 's'}"
