"""scripts/leaderboard.py: the page that it writes from made-up results, and what it does where a peer's fit fails."""

import csv
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAME = "magnetic_tile"
IDS = [f"test/{kind}/{number}.png" for kind in ("crack", "good") for number in range(4)]
LABELS = np.repeat([1, 0], 4)
OURS = np.array([[9, 8, 7, 2, 1, 3, 4, 5], [9, 8, 2, 1, 0, 3, 4, 5], [9, 8, 7, 6, 1, 3, 4, 7.5]])
PEERS = np.array([[9, 2, 1, 6, 3, 4, 5, 0.5], [9, 2, 1, 0, 3, 4, 5, 0.5]])
AUPRO = {"ours": [0.70, 0.72, 0.77], "peer": [0.60, 0.64]}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    data = tmp_path / "bench" / NAME
    for name in IDS:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"an image")
    with (data / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "group"), *((name, name) for name in IDS)])
    return data.parent


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard"


def aurocs(scores: np.ndarray) -> list[float]:
    return [float(roc_auc_score(LABELS, one)) for one in scores]


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def store_ours(out: Path, protocol: str, model: str, scores: np.ndarray, *, error: str = "") -> None:
    """What compare.py leaves behind of a model's runs, as far as the page reads it."""
    folder = f"{NAME}-{protocol}-{model}"
    runs = [f"{folder}-{model}-s{seed}" for seed in range(len(scores))]
    for run, row in zip(runs, scores, strict=True):
        parity = "8 images, the same verdicts, scores within 3.0e-07 (relative), maps within 1e-06"
        shortcut = {"auroc": 0.61, "by_feature": {"size": 0.58}}
        write_json(out / "runs" / run / "report.json", {"run": {"parity": parity}, "data": {"shortcut": shortcut}})
        with (out / "runs" / run / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            sizes = ["< 10 px"] * 2 + [">= 100 px"] * 2 + [""] * 4
            csv.writer(file).writerows([("id", "score", "size_class"), *zip(IDS, row, sizes, strict=True)])
    values = {"image_auroc": aurocs(scores), "pixel_auroc": [None] * len(scores), "aupro": AUPRO["ours"][: len(scores)]}
    values |= {"fit_seconds": [4.0, 9.0, 5.0][: len(scores)], "peak_memory_mb": [800.0, 950.0, 700.0][: len(scores)]}
    found = {"candidate": model, "error": error, "values": {} if error else values, "station_p50_ms": 40.0}
    facts = {"Machine": "A machine, 2 CPUs", "Code (git commit)": "abc123"}
    content = {"candidates": [found | {"bundle_mb": 5.5}], "runs": [{"run": run} for run in runs], "facts": facts}
    write_json(out / "runs" / folder / "comparison.json", content)


def store_peer(out: Path, number: int, row: Sequence[float], **more: object) -> None:
    """A result without its identity, as they were stored before they had one."""
    found = {"fit_s": 100.0 + 40 * number, "peak_memory_mb": 1200, "image_auroc": aurocs(np.array([row]))[0]}
    found |= {"pixel_auroc": None, "aupro": AUPRO["peer"][number % 2], "scores": dict(zip(IDS, row, strict=True))}
    write_json(out / "peer" / f"{NAME}-patchcore-{number}.json", found | more)


def cells(page: str, heading: str, first: str) -> list[str]:
    """The cells of the line of a table that begins so, below a heading."""
    lines = page[page.index(heading) :].splitlines()
    return next(line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {first} |"))


def slow_half_width(ours: np.ndarray, peers: np.ndarray) -> float:
    """1.96 standard errors of the difference of mean AUROCs: fits and images, written out with loops."""

    def won(row: np.ndarray, index: int) -> float:
        rivals = [row[k] for k in range(8) if LABELS[k] != LABELS[index]]
        sign = 1 if LABELS[index] else -1
        return float(np.mean([np.heaviside(sign * (row[index] - rival), 0.5) for rival in rivals]))

    of_fits = sum(np.var(aurocs(side), ddof=1) / len(side) for side in (ours, peers))
    gap = np.mean(aurocs(ours)) - np.mean(aurocs(peers))
    parts = [(np.mean([won(r, k) for r in ours]) - np.mean([won(r, k) for r in peers]) - gap) / 4 for k in range(8)]
    return float(1.96 * np.sqrt(of_fits + np.square(parts).sum() * 8 / 7))


def page_of(out: Path, bench: Path) -> str:
    importlib.import_module("leaderboard_page").write_page(out, out / "page.md", bench)
    return (out / "page.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("scripts")
def test_the_page_says_what_was_stored(out: Path, bench: Path) -> None:
    store_ours(out, "squashed", "patchcore", OURS)
    store_ours(out, "squashed", "subspace", OURS[:1] * 0)
    for number, row in enumerate(PEERS):
        store_peer(out, number, row)
    peer = {"fit_s": 120.0, "peak_memory_mb": 1300, "openvino_p50_ms": 300.0, "openvino_image_auroc": 0.71}
    ours = {"fit_seconds": 5.0, "peak_memory_mb": 900, "file_to_verdict_p50_ms": 40.0, "image_auroc": 0.9}
    smaller = ours | {"side": 160, "file_to_verdict_p50_ms": 10.0, "image_auroc": 0.72}
    write_json(out / "costs" / "patchcore.json", ours | {"num_images": 100, "peer": peer, "smaller": [smaller]})
    page = page_of(out, bench)

    mean, (low, high) = np.mean(aurocs(OURS)), stats.t.interval(0.95, 2, np.mean(aurocs(OURS)), stats.sem(aurocs(OURS)))
    row = cells(page, "### magnetic tile", "patchcore, squashed")
    assert row[:3] == ["patchcore, squashed", "3", f"{mean:.3f} [{low:.3f}, {min(high, 1):.3f}]"]
    assert row[5:9] == ["5.0", "40", "950", "5.5"]
    assert cells(page, "### magnetic tile", "subspace, squashed")[2] == "0.500 (no seed)"
    assert cells(page, "### magnetic tile", "peer: patchcore")[5] == "120.0"
    assert "Height and width alone reach image AUROC 0.58" in page

    duel = cells(page, "### The same, both squashed", "magnetic tile")
    gap = mean - np.mean(aurocs(PEERS))
    assert duel[3] == f"{gap:+.3f} ± {slow_half_width(OURS, PEERS):.3f}"
    halves = [stats.sem(v) * stats.t.ppf(0.975, len(v) - 1) for v in AUPRO.values()]
    assert duel[6] == f"{0.73 - 0.62:+.3f} ± {np.hypot(*halves):.3f}"

    small = [*range(2), *range(4, 8)]
    auroc = np.mean([roc_auc_score(LABELS[small], row[small]) for row in OURS])
    assert cells(page, "## Small defects", "magnetic tile")[1:4] == ["< 10 px", "2", f"{auroc:.3f} (patchcore)"]
    asked = dict(line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| patchcore: "))
    answer = "7.5 x at 256 px (0.900), 30.0 x at 160 px (0.720); its export (0.710) at 256 px"
    assert list(asked.values()) == ["24.0 x", answer, "5.0 s on 100 images"]
    assert "| 4 of 4 runs; scores within 3.0e-07 (relative) |" in page
    assert "Left out" not in page
    planned = page[page.index("## Not measured yet") :]
    assert "padim, squashed (0 of 3)" in planned
    assert "patchcore, squashed" not in planned
    assert "peer: supersimplenet (0 of 1)" in planned


OTHER_FILES: Mapping[str, Any] = {"data": "0" * 64, "options": {"size": 256, "coreset": 0.01}}


@pytest.mark.usefixtures("scripts")
def test_what_failed_or_is_of_other_files_is_named_and_not_shown(out: Path, bench: Path) -> None:
    store_ours(out, "squashed", "patchcore", OURS)
    store_ours(out, "squashed", "padim", OURS, error="seed 0: out of memory")
    store_ours(out, "real", "patchcore", OURS)
    (out / "unfinished").mkdir()
    (out / "unfinished" / f"{NAME}-real-patchcore.txt").write_text("error: no space\n", encoding="utf-8")
    store_peer(out, 0, PEERS[0])
    store_peer(out, 1, PEERS[1], identity=OTHER_FILES)
    page = page_of(out, bench)
    shown, left_out = page.split("## Left out")
    assert "padim, squashed" not in shown
    assert "patchcore, real" not in shown
    assert cells(page, "### magnetic tile", "peer: patchcore")[1] == "1"
    duel = cells(page, "### The same", "magnetic tile")
    assert duel[3].endswith("(peer's: one fit)")
    assert duel[6] == f"{0.73 - 0.60:+.3f} (one fit: no interval)"
    for line in ("real-patchcore: error: no space", "padim: seed 0: out of memory", "patchcore 1: made of other files"):
        assert line in left_out


@pytest.mark.usefixtures("scripts")
def test_a_failing_peer_ends_its_own_fits_alone(
    out: Path, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = tmp_path / "peer_python"
    peer.write_text("#!/bin/sh\necho warning >&2\necho 'RuntimeError: out of luck' >&2\nexit 3\n", encoding="utf-8")
    peer.chmod(0o755)
    leaderboard: ModuleType = importlib.import_module("leaderboard")
    monkeypatch.setattr(sys.modules["peer_fit"], "PEER", peer)
    store_peer(out, 0, PEERS[0])
    failed: list[str] = []
    leaderboard.fit_peer_on(NAME, bench / NAME, "patchcore", out, failed)
    assert failed == [f"{NAME}-patchcore-1", f"{NAME}-patchcore-2"]  # the stored one counts, and each failure is alone
    assert f"{NAME}-patchcore-2 FAILED: RuntimeError: out of luck" in capsys.readouterr().out
    assert f"- {NAME}-patchcore-1: RuntimeError: out of luck" in page_of(out, bench)


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("stored", "is_kept"),
    [
        ({}, True),
        ({"smaller": [{"side": 192}]}, False),
        ({"smaller": []}, False),
        ({"data": "of other files"}, False),
    ],
)
def test_costs_are_measured_anew_where_an_input_is_missing_or_the_files_are_others(
    bench: Path, tmp_path: Path, stored: Mapping[str, Any], is_kept: bool
) -> None:
    leaderboard: ModuleType = importlib.import_module("leaderboard")
    sides = importlib.import_module("leaderboard_plan").SMALLER_INPUTS["padim"]
    assert set(sides) == {192, 160}
    whole = {"data": leaderboard.fingerprint(bench / NAME), "smaller": [{"side": side} for side in sides]}
    path = tmp_path / "costs" / "padim.json"
    assert not leaderboard.is_measured(path, bench / NAME, None)
    write_json(path, {**whole, **stored})
    assert leaderboard.is_measured(path, bench / NAME, None) is is_kept
