import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.roi import Roi
from zellige.core.types import Color, PixelSize, Splits
from zellige.data.contact_sheet import contact_sheet
from zellige.data.index import Fractions, load_splits
from zellige.data.report import DataReport

REAL = Path("data/raw/MagneticTile")
COOKIES = Path("data/raw/AWS-cookies")


def picture(seed: int, size: tuple[int, int] = (64, 80), gain: float = 25) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, size), (0, 0), 3)
    return np.clip(128 + gain * noise / noise.std(), 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def plain(root: Path, num_good: int = 20, num_defective: int = 6) -> Path:
    for i in range(num_good):
        save(root / f"good/{i:03}.png", picture(i))
    for i in range(num_defective):
        save(root / f"hole/{i:03}.png", picture(1000 + i))
        save(root / f"masks/hole/{i:03}.png", np.where(np.arange(80) < 9, 255, 0)[None].repeat(64, 0).astype(np.uint8))
    return root


def declared(root: Path, num_train: int = 10) -> Path:
    for i in range(num_train):
        save(root / f"train/good/{i:03}.png", picture(i))
    for i in range(4):
        save(root / f"test/good/{i:03}.png", picture(500 + i))
        save(root / f"test/hole/{i:03}.png", picture(1000 + i))
    return root


def load(
    root: Path, layout: str = "folder", fractions: Fractions | None = None, **settings
) -> tuple[Splits, DataReport]:
    return load_splits(root, layout, fractions or Fractions(), **{"seed": 0, **settings})


def ids(samples) -> list[str]:
    return [sample.id for sample in samples]


def test_undeclared_folder_is_dealt_by_the_fractions(tmp_path: Path) -> None:
    splits, report = load(plain(tmp_path), pixel_size=PixelSize(cross_web_mm=0.1, down_web_mm=0.1))
    good = [sum(not s.is_defective for s in part) for part in (splits.train, splits.val, splits.test)]
    assert good == [12, 4, 4]
    assert sum(s.is_defective for s in splits.test) == 6
    assert splits.color is Color.GRAY
    assert (report.height_px, report.width_px, report.is_calibrated) == ((64, 64), (80, 80), True)
    assert report.splits["test"].kinds == {"hole": 6}
    assert report.splits["test"].with_mask == 6
    assert json.loads(json.dumps(report.to_json()))["num_listed"] == 26


def test_labelled_calibration_takes_its_share_of_defects(tmp_path: Path) -> None:
    splits, _ = load(plain(tmp_path, num_defective=10), fractions=Fractions(val_defects=0.3))
    assert sum(s.is_defective for s in splits.val) == 3
    assert not any(s.is_defective for s in splits.train)


def test_declared_test_is_kept_and_val_comes_from_train(tmp_path: Path) -> None:
    splits, report = load(declared(tmp_path), fractions=Fractions(train=0.7, val=0.3, test=0.0))
    assert ids(splits.test) == [f"test/{kind}/{i:03}.png" for kind in ("good", "hole") for i in range(4)]
    assert (len(splits.train), len(splits.val)) == (7, 3)
    assert all(s.id.startswith("train/good/") for s in splits.train + splits.val)
    assert report.warnings == []


def test_declared_val_is_kept(tmp_path: Path) -> None:
    save(declared(tmp_path) / "val/good/a.png", picture(77))
    splits, _ = load(tmp_path)
    assert ids(splits.val) == ["val/good/a.png"]
    assert len(splits.train) == 10


@pytest.mark.parametrize(("num_good", "expected"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (5, [3, 1, 1])])
def test_few_images_still_give_a_val_set(tmp_path: Path, num_good: int, expected: list[int]) -> None:
    splits, report = load(plain(tmp_path, num_good, 2))
    assert [sum(not s.is_defective for s in part) for part in (splits.train, splits.val, splits.test)] == expected
    assert ("no good images in test" in report.warnings) == (expected[2] == 0)


def test_groups_never_straddle_and_a_group_with_a_defect_never_trains(tmp_path: Path) -> None:
    lines = ["path,label,group"]
    for i in range(40):
        save(tmp_path / f"{i:02}.png", picture(i))
        lines.append(f"{i:02}.png,{'defective' if i in (3, 17) else 'good'},roll {i // 4}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    for seed in range(5):
        splits, _ = load(tmp_path, "manifest", seed=seed)
        parts = [{s.group_id for s in part} for part in (splits.train, splits.val, splits.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10
        assert {"roll 0", "roll 4"} <= parts[2]
        assert len(splits.val) >= 4


def test_split_depends_on_seed_and_content_not_on_file_order(tmp_path: Path) -> None:
    first, _ = load(plain(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in sorted((tmp_path / "b/good").iterdir(), reverse=True):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    second, _ = load(tmp_path / "b")
    assert ids(second.train) == ids(first.train)
    assert second.fingerprint == first.fingerprint
    assert ids(load(tmp_path / "a", seed=1)[0].train) != ids(first.train)
    save(tmp_path / "b/good/000.png", picture(4242))
    assert load(tmp_path / "b")[0].fingerprint != first.fingerprint
    save(tmp_path / "a/masks/hole/000.png", np.eye(64, 80, dtype=np.uint8) * 255)
    changed_mask, _ = load(tmp_path / "a")
    assert ids(changed_mask.train) == ids(first.train)
    assert changed_mask.fingerprint != first.fingerprint


def test_near_duplicates_share_a_split(tmp_path: Path) -> None:
    for i in range(12):
        for shot, gain in enumerate((12, 20, 30)):
            save(tmp_path / f"good/{shot}_{i:02}.png", picture(i, gain=gain))
    splits, report = load(tmp_path)
    parts = [{s.id[-6:-4] for s in part} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, parts)) == 12
    assert report.duplicates.near_pairs == 36
    assert report.duplicates.largest_group == 3
    assert report.duplicates.straddling_pairs == 0
    ignored = load(tmp_path, duplicates="ignore")[1]
    assert ignored.duplicates.straddling_pairs > 0
    assert any("near-duplicate pairs lie in two splits" in warning for warning in ignored.warnings)
    with pytest.raises(InputError, match=f"{ignored.duplicates.straddling_pairs} near-duplicate pairs .* first good/"):
        load(tmp_path, duplicates="error")


def test_the_train_copy_of_a_test_image_is_left_out_and_test_is_untouched(tmp_path: Path) -> None:
    save(declared(tmp_path) / "test/good/again.png", picture(3, gain=15))
    save(tmp_path / "train/good/shot.png", picture(1002, gain=15))
    splits, report = load(tmp_path)
    assert len(splits.test) == 9
    assert not {"train/good/003.png", "train/good/shot.png"} & set(ids(splits.train + splits.val))
    assert [item.path for item in report.skipped] == ["train/good/003.png", "train/good/shot.png"]
    assert "near-duplicate of test/good/again.png" in report.skipped[0].reason
    with pytest.raises(InputError, match="2 near-duplicate pairs"):
        load(tmp_path, duplicates="error")


def test_a_group_named_by_the_user_may_not_straddle_declared_splits(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"{i}.png", picture(i))
    (tmp_path / "manifest.csv").write_text("path,label,group,split\n0.png,good,r,train\n1.png,good,r,test\n")
    with pytest.raises(InputError, match=r"group r: expected one split, got train .* and test"):
        load(tmp_path, "manifest")


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_equal_files_with_contradicting_labels_are_always_refused(tmp_path: Path, on_bad: str) -> None:
    shutil.copy(plain(tmp_path) / "good/004.png", tmp_path / "hole/copy.png")
    with pytest.raises(InputError, match=r"good/004.png \(good\) and hole/copy.png \(hole\) are the same file"):
        load(tmp_path, on_bad=on_bad)


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_a_good_image_with_a_mask_is_always_refused_unless_it_is_empty(tmp_path: Path, on_bad: str) -> None:
    save(plain(tmp_path) / "masks/good/001.png", np.zeros((64, 80), np.uint8))
    assert len(load(tmp_path, on_bad=on_bad)[0].train) == 12
    save(tmp_path / "masks/good/001.png", np.full((64, 80), 255, np.uint8))
    with pytest.raises(InputError, match=r"good/001.png: good, but its mask .* marks a defect"):
        load(tmp_path, on_bad=on_bad)


def test_an_empty_mask_keeps_the_label(tmp_path: Path) -> None:
    save(plain(tmp_path) / "masks/hole/002.png", np.zeros((64, 80), np.uint8))
    splits, report = load(tmp_path)
    sample = next(s for s in splits.test if s.id == "hole/002.png")
    assert sample.is_defective
    assert sample.mask_path is None
    assert report.empty_masks == ["hole/002.png"]


BAD = {
    "empty": (lambda r: (r / "good/005.png").write_bytes(b""), "good/005.png", "empty file"),
    "truncated": (
        lambda r: (r / "good/005.png").write_bytes((r / "good/005.png").read_bytes()[:300]),
        "good/005.png",
        "truncated",
    ),
    "16-bit": (lambda r: save(r / "good/005.png", picture(5).astype(np.uint16)), "good/005.png", "8 bits"),
    "mask size": (lambda r: save(r / "masks/hole/001.png", picture(0, (63, 80))), "hole/001.png", "64 x 80 px, got 63"),
    "mask corrupt": (lambda r: (r / "masks/hole/001.png").write_bytes(b"x"), "hole/001.png", "not a readable"),
    "color": (
        lambda r: save(r / "good/005.png", np.dstack([picture(i) for i in range(3)])),
        "good/005.png",
        "got color",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_an_error_or_are_skipped_and_listed(tmp_path: Path, name: str) -> None:
    spoil, bad_id, reason = BAD[name]
    spoil(plain(tmp_path))
    with pytest.raises(InputError, match=r"1 of 26 images cannot be used .*first: ") as error:
        load(tmp_path, color="gray")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    splits, report = load(tmp_path, color="gray", on_bad="skip")
    assert [(item.path, reason in item.reason) for item in report.skipped] == [(bad_id, True)]
    assert len(splits.train + splits.val + splits.test) == 25


def test_missing_image_of_a_manifest(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(0))
    (tmp_path / "manifest.csv").write_text("path,label\na.png,good\ngone.png,good\n")
    with pytest.raises(InputError, match=r"1 of 2 images cannot be used .*gone.png"):
        load(tmp_path, "manifest")


def test_color_is_resolved_once(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / f"good/{i}.png", np.dstack([picture(3 * i + c) for c in range(3)]))
    assert load(tmp_path)[0].color is Color.RGB
    save(tmp_path / "good/gray.png", picture(99))
    with pytest.raises(InputError, match=r"got 1 gray and 6 color \(such as good/gray.png\); color=luma"):
        load(tmp_path)
    assert load(tmp_path, color="luma")[0].color is Color.LUMA
    skipped = load(tmp_path, color="rgb", on_bad="skip")[1].skipped
    assert [item.path for item in skipped] == ["good/gray.png"]


def test_no_good_images_left(tmp_path: Path) -> None:
    save(tmp_path / "train/hole/a.png", picture(0))
    with pytest.raises(InputError, match="expected good images, got none"):
        load(tmp_path)
    (plain(tmp_path / "b", num_good=1) / "good/000.png").write_bytes(b"")
    with pytest.raises(InputError, match="expected readable good images, got none"):
        load(tmp_path / "b", on_bad="skip")


def test_unknown_settings_and_fractions_are_refused(tmp_path: Path) -> None:
    for settings in ({"layout": "zip"}, {"color": "bgr"}, {"duplicates": "drop"}, {"on_bad": "ignore"}):
        with pytest.raises(ConfigError, match=f"data {next(iter(settings))}: expected one of"):
            load(plain(tmp_path), **settings)
    shares: tuple[dict[str, float], ...] = (
        {"train": 0.5},
        {"train": 0.0, "val": 0.8},
        {"val_defects": 1.0},
        {"val": -0.2, "test": 0.6},
        {"train_defects": -0.1},
        {"val_defects": 0.5, "train_defects": 0.5},
    )
    for bad in shares:
        with pytest.raises(ConfigError, match="fractions"):
            Fractions(**bad)


def test_contact_sheet_has_a_row_per_kind_and_outlines_masks(tmp_path: Path) -> None:
    splits, _ = load(plain(tmp_path))
    sheet = contact_sheet(splits.train + splits.test, per_kind=3, side_px=100)
    assert sheet.shape == (2 * 126, 3 * 104, 3)
    red = (sheet == (255, 60, 60)).all(axis=2)
    assert red[126:].any()
    assert not red[:126].any()
    inspected = np.arange(80) >= 40
    half = Roi(inspected=np.tile(inspected, (64, 1)), ignored=np.tile(~inspected, (64, 1)))
    hatched = contact_sheet(splits.train + splits.test, per_kind=3, side_px=100, find_roi=lambda sample: half)
    cell = (slice(22, 22 + 80), slice(0, 100))
    assert np.array_equal(hatched[cell][:, 52:], sheet[cell][:, 52:])
    assert (hatched[cell][:, :48] < sheet[cell][:, :48]).mean() > 0.6


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="data/raw/MagneticTile is absent")
def test_magnetic_tile_end_to_end() -> None:
    splits, report = load(REAL, "magnetic_tile", color="gray")
    samples = splits.train + splits.val + splits.test
    assert len(samples) == 1344
    assert Counter(s.is_defective for s in samples) == {False: 952, True: 392}
    assert len(report.empty_masks) == 4
    assert 520 <= len(splits.train) <= 600
    assert "metadata alone predicts the label" in report.shortcut.warning
    assert 0.58 < report.shortcut.by_feature["size"] < 0.72


@pytest.mark.real
@pytest.mark.skipif(not COOKIES.is_dir(), reason="data/raw/AWS-cookies is absent")
def test_cookies_through_a_manifest(tmp_path: Path) -> None:
    images = sorted((COOKIES.resolve()).rglob("training-images/*.jpg"))
    masks = {path.stem: path for path in COOKIES.resolve().rglob("anomaly-*.png")}
    rows = [f"{p},{'defective' if p.stem in masks else 'good'},{masks.get(p.stem, '')}" for p in images]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label,mask", *rows]))
    splits, report = load(tmp_path, "manifest")
    assert splits.color is Color.RGB
    assert {name: (c.good, c.defective, c.with_mask) for name, c in report.splits.items()}["test"][1:] == (32, 32)
    assert sum(c.good for c in report.splits.values()) == 31
    assert report.empty_masks == []


def test_labelled_defects_for_training_are_apart_from_the_good_ones(tmp_path: Path) -> None:
    splits, report = load(plain(tmp_path, num_defective=10), fractions=Fractions(val_defects=0.2, train_defects=0.5))
    defective = [sum(s.is_defective for s in part) for part in (splits.train, splits.val, splits.test)]
    assert defective == [0, 2, 3]
    assert len(splits.train_defects) == 5
    assert all(s.is_defective and s.mask_path is not None for s in splits.train_defects)
    assert (report.splits["train"].good, report.splits["train"].defective) == (12, 5)
    assert len(set(ids(splits.train + splits.train_defects + splits.val + splits.test))) == 30
    assert load(tmp_path)[0].fingerprint != splits.fingerprint


def test_without_asking_no_defect_goes_to_train(tmp_path: Path) -> None:
    assert load(plain(tmp_path))[0].train_defects == ()


def test_groups_with_labelled_defects_never_straddle(tmp_path: Path) -> None:
    lines = ["path,label,group"]
    for i in range(40):
        save(tmp_path / f"{i:02}.png", picture(i))
        lines.append(f"{i:02}.png,{'defective' if i % 8 == 3 else 'good'},roll {i // 4}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    for seed in range(5):
        splits, _ = load(tmp_path, "manifest", seed=seed, fractions=Fractions(train_defects=0.4))
        parts = [{s.group_id for s in part} for part in splits.labelled().values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10
        assert len(splits.train_defects) == 2
        of_them = {s.group_id for s in splits.train_defects}
        # the good images of their groups train too
        assert sum(s.group_id in of_them for s in splits.train) == 6


def test_declared_defects_in_train_are_labels_to_learn_from_and_never_go_to_val(tmp_path: Path) -> None:
    for i in range(4):
        save(declared(tmp_path) / f"train/cut/{i}.png", picture(2000 + i))
    for seed in range(4):
        splits, report = load(tmp_path, fractions=Fractions(train=0.5, val=0.5, test=0.0), seed=seed)
        assert ids(splits.train_defects) == [f"train/cut/{i}.png" for i in range(4)]
        assert not any(s.is_defective for s in splits.train + splits.val)
        assert report.skipped == []
    assert (
        "fractions.train_defects is not used" in load(tmp_path, fractions=Fractions(train_defects=0.1))[1].warnings[0]
    )


def test_declared_defects_in_train_are_held_out_where_that_is_asked_for(tmp_path: Path) -> None:
    for i in range(10):
        save(declared(tmp_path) / f"train/cut/{i}.png", picture(2000 + i))
    splits, _ = load(tmp_path, fractions=Fractions(train=0.8, val=0.2, test=0.0, val_defects=0.3))
    held_out = [sample.id for sample in splits.val if sample.is_defective]
    assert len(held_out) == 3
    assert sorted([*ids(splits.train_defects), *held_out]) == [f"train/cut/{i}.png" for i in range(10)]
    assert sum(not sample.is_defective for sample in splits.val) == 2
    assert len(splits.test) == 8


def test_defects_alone_in_train_are_no_good_images(tmp_path: Path) -> None:
    save(tmp_path / "train/cut/0.png", picture(1))
    save(tmp_path / "test/good/0.png", picture(2))
    with pytest.raises(InputError, match="no good images left to train on"):
        load(tmp_path)


def test_splits_refuse_a_good_sample_among_the_defects_and_a_group_in_two_splits(tmp_path: Path) -> None:
    splits, _ = load(plain(tmp_path), fractions=Fractions(train_defects=0.5))
    with pytest.raises(InputError, match="train_defects: expected defective samples only, got 1 good"):
        replace(splits, train=splits.train[1:], train_defects=splits.train[:1])
    moved = replace(splits.train_defects[0], group_id=splits.test[0].group_id)
    with pytest.raises(InputError, match="is in train and in test"):
        replace(splits, train_defects=(moved,))


def test_sets_without_good_images_are_read_where_none_are_needed(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / f"{('cut', 'dent')[i % 2]}/{i:02}.png", picture(i))
    with pytest.raises(InputError, match="expected good images, got none among 20 images of cut, dent"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"no images left to train on: .*data\.fractions\.train_defects"):
        load(tmp_path, needs_good=False)
    shares = Fractions(train_defects=0.5, val_defects=0.25)
    splits, report = load(tmp_path, needs_good=False, fractions=shares)
    assert (len(splits.train), len(splits.train_defects), len(splits.val), len(splits.test)) == (0, 10, 5, 5)
    assert report.warnings == ["no good images in val", "no good images in test"]
