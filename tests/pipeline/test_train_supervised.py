"""scripts/train.py with detectors that learn from labels, to a bundle that names kinds; and open the run again."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning_fabric import Fabric
from omegaconf import OmegaConf

from tests.conftest import Programs, save_image, texture, train_arguments
from zellige.auto_kinds import settle_kinds
from zellige.core.bundle import read_bundle
from zellige.core.errors import InputError
from zellige.core.types import Color, Sample, Splits

KINDS = ("dark", "light")
QUICK = ("geometry=resize", "geometry.height=64", "geometry.width=64", "trainer.epochs=8", "trainer.batch_size=8")


def make_kinds(root: Path, *, num_good: int) -> Path:
    """good/, dark/ and light/ images of 64 px with a square of that level, and its mask."""
    for kind, count in (("good", num_good), ("dark", 15), ("light", 15)):
        for index in range(count):
            pixels, mask = texture(hash_of(kind) + index, size=(64, 64)), np.zeros((64, 64), np.uint8)
            y, x = 5 + 7 * index % 40, 5 + 11 * index % 40
            if kind != "good":
                mask[y : y + 14, x : x + 14] = 255
                pixels[mask > 0] = 255 if kind == "light" else 0
                save_image(root / f"ground_truth/{kind}/{index:02}_mask.png", mask)
            save_image(root / f"{kind}/{index:02}.png", pixels)
    return root


def hash_of(kind: str) -> int:
    return {"good": 0, "dark": 100, "light": 200}[kind]


@pytest.mark.parametrize(
    ("model", "num_good", "settings"),
    [
        ("classifier", 0, ("model.hidden=32", "trainer.learning_rate=0.005")),
        ("segmenter", 30, ("model.width=16", "trainer.learning_rate=0.03", "trainer.backbone_rate=0.05")),
    ],
)
def test_images_to_a_bundle_that_names_kinds_and_back(
    programs: Programs, empty_store: Path, tmp_path: Path, model: str, num_good: int, settings: tuple[str, ...]
) -> None:
    shutil.copytree(empty_store, tmp_path / "mlruns")
    make_kinds(tmp_path / "images", num_good=num_good)
    arguments = [a for a in train_arguments(tmp_path, model) if not a.startswith(("model.", "geometry"))]
    shares = ("data.fractions.train_defects=0.6", "data.fractions.val_defects=0.2")
    more = (f"model={model}", *settings, *QUICK, *shares, "data.color=gray")
    ended = programs.run("train.py", *arguments, *more)
    assert ended.code == 0, ended.err
    folder = tmp_path / "runs" / model
    config = OmegaConf.load(folder / "config.yaml")
    assert config.model.kinds == list(KINDS)
    if model == "classifier":
        assert config.model.has_good is False
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["run"]["kinds"] == "dark, light"
    assert report["escape_rate"]["n"] == 6
    assert json.loads((folder / "fit.json").read_text())["num_defects"] == 18
    bundle = read_bundle(folder / f"{model}.zellige")
    assert bundle.manifest.kinds == KINDS
    if model == "segmenter":
        return  # one export costs seconds
    again = programs.run("export.py", f"run={folder}", f"out={tmp_path / 'again.zellige'}")
    assert again.code == 0, again.err
    assert read_bundle(tmp_path / "again.zellige").id == bundle.id


def test_kinds_are_settled_from_the_training_split(tmp_path: Path) -> None:
    def one(name: str, kind: str) -> Sample:
        return Sample(id=name, image_path=Path(name), kind=kind, group_id=name)

    composed = OmegaConf.create({"model": {"kinds": [], "has_good": True}})
    config = SimpleNamespace(model=SimpleNamespace(kinds=[], has_good=True))
    fabric = Fabric(accelerator="cpu", devices=1)
    look = {"train": (), "val": (), "test": (), "color": Color.GRAY, "fingerprint": "x"}
    splits = Splits(train_defects=(one("a", "hole"), one("b", "cut"), one("c", "hole")), **look)
    settle: Any = partial(settle_kinds, composed, config, fabric=fabric, run_dir=tmp_path)
    assert settle(splits) == {"kinds": "cut, hole"}
    assert config.model.kinds == ["cut", "hole"]
    assert config.model.has_good is False
    assert OmegaConf.load(tmp_path / "config.yaml").model == {"kinds": ["cut", "hole"], "has_good": False}
    config.model.kinds = []
    with pytest.raises(InputError, match=r"expected labelled defects in the training split, got none; set data\."):
        settle(Splits(**look))
    config.model = SimpleNamespace(name="patchcore")
    assert settle(splits) == {}
