"""scripts/suggest.py on a finished run and a folder that nobody has labelled, looked at from outside."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Ended, Programs, TrainedRun, save_image, texture
from zellige.config_suggest import SuggestConfig, WeightsConfig
from zellige.core.errors import ConfigError, InputError
from zellige.suggestion import check_places

SQUARES = {"shift 1/hole.png": (20, 30), "shift 2/deep/hole.png": (70, 60), "shift 2/hole.png": (40, 90)}
GOOD = ("good.png", "shift 1/good.png", "shift 2/good.png")


@dataclass(frozen=True, kw_only=True)
class Made:
    root: Path
    images: Path
    copied: Ended
    linked: Ended

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.root / name / "suggestions.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def report(self, name: str) -> dict[str, Any]:
        report = json.loads((self.root / name / "report.json").read_text(encoding="utf-8"))
        assert isinstance(report, dict)
        return report


def make_folder(images: Path, run: TrainedRun) -> Path:
    """Six new images, three of them with a bright square; and five that are not to be labelled."""
    for seed, (name, (y, x)) in enumerate(SQUARES.items()):
        pixels = texture(5000 + seed)
        pixels[y : y + 14, x : x + 14] = 255
        save_image(images / name, pixels)
    for seed, name in enumerate(GOOD):
        save_image(images / name, texture(6000 + seed))
    save_image(images / "shift 1/small.png", texture(1, size=(40, 40)))
    save_image(images / "shift 1/color.png", texture(2, rgb=True))
    (images / "shift 1/broken.png").write_bytes((images / "good.png").read_bytes()[:700])
    shutil.copy(run.data / "train/good/03.png", images / "known.png")
    save_image(images / "shift 2/good again.png", (texture(6000) * 0.7).astype(np.uint8))
    return images


@pytest.fixture(scope="module")
def made(programs: Programs, trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("unlabelled")
    images = make_folder(root / "camera 3", trained_run)
    how = (f"run={trained_run.folder}", f"images={images}", "number=20", "random_share=0.3")
    copied = programs.run("suggest.py", *how, f"out={root / 'copied'}")
    linked = programs.run("suggest.py", *how, f"out={root / 'linked'}", "copy=false")
    return Made(root=root, images=images, copied=copied, linked=linked)


def test_all_new_images_are_suggested_where_there_are_fewer_than_asked_for(made: Made) -> None:
    assert (made.copied.code, made.copied.err) == (0, "")
    rows, report = made.rows("copied"), made.report("copied")
    assert sorted(row["image"] for row in rows) == sorted([*SQUARES, *GOOD])
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["random"] for row in rows] == ["no", "no", "yes", "no", "no", "yes"]
    assert all(("drawn at random" in row["why"]) == (row["random"] == "yes") for row in rows)
    warning = "number=20: there are 6 images to choose from, all are suggested"
    assert warning in report["words"]
    assert f"warning: {warning}" in made.copied.out
    assert [one["path"] for one in report["unusable"]] == [f"shift 1/{n}.png" for n in ("broken", "color", "small")]
    assert [(one["path"], one["reason"]) for one in report["known"]] == [
        ("known.png", "the same file as train/good/03.png in train")
    ]
    assert [one["path"] for one in report["repeated"]] == ["shift 2/good again.png"]
    assert "3 files cannot be used, first shift 1/broken.png" in made.copied.out
    page = (made.root / "copied/suggestions.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 6
    assert "shift 2/deep/hole.png" in page


def test_squares_get_a_region_and_good_images_none(made: Made) -> None:
    """Read with the json module alone: a bright square of 14 px is far above anything that is good."""
    document = json.loads((made.root / "copied/coco.json").read_text(encoding="utf-8"))
    assert [kind["name"] for kind in document["categories"]] == ["hole", "anomaly"]
    names = {image["id"]: image["file_name"] for image in document["images"]}
    boxes: dict[str, list[list[float]]] = {}
    for annotation in document["annotations"]:
        assert annotation["category_id"] == 2
        assert len(annotation["segmentation"][0]) >= 6
        boxes.setdefault(names[annotation["image_id"]], []).append(annotation["bbox"])
    for name, (top, left) in SQUARES.items():
        y, x = top + 7, left + 7
        assert any(bx <= x <= bx + w and by <= y <= by + h for bx, by, w, h in boxes[name])
    assert sum(name in boxes for name in GOOD) <= 1
    scores = {row["image"]: float(row["score"]) for row in made.rows("copied")}
    assert min(scores[name] for name in SQUARES) > max(scores[name] for name in GOOD)


def test_the_same_again_as_links(made: Made) -> None:
    assert (made.linked.code, made.linked.err) == (0, "")
    for name in ("suggestions.csv", "coco.json"):
        assert (made.root / "linked" / name).read_bytes() == (made.root / "copied" / name).read_bytes()
    for row in made.rows("linked"):
        copy, link = (made.root / name / "images" / row["image"] for name in ("copied", "linked"))
        assert link.is_symlink()
        assert not copy.is_symlink()
        assert link.read_bytes() == copy.read_bytes() == (made.images / row["image"]).read_bytes()


@pytest.mark.parametrize("name", ["copied", "linked"])
def test_prepare_data_reads_the_labels_back(programs: Programs, made: Made, name: str) -> None:
    out = made.root / f"manifest of {name}"
    ended = programs.run("prepare_data.py", f"labels.root={made.root / name}", "labels.to=manifest", f"out={out}")
    assert (ended.code, ended.err) == (0, "")
    report = json.loads((out / "labels_report.json").read_text(encoding="utf-8"))
    assert (report["format"], report["num_images"], report["unlabelled"], report["dropped"]) == ("coco", 6, [], [])
    document = json.loads((made.root / name / "coco.json").read_text(encoding="utf-8"))
    assert report["num_defects"] == len(document["annotations"])
    with (out / "manifest.csv").open(encoding="utf-8") as file:
        kinds = {row["path"].removeprefix("images/"): row["kind"] for row in csv.DictReader(file)}
    assert all(kinds[name] == "anomaly" for name in SQUARES)


def no_run(made: Made) -> tuple[list[str], str]:
    return [f"run={made.root}"], "expected a finished run's folder, got one without config.yaml"


def out_not_empty(made: Made) -> tuple[list[str], str]:
    return [f"out={made.root / 'copied'}"], "expected a folder that does not exist or is empty, it holds files"


@pytest.mark.parametrize("mistake", [no_run, out_not_empty])
def test_a_mistake_is_one_line_and_leaves_nothing(
    programs: Programs, made: Made, trained_run: TrainedRun, mistake: Callable[[Made], tuple[list[str], str]]
) -> None:
    arguments, message = mistake(made)
    given = {"run": trained_run.folder, "images": made.images, "out": made.root / "mistaken"}
    given |= dict(argument.split("=", 1) for argument in arguments)
    before = sorted(made.root.rglob("*"))
    assert message in programs.run("suggest.py", *(f"{key}={value}" for key, value in given.items())).mistake()
    assert sorted(made.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"images": "empty"}, "empty: expected images, got none"),
        ({"images": "nowhere"}, "nowhere: expected a folder of images, it does not exist"),
        ({"out": "images/new"}, "out: expected a place outside of images"),
        ({"out": "images"}, "out images: expected a folder that does not exist or is empty"),
        ({"number": 0}, "number: expected at least 1, got 0"),
        ({"random_share": 1.5}, "random_share: expected 0 to 1, got 1.5"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"weights": WeightsConfig(uncertainty=0, novelty=0)}, "not both 0, got 0 and 0"),
        ({"weights": WeightsConfig(uncertainty=-1)}, "expected two numbers >= 0, not both 0, got -1 and 0.5"),
        ({"weights": WeightsConfig(novelty=math.nan)}, "weights: expected two numbers >= 0"),
    ],
)
def test_a_setting_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "images/a.png", texture(0))
    (tmp_path / "empty").mkdir()
    given = {"run": "run", "images": "images", "out": "out"}
    check_places(SuggestConfig(**given))
    with pytest.raises((ConfigError, InputError), match=re.escape(message)):
        check_places(SuggestConfig(**(given | setting)))
