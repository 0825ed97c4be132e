"""Write docs/leaderboard.md from what `leaderboard.py` measured."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_quality import METRICS
from peer_fit import read_groups

from zellige.evaluation.intervals import mean_interval
from zellige.evaluation.metrics import image_auroc
from zellige.evaluation.paired import difference_noise

PROTOCOLS = ("squashed", "real")
NORMAL_95 = 1.96
INTRODUCTION = """# Leaderboard

Made by `python scripts/leaderboard.py --costs`; every number below was measured by it, the bad ones too. Both sides get
the same files, the same EfficientNet-Lite0 weights and, where it says *squashed*, the same 256 x 256 input; raw scores
and maps are judged by the same metrics. *Real* is the image's own scale, cut into overlapping tiles of 224 px, which
the peer has no counterpart for. The peer is anomalib 2.7.0: PatchCore with coreset ratio 0.01, PaDiM with 100 features,
SuperSimpleNet with 60 epochs instead of 300, of which one fit was made. Its EfficientAD was not measured: it downloads
its teacher and a part of ImageNet, and works nowhere without a network.

Of every set at most 100 good images are for the fit and 200 for the test. Near-duplicates and rolls are kept in one
split. Brackets hold the 95 % t-interval of the mean over the fits; they say nothing of the choice of images. *Best* is
picked on the test set, on both sides alike, so both are a little too good.

Sets: magnetic tile (Huang, Qiu, Yuan 2020); cookies (AWS Lookout for Vision samples, CC BY-SA 4.0); X-SDD (Feng et al.
2021, Apache-2.0) with the commonest kind as good, no masks; mosaic, steel and fabric from our own generator.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """A detector on a set: its fits' qualities and scores. `scores` is (S, N) in the order of `ids`."""

    name: str
    values: Mapping[str, Sequence[float]]
    costs: Mapping[str, float]
    ids: tuple[str, ...]
    scores: np.ndarray
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Size class of each test image, of our runs only."""

    def mean(self, metric: str) -> float:
        return float(np.mean(self.values[metric]))


def write_page(out: Path, page: Path) -> None:
    """Write the page from the folders that are there; a set that nobody measured is absent from it."""
    names = sorted({path.name.split("-")[0] for path in out.glob("runs/*/comparison.json")})
    sections, duels, sizes = [], [], []
    for name in names:
        ours, peers = read_ours(out, name), read_peers(out, name)
        sections.append(_section(name, ours, peers))
        if ours and peers:
            duels.append(_duel(name, ours, peers))
        if ours:
            sizes += _sizes(name, ours, peers)
    text = [INTRODUCTION, "## Our best against the peer's best\n", _table(_DUEL_HEAD, duels), *sections]
    text += [
        "## Small defects: image AUROC by the length of the largest drawn defect\n",
        _SIZES,
        _table(_SIZE_HEAD, sizes),
    ]
    if (out / "costs.json").is_file():
        text.append(_costs(json.loads((out / "costs.json").read_text())))
    page.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def read_ours(out: Path, name: str) -> list[Row]:
    rows = []
    for protocol in PROTOCOLS:
        for path in sorted(out.glob(f"runs/{name}-{protocol}-*/comparison.json")):
            found = json.loads(path.read_text())["candidates"][0]
            runs = sorted(out.glob(f"runs/{path.parent.name}-{found['candidate']}-s*/predictions.csv"))
            if not runs:
                continue
            stored = [_read_predictions(run) for run in runs]
            ids = tuple(stored[0])
            values = {key: [_nan(v) for v in found["values"][key]] for key in METRICS}
            costs = {key: _nan(found.get(key)) for key in ("fit_seconds", "station_p50_ms", "bundle_mb")}
            rows.append(
                Row(
                    name=f"{found['candidate']}, {protocol}",
                    values=values,
                    costs=costs,
                    ids=ids,
                    scores=np.array([[float(one[i]["score"]) for i in ids] for one in stored]),
                    sizes={i: stored[0][i]["size_class"] for i in ids},
                )
            )
    return rows


def read_peers(out: Path, name: str) -> list[Row]:
    fits: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob(f"peer/{name}-*.json")):
        fits.setdefault(path.stem.split("-")[1], []).append(json.loads(path.read_text()))
    rows = []
    for model, found in fits.items():
        ids = tuple(found[0]["scores"])
        rows.append(
            Row(
                name=f"peer: {model}",
                values={key: [_nan(fit[key]) for fit in found] for key in METRICS},
                costs={"fit_seconds": float(np.median([fit["fit_s"] for fit in found]))},
                ids=ids,
                scores=np.array([[fit["scores"][i] for i in ids] for fit in found]),
            )
        )
    return rows


def _section(name: str, ours: Sequence[Row], peers: Sequence[Row]) -> str:
    rows = [
        (row.name, *(_spread(row.values[key]) for key in METRICS), _number(row.costs.get("bundle_mb"), 1))
        for row in [*ours, *peers]
    ]
    head = ("model", "image AUROC", "pixel AUROC", "AUPRO", "bundle, MB")
    num = len(ours[0].ids) if ours else 0
    good = sum(_is_good(i) for i in ours[0].ids) if ours else 0
    return f"## {name.replace('_', ' ')}: {good} good and {num - good} defective test images\n\n{_table(head, rows)}"


_DUEL_HEAD = ("set", "image AUROC, ours", "peer", "difference", "AUPRO, ours", "peer", "difference")


def _duel(name: str, ours: Sequence[Row], peers: Sequence[Row]) -> tuple[str, ...]:
    cells: list[str] = [name.replace("_", " ")]
    for metric in ("image_auroc", "aupro"):
        own, other = (_best(rows, metric) for rows in (ours, peers))
        if own is None or other is None:
            cells += ["no masks", "", ""]
            continue
        difference = own.mean(metric) - other.mean(metric)
        noise = _noise(name, own, other) if metric == "image_auroc" else _seed_noise(own, other, metric)
        around = f" ± {noise:.3f}" if math.isfinite(noise) else " (one fit: no interval)"
        cells += [f"{row.mean(metric):.3f} ({row.name.removeprefix('peer: ')})" for row in (own, other)]
        cells.append(f"{difference:+.3f}{around}")
    return tuple(cells)


def _best(rows: Sequence[Row], metric: str) -> Row | None:
    known = [row for row in rows if math.isfinite(row.mean(metric))]
    return max(known, key=lambda row: row.mean(metric), default=None)


def _noise(name: str, own: Row, other: Row) -> float:
    """Half of the 95 % interval of the difference: over the test images and over the fits."""
    groups, num = read_groups(Path("data/bench") / name), min(len(own.scores), len(other.scores))
    order = [other.ids.index(i) for i in own.ids]
    is_defective = np.array([not _is_good(i) for i in own.ids])
    noise = difference_noise(own.scores[:num], other.scores[:num][:, order], is_defective, [groups[i] for i in own.ids])
    return NORMAL_95 * noise


def _seed_noise(own: Row, other: Row, metric: str) -> float:
    """Half of the 95 % interval of the difference of two means over the fits; the images are the same."""
    halves = [mean_interval(row.values[metric]) for row in (own, other)]
    return math.hypot(*((high - low) / 2 for low, high in halves))


_SIZE_HEAD = ("set", "defects", "n", "our best, squashed", "our best, real scale", "peer's best, squashed")
_SIZES = "Defective images of a size against all good ones; *best* as above, by the AUROC over all sizes.\n"


def _sizes(name: str, ours: Sequence[Row], peers: Sequence[Row]) -> list[tuple[str, ...]]:
    by_protocol = [_best([row for row in ours if row.name.endswith(p)], "image_auroc") for p in PROTOCOLS]
    contenders = [*by_protocol, _best(peers, "image_auroc")]
    sizes = ours[0].sizes
    classes = dict.fromkeys(size for i, size in sizes.items() if not _is_good(i))
    rows = []
    for size in sorted(classes, key=_first_number):
        chosen = {i for i in sizes if _is_good(i) or sizes[i] == size}
        cells = [_auroc_of(row, chosen) for row in contenders]
        rows.append((name.replace("_", " "), size, str(sum(not _is_good(i) for i in chosen)), *cells))
    return rows if len(rows) > 1 else []


def _auroc_of(row: Row | None, chosen: set[str]) -> str:
    if row is None:
        return ""
    columns = [position for position, i in enumerate(row.ids) if i in chosen]
    is_defective = np.array([not _is_good(row.ids[position]) for position in columns])
    values = [image_auroc(scores[columns], is_defective) for scores in row.scores]
    return f"{np.mean(values):.3f} ({row.name.removeprefix('peer: ').split(',')[0]})"


_COSTS = """## Costs

Magnetic tile squashed, 100 images for the fit, one run on an otherwise idle machine of two cores. The peer's
SuperSimpleNet had 60 of its 300 epochs. An inspection is from the file to the answer; the peer's is its own OpenVINO
inferencer.
"""


def _costs(costs: Mapping[str, Any]) -> str:
    head = (
        "model",
        "fit, s",
        "peer's fit, s",
        "peer / ours",
        "file to verdict, ms",
        "peer's OpenVINO, ms",
        "ratio",
        "fit's memory, MB",
    )
    rows = []
    for model, cost in costs.items():
        peer = cost.get("peer", {})
        fit, answer = cost["fit_seconds"], cost["file_to_verdict_p50_ms"]
        other_fit, other_answer = peer.get("fit_s"), peer.get("openvino_p50_ms")
        ratios = [
            None if theirs is None else theirs / own for theirs, own in ((other_fit, fit), (other_answer, answer))
        ]
        cells = (_number(fit, 1), _number(other_fit, 1), _number(ratios[0], 1))
        rows.append(
            (
                model,
                *cells,
                _number(answer, 1),
                _number(other_answer, 1),
                _number(ratios[1], 1),
                _number(cost["peak_memory_mb"], 0),
            )
        )
    return f"{_COSTS}\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _read_predictions(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _is_good(name: str) -> bool:
    return Path(name).parent.name == "good"


def _first_number(size: str) -> tuple[int, float]:
    if size.startswith("<"):
        return 0, 0.0
    digits = [word for word in size.replace(">=", "").split() if word.replace(".", "").isdigit()]
    return (1, float(digits[0])) if digits else (2, 0.0)


def _spread(values: Sequence[float]) -> str:
    if not math.isfinite(float(np.mean(values))):
        return ""
    low, high = mean_interval(values)
    return f"{np.mean(values):.3f} " + (f"[{max(low, 0):.3f}, {min(high, 1):.3f}]" if len(values) > 1 else "(one fit)")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
