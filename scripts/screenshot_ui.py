"""Take the docs' two pictures of the MLflow UI: python scripts/screenshot_ui.py EXPERIMENT RUN RUN [--store mlruns].

Needs Chromium and its driver: apt-get install -y --no-install-recommends chromium chromium-driver
"""

import argparse
from pathlib import Path

from mlflow_browser import compare_url, find_runs, open_browser, runs_url, serve_ui, show, show_columns, tidy_comparison

METRICS = ("image_auroc", "pixel_auroc", "aupro", "average_precision", "f1_max", "escape_rate", "false_reject_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("runs", nargs=2, metavar="RUN")
    parser.add_argument("--store", type=Path, default=Path("mlruns"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with serve_ui(args.store) as url, open_browser(url) as driver:
        experiment_id, runs = find_runs(url, args.experiment)
        unknown = [name for name in args.runs if name not in runs]
        if unknown:
            raise SystemExit(f"runs must be in experiment {args.experiment}, got {unknown}: {args.store}")
        metrics = runs[args.runs[0]].metrics
        show_columns(driver, experiment_id, [name for name in METRICS if name in metrics])
        show(driver, runs_url(url, experiment_id), *args.runs, *sorted(set(METRICS) & set(metrics))[:3])
        driver.save_screenshot(str(args.out / "mlflow_runs.png"))
        driver.set_window_size(1600, 1400)
        show(driver, compare_url(url, experiment_id, [runs[name].id for name in args.runs]), *args.runs, "Metrics")
        tidy_comparison(driver, first_metric=min(metrics))
        driver.save_screenshot(str(args.out / "mlflow_compare.png"))


if __name__ == "__main__":
    main()
