"""Good images that join a set which is split already: where they go, and which stay out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import make_image_set, save_image, texture
from zellige.core.errors import InputError
from zellige.core.types import Splits
from zellige.data.additions import add_images
from zellige.data.index import Placement, place
from zellige.data.read_set import Rules
from zellige.data.splits import Fractions


def rules(**settings) -> Rules:
    defaults = {"fractions": Fractions(), "seed": 0, "pixel_size": None, "duplicates": "group", "on_bad": "error"}
    return Rules(**{**defaults, **settings})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_set(tmp_path_factory.mktemp("additions") / "images")


@pytest.fixture(scope="module")
def known(root: Path) -> Placement:
    return place(root, "folder", rules(), color="as_stored")


def more(folder: Path, *, num: int = 8, seed: int = 500) -> Path:
    for index in range(num):
        save_image(folder / f"{index:02}.png", texture(seed + index))
    return folder


def ids(samples) -> set[str]:
    return {sample.id for sample in samples}


def left_out(placement: Placement) -> dict[str, str]:
    return {item.path: item.reason for item in placement.report.skipped}


def brighter(path: Path) -> np.ndarray:
    """The same piece under another light, as a near-duplicate is."""
    return np.clip(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) * 0.8 + 20, 0, 255).astype(np.uint8)


def check_the_old_ones_stay(before: Splits, after: Splits) -> None:
    assert after.test == before.test
    assert after.train[: len(before.train)] == before.train
    assert after.val[: len(before.val)] == before.val


def test_new_images_are_dealt_by_the_fractions_and_the_old_stay(known: Placement, tmp_path: Path) -> None:
    result = add_images(known, more(tmp_path / "new"), rules())
    check_the_old_ones_stay(known.splits, result.splits)
    train, val = (ids(getattr(result.splits, name)) - ids(getattr(known.splits, name)) for name in ("train", "val"))
    assert (len(train), len(val)) == (6, 2)
    assert train | val == {f"added-1/{index:02}.png" for index in range(8)}
    assert result.splits.fingerprint != known.splits.fingerprint
    (added,) = result.report.additions
    assert (added.extends, added.num_listed, added.train, added.val, added.left_out) == (
        known.splits.fingerprint, 8, 6, 2, 0
    )  # fmt: skip
    assert result.report.splits["train"].good == 16
    assert result.report.num_listed == known.report.num_listed + 8
    assert any("TEST has no image of" in warning for warning in result.report.warnings)
    again = add_images(known, tmp_path / "new", rules())
    assert again.splits == result.splits


def test_a_second_addition_joins_the_first(known: Placement, tmp_path: Path) -> None:
    first = add_images(known, more(tmp_path / "a"), rules())
    second = add_images(first, more(tmp_path / "b/good", seed=700).parent, rules())
    check_the_old_ones_stay(first.splits, second.splits)
    assert "added-2/good/00.png" in ids(second.splits.train) | ids(second.splits.val)
    assert second.report.additions[1].extends == first.splits.fingerprint


@pytest.mark.parametrize("setting", ["group", "error", "ignore"])
def test_the_same_file_never_joins(known: Placement, root: Path, tmp_path: Path, setting: str) -> None:
    folder = more(tmp_path / "new")
    for split in ("train", "val", "test"):
        shutil.copy(root / f"{split}/good/02.png", folder / f"of_{split}.png")
    shutil.copy(folder / "00.png", folder / "twice.png")
    result = add_images(known, folder, rules(duplicates=setting))
    assert {path: left_out(result)[path] for path in left_out(result)} == {
        "added-1/of_train.png": "the same file as train/good/02.png",
        "added-1/of_val.png": "the same file as val/good/02.png",
        "added-1/of_test.png": "the same file as test/good/02.png",
        "added-1/twice.png": "the same file as added-1/00.png",
    }
    assert any("4 images of" in warning for warning in result.report.warnings)


def test_near_duplicates_go_where_their_twin_is_and_not_at_all_where_it_is_test(
    known: Placement, root: Path, tmp_path: Path
) -> None:
    folder = more(tmp_path / "new")
    for split in ("train", "val", "test"):
        save_image(folder / f"of_{split}.png", brighter(root / f"{split}/good/03.png"))
    result = add_images(known, folder, rules())
    assert "added-1/of_train.png" in ids(result.splits.train)
    assert "added-1/of_val.png" in ids(result.splits.val)
    assert list(left_out(result)) == ["added-1/of_test.png"]
    reason = left_out(result)["added-1/of_test.png"]
    assert reason.startswith("near-duplicate of test/good/03.png or of its group in test")
    with pytest.raises(InputError, match=r"of_test\.png: near-duplicate of test/good/03\.png .* refuses this"):
        add_images(known, folder, rules(duplicates="error"))
    ignored = add_images(known, folder, rules(duplicates="ignore"))
    assert not left_out(ignored)
    assert any("were not looked for" in warning for warning in ignored.report.warnings)


def test_a_roll_stays_in_its_split(tmp_path: Path) -> None:
    """Named groups in a manifest: three images each of rolls that the set knows from train, val and test."""
    data, lines = tmp_path / "data", ["path,label,group,split"]
    for number, split in enumerate(("train", "val", "test")):
        for index in range(6):
            save_image(data / f"{split}{index}.png", texture(100 * number + index))
            lines.append(f"{split}{index}.png,good,roll of {split},{split}")
    (data / "manifest.csv").write_text("\n".join(lines))
    known = place(data, "manifest", rules(), color="gray")
    new, lines = tmp_path / "new", ["path,label,group"]
    for split in ("train", "val", "test", "nobody"):
        for index in range(3):
            save_image(new / f"{split}{index}.png", texture(1000 + len(lines)))
            lines.append(f"{split}{index}.png,good,roll of {split}")
    (new / "manifest.csv").write_text("\n".join(lines))
    result = add_images(known, new, rules())
    for split in ("train", "val"):
        assert {f"added-1/{split}{index}.png" for index in range(3)} <= ids(getattr(result.splits, split))
    assert set(left_out(result)) == {f"added-1/test{index}.png" for index in range(3)}
    assert {sample.group_id for sample in result.splits.train} >= {"roll of train"}


def not_there(folder: Path, root: Path) -> None:
    pass


def with_defects(folder: Path, root: Path) -> None:
    more(folder / "good")
    save_image(folder / "hole/00.png", texture(900))


def with_splits(folder: Path, root: Path) -> None:
    more(folder / "train/good")


def in_other_folders(folder: Path, root: Path) -> None:
    more(folder)
    more(folder / "perhaps", seed=900)


def unreadable(folder: Path, root: Path) -> None:
    (more(folder) / "03.png").write_bytes(b"no image")


def in_color(folder: Path, root: Path) -> None:
    save_image(more(folder) / "03.png", texture(3, rgb=True))


def larger(folder: Path, root: Path) -> None:
    save_image(more(folder) / "03.png", texture(3, size=(96, 200)))


def nothing_new(folder: Path, root: Path) -> None:
    shutil.copytree(root / "train/good", folder)


def a_known_defect(folder: Path, root: Path) -> None:
    shutil.copy(root / "test/hole/00.png", more(folder) / "good.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_there, "expected a folder of images, it does not exist"),
        (with_defects, "expected good images only, got 1 defective, first hole/00.png"),
        (with_splits, "expected good images without splits"),
        (in_other_folders, "expected good images in it or in good/, got .*perhaps/00.png"),
        (unreadable, r"1 of 8 images cannot be used .*03\.png: not a readable image"),
        (in_color, r"1 of 8 images cannot be used .*03\.png: expected a gray image, got color"),
        (larger, r"1 of 8 images cannot be used .*03\.png: expected a width of 112 px as in the data so far, got 200"),
        (nothing_new, r"got none: all 10 are left out, first added-1/00\.png: the same file as train/good/00\.png"),
        (a_known_defect, r"added-1/good\.png is the same file as test/hole/00\.png \(hole\): not good"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_join_is_one_line(
    known: Placement, root: Path, tmp_path: Path, make: Callable[[Path, Path], None], message: str
) -> None:
    make(tmp_path / "new", root)
    with pytest.raises(InputError, match=message) as caught:
        add_images(known, tmp_path / "new", rules())
    assert "\n" not in str(caught.value)


def test_unreadable_images_can_be_left_out(known: Placement, root: Path, tmp_path: Path) -> None:
    unreadable(tmp_path / "new", root)
    result = add_images(known, tmp_path / "new", rules(on_bad="skip"))
    assert result.report.additions[0].left_out == 1
    assert "not a readable image" in left_out(result)["added-1/03.png"]
