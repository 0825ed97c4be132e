"""A comparison as words: cells of its table, and one HTML page that needs nothing else."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from zellige.core.errors import InputError
from zellige.evaluation.candidate_table import RATES, Candidate, PiecesRange, Spread
from zellige.evaluation.html import html_page
from zellige.evaluation.recommendation import RULE, Recommendation

Json = Mapping[str, Any]

HEADS = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "escape_rate": "Escapes",
    "false_reject_rate": "False rejects",
    "p50_p95_ms": "Station, ms per frame (middle / 95 %)",
    "mp_per_s": "MP/s",
    "fit_seconds": "Fit, s",
    "bundle_mb": "Bundle, MB",
    "memory": "Memory, MB (training / station)",
}
NOTHING = "–"
_EXPLAINED = """
<ul>
<li><b>Image AUROC</b>: chance that a defective piece scores above a good one; 1 is perfect, 0.5 is a coin. <b>Pixel
AUROC, AUPRO</b>: how well drawn defects are found.</li>
<li><b>Escapes</b>: defective pieces that were accepted. <b>False rejects</b>: good pieces that were rejected. Both at
the operating point that each run chose on its held-out images.</li>
<li>In brackets the 95 % t-interval of the mean over the seeds: how much a fit with another seed may differ. It says
nothing about other pieces. <b>Pieces</b>: the 95 % interval that the number of test pieces allows (exact for the rates,
Newcombe's for the AUROC), of all seeds joined. The seeds judge the same pieces, so their counts are not added up.</li>
<li><b>Station</b>: a whole inspection of one frame in a process without torch, reading the file apart; measured in
turns, so that a busy moment of the machine does not hit one candidate alone. Valid for the machine named below.</li>
<li><b>Memory</b>: largest resident memory of the training process, and of the station's.</li>
</ul>
"""


def cells_of(row: Candidate) -> dict[str, str]:
    """Say a row in words, by the keys of HEADS.

    Example:
        >>> empty = Candidate(name="a", settings="", seeds=(), spreads={}, pieces={}, speed=None, errors=("no",))
        >>> cells_of(empty)["escape_rate"]
        '–'
    """
    cells = {key: _spread(row.spreads.get(key), 1, 4) for key in ("image_auroc", "pixel_auroc", "aupro")}
    cells |= {key: _spread(row.spreads.get(key), 100, 1, " %") for key in ("escape_rate", "false_reject_rate")}
    cells |= {"p50_p95_ms": NOTHING, "mp_per_s": NOTHING}
    if row.speed:
        cells["p50_p95_ms"] = f"{row.speed.p50_ms:.1f} / {row.speed.p95_ms:.1f}"
        cells["mp_per_s"] = f"{row.speed.mp_per_s:.2f}"
    cells["fit_seconds"] = _plain(row.spreads.get("fit_seconds"), 1)
    cells["bundle_mb"] = _plain(row.spreads.get("bundle_mb"), 1)
    station = f"{row.speed.peak_memory_mb:.0f}" if row.speed else NOTHING
    cells["memory"] = f"{_plain(row.spreads.get('peak_memory_mb'), 0)} / {station}"
    return cells


def write_comparison_html(
    title: str,
    rows: Sequence[Candidate],
    recommendation: Recommendation,
    *,
    runs: Sequence[Json],
    facts: Mapping[str, str],
    picture: Path,
    out: Path,
) -> None:
    """Write the page.

    Args:
        title: name of the comparison.
        rows: the table.
        recommendation: what to take, and why.
        runs: one record per run: candidate, seed, run, state, image_auroc, minutes; written as they are.
        facts: what was compared and on which machine, by name.
        picture: a PNG file to embed.
        out: the file to write.

    Raises:
        InputError: the picture cannot be read or `out` cannot be written.
    """
    try:
        image = base64.b64encode(picture.read_bytes()).decode("ascii")
        parts = [
            f'<header><h1>{escape(title)}</h1><div class="muted">Comparison of {len(rows)} candidates</div></header>',
            _verdict(recommendation),
            f'<figure><img alt="quality against speed" src="data:image/png;base64,{image}"></figure>',
            f"<h2>Candidates</h2>{_table(rows, recommendation.name)}{_EXPLAINED}",
            _runs(runs),
            "<h2>What was compared</h2>" + _pairs(facts),
        ]
        out.write_text(html_page(title, parts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"page {out}: cannot be written ({error.strerror}: {error.filename})") from None


def _verdict(recommendation: Recommendation) -> str:
    kind = "warn" if recommendation.name is None else "ok"
    return (
        f'<div class="note {kind}"><p><b>Recommendation</b></p><p>{escape(recommendation.reason)}</p>'
        f'<p class="muted">{escape(RULE)}</p></div>'
    )


def _table(rows: Sequence[Candidate], recommended: str | None) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in HEADS.values())
    body = ""
    for row in rows:
        name = f"<b>{escape(row.name)}</b>" + (
            ' <span class="badge">take this</span>' if row.name == recommended else ""
        )
        cells = cells_of(row)
        for key, found in row.pieces.items():
            cells[key] += f"\n{_pieces_words(key, found)}"
        body += (
            f"<tr><td>{name}</td>"
            + "".join(f"<td>{_lines(cells[key].replace(' (', chr(10) + '('))}</td>" for key in HEADS)
            + "</tr>"
        )
        remarks = [f"settings: {row.settings}"] if row.settings else []
        remarks += [f"FAILED: {error}" for error in row.errors]
        if remarks:
            said = "<br>".join(escape(remark) for remark in remarks)
            body += f'<tr><td></td><td class="muted" colspan="{len(HEADS)}">{said}</td></tr>'
    return f"<table><tr><th>Candidate</th>{head}</tr>{body}</table>"


def _pieces_words(key: str, found: PiecesRange) -> str:
    if key in RATES:
        return f"{found.n} {found.unit}: {100 * found.low:.1f} to {100 * found.high:.1f} %"
    return f"{found.n} {found.unit}: {found.low:.4f} to {found.high:.4f}"


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.splitlines())


def _runs(runs: Sequence[Json]) -> str:
    if not runs:
        return ""
    head = "".join(f"<th>{escape(str(key)).replace('_', ' ')}</th>" for key in runs[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_value(value))}</td>" for value in run.values()) + "</tr>" for run in runs
    )
    return f"<h2>Runs</h2><table><tr>{head}</tr>{body}</table>"


def _pairs(facts: Mapping[str, str]) -> str:
    cells = "".join(
        f'<tr><td class="key">{escape(key)}</td><td>{escape(value)}</td></tr>' for key, value in facts.items()
    )
    return f"<table>{cells}</table>"


def _value(value: object) -> str:
    if value is None:
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _spread(spread: Spread | None, factor: float, digits: int, unit: str = "") -> str:
    if spread is None or math.isnan(spread.mean):
        return NOTHING
    text = f"{factor * spread.mean:.{digits}f}{unit}"
    if math.isnan(spread.low):
        return text
    return f"{text} ({factor * spread.low:.{digits}f} to {factor * spread.high:.{digits}f})"


def _plain(spread: Spread | None, digits: int) -> str:
    return NOTHING if spread is None else f"{spread.mean:.{digits}f}"
