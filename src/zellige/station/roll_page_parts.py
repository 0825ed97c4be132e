"""The parts of a roll's page, as HTML; everything that came from files is escaped here."""

from collections.abc import Iterable
from html import escape

from zellige.station.roll_files import JudgedRoll, RollRepeat, RollSummary
from zellige.station.roll_frame import density_words
from zellige.station.roll_layout import RollLayout, density_text, is_in_m, length_words
from zellige.station.roll_map import hatch_defs, plot_markup, plot_view, strip_markup, strip_view

MAX_REPEATS = 50
_MAX_STRETCHES = 100


def page_parts(layout: RollLayout, num_crops: int, num_left_out: int) -> list[str]:
    """Make the page's body from top to bottom.

    Args:
        layout: what the map draws.
        num_crops: how many pictures the page holds.
        num_left_out: how many more lie beside it.
    """
    roll, summary = layout.roll, layout.roll.summary
    parts = [_header(roll), _state(summary), _light(summary), _cards(layout), _map(layout)]
    parts.append(_detail(layout, num_crops, num_left_out))
    parts += [_lanes(summary), _repeats(summary), _stretches(roll), _table(layout), _identity(summary)]
    return [part for part in parts if part]


def _header(roll: JudgedRoll) -> str:
    summary = roll.summary
    size = "size not known yet"
    if summary.length_mm is not None and summary.width_mm is not None:
        size = f"{_along(roll, summary.length_mm)} long, {summary.width_mm:,.1f} mm wide"
    return f'<header><h1>Roll {escape(summary.source)}</h1><div class="muted">{size}</div></header>'


def _state(summary: RollSummary) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in summary.notes)
    if not summary.complete:
        reason = escape(summary.reason or "no reason is stated")
        return f'<div class="note warn"><p><b>Not complete:</b> {reason}</p>{notes}</div>'
    if summary.undecided:
        words = "Complete, but parts of it were not judged: see Undecided stretches."
        return f'<div class="note warn"><p><b>{words}</b></p>{notes}</div>'
    return f'<div class="note ok"><p><b>Complete:</b> all of the roll was judged.</p>{notes}</div>'


def _light(summary: RollSummary) -> str:
    if summary.drift is None:
        return ""
    words = escape(summary.drift.words)
    if summary.drift.found:
        return f'<div class="note warn"><p><b>Light or camera changed:</b> {words}.</p></div>'
    return f'<p class="muted">Light and camera: {words}.</p>'


def _cards(layout: RollLayout) -> str:
    roll, summary = layout.roll, layout.roll.summary
    streaks = sum(d.is_continuation for d in roll.defects)
    density = "–" if summary.defects_per_m2 is None else density_text(summary.defects_per_m2)
    peak = f"at most {density_text(max(layout.densities))} within {_along(roll, layout.bin_mm)}"
    spread = "not known yet" if summary.defects_per_m2 is None else peak if roll.defects else "none"
    is_searched = "repeats" in summary.model_fields_set
    repeats = "marks of one period" if summary.repeats else "no roller fault seen"
    undecided_mm = roll.undecided_mm
    share = f"{100 * undecided_mm / roll.length_mm:.2g} % of the length" if undecided_mm else "all was judged"
    grades = "; ".join(f"{grade.lane}: {grade.grade}" for grade in summary.grades)
    cards = [
        ("Defects", f"{len(roll.defects) - streaks:,}", f"in {len(roll.defects):,} records" if streaks else "found"),
        ("Defects per m²", density, spread),
        ("Repeats", *((str(len(summary.repeats)), repeats) if is_searched else ("–", "not searched yet"))),
        ("Undecided", _along(roll, undecided_mm), share if summary.complete else f"so far; {share}"),
    ]
    if summary.grades:
        cards.insert(0, ("Lanes", _grade_counts(summary), grades if len(grades) <= 90 else grades[:87] + "..."))
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><div class="what">{escape(what)}</div><div class="number">{escape(number)}</div>'
            f'<div class="words">{escape(words)}</div></div>'
            for what, number, words in cards
        )
        + "</div>"
    )


def _grade_counts(summary: RollSummary) -> str:
    grades = [grade.grade for grade in summary.grades]
    text = ", ".join(f"{grades.count(grade)} × {grade}" for grade in dict.fromkeys(sorted(grades)))
    return text if len(text) <= 40 else f"{len(grades)} graded"


def _map(layout: RollLayout) -> str:
    roll = layout.roll
    left_out = len(roll.defects) - len(layout.markers)
    buttons = "".join(
        f'<button type="button" id="{name}" title="{title}" aria-label="{title}">{text}</button>'
        for name, text, title in (
            ("zoom-in", "+", "Zoom in (key +)"),
            ("zoom-out", "−", "Zoom out (key −)"),
            ("pan-back", "◀", "Towards the start (left arrow)"),
            ("pan-on", "▶", "Towards the end (right arrow)"),
            ("show-all", "Whole roll", "Show the whole roll (key 0)"),
        )
    )
    kinds = "".join(
        f'<li><svg width="14" height="14" aria-hidden="true"><rect class="k{i}" width="14" height="14"/></svg> '
        f"{escape(kind)} <span class='muted'>{count:,}</span></li>"
        for i, (kind, _, count) in enumerate(layout.kinds)
    )
    hatch = '<li><span class="hatch"></span> undecided, not judged</li>' if roll.summary.undecided else ""
    names = escape(" | ".join(camera.name for camera in roll.summary.cameras))
    seams = f'<li><span class="seam"></span> between cameras {names}</li>' if roll.seams_mm else ""
    note = f"<p>The map shows the {len(layout.markers):,} most notable of {len(roll.defects):,} defects.</p>"
    markers = (
        "The longest or highest-scored 40 % have larger markers, 10 % the largest. A defect that is larger than its "
        "marker has its own size. "
    )
    label = (
        f"Map of the roll: {len(roll.defects)} defects. Arrow keys move, plus and minus zoom, N shows the next defect."
    )
    return (
        f'<section id="map"><div class="bar-top"><h2>Map</h2><div class="tools">{buttons}</div>'
        '<div id="shown" class="muted" aria-live="polite"></div></div>'
        '<noscript><div class="note warn">This page needs JavaScript; '
        "roll_map.svg and defects.csv hold the same.</div></noscript>"
        '<div class="grid"><div id="across"><span class="unit">mm</span></div>'
        f'<div class="holder"><svg class="plot" id="plot" tabindex="0" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="none" viewBox="{plot_view(layout)}">{hatch_defs(layout, 1000, 340)}'
        f'{plot_markup(layout)}<g id="cross"></g></svg><div id="tip" hidden></div></div><div id="lane-names"></div>'
        '<div></div><div id="along"></div><div id="along-unit" class="muted"></div>'
        f'<div></div><svg class="plot" id="strip" aria-hidden="true" preserveAspectRatio="none" '
        f'viewBox="{strip_view(layout)}">{strip_markup(layout)}</svg><div></div>'
        f'<div></div><div class="muted caption">{escape(density_words(layout))}</div><div></div></div>'
        f'<ul class="legend">{kinds}{hatch}{seams}</ul><p class="muted">{markers if layout.markers else ""}'
        f"Length and width have different scales until you zoom in far.</p>{note if left_out else ''}</section>"
    )


def _detail(layout: RollLayout, num_crops: int, num_left_out: int) -> str:
    if not layout.markers:
        return ""
    words = f"This page holds {num_crops or 'no'} pictures of defects"
    if num_left_out:
        words = f"This page holds pictures of the {num_crops:,} largest defects that have one; "
        words += f"{num_left_out:,} more are in crops/"
    gallery = '<h3 id="largest-title">The largest</h3><div id="largest" class="gallery"></div>' if num_crops else ""
    return (
        '<section><div id="detail" aria-live="polite"><div id="crop">Picture</div><div>'
        '<h3 id="detail-title">No defect chosen</h3>'
        '<div id="detail-text" class="muted">Click on a defect in the map, or on a row of the table.'
        "</div>"
        '<div class="tools"><button type="button" id="previous">Previous</button>'
        '<button type="button" id="next">Next</button>'
        '<button type="button" id="zoom-to" disabled>Zoom to it</button></div></div></div>'
        f"{gallery}<p class='muted'>{words}.</p></section>"
    )


def _lanes(summary: RollSummary) -> str:
    if not summary.lanes:
        return ""
    grades = {grade.lane: grade for grade in summary.grades}
    rows = []
    for lane in summary.lanes:
        grade = grades.get(lane.name)
        points = "–" if grade is None or grade.points is None else f"{grade.points:.3g}"
        reasons = "<br>".join(escape(reason) for reason in grade.reasons) if grade else ""
        rows.append(
            f'<tr><td>{escape(lane.name)}</td><td class="count">{lane.from_mm:,.1f} to {lane.to_mm:,.1f}</td>'
            f'<td><b>{escape(grade.grade if grade else "not graded")}</b></td><td class="count">{points}</td>'
            f"<td>{reasons}</td></tr>"
        )
    head = (
        '<tr><th>Lane</th><th class="count">Across, mm</th><th>Grade</th><th class="count">Points per 100 yd²</th>'
        "<th>Why not better</th></tr>"
    )
    body = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<section id="lanes"><h2>Lanes</h2>{body}</section>'


def _repeats(summary: RollSummary) -> str:
    if not summary.repeats:
        return ""
    rows = "".join(_repeat(i, repeat) for i, repeat in enumerate(summary.repeats[:MAX_REPEATS]))
    more = _more(len(summary.repeats), MAX_REPEATS)
    head = (
        '<tr><th class="count">Every, mm</th><th class="count">Marks</th><th class="count">Across, mm</th>'
        "<th>Rollers that fit</th><th></th></tr>"
    )
    return (
        "<section><h2>Repeats</h2><p class='muted'>Defects at one place across, evenly spaced along: something "
        "that turns marks the web.</p><table class=narrow>"
        f"<thead>{head}</thead><tbody>{rows}</tbody></table>{more}</section>"
    )


def _repeat(index: int, repeat: RollRepeat) -> str:
    place = "–" if repeat.x_mm is None else f"{repeat.x_mm:,.1f}"
    return (
        f'<tr><td class="count">{repeat.period_mm:,.1f}</td><td class="count">{len(repeat.numbers):,}</td>'
        f'<td class="count">{place}</td><td>{escape(", ".join(repeat.rollers)) or "none of the known rollers"}</td>'
        f'<td><button type="button" class="show-repeat" data-repeat="{index}">Show these</button></td></tr>'
    )


def _stretches(roll: JudgedRoll) -> str:
    stretches = roll.summary.undecided
    if not stretches:
        return ""
    rows = "".join(
        f'<tr><td class="count">{_along(roll, s.from_mm)}</td><td class="count">{_along(roll, s.to_mm)}</td>'
        f"<td>{escape(s.reason)}</td></tr>"
        for s in stretches[:_MAX_STRETCHES]
    )
    head = '<tr><th class="count">From</th><th class="count">To</th><th>Why</th></tr>'
    return (
        "<section><h2>Undecided stretches</h2><p class='muted'>These were not judged. They may hold defects.</p>"
        f"<table class=narrow><thead>{head}</thead><tbody>{rows}</tbody></table>"
        f"{_more(len(stretches), _MAX_STRETCHES)}</section>"
    )


def _more(count: int, shown: int) -> str:
    return f"<p class='muted'>And {count - shown:,} more: see roll.json.</p>" if count > shown else ""


def _table(layout: RollLayout) -> str:
    if not layout.markers:
        return "<section><h2>Defects</h2><p>No defect was found.</p></section>"
    columns = (
        ("number", "No."),
        ("along", "Along, m" if is_in_m(layout.roll) else "Along, mm"),
        ("across", "Across, mm"),
        ("length", "Length, mm"),
        ("width", "Width, mm"),
        ("area", "Area, mm²"),
        ("score", "Score"),
        ("kind", "Kind"),
        ("lanes", "Lanes"),
        ("crop", "Picture"),
    )
    head = "".join(
        f'<th scope="col"{"" if key in ("kind", "lanes", "crop") else " class=count"}>'
        f'<button type="button" data-sort="{key}">{name}</button></th>'
        for key, name in columns
    )
    left_out = len(layout.roll.defects) - len(layout.markers)
    note = f"<p class='muted'>{left_out:,} less notable defects are in defects.csv alone.</p>" if left_out else ""
    return (
        '<section id="defects"><h2>Defects</h2><form class="filters" id="filters">'
        '<label>Kind <select id="by-kind"></select></label><label>Lane <select id="by-lane"></select></label>'
        '<label>At least, mm <input id="by-length" type="number" min="0" step="any" inputmode="decimal"></label>'
        '<label>Repeat <select id="by-repeat"></select></label><button type="reset">Show all</button></form>'
        '<div class="bar-top"><div id="count" aria-live="polite"></div><div class="tools">'
        '<button type="button" id="page-back">Back</button><span id="page-number"></span>'
        '<button type="button" id="page-on">On</button></div></div>'
        f'<div class="wide"><table id="table"><thead><tr>{head}</tr></thead><tbody></tbody></table></div>'
        f"{note}</section>"
    )


def _identity(summary: RollSummary) -> str:
    speed = summary.speed
    facts: list[tuple[str, object]] = [("Recording", summary.source), ("Bundle", summary.bundle_id)]
    if summary.num_lines is not None:
        facts.append(("Lines", f"{summary.num_lines:,}"))
    if speed is not None and speed.mp_per_s is not None and speed.lines_per_s is not None:
        facts.append(("Inspected at", f"{speed.lines_per_s:,.0f} lines/s, {speed.mp_per_s:.3g} MP/s"))
    facts.append(("Files beside this page", "roll.json, defects.csv, crops/, roll_map.svg, roll_map.png"))
    return f"<footer><h2>Record</h2>{_key_values(facts)}</footer>"


def _key_values(rows: Iterable[tuple[str, object]]) -> str:
    cells = "".join(f'<tr><td class="key">{key}</td><td>{escape(str(value))}</td></tr>' for key, value in rows)
    return f"<table>{cells}</table>"


def _along(roll: JudgedRoll, mm: float) -> str:
    in_m = is_in_m(roll)
    return f"{length_words(round(mm, 1), in_m=in_m)} {'m' if in_m else 'mm'}"
