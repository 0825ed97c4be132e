from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.core.types import PixelSize
from zellige.data.formats import Listing, read_folder, read_magnetic_tile, read_manifest

REAL = Path("data/raw/MagneticTile")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"never decoded here")


def table(listing: Listing) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (row.sample.id, row.sample.kind, row.split, row.sample.mask_path.name if row.sample.mask_path else None)
        for row in listing.rows
    ]


def test_folder_with_declared_splits(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("train/good/a.png", "train/good/b.JPG", "val/good/c.png", "test/good/d.png", "test/hole/e.png"),
        *("test/hole/f.png", "test/cut/e.png", "ground_truth/hole/e_mask.png", "ground_truth/cut/e.png"),
    )
    assert table(read_folder(tmp_path, None)) == [
        ("test/cut/e.png", "cut", "test", "e.png"),
        ("test/good/d.png", "good", "test", None),
        ("test/hole/e.png", "hole", "test", "e_mask.png"),
        ("test/hole/f.png", "hole", "test", None),
        ("train/good/a.png", "good", "train", None),
        ("train/good/b.JPG", "good", "train", None),
        ("val/good/c.png", "good", "val", None),
    ]


def test_plain_folders_with_masks_nested_and_same_stem(tmp_path: Path) -> None:
    touch(tmp_path, "good/a.png", "good/a.jpg", "defect/roll1/x.png", "defect/y.png", "masks/defect/roll1/x.png")
    listing = read_folder(tmp_path, PixelSize(cross_web_mm=0.1, down_web_mm=0.2))
    assert table(listing) == [
        ("defect/roll1/x.png", "defect", None, "x.png"),
        ("defect/y.png", "defect", None, None),
        ("good/a.jpg", "good", None, None),
        ("good/a.png", "good", None, None),
    ]
    assert {row.sample.pixel_size for row in listing.rows} == {PixelSize(cross_web_mm=0.1, down_web_mm=0.2)}


def test_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("train/good/a.png", "train/cut/b.png", "train/stray.png", "other/c.png", "test/good/d.png"),
        *(".hidden.png", "train/good/Thumbs.db", "readme.txt", ".git/x.png", "ground_truth/cut/gone_mask.png"),
        *("ground_truth/good/d.png",),
    )
    (tmp_path / "train/good/link.png").symlink_to(tmp_path / "train/good/a.png")
    listing = read_folder(tmp_path, None)
    assert [row.sample.id for row in listing.rows] == ["test/good/d.png", "train/cut/b.png", "train/good/a.png"]
    assert {(s.path, s.reason.split(",")[0]) for s in listing.skipped} == {
        ("train/stray.png", "not under SPLIT/KIND/"),
        ("other/c.png", "not under SPLIT/KIND/"),
    }
    assert listing.ignored == {"hidden": 2, "system file": 1, "suffix .txt": 1, "link": 1}
    assert listing.warnings == ["mask without image: ground_truth/cut/gone_mask.png"]
    assert list(listing.good_masks) == ["test/good/d.png"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "expected images, got none"),
        (["notes.txt"], "expected images, got none"),
        (["good/a.png", "cut/x.png", "masks/cut/x.png", "masks/cut/x_mask.png"], "a second mask"),
        (["train/good/a.png", "val/cut/x.png", "test/cut/x.png", "ground_truth/cut/x.png"], "belongs to two images"),
    ],
)
def test_unclear_folders_are_refused(tmp_path: Path, files: list[str], reason: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=reason):
        read_folder(tmp_path, None)


@pytest.mark.parametrize("reader", [read_folder, read_magnetic_tile])
def test_missing_folder_is_refused(tmp_path: Path, reader) -> None:
    with pytest.raises(InputError, match="does not exist"):
        reader(tmp_path / "none", None)


def manifest(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text, encoding="utf-8-sig")
    return folder / "manifest.csv"


def test_manifest_with_a_null_byte(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.csv: expected text, got a null byte"):
        read_manifest(manifest(tmp_path, "path,kind\na\0.png,good\n"), None)


def test_manifest_with_every_column(tmp_path: Path) -> None:
    lines = (
        "path, label, kind, mask, group, pixel_size, split",
        "a.png,good,,,roll 1,0.05,train",
        '"sub/é, 1.png",1,hole,m/b.png,roll 2,0.05x0.1,test',
        "./c.png,DEFECTIVE,,,,,val",
    )
    listing = read_manifest(manifest(tmp_path, "\n".join(lines) + "\n\n"), PixelSize(cross_web_mm=1, down_web_mm=1))
    assert table(listing) == [
        ("a.png", "good", "train", None),
        ("sub/é, 1.png", "hole", "test", "b.png"),
        ("c.png", "defective", "val", None),
    ]
    first, second, third = (row.sample for row in listing.rows)
    assert (first.group_id, second.group_id, third.group_id) == ("roll 1", "roll 2", "c.png")
    assert first.pixel_size == PixelSize(cross_web_mm=0.05, down_web_mm=0.05)
    assert second.pixel_size == PixelSize(cross_web_mm=0.05, down_web_mm=0.1)
    assert third.pixel_size == PixelSize(cross_web_mm=1, down_web_mm=1)
    assert second.image_path == tmp_path / "sub/é, 1.png"
    assert second.mask_path == tmp_path / "m/b.png"


def test_manifest_from_its_folder_by_kind_alone(tmp_path: Path) -> None:
    manifest(tmp_path, "path,kind,mask\na.png,good,m.png\nb.png,hole,\n")
    listing = read_manifest(tmp_path, None)
    assert table(listing) == [("a.png", "good", None, None), ("b.png", "hole", None, None)]
    assert listing.good_masks == {"a.png": tmp_path / "m.png"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected the columns path and label or kind"),
        ("path,mask\na.png,\n", "expected the columns path and label or kind"),
        ("path,label,colour\na.png,good,red\n", "expected columns among"),
        ("path,label\na.png,good\nb.png,ok\n", "line 3: expected the label good or defective"),
        ("path,label\na.png,good\n./a.png,good\n", "line 3: a.png is already on line 2"),
        ("path,label,kind\na.png,good,hole\n", "line 2: .*labels contradict"),
        ("path,label,kind\na.png,1,good\n", "line 2: .*labels contradict"),
        ("path,label,kind\na.png,,\n", "line 2: label and kind are empty"),
        ("path,label\n,good\n", "line 2: path is empty"),
        ("path,label\na.png\n", "line 2: expected as many cells"),
        ("path,label\na.png,good,x\n", "line 2: expected as many cells"),
        ("path,label,pixel_size\na.png,good,wide\n", "line 2: expected a pixel size in mm"),
        ("path,label,pixel_size\na.png,good,-1\n", "line 2: pixel size cross_web_mm"),
        ("path,label,split\na.png,good,training\n", "line 2: expected the split train, val or test"),
        ("path,label,split\na.png,good,train\nb.png,good,\n", "a split on every line or on none, got 1 of 2"),
    ],
)
def test_bad_manifests_are_refused_with_the_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        read_manifest(manifest(tmp_path, text), None)
    assert "\n" not in str(error.value)


def test_manifest_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path, None)
    (tmp_path / "manifest.csv").write_bytes(b"path,label\n\xff\xfe,good\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(tmp_path, None)


def test_magnetic_tile_layout_below_a_parent(tmp_path: Path) -> None:
    names = ("MT_Free/Imgs/a.jpg", "MT_Free/Imgs/a.png", "MT_Crack/Imgs/b.jpg", "MT_Crack/Imgs/b.png")
    touch(tmp_path / "pack", *names, "MT_Crack/Imgs/lost.png", "overview.jpg")
    listing = read_magnetic_tile(tmp_path, None)
    assert table(listing) == [
        ("MT_Crack/Imgs/b.jpg", "crack", None, "b.png"),
        ("MT_Free/Imgs/a.jpg", "good", None, None),
    ]
    assert listing.warnings == ["mask without image: MT_Crack/Imgs/lost.png"]
    assert [item.path for item in listing.skipped] == ["overview.jpg"]
    with pytest.raises(InputError, match="expected one MT_Free folder in it, got 0"):
        read_magnetic_tile(tmp_path / "pack" / "MT_Crack", None)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="data/raw/MagneticTile is absent")
def test_published_magnetic_tile_counts() -> None:
    rows = read_magnetic_tile(REAL, None).rows
    kinds = [row.sample.kind for row in rows]
    published = {"good": 952, "blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}
    assert {kind: kinds.count(kind) for kind in set(kinds)} == published
    masks = [row.sample.mask_path for row in rows if row.sample.mask_path is not None]
    assert len(masks) == 392
    assert np.count_nonzero([(cv2.imread(str(path), 0) >= 128).any() for path in masks]) == 388


def test_folders_of_kinds_may_be_without_good_ones(tmp_path: Path) -> None:
    touch(tmp_path, "bad/a.png", "worse/b.png")
    assert [row.sample.kind for row in read_folder(tmp_path, None).rows] == ["bad", "worse"]
