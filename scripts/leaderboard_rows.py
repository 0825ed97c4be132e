"""Read what `leaderboard.py` measured: one row for each of our models and of the peer's on a set."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_quality import METRICS
from leaderboard_cells import or_nan
from leaderboard_plan import NO_SEED, PEER_FITS, PROTOCOLS, models_for
from peer_results import read_fits

UNFINISHED = "unfinished"
"""Folder of a file for each thing that was begun and has not ended well: its stored results are old or partial."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """A detector on a set: its fits' qualities and scores. `scores` is (S, N) in the order of `ids`."""

    model: str
    protocol: str
    is_peer: bool
    values: Mapping[str, Sequence[float]]
    costs: Mapping[str, float]
    """Of the fits together: "fit_s" their median, "memory_mb" the most, "station_ms", "bundle_mb", "num_vectors"."""
    ids: tuple[str, ...]
    scores: np.ndarray
    reports: Sequence[Mapping[str, Any]] = ()
    """report.json of each of our fits."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Size class of each test image, of our runs only."""

    @property
    def name(self) -> str:
        return f"peer: {self.model}" if self.is_peer else f"{self.model}, {self.protocol}"

    @property
    def is_seeded(self) -> bool:
        return self.is_peer or self.model not in NO_SEED

    @property
    def num_fits(self) -> int:
        return len(self.scores)

    def mean(self, metric: str) -> float:
        return float(np.mean(self.values[metric]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """All that counts of a set, and one line for each result that is there and does not."""

    name: str
    data: Path
    ours: Sequence[Row]
    peers: Sequence[Row]
    facts: Sequence[Mapping[str, str]]
    """Of each of our comparisons: machine, commit, fingerprint."""
    refused: Sequence[str]

    @property
    def groups(self) -> dict[str, str]:
        """The group of each file: near-duplicates, rolls."""
        with (self.data / "manifest.csv").open(newline="", encoding="utf-8") as file:
            return {row["path"]: row["group"] for row in csv.DictReader(file)}


def measured_sets(out: Path) -> list[str]:
    """Name the sets of which something is stored."""
    ours = (path.parent.name for path in out.glob("runs/*/comparison.json"))
    return sorted({name.split("-")[0] for name in (*ours, *(path.name for path in out.glob("peer/*.json")))})


def marker_path(out: Path, name: str) -> Path:
    return out / UNFINISHED / f"{name}.txt"


def unfinished(out: Path) -> dict[str, str]:
    """What was begun and has not ended well, by name, and why."""
    return {path.stem: path.read_text(encoding="utf-8").strip() for path in sorted(out.glob(f"{UNFINISHED}/*.txt"))}


def read_set(out: Path, name: str, data: Path) -> Measured:
    refused: list[str] = []
    ours, facts = _read_ours(out, name, refused)
    peers = _read_peers(out, name, data, refused)
    odd = [row for row in peers if ours and set(row.ids) != set(ours[0].ids)]
    refused += [f"{name}, {row.name}: scores of other test images than ours" for row in odd]
    peers = [row for row in peers if row not in odd]
    return Measured(name=name, data=data, ours=ours, peers=peers, facts=facts, refused=refused)


def _read_ours(out: Path, name: str, refused: list[str]) -> tuple[list[Row], list[Mapping[str, str]]]:
    rows, facts, bad = [], [], unfinished(out)
    for protocol, model in ((p, m) for p in PROTOCOLS for m in models_for(name, p)):
        folder = out / "runs" / f"{name}-{protocol}-{model}"
        if folder.name in bad or not (folder / "comparison.json").is_file():
            continue
        comparison = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        found = comparison["candidates"][0]
        if found["error"] or not found["values"]:
            refused.append(f"{name}, {protocol}, {model}: {found['error'] or 'no finished run'}")
            continue
        runs = [out / "runs" / run["run"] for run in comparison["runs"]]
        rows.append(_our_row(model, protocol, found, runs))
        facts.append(comparison["facts"])
    return rows, facts


def _our_row(model: str, protocol: str, found: Mapping[str, Any], runs: Sequence[Path]) -> Row:
    stored = [_read_predictions(run / "predictions.csv") for run in runs]
    ids, values = tuple(stored[0]), found["values"]
    costs = {
        "fit_s": float(np.median(values["fit_seconds"])),
        "memory_mb": float(np.max(values["peak_memory_mb"])),
        "station_ms": or_nan(found["station_p50_ms"]),
        "bundle_mb": or_nan(found["bundle_mb"]),
        "num_vectors": or_nan(_num_vectors(runs[0] / "detector.safetensors")),
    }
    return Row(
        model=model,
        protocol=protocol,
        is_peer=False,
        values={key: [or_nan(value) for value in values[key]] for key in METRICS},
        costs=costs,
        ids=ids,
        scores=np.array([[float(one[i]["score"]) for i in ids] for one in stored]),
        reports=[json.loads((run / "report.json").read_text(encoding="utf-8")) for run in runs],
        sizes={i: stored[0][i]["size_class"] for i in ids},
    )


def _read_peers(out: Path, name: str, data: Path, refused: list[str]) -> list[Row]:
    bad, fits = unfinished(out), dict[str, list[Mapping[str, Any]]]()
    for fit in read_fits(out, name, data):
        if fit.refused:
            refused.append(f"{name}, peer: {fit.model} {fit.number}: {fit.refused}")
        elif fit.path.stem not in bad:
            fits.setdefault(fit.model, []).append(fit.found)
    return [_peer_row(model, fits[model]) for model in PEER_FITS if model in fits]


def _peer_row(model: str, found: Sequence[Mapping[str, Any]]) -> Row:
    ids = tuple(found[0]["scores"])
    return Row(
        model=model,
        protocol=PROTOCOLS[0],
        is_peer=True,
        values={key: [or_nan(fit[key]) for fit in found] for key in METRICS},
        costs={
            "fit_s": float(np.median([fit["fit_s"] for fit in found])),
            "memory_mb": float(max(fit["peak_memory_mb"] for fit in found)),
            "num_vectors": or_nan(found[-1].get("num_vectors")),
        },
        ids=ids,
        scores=np.array([[fit["scores"][i] for i in ids] for fit in found]),
    )


def _read_predictions(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _num_vectors(path: Path) -> int | None:
    """Vectors in the banks of a stored detector, all stages together; None where it has no bank.

    Source: the head of a safetensors file, 8 bytes of length and then JSON with each tensor's shape.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    banks = [entry["shape"][0] for key, entry in head.items() if key.startswith("banks.") and key.endswith(".vectors")]
    return sum(banks) if banks else None
