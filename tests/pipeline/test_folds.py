"""scripts/train.py folds=... from images to one page, with real processes and a real store."""

import csv
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from sklearn.metrics import accuracy_score

from tests.conftest import PROJECT, Ended, Programs, save_image, texture
from tests.pipeline.conftest import parents_of, store_rows, times_of
from zellige.comparison_plan import compose_run
from zellige.config import register_schemas
from zellige.config_data import load_data

KINDS = {"good": 12, "dark": 8, "light": 8}


def fold_arguments(root: Path, *more: str) -> list[str]:
    return [
        "data=folder",
        f"data.root={root / 'images'}",
        "data.color=gray",
        "model=classifier",
        "model.hidden=16",
        "geometry.height=64",
        "geometry.width=64",
        "trainer.epochs=2",
        "engine.num_threads=1",
        f"runs_dir={root / 'runs'}",
        f"tracking.store={root / 'mlruns'}",
        *more,
    ]


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A cross-validation whose first fold was there already, of an earlier call."""

    root: Path
    kept: bool
    ended: Ended


@pytest.fixture(scope="module")
def crossed(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Crossed:
    root = tmp_path_factory.mktemp("crossed")
    for kind, count in KINDS.items():
        for index in range(count):
            pixels = texture(100 * list(KINDS).index(kind) + index, size=(64, 64))
            if kind != "good":
                pixels[20:40, 10 + index : 30 + index] = 255 * (kind == "light")
            save_image(root / f"images/{kind}/{index:02}.png", pixels)
    first = ["folds=null", "data.fold=[1,2]", "run_name=c-fold1", "tracking.registered_model=null"]
    done = programs.run("train.py", *fold_arguments(root, *first))
    assert done.code == 0, done.err
    before = times_of(root / "runs/c-fold1")
    ended = programs.run("train.py", *fold_arguments(root, "folds=2", "run_name=c"))
    return Crossed(root=root, kept=times_of(root / "runs/c-fold1") == before, ended=ended)


def test_what_is_finished_is_kept_and_the_rest_is_made(crossed: Crossed) -> None:
    assert (crossed.ended.code, crossed.ended.err) == (0, "")
    assert crossed.kept
    assert "1 of 2 runs are finished already" in crossed.ended.out
    assert (crossed.root / "runs/c-fold2/c-fold2.zellige").is_file()
    assert "run_name=c-final" in crossed.ended.out
    assert "folds=" not in crossed.ended.out.splitlines()[-1]


def test_the_printed_run_has_labelled_defects_to_learn_from(crossed: Crossed) -> None:
    """The folds deal all images; a run without them needs shares, whose defaults hold no defects back for training."""
    command = json.loads((crossed.root / "runs/c/folds.json").read_text(encoding="utf-8"))["next"]["command"]
    assert command in crossed.ended.out
    register_schemas()
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        config = OmegaConf.to_object(compose_run(shlex.split(command)[2:], "test"))
    splits, _ = load_data(config.data, config.model)
    assert {sample.kind for sample in splits.train_defects} == {"dark", "light"}
    assert {"dark", "light"} <= {sample.kind for sample in splits.val}


def test_every_image_is_judged_once(crossed: Crossed) -> None:
    rows = []
    for number in (1, 2):
        with (crossed.root / f"runs/c-fold{number}/predictions.csv").open(encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    images = crossed.root / "images"
    assert sorted(row["id"] for row in rows) == sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    pooled = json.loads((crossed.root / "runs/c/folds.json").read_text(encoding="utf-8"))["pooled"]
    assert (pooled["num_good"], pooled["num_defective"]) == (12, 16)
    said = ["good" if row["decision"] == "ACCEPT" else row["named_kind"] for row in rows]
    expected = accuracy_score([row["kind"] for row in rows], said)
    assert pooled["kinds"]["whole"]["accuracy"]["value"] == pytest.approx(expected)
    page = (crossed.root / "runs/c/folds.html").read_text(encoding="utf-8")
    assert "c-fold1" in page
    assert "data:image/png" in page
    assert f"{pooled['kinds']['whole']['macro_f1']['value']:.4f}" in page


def test_the_folds_are_nested_in_mlflow(crossed: Crossed) -> None:
    assert parents_of(crossed.root) == {"c-fold1": "c", "c-fold2": "c"}
    assert store_rows(crossed.root, "select * from registered_models") == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["trainer.learning_rate=0.002", "folds=2", "run_name=c"], "trainer.learning_rate: 0.003 there, 0.002 now"),
        (["folds=2", "run_name=c-fold1"], "c-fold1 exists and is not a cross-validation"),
        (["folds=9", "run_name=other"], "expected at least 9 groups of dark, one per fold, got 8"),
        (["folds=2", "data.fold=[1,2]"], "data.fold: folds=... sets it"),
        (["folds=2", "data.additions=[x]"], "data.additions: expected none with folds"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line(
    programs: Programs, crossed: Crossed, more: list[str], message: str
) -> None:
    before = times_of(crossed.root / "runs")
    assert message in programs.run("train.py", *fold_arguments(crossed.root, *more)).mistake()
    assert times_of(crossed.root / "runs") == before
