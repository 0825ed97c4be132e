"""Templates in a data set: read from a manifest, checked once, hashed, registered, and only for who compares."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import save_image
from tests.data.labels_by_hand import DEEPPCB, read, write
from tests.shifted import surface
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, Geometry, GeometryMode, Registration, Splits
from zellige.data.augment import POLICIES, Augment
from zellige.data.convert_labels import convert_labels
from zellige.data.dataset import TileDataset
from zellige.data.formats import read_manifest
from zellige.data.index import Fractions, load_splits
from zellige.data.label_report import report_labels
from zellige.data.labelled_dataset import LabelledDataset
from zellige.data.pairs import check_templates_fit, with_templates, without_templates
from zellige.data.report import DataReport

SIZE = (64, 80)
TILES = Geometry(mode=GeometryMode.TILES, height=64, width=64, overlap_px=16)
MOVED = (1.5, -2.0)


def write_set(root: Path, *, column: str = "template", num: int = 12) -> Path:
    """Good pieces and one with a hole: the same print, moved, each with one of two templates."""
    rows = [f"path,kind,{column}"]
    for index in range(num):
        pixels = surface(index % 2, SIZE, *MOVED).copy()
        pixels[:8, :8] = 5 * index  # no two files are equal
        if index == num - 1:
            pixels[30:40, 30:44] = 255
        save_image(root / f"img/{index:02}.png", pixels)
        rows.append(f"img/{index:02}.png,{'hole' if index == num - 1 else 'good'},gold/{index % 2}.png")
    for kind in (0, 1):
        save_image(root / f"gold/{kind}.png", surface(kind, SIZE))
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def load(root: Path, **settings) -> tuple[Splits, DataReport]:
    return load_splits(root, "manifest", Fractions(), **{"seed": 0, "duplicates": "ignore", **settings})


def test_a_manifest_names_templates_which_are_no_samples(tmp_path: Path) -> None:
    splits, report = load(write_set(tmp_path))
    samples = [sample for part in splits.labelled().values() for sample in part]
    assert sorted(sample.id for sample in samples) == [f"img/{index:02}.png" for index in range(12)]
    assert all(sample.template_path == tmp_path / f"gold/{int(sample.id[4:6]) % 2}.png" for sample in samples)
    assert sum(counts.with_template for counts in report.splits.values()) == report.num_listed == 12
    assert with_templates(splits, tmp_path) is splits
    alone = without_templates(splits)
    assert {sample.template_path for part in alone.labelled().values() for sample in part} == {None}
    assert alone.fingerprint == splits.fingerprint
    with pytest.raises(InputError, match=r"expected a template for each image, .*; 12 of 12 have none, first img/"):
        with_templates(alone, tmp_path)


def test_the_fingerprint_hashes_templates_and_is_the_old_one_without(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    before = load(root)[0].fingerprint
    save_image(root / "gold/1.png", 255 - surface(1, SIZE))
    after = load(root)[0].fingerprint
    rows = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text("\n".join(",".join(row.split(",")[:2]) for row in rows))
    without = load(root)[0].fingerprint
    (root / "manifest.csv").write_text("\n".join(row.rsplit(",", 1)[0] + "," for row in rows[1:]))
    (root / "manifest.csv").write_text(rows[0] + "\n" + (root / "manifest.csv").read_text())
    assert load(root)[0].fingerprint == without
    assert len({before, after, without}) == 3


def spoil_size(root: Path) -> None:
    save_image(root / "gold/1.png", surface(1, (64, 81)))


def spoil_color(root: Path) -> None:
    save_image(root / "gold/1.png", np.dstack([surface(seed, SIZE) for seed in (1, 2, 3)]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "gold/1.png").unlink(), r"template .*gold/1\.png: cannot be read \(No such file"),
        (lambda root: (root / "gold/1.png").write_bytes(b"no image"), r"template .*gold/1\.png: not a readable image"),
        (spoil_size, r"template .*gold/1\.png: expected its image's size 64 x 80 px, got 64 x 81"),
        (spoil_color, r"template .*gold/1\.png: expected gray as the images, got color; color=luma turns all"),
    ],
)
def test_a_bad_template_is_one_line(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    root = write_set(tmp_path)
    spoil(root)
    with pytest.raises(InputError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    if spoil is spoil_color:
        with pytest.raises(InputError, match=r"template .*gold/1\.png: expected a gray image, got color"):
            load(root, color="gray")
        splits, _ = load(root, color="luma")
        assert TileDataset(splits.train, geometry=TILES, color=splits.color)[0].pixels.shape[1] == 2
    else:
        _, report = load(root, on_bad="skip")
        assert (len(report.skipped), report.num_listed) == (6, 12)


def test_an_image_is_not_its_own_template(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,kind,template\na.png,good,./a.png\n")
    with pytest.raises(InputError, match=r"line 2: expected another image as the template of a\.png, got the image"):
        read_manifest(tmp_path, None)


def test_tiles_have_the_registered_template_behind_the_image(tmp_path: Path) -> None:
    splits, _ = load(write_set(tmp_path))
    placed = Geometry(mode=TILES.mode, height=64, width=64, overlap_px=16, registration=Registration.TRANSLATION)
    differences = {}
    for geometry in (TILES, placed):
        dataset = TileDataset(splits.train, geometry=geometry, color=Color.GRAY)
        tiles = dataset[0]
        assert tiles.pixels.shape == (2, 2, 64, 64)
        inner = tiles.pixels[:, :, 10:-10, 10:-10].astype(int)
        differences[geometry.registration] = np.abs(inner[:, 0] - inner[:, 1]).max()
        again = dataset[0]  # with the shift that was found before
        np.testing.assert_array_equal(again.pixels, tiles.pixels)
        assert again.shift is tiles.shift
    assert differences[Registration.TRANSLATION] <= 8 < 40 < differences[Registration.NONE]


def test_templates_that_do_not_fit_are_found_before_the_fit(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    splits, _ = load(root)
    placed = Geometry(mode=TILES.mode, height=64, width=64, registration=Registration.TRANSLATION, search_px=3)
    check_templates_fit(splits, placed)
    for name in ("img/02.png", "img/05.png"):
        save_image(root / name, surface(7, SIZE))
    check_templates_fit(splits, TILES)
    with pytest.raises(
        InputError, match=r"^2 of 12 images do not fit their templates \(img/0[25].png, img/0[25].png\)"
    ) as e:
        check_templates_fit(splits, placed)
    assert "expected its template to fit within 3 px" in str(e.value)
    assert "\n" not in str(e.value)


def test_labelled_tiles_and_augmentation_keep_image_and_template_together(tmp_path: Path) -> None:
    splits, _ = load(write_set(tmp_path))
    (bad,) = [sample for sample in splits.test if sample.is_defective]
    tiles = TileDataset([], geometry=TILES, color=Color.GRAY, defects=[*splits.train, bad])
    labelled = LabelledDataset(tiles).read(0)
    assert labelled is not None
    assert (labelled.pixels.shape, labelled.masks.shape) == ((2, 2, 64, 64), (2, 64, 64))
    equal = np.repeat(labelled.pixels[:, :1], 2, axis=1)
    for policy in POLICIES:
        changed = Augment(policy, seed=1)(equal)
        assert changed.shape == equal.shape
        if "line" not in policy:  # noise is drawn for each channel
            np.testing.assert_array_equal(changed[:, 0], changed[:, 1])
        six = np.repeat(equal, 3, axis=1)
        assert Augment(policy, seed=1)(six).shape == six.shape


def test_deeppcb_becomes_a_manifest_with_templates(tmp_path: Path) -> None:
    labels = read(write(tmp_path / "pcb", DEEPPCB), on_bad="drop")
    assert [(image.id, image.template_path and image.template_path.name) for image in labels.images] == [
        ("g1/1/1001_test.jpg", "1001_temp.jpg"),
        ("g1/1/1003_test.jpg", None),
    ]
    assert report_labels(labels, "pcb", "deeppcb").num_templates == 1
    assert convert_labels(labels, "coco", tmp_path / "coco") == ["1 images lose their template: coco holds none"]
    convert_labels(labels, "manifest", out := tmp_path / "out")
    rows = {row.sample.id: row.sample for row in read_manifest(out, None).rows}
    copied = rows["images/g1/1/1001_test.jpg"].template_path
    assert copied == out / "templates/g1/1/1001_temp.jpg"
    assert copied.read_bytes() == (tmp_path / "pcb/g1/1/1001_temp.jpg").read_bytes()
    assert rows["images/g1/1/1003_test.jpg"].template_path is None
    again = read(out)
    assert [image.template_path for image in again.images] == [copied, None]


def test_templates_of_one_name_are_all_copied(tmp_path: Path) -> None:
    """The file that the second would get, by its image's name, is the first's."""
    rows = {"1": "a/x.png", "x": "b/x.png", "2": "c/x.png"}
    text = ["path,kind,template", *(f"images/{name}.png,good,{gold}" for name, gold in rows.items())]
    for kind, (name, gold) in enumerate(rows.items()):
        save_image(tmp_path / "set/images" / f"{name}.png", surface(kind, SIZE, *MOVED))
        save_image(tmp_path / "set" / gold, surface(kind, SIZE))
    (tmp_path / "set/manifest.csv").write_text("\n".join(text) + "\n")
    convert_labels(read(tmp_path / "set"), "manifest", tmp_path / "out")
    copied = {row.sample.id: row.sample.template_path for row in read_manifest(tmp_path / "out", None).rows}
    assert {name: path.read_bytes() for name, path in copied.items()} == {
        f"images/{name}.png": (tmp_path / "set" / gold).read_bytes() for name, gold in rows.items()
    }


def test_a_template_of_many_images_is_copied_once(tmp_path: Path) -> None:
    labels = read(write_set(tmp_path / "set"))
    save_image(tmp_path / "set/img/gold/0.png", surface(3, SIZE))
    convert_labels(labels, "manifest", tmp_path / "out")
    assert len(list((tmp_path / "out/templates").rglob("*.png"))) == 2
    assert {row.sample.template_path.read_bytes() for row in read_manifest(tmp_path / "out", None).rows} == {
        path.read_bytes() for path in (tmp_path / "set/gold").iterdir()
    }


@pytest.mark.parametrize("name", ["1001_temp.jpg"])
def test_labels_refuse_a_template_that_is_no_match(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, DEEPPCB)
    save_image(root / "g1/1" / name, surface(0, (30, 30)))
    dropped = read(root, on_bad="drop").dropped
    assert any("1001_temp.jpg: expected its image's size" in item.reason for item in dropped)


def test_templates_as_good_images(tmp_path: Path) -> None:
    root = write(tmp_path, DEEPPCB)
    labels = read(root, on_bad="drop", templates="good")
    first = labels.images[0]
    assert (first.id, first.kind, first.template_path) == ("g1/1/1001_temp.jpg", "good", None)
    with pytest.raises(ConfigError, match=r"labels\.templates: expected one of pair, good, got 'both'"):
        read(root, templates="both")
