"""What was asked for beside what was found, and the costs that were measured on an idle machine."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import leaderboard_plan as plan
from leaderboard_cells import number, table, words
from leaderboard_duels import DUEL_METRICS, best, duel
from leaderboard_rows import Measured, unfinished

METRIC_WORDS = {"image_auroc": "image AUROC", "aupro": "AUPRO"}
NOT_MEASURED = "not measured"
_SCORES_WITHIN = re.compile(r"scores within ([0-9.e+-]+)")


def read_costs(out: Path) -> dict[str, dict[str, Any]]:
    """The costs of each of our models that were measured to the end, in the order of the plan."""
    bad = unfinished(out)
    paths = {model: out / "costs" / f"{model}.json" for model in plan.SQUASHED_MODELS}
    there = {model: path for model, path in paths.items() if path.is_file() and f"costs-{model}" not in bad}
    return {model: json.loads(path.read_text(encoding="utf-8")) for model, path in there.items()}


def asked_table(sets: Sequence[Measured], costs: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [*_quality(sets), *_magnetic_tile(sets), *_ratios(costs), *_fits(sets, costs), _parity(sets)]
    return table(("asked", "found"), rows)


def costs_table(costs: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("model", "input, px", "fit, s", "peer's fit, s", "peer / ours", "fit's memory, MB", "peer's memory, MB")
    head += ("file to verdict, ms", "peer's OpenVINO, ms", "peer / ours", "image AUROC")
    head += ("peer's export, image AUROC", "AUPRO", "peer's AUPRO")
    rows = [_cost_row(model, cost) for model, whole in costs.items() for cost in _inputs(whole)]
    errors = {model: cost["peer"]["openvino_error"] for model, cost in costs.items() if _has_error(cost)}
    notes = [f"The peer's {plan.COUNTERPARTS[model]} has no exported times: {errors[model]}\n" for model in errors]
    return "\n".join([table(head, rows), *notes])


def _cost_row(model: str, cost: Mapping[str, Any]) -> tuple[str, ...]:
    peer = cost.get("peer", {})
    return (
        model,
        str(cost["side"]),
        number(cost["fit_seconds"], 1),
        number(peer.get("fit_s"), 1),
        number(_fit_ratio(cost), 1),
        number(cost["peak_memory_mb"], 0),
        number(peer.get("peak_memory_mb"), 0),
        number(cost["file_to_verdict_p50_ms"], 1),
        number(peer.get("openvino_p50_ms"), 1),
        number(_answer_ratio(cost), 1),
        number(cost.get("image_auroc"), 3),
        number(peer.get("openvino_image_auroc"), 3),
        number(cost.get("aupro"), 3),
        number(peer.get("aupro"), 3),
    )


def _inputs(cost: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A model's costs at the full input and at the smaller ones, each beside the same peer's."""
    shared = {"peer": cost["peer"]} if "peer" in cost else {}
    return [{**cost, "side": plan.FULL_INPUT}, *({**small, **shared} for small in cost.get("smaller", ()))]


def _quality(sets: Sequence[Measured]) -> Iterator[tuple[str, str]]:
    for metric in DUEL_METRICS:
        found = {one.name: duel(metric, one, one.ours) for one in sets if one.ours and one.peers}
        known = {name: one for name, one in found.items() if one is not None}
        behind = [words(name) for name, one in known.items() if not one.is_ahead]
        ahead = f"{len(known) - len(behind)} of {len(known)} sets" + (f", not {', '.join(behind)}" if behind else "")
        clear = f"{sum(one.is_clear for one in known.values())} of {len(known)} sets"
        what = f"{METRIC_WORDS[metric]}: our best at least the peer's best"
        yield f"{what}, on every set", ahead if known else NOT_MEASURED
        yield f"{what} by more than the interval, on half of the sets", clear if known else NOT_MEASURED


def _magnetic_tile(sets: Sequence[Measured]) -> Iterator[tuple[str, str]]:
    ours = [row for one in sets if one.name == "magnetic_tile" for row in one.ours]
    for protocol in plan.PROTOCOLS:
        row = best([row for row in ours if row.protocol == protocol], "image_auroc")
        cell = NOT_MEASURED if row is None else f"{row.mean('image_auroc'):.3f} ({row.model})"
        yield f"magnetic tile, {protocol}: image AUROC at least {plan.ASKED_AUROC}", cell


def _ratios(costs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for model, other in plan.COUNTERPARTS.items():
        cost = costs.get(model, {})
        least = plan.ASKED_FIT_RATIO.get(model, plan.ASKED_OTHER_FIT_RATIO)
        yield f"{model}: fit at least {least:.0f} x faster than the peer's {other}", _times(cost, _fit_ratio)
        answer = _answer(cost)
        what = f"{model}: file to verdict at least {plan.ASKED_ANSWER_RATIO:.0f} x faster than the peer's OpenVINO"
        yield f"{what} inferencer, image AUROC not lower", answer


def _fits(sets: Sequence[Measured], costs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    most = max(((row.costs["memory_mb"], one.name, row.name) for one in sets for row in one.ours), default=None)
    cell = NOT_MEASURED if most is None else f"{most[0]:.0f} MB ({words(most[1])}: {most[2]})"
    yield f"memory of any fit under {plan.ASKED_MEMORY_MB:.0f} MB", cell
    for model, seconds in plan.ASKED_FIT_SECONDS.items():
        found = costs.get(model)
        cell = NOT_MEASURED if found is None else f"{found['fit_seconds']:.1f} s on {found['num_images']} images"
        yield f"{model}: fit on 100 images of 256 px under {seconds:.0f} s", cell


def _parity(sets: Sequence[Measured]) -> tuple[str, str]:
    said = [str(report["run"].get("parity", "")) for one in sets for row in one.ours for report in row.reports]
    asked = "torch and ONNX Runtime give the same verdicts on all test images"
    return asked, parity_words(said) if said else NOT_MEASURED


def parity_words(said: Sequence[str]) -> str:
    """Sum up what the runs' reports say of the exported network against torch."""
    same = [text for text in said if "the same verdicts" in text]
    worst = max((float(found[1]) for text in same if (found := _SCORES_WITHIN.search(text))), default=math.nan)
    within = f"; scores within {worst:.1e} (relative)" if math.isfinite(worst) else ""
    return f"{len(same)} of {len(said)} runs{within}"


def _answer(cost: Mapping[str, Any]) -> str:
    """How many times the peer's time is ours, at each input, with the image AUROC of both."""
    answer = _times(cost, _answer_ratio)
    theirs = cost.get("peer", {}).get("openvino_image_auroc")
    if theirs is None or answer == NOT_MEASURED:
        return answer
    parts = [f"{_times(one, _answer_ratio)} at {one['side']} px ({one['image_auroc']:.3f})" for one in _inputs(cost)]
    return f"{', '.join(parts)}; its export ({theirs:.3f}) at {plan.FULL_INPUT} px"


def _times(cost: Mapping[str, Any], ratio_of: Callable[[Mapping[str, Any]], float | None]) -> str:
    if _has_error(cost) and ratio_of is _answer_ratio:
        return "the peer's export fails, see the costs"
    ratio = ratio_of(cost) if cost else None
    return NOT_MEASURED if ratio is None else f"{ratio:.1f} x"


def _fit_ratio(cost: Mapping[str, Any]) -> float | None:
    theirs = cost.get("peer", {}).get("fit_s")
    return None if theirs is None else float(theirs) / float(cost["fit_seconds"])


def _answer_ratio(cost: Mapping[str, Any]) -> float | None:
    theirs = cost.get("peer", {}).get("openvino_p50_ms")
    return None if theirs is None else float(theirs) / float(cost["file_to_verdict_p50_ms"])


def _has_error(cost: Mapping[str, Any]) -> bool:
    return "openvino_error" in cost.get("peer", {})
