"""The peer's stored fits: which files and options each was made of, and whether they are the ones that count."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from leaderboard_plan import PEER_FITS, PEER_OPTIONS

UNSTATED: Mapping[str, float] = {"size": 256, "coreset": 0.01, "epochs": 60}
"""Options of the results that were stored before they said theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFit:
    """A fit of the peer's on a set; `refused` says why it does not count, and is empty where it does."""

    path: Path
    model: str
    number: int
    found: Mapping[str, Any]
    refused: str


def fit_path(out: Path, name: str, model: str, number: int) -> Path:
    return out / "peer" / f"{name}-{model}-{number}.json"


def read_fits(out: Path, name: str, data: Path) -> Iterator[StoredFit]:
    """Read what is stored of a set's fits, in the order of the plan."""
    paths = ((model, k, fit_path(out, name, model, k)) for model, most in PEER_FITS.items() for k in range(most))
    stored = [(model, number, path) for model, number, path in paths if path.is_file()]
    files = fingerprint(data) if stored else ""
    for model, number, path in stored:
        found = json.loads(path.read_text(encoding="utf-8"))
        refused = _why_refused(found, data, files, model)
        yield StoredFit(path=path, model=model, number=number, found=found, refused=refused)


def identity(data: Path, model: str) -> dict[str, Any]:
    """Say what a fit is made of, to be stored with it."""
    return {
        "data": fingerprint(data),
        "model": model,
        "options": dict(PEER_OPTIONS[model]),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "zellige": version("zellige"),
    }


def command_options(model: str) -> tuple[str, ...]:
    """The arguments of `bench_peer.py` for a model."""
    options = [f"--{key}={value}" for key, value in PEER_OPTIONS[model].items()]
    return ("--model", model, *options)


def fingerprint(data: Path) -> str:
    """Hash the names and sizes of a set's files; a set is written once and as a whole."""
    files = sorted(path for split in ("train", "test", "ground_truth") for path in (data / split).rglob("*.png"))
    lines = [f"{path.relative_to(data).as_posix()} {path.stat().st_size}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_ids(data: Path) -> set[str]:
    return {path.relative_to(data).as_posix() for path in (data / "test").glob("*/*.png")}


def _why_refused(found: Mapping[str, Any], data: Path, files: str, model: str) -> str:
    said = found.get("identity")
    if set(found["scores"]) != test_ids(data) or (said is not None and said["data"] != files):
        return "made of other files"
    wanted = PEER_OPTIONS[model]
    options = {key: UNSTATED[key] for key in wanted} if said is None else said["options"]
    return "" if options == wanted else f"made with {options} instead of {dict(wanted)}"
