"""The report of a labelled set as one HTML page: counts, sizes, duplicates, what was left out, and a contact sheet."""

from collections.abc import Iterable, Sequence
from html import escape

from zellige.data.annotations import AnnotatedImage
from zellige.data.label_report import Bin, KindCounts, LabelReport
from zellige.data.label_sheet import SHEET_CSS, color_of, draw_sheet
from zellige.evaluation.html import html_page

_NUM_LISTED = 20


def label_page(report: LabelReport, images: Sequence[AnnotatedImage]) -> str:
    """Write the page; it loads nothing and runs nothing.

    Raises:
        InputError: an image of the contact sheet cannot be read any more.
    """
    kinds = [counts.kind for counts in report.kinds]
    parts = [
        f"<style>{SHEET_CSS}</style>",
        _header(report),
        _cards(report),
        _notes(report.warnings),
        _kinds(report.kinds, kinds),
        _sizes(report),
        f"<h2>Contact sheet</h2><p class='muted'>{_LEGEND}</p>",
        draw_sheet(images, kinds),
        _duplicates(report),
        _left_out("Left out", [(item.path, item.reason) for item in report.dropped]),
        _left_out("Without labels", [(path, _NOT_GOOD) for path in report.unlabelled]),
        f"<footer>{_EXPLAINED}</footer>",
    ]
    return html_page(f"Labels of {report.root}", parts)


_LEGEND = "Full lines are drawn outlines, dashed lines boxes of defects of which nobody drew the outline."
_NOT_GOOD = "no label names it, so it is not taken as good"
_EXPLAINED = (
    "A length is the longer side of a defect's box. Near duplicates are pairs of images that show the same, found by a "
    "perceptual hash and confirmed by correlation."
)


def _header(report: LabelReport) -> str:
    places = ", ".join(f"{count} {split}" for split, count in report.splits.items())
    splits = f"; declared splits: {places}" if places else ""
    return (
        f"<header><h1>Labels of {escape(report.root)}</h1>"
        f'<div class="muted">Format {escape(report.format)}{splits}.</div></header>'
    )


def _cards(report: LabelReport) -> str:
    sizes = ", ".join(f"{width} x {height}" for height, width, _ in report.sizes_px[:2])
    sizes += f" and {len(report.sizes_px) - 2} more sizes" if len(report.sizes_px) > 2 else ""
    gray = {0: "all in color", report.num_images: "all gray"}.get(report.num_gray, f"{report.num_gray} of them gray")
    outlines = sum(kind.with_outline for kind in report.kinds)
    cards = [
        ("Images", report.num_images, f"{gray}; {sizes} px"),
        ("Good", report.num_good, "images without a defect"),
        (
            "Defective",
            report.num_defective,
            f"images; {len(report.kinds)} kind{'' if len(report.kinds) == 1 else 's'} of defects",
        ),
        ("Defects", report.num_defects, f"{outlines} with an outline, {report.num_defects - outlines} as a box"),
        ("Left out", len(report.dropped), f"and {len(report.unlabelled)} images without labels"),
    ]
    if report.num_templates:
        cards.append(("Templates", report.num_templates, "images have one to compare with; it is no image of the set"))
    cells = "".join(
        f'<div class="card"><div class="what">{what}</div><div class="number">{number}</div>'
        f'<div class="words">{escape(words)}</div></div>'
        for what, number, words in cards
    )
    return f'<div class="cards" style="grid-template-columns:repeat(auto-fit,minmax(170px,1fr))">{cells}</div>'


def _notes(warnings: Sequence[str]) -> str:
    lines = "".join(f"<p>{escape(text)}</p>" for text in warnings)
    return f'<div class="note warn"><p><b>Look at this</b></p>{lines}</div>' if lines else ""


def _kinds(rows: Sequence[KindCounts], kinds: Sequence[str]) -> str:
    if not rows:
        return ""
    columns: dict[str, list[int]] = {
        "Images": [row.images for row in rows],
        "Defects": [row.defects for row in rows],
        "With outline": [row.with_outline for row in rows],
        "Images without a place": [row.unplaced for row in rows],
    }
    shown = {name: counts for name, counts in columns.items() if any(counts)}
    lengths = {
        "Length, px: from · median · to": [row.length_px for row in rows],
        "in mm": [row.length_mm for row in rows],
    }
    ranges = {name: values for name, values in lengths.items() if any(values)}
    head = "".join(f'<th class="count">{name}</th>' for name in shown) + "".join(f"<th>{name}</th>" for name in ranges)
    body = "".join(
        f'<tr><td><span class="dot" style="background:{color_of(row.kind, kinds)}"></span>{escape(row.kind)}</td>'
        + "".join(f'<td class="count">{counts[number]}</td>' for counts in shown.values())
        + "".join(f"<td>{_range(values[number])}</td>" for values in ranges.values())
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return f"<h2>Kinds of defects</h2><table><tr><th>Kind</th>{head}</tr>{body}</table>"


def _range(values: tuple[float, float, float] | None) -> str:
    return " · ".join(f"{value:.3g}" for value in values) if values else "–"


def _sizes(report: LabelReport) -> str:
    parts = [
        f"<h2>Length of the defects, {unit}</h2>{_histogram(bins, unit)}"
        for unit, bins in (("px", report.lengths_px), ("mm", report.lengths_mm))
        if any(bin_.defects for bin_ in bins)
    ]
    return "".join(parts)


def _histogram(bins: Sequence[Bin], unit: str) -> str:
    most = max(bin_.defects for bin_ in bins)
    used = [index for index, bin_ in enumerate(bins) if bin_.defects]
    rows = "".join(
        f'<tr><td>{_ends(bin_)} {unit}</td><td class="count">{bin_.defects}</td>'
        f'<td class="wide"><div class="bar" style="width:{100 * bin_.defects / most:.1f}%"></div></td></tr>'
        for bin_ in bins[used[0] : used[-1] + 1]
    )
    return f'<table><tr><th>Length</th><th class="count">Defects</th><th></th></tr>{rows}</table>'


def _ends(bin_: Bin) -> str:
    if bin_.high is None:
        return f"{bin_.low:g} and more"
    return f"{bin_.low:g} to {bin_.high:g}" if bin_.low else f"below {bin_.high:g}"


def _duplicates(report: LabelReport) -> str:
    if not report.duplicate_examples:
        return "<h2>Duplicates</h2><p>None found.</p>"
    rows = [(first, f"{second} (correlation {value:.3f})") for first, second, value in report.duplicate_examples]
    words = f"{report.exact_pairs} exact and {report.near_pairs} near pairs of images; the surest:"
    return f"<h2>Duplicates</h2><p>{words}</p>{_table(rows)}"


def _left_out(title: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    more = f"<p class='muted'>and {len(rows) - _NUM_LISTED} more</p>" if len(rows) > _NUM_LISTED else ""
    return f"<h2>{title}: {len(rows)}</h2>{_table(rows[:_NUM_LISTED])}{more}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f'<tr><td class="key">{escape(key)}</td><td>{escape(value)}</td></tr>' for key, value in rows)
    return f"<table>{cells}</table>"
