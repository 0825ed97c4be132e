"""Rows of a comparison from reports written by hand, the CSV read back, the page and the picture."""

import csv
from pathlib import Path
from typing import Any

import cv2
import pytest
from scipy import stats

from zellige.evaluation.candidate_table import Candidate, speed_of, spread_of, summarize, to_record, write_csv
from zellige.evaluation.comparison_html import HEADS, cells_of, write_comparison_html
from zellige.evaluation.comparison_plot import plot_quality_speed
from zellige.evaluation.recommendation import Budget, Recommendation

SPEED = speed_of([10.0, 20.0, 30.0, 40.0], [0.5] * 4, 120.0, 2)


def report(auroc: float | None, escapes: tuple[float, float, float], fit_seconds: float) -> dict[str, Any]:
    value, low, high = escapes
    return {
        "image_auroc": auroc,
        "image_auroc_interval": [0.8, 0.99],
        "num_images": 60,
        "num_groups": 12,
        "pixel_auroc": 0.75,
        "aupro": None,
        "escape_rate": {"value": value, "low": low, "high": high, "n": 20},
        "false_reject_rate": {"value": 0.0, "low": 0.0, "high": 0.0881, "n": 40},
        "fit_seconds": fit_seconds,
        "peak_memory_mb": 900.0,
    }


@pytest.fixture
def row() -> Candidate:
    runs = {0: report(0.98, (0.1, 0.012, 0.317), 4.0), 7: report(0.94, (0.2, 0.057, 0.437), 6.0)}
    return summarize("a", "model.bank_size=8", runs, bundle_mb=[3.0, 5.0], speed=SPEED, errors=[])


def test_means_and_intervals_over_the_seeds(row: Candidate) -> None:
    record = to_record(row)
    low, high = stats.ttest_1samp([0.98, 0.94], 0).confidence_interval(0.95)
    assert record["image_auroc"] == pytest.approx(0.96)
    assert high > 1
    assert record["image_auroc_low"] == pytest.approx(low)
    assert record["image_auroc_high"] == 1.0
    assert record["escape_rate"] == pytest.approx(0.15)
    assert record["escape_rate_low"] == 0.0
    assert (record["escape_rate_pieces_low"], record["escape_rate_pieces_high"]) == (0.012, 0.437)
    assert [record[f"image_auroc_{part}"] for part in ("pieces_low", "pieces_high", "n")] == [0.8, 0.99, 12]
    assert (record["escape_rate_n"], record["false_reject_rate_n"]) == (20, 40)
    assert (record["fit_seconds"], record["bundle_mb"], record["peak_memory_mb"]) == (5.0, 4.0, 900.0)
    assert (record["aupro"], record["aupro_low"]) == (None, None)
    assert row.seeds == (0, 7)


def test_speed_over_all_frames() -> None:
    record = to_record(summarize("a", "", {}, bundle_mb=[], speed=SPEED, errors=["no"]))
    assert (record["station_p50_ms"], record["station_p95_ms"]) == (25.0, pytest.approx(38.5))
    assert record["station_mp_per_s"] == pytest.approx(2.0 / 0.1)
    assert (record["station_num_frames"], record["finished_runs"]) == (4, 0)


def test_one_seed_has_no_interval() -> None:
    spread = spread_of([0.9], 1.0)
    assert spread.mean == 0.9
    assert spread.low != spread.low  # NaN


def test_the_table_as_csv(row: Candidate, tmp_path: Path) -> None:
    failed = summarize("b", "", {}, bundle_mb=[], speed=None, errors=["seed 0: no, it is full", "seed 1: no"])
    write_csv([row, failed], tmp_path / "a.csv", recommended="a")
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["candidate"], first["recommended"], first["aupro"]) == ("a", "yes", "")
    assert float(first["image_auroc"]) == pytest.approx(0.96)
    assert (second["candidate"], second["recommended"], second["image_auroc"]) == ("b", "", "")
    assert second["error"] == "seed 0: no, it is full; seed 1: no"


def test_the_words_of_a_row(row: Candidate) -> None:
    cells = cells_of(row)
    assert set(cells) == set(HEADS)
    assert cells["image_auroc"].startswith("0.9600 (0.")
    assert cells["image_auroc"].endswith(" to 1.0000)")
    assert cells["escape_rate"].startswith("15.0 %")
    assert cells["aupro"] == "–"
    assert cells["p50_p95_ms"] == "25.0 / 38.5"
    assert cells["memory"] == "900 / 120"


@pytest.mark.parametrize("has_results", [True, False])
def test_page_and_picture(row: Candidate, tmp_path: Path, has_results: bool) -> None:
    failed = summarize("b", "", {}, bundle_mb=[], speed=None, errors=["seed 0: <disk> full"])
    rows = [row, failed] if has_results else [failed]
    name = "a" if has_results else None
    found = Recommendation(name=name, best=name, as_good=(), within_budget=(), reason="Take it & go.")
    picture = plot_quality_speed(rows, tmp_path / "p.png", recommended=name, budget=Budget(ms_per_frame=50.0))
    pixels = cv2.imread(str(picture))
    assert pixels.shape[1] == 1200
    assert pixels.std() > 3
    out = tmp_path / "a.html"
    runs = [{"candidate": "a", "seed": 0, "image_auroc": None, "error": "<x>"}]
    write_comparison_html("n", rows, found, runs=runs, facts={"Data": "d"}, picture=picture, out=out)
    page = out.read_text(encoding="utf-8")
    assert "Take it &amp; go." in page
    assert "FAILED: seed 0: &lt;disk&gt; full" in page
    assert "&lt;x&gt;" in page
    assert ("20 pieces: 1.2 to 43.7 %" in page) is has_results
    assert ("12 groups of pieces: 0.8000 to 0.9900" in page) is has_results
    assert "<script" not in page
