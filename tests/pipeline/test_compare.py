"""scripts/compare.py from images to a recommendation, with real processes and a real store (see conftest.py)."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tests.conftest import Programs
from tests.pipeline.conftest import OWN, RUNS, Compared, compare_arguments, parents_of, store_rows, times_of

NAMES = tuple(OWN)


def read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_ctrl_c_keeps_what_is_finished_and_nothing_else(compared: Compared) -> None:
    assert compared.interrupted.code == 130, compared.interrupted.err
    assert compared.interrupted.err.startswith("error: interrupted: the finished runs are kept")
    assert compared.left == ["c", RUNS[2], RUNS[0]]
    assert compared.still_running == []


def test_a_second_call_goes_on(compared: Compared) -> None:
    assert (compared.second.code, compared.second.err) == (0, "")
    assert compared.by_hand_is_kept
    assert "2 of 4 runs are finished already" in compared.second.out
    assert "2 of 2: " in compared.second.out
    assert "left)" in compared.second.out
    assert compared.most_at_a_time == 2
    states = {run["run"]: run["state"] for run in read(compared.result / "comparison.json")["runs"]}
    assert states == dict(zip(RUNS, ["kept from before", "trained"] * 2, strict=True))


def test_the_table_is_that_of_the_runs(compared: Compared) -> None:
    with (compared.result / "comparison.csv").open(encoding="utf-8") as file:
        table = {row["candidate"]: row for row in csv.DictReader(file)}
    assert tuple(table) == NAMES
    for name, row in table.items():
        aurocs = []
        for seed in (0, 1):
            run = compared.root / f"runs/c-{name}-s{seed}"
            with (run / "predictions.csv").open(encoding="utf-8") as file:
                scored = list(csv.DictReader(file))
            labels = [line["kind"] != "good" for line in scored]
            aurocs.append(roc_auc_score(labels, [float(line["score"]) for line in scored]))
        assert float(row["image_auroc"]) == pytest.approx(sum(aurocs) / 2)
        assert max(aurocs) < 1
        interval = stats.ttest_1samp(aurocs, 0).confidence_interval()
        assert float(row["image_auroc_low"]) == pytest.approx(max(interval.low, 0))
        assert float(row["image_auroc_high"]) == pytest.approx(min(interval.high, 1))
        assert row["escape_rate_n"] == row["false_reject_rate_n"] == "5"
        assert float(row["station_p50_ms"]) <= float(row["station_p95_ms"])
        assert row["station_num_frames"] == "30"  # 10 test images in 3 rounds
        assert float(row["station_peak_memory_mb"]) > 30
        assert float(row["bundle_mb"]) == pytest.approx((run / f"{run.name}.zellige").stat().st_size / 1e6, rel=0.01)
        assert row["error"] == ""


def test_what_it_says(compared: Compared) -> None:
    recommendation = read(compared.result / "comparison.json")["recommendation"]
    assert recommendation["name"] in NAMES
    assert recommendation["reason"].startswith(f"Take {recommendation['name']}: ")
    assert "keeps the budget of 100000 ms for 95 % of the frames" in recommendation["reason"]
    page = (compared.result / "comparison.html").read_text(encoding="utf-8")
    for text in (recommendation["reason"], compared.second.out):
        assert recommendation["name"] in text
    assert "comparison.html" in compared.second.out
    assert all(name in page for name in NAMES)
    assert "10 test images" not in page
    assert "5 good and 5 defective" in page


def test_every_run_is_nested_under_the_comparison(compared: Compared) -> None:
    assert compared.parents == dict.fromkeys(RUNS, "c")


def test_the_comparison_in_mlflow_is_replaced_not_doubled(compared: Compared) -> None:
    active = store_rows(
        compared.root, "select run_uuid, status from runs where name = 'c' and lifecycle_stage = 'active'"
    )
    ((run_id, status),) = active
    assert status == "FINISHED"
    tags = dict(store_rows(compared.root, f"select key, value from tags where run_uuid = '{run_id}'"))  # noqa: S608
    found = read(compared.root / "runs/c/comparison.json")["recommendation"]
    assert tags["zellige.comparison"] == "c"
    assert tags["zellige.recommended"] == found["name"]
    assert tags["zellige.recommendation"] == found["reason"]
    stored = {path.name for path in (compared.root / "mlruns/artifacts" / run_id).rglob("*") if path.is_file()}
    assert stored == {"comparison.html", "comparison.csv", "comparison.json", "quality_speed.png"}
    assert parents_of(compared.root) == {RUNS[2]: "c"}
    assert store_rows(compared.root, "select * from registered_models") == []


def test_a_candidate_that_fails_costs_only_its_row(compared: Compared) -> None:
    assert compared.third.code == 2
    assert "trainer.batch_size: expected at least 1, got 0" in compared.third.err
    assert compared.third.err.count("\n") == 1
    content = read(compared.root / "runs/c/comparison.json")
    by_name = {row["candidate"]: row for row in content["candidates"]}
    assert by_name["broken"]["finished_runs"] == 0
    assert by_name["broken"]["error"] == "seed 0: trainer.batch_size: expected at least 1, got 0"
    assert "failed: broken: seed 0: trainer.batch_size" in compared.third.out
    assert by_name["coarse"]["image_auroc"] is not None
    assert content["recommendation"]["name"] == "coarse"
    assert [run["state"] for run in content["runs"]] == ["kept from before", "failed"]
    assert "FAILED: seed 0:" in (compared.root / "runs/c/comparison.html").read_text(encoding="utf-8")


def other_settings(root: Path) -> list[str]:
    return ["candidates.coarse=[model.stages=[2],model.bank_size=17]"]


def other_images(root: Path) -> list[str]:
    shutil.copytree(root / "images", root / "fewer", dirs_exist_ok=True)
    (root / "fewer/train/good/03.png").unlink(missing_ok=True)
    return ["candidates.coarse=[model.stages=[2],model.bank_size=16]", f"data.root={root / 'fewer'}"]


def no_comparison(root: Path) -> list[str]:
    return [f"name={RUNS[0]}"]


def a_run_is_called_so(root: Path) -> list[str]:
    return [f"name={RUNS[0]}", f"runs_dir={root / 'elsewhere'}"]


def bad_candidate(root: Path) -> list[str]:
    return ["candidates.small=[model.bank_size=0]"]


def tiles_too_large(root: Path) -> list[str]:
    return ["candidates.large=[geometry.height=512,geometry.width=512]"]


def misspelt(root: Path) -> list[str]:
    return ["budgett.ms_per_frame=1"]


REFUSED: list[tuple[Callable[[Path], list[str]], str]] = [
    (other_settings, "model.bank_size: 16 there, 17 now"),
    (other_images, "data.root"),
    (no_comparison, "exists and is not a comparison"),
    (a_run_is_called_so, f"{RUNS[0]} is a training run"),
    (bad_candidate, "candidate small: bank_size: expected 1 to 1000000, got 0"),
    (tiles_too_large, "candidate large: data "),
    (misspelt, "budgett"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED, ids=[spoil.__name__ for spoil, _ in REFUSED])
def test_what_cannot_be_compared_is_one_line_and_changes_nothing(
    programs: Programs, compared: Compared, spoil: Callable[[Path], list[str]], message: str
) -> None:
    more = spoil(compared.root)
    before = times_of(compared.root / "runs")
    line = programs.run("compare.py", *compare_arguments(compared.root, "name=c", "seeds=[0]", *more)).mistake()
    assert message in line
    assert times_of(compared.root / "runs") == before
    assert not (compared.root / "elsewhere").exists()
