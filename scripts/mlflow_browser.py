"""Open MLflow's own UI in a real Chromium: the server, the browser, the pages' addresses. For pictures and tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from zellige.tracking import make_store, store_uri

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
WAIT_SECONDS = 40
MODELS = "workflowType=machine_learning"  # the UI opens on its pages for chat applications unless told


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """A run as the server tells it."""

    id: str
    metrics: dict[str, float]


@contextmanager
def serve_ui(store: Path) -> Iterator[str]:
    """Serve the store's UI on a free local port, as `make ui` does; yield its address, end its whole process group."""
    make_store(store)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store_uri(store), "--default-artifact-root", str(store.absolute() / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [*command, "--uvicorn-opts", "--log-level warning --lifespan off"],
        env={**os.environ, **quiet},
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_served(server, url)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_until_served(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the MLflow UI must answer within {WAIT_SECONDS} s, exit code {server.poll()}: {url}")


@contextmanager
def open_browser(url: str) -> Iterator[webdriver.Chrome]:
    """Open a Chromium with an empty profile on the UI, its assistant closed and its pages for models chosen."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or "chromium"
        for flag in (*FLAGS.split(), "--window-size=1600,1000", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
        try:
            driver.get(f"{url}/health")
            _remember(driver, "mlflow.assistant.panelOpen_v1", False)
            _remember(driver, "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", True)
            _remember(driver, "mlflow.workflowType_v1", "machine_learning")
            yield driver
        finally:
            driver.quit()


def show_columns(driver: webdriver.Chrome, experiment_id: str, metrics: Sequence[str]) -> None:
    """Choose the columns of the experiment's table of runs, as its menu Columns does."""
    state = {"selectedColumns": [f"metrics.`{name}`" for name in metrics]}
    key = f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment_id}"]-ReactComponentState'
    _remember(driver, key, state)


def _remember(driver: webdriver.Chrome, key: str, value: object) -> None:
    driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, json.dumps(value))


def find_runs(url: str, experiment: str) -> tuple[str, dict[str, LoggedRun]]:
    """Ask the server for an experiment: its id and its runs by name."""
    name = quote(experiment, safe="")
    found = _ask(f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}")["experiment"]
    query = {"experiment_ids": [found["experiment_id"]], "max_results": 1000}
    runs = _ask(f"{url}/api/2.0/mlflow/runs/search", query).get("runs", [])
    return found["experiment_id"], {
        run["info"]["run_name"]: LoggedRun(
            id=run["info"]["run_id"], metrics={m["key"]: m["value"] for m in run["data"].get("metrics", [])}
        )
        for run in runs
    }


def _ask(url: str, query: object = None) -> dict:
    data = None if query is None else json.dumps(query).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310
        return json.load(answer)


def runs_url(url: str, experiment_id: str) -> str:
    return f"{url}/#/experiments/{experiment_id}/runs?{MODELS}"


def compare_url(url: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    runs, experiments = quote(json.dumps(list(run_ids))), quote(json.dumps([experiment_id]))
    return f"{url}/#/compare-runs?runs={runs}&experiments={experiments}&{MODELS}"


def artifact_url(url: str, experiment_id: str, run_id: str, path: str) -> str:
    return f"{url}/#/experiments/{experiment_id}/runs/{run_id}/artifacts/{path}?{MODELS}"


def show(driver: webdriver.Chrome, url: str, *texts: str) -> None:
    """Load a page and wait until all the texts can be read on it."""
    driver.get("about:blank")  # the addresses differ only behind the #, which alone loads nothing
    driver.get(url)
    wait_for(driver, *texts)


def wait_for(driver: webdriver.Chrome, *texts: str) -> None:
    """Wait until all the texts can be read on the page."""
    wait_until(
        driver, lambda page: all(text in page.find_element(By.TAG_NAME, "body").text for text in texts), f"show {texts}"
    )


def wait_until(driver: webdriver.Chrome, condition: Callable[[webdriver.Chrome], object], what: str) -> None:
    """Wait until the condition holds; a page that is being redrawn is asked again."""
    ignored = (NoSuchElementException, StaleElementReferenceException)
    wait = WebDriverWait(driver, WAIT_SECONDS, ignored_exceptions=ignored)
    wait.until(condition, f"the page must: {what}: {driver.current_url}")


def tidy_comparison(driver: webdriver.Chrome, *, first_metric: str) -> None:
    """Fold the plots of the compare page and show only the settings that differ."""
    plots = (By.CLASS_NAME, "js-plotly-plot")
    driver.find_element(By.XPATH, "//*[text()='Visualizations']").click()
    wait_until(driver, lambda page: not any(plot.is_displayed() for plot in page.find_elements(*plots)), "fold plots")
    driver.find_element(By.XPATH, "//*[text()='Show diff only']").click()
    wait_for(driver, "Metrics", first_metric)
