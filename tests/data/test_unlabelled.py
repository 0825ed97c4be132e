"""A folder of unlabelled images, compared with a labelled set and with itself."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import save_image, texture
from zellige.core.errors import InputError
from zellige.core.image_files import in_color
from zellige.core.types import Color, Pixels, Sample
from zellige.data.unlabelled import Unlabelled, read_unlabelled


def labelled(root: Path) -> dict[str, list[Sample]]:
    splits = {}
    for split, seeds in (("train", range(6)), ("test", range(6, 9))):
        splits[split] = []
        for seed in seeds:
            path = root / split / f"{seed}.png"
            save_image(path, texture(seed))
            splits[split].append(Sample(id=f"{split}/{seed}.png", image_path=path, kind="good", group_id=str(seed)))
    return splits


def darker(seed: int) -> np.ndarray:
    return (texture(seed) * 0.6 + 20).astype(np.uint8)


def gray(pixels: Pixels, where: str) -> None:
    in_color(pixels, Color.GRAY, where)


def read(root: Path, *, is_near_enough: bool = True) -> Unlabelled:
    return read_unlabelled(root / "new", labelled(root / "old"), gray, is_near_enough=is_near_enough)


def make_folder(new: Path) -> None:
    for name, seed in (("a/0.png", 100), ("b/deep/1.png", 101), ("2.png", 102)):
        save_image(new / name, texture(seed))
    save_image(new / "again.png", darker(101))
    save_image(new / "train.png", darker(3))
    save_image(new / "color.png", texture(103, rgb=True))
    (new / "cut.png").write_bytes((new / "2.png").read_bytes()[:900])
    (new / "notes.txt").write_text("no image")


def test_what_is_damaged_known_or_shown_twice_is_left_out_and_listed(tmp_path: Path) -> None:
    make_folder(tmp_path / "new")
    labelled(tmp_path / "old")
    shutil.copy(tmp_path / "old/test/7.png", tmp_path / "new/b/same.png")
    found = read(tmp_path)
    assert [sample.id for sample in found.samples] == ["2.png", "a/0.png", "again.png"]
    assert [(one.path, one.reason) for one in found.known] == [
        ("b/same.png", "the same file as test/7.png in test"),
        ("train.png", "shows the same as train/3.png in train"),
    ]
    assert found.known_in == {"test": 1, "train": 1}
    assert [(one.path, one.reason) for one in found.repeated] == [("b/deep/1.png", "shows the same as again.png")]
    assert [one.path for one in found.unusable] == ["color.png", "cut.png"]
    assert found.num_ignored == 1


def test_where_the_set_ignores_near_duplicates_only_equal_files_are_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path / "new")
    shutil.copy(tmp_path / "new/2.png", tmp_path / "new/3.png")
    found = read(tmp_path, is_near_enough=False)
    assert [sample.id for sample in found.samples] == ["2.png", "a/0.png", "again.png", "b/deep/1.png", "train.png"]
    assert [(one.path, one.reason) for one in found.repeated] == [("3.png", "the same file as 2.png")]
    assert found.known == ()


def test_nothing_new_is_one_line(tmp_path: Path) -> None:
    labelled(tmp_path / "old")
    shutil.copytree(tmp_path / "old/train", tmp_path / "new")
    (tmp_path / "new/x.jpg").write_bytes(cv2.imencode(".jpg", texture(1))[1].tobytes()[:300])
    with pytest.raises(InputError, match=r"got none: 6 are known and 1 cannot be used, first 0\.png: the same file as"):
        read(tmp_path)
