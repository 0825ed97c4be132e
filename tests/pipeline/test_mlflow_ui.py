"""The runs that `log_run` stores, seen in MLflow's own UI in a real Chromium."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from zellige.tracking import RunIdentity, log_run

pytestmark = pytest.mark.browser
METRICS = {"tiles-a": {"aupro": 0.8125, "image_auroc": 0.9375}, "resize-b": {"aupro": 0.5625, "image_auroc": 0.6875}}


def load_script(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ui() -> ModuleType:
    module = load_script("mlflow_browser")
    if module.CHROMIUM is None or module.CHROMEDRIVER is None:
        pytest.skip("chromium and chromium-driver are not installed")
    return module


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ui")
    shutil.copytree(empty_store, root / "mlruns")
    for name, metrics in METRICS.items():
        run_dir = root / "runs" / name
        (run_dir / "pictures").mkdir(parents=True)
        for file in ("config.yaml", "report.json", "data_report.json"):
            (run_dir / file).write_text("{}")
        (run_dir / "report.html").write_text(f"<h1>The report of {name}</h1>")
        (run_dir / "predictions.csv").write_text("id,score\ntile_0007,0.625\n")
        cv2.imwrite(str(run_dir / "pictures" / "scores.png"), np.full((90, 160, 3), 200, np.uint8))
        (run_dir / f"{name}.zellige").write_bytes(b"bundle")
        log_run(
            run_dir,
            store=root / "mlruns",
            experiment="demo",
            identity=RunIdentity(
                run_name=name, data_name="web", data_fingerprint="f" * 64, git_commit="c0ffee", bundle_id=f"id-{name}"
            ),
            config={"geometry": {"mode": name[:-2], "tile_px": 256}, "seed": 0},
            metrics=metrics,
            tags={},
            registered_model="zellige",
        )
    return root / "mlruns"


@pytest.fixture(scope="module")
def url(ui: ModuleType, store: Path) -> Iterator[str]:
    with ui.serve_ui(store) as address:
        yield address


@pytest.fixture(scope="module")
def page(ui: ModuleType, url: str) -> Iterator:
    with ui.open_browser(url) as driver:
        yield driver


def test_the_experiment_shows_both_runs_with_their_metrics(ui: ModuleType, url: str, page) -> None:
    experiment_id, _ = ui.find_runs(url, "demo")
    ui.show_columns(page, experiment_id, ["aupro", "image_auroc"])
    ui.show(page, ui.runs_url(url, experiment_id), "tiles-a", "resize-b", "0.9375", "0.6875")


def test_two_runs_are_compared_by_metrics_and_by_what_differs(ui: ModuleType, url: str, page) -> None:
    experiment_id, runs = ui.find_runs(url, "demo")
    ids = [runs[name].id for name in METRICS]
    ui.show(page, ui.compare_url(url, experiment_id, ids), "Comparing 2 Runs", *METRICS, "Metrics")
    ui.tidy_comparison(page, first_metric="aupro")
    ui.wait_for(page, "geometry.mode", "tiles", "resize", "0.813", "0.563", "0.938", "0.688")
    assert "geometry.tile_px" not in page.find_element("tag name", "body").text


def test_the_files_of_a_run_can_be_looked_at(ui: ModuleType, url: str, page) -> None:
    experiment_id, runs = ui.find_runs(url, "demo")

    def show(path: str, *texts: str) -> None:
        ui.show(page, ui.artifact_url(url, experiment_id, runs["tiles-a"].id, path), "pictures", "report.html", *texts)

    show("pictures/scores.png", "scores.png")
    loaded = "return [...document.images].some(i => i.complete && i.naturalWidth == 160 && i.naturalHeight == 90)"
    ui.wait_until(page, lambda driver: driver.execute_script(loaded), "the picture is drawn")
    show("predictions.csv", "tile_0007", "0.625")
    show("report.html")
    ui.wait_until(page, lambda driver: driver.find_elements("tag name", "iframe"), "the report has its frame")
    page.switch_to.frame(page.find_element("tag name", "iframe"))
    ui.wait_for(page, "The report of tiles-a")


def test_the_model_of_the_newest_run_is_the_candidate(ui: ModuleType, url: str, page) -> None:
    ui.show(page, f"{url}/#/models/zellige?{ui.MODELS}", "Version 2", "candidate")


def test_another_hosts_name_is_refused_and_no_usage_is_reported(ui: ModuleType, url: str) -> None:
    with pytest.raises(ui.urllib.error.HTTPError, match="403"):
        ui.urllib.request.urlopen(ui.urllib.request.Request(url, headers={"Host": "elsewhere.example"}), timeout=30)
    with ui.urllib.request.urlopen(f"{url}/ajax-api/3.0/mlflow/ui-telemetry", timeout=30) as answer:
        assert ui.json.load(answer)["disable_ui_telemetry"] is True


def test_the_server_ends_with_its_whole_group(ui: ModuleType, empty_store: Path, tmp_path: Path) -> None:
    shutil.copytree(empty_store, tmp_path / "empty")
    with ui.serve_ui(tmp_path / "empty") as address:
        experiment_id, runs = ui.find_runs(address, "Default")
        assert (experiment_id, runs) == ("0", {})
    with pytest.raises(OSError, match=r"refused|reset"):
        ui.urllib.request.urlopen(f"{address}/health", timeout=5)
