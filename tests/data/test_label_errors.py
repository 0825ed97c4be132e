"""Labels that cannot be used: one line that names the file and the line or item, or an image left out and listed."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PROJECT, texture
from tests.data.labels_by_hand import BY_HAND, COCO_FILE, DEEPPCB, LABELME_FILE, VOC_FILE, pictures, read, write
from zellige.core.errors import ConfigError, InputError
from zellige.data.annotations import check_kind
from zellige.data.convert_labels import convert_labels

ENTITIES = '<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">]>\n' + VOC_FILE.replace("scratch", "&b;")


def coco(**changes: object) -> dict[str, object]:
    """The COCO file by hand with changes of its one annotation."""
    return {"annotations/instances.json": COCO_FILE | {"annotations": [COCO_FILE["annotations"][0] | changes]}}


def coco_file(**changes: object) -> dict[str, object]:
    return {"annotations/instances.json": COCO_FILE | changes}


def voc(old: str, new: str) -> dict[str, object]:
    return {"Annotations/a.xml": VOC_FILE.replace(old, new)}


def labelme(*shapes: dict[str, object], **changes: object) -> dict[str, object]:
    return {"a.json": LABELME_FILE | changes | ({"shapes": list(shapes)} if shapes else {})}


BAD: dict[str, tuple[str, dict[str, object], str]] = {
    # what                    (format, files that replace those by hand, what the line says)
    "box outside": (
        "coco",
        coco(bbox=[50, 4, 12, 6]),
        "instances.json annotations[0]: box 50 4 62 10: expected it inside",
    ),
    "inverted box": ("coco", coco(bbox=[6, 4, -2, 6]), "annotations[0]: box 6 4 4 10: expected x0 < x1 and y0 < y1"),
    "empty box": ("coco", coco(bbox=[6, 4, 0, 6]), "annotations[0]: box 6 4 6 10: expected x0 < x1"),
    "infinite box": ("coco", coco(bbox=[6, 4, 1e999, 6]), "annotations[0]: box 6 4 inf 10: expected finite numbers"),
    "box of text": ("coco", coco(bbox=["a", 4, 3, 6]), "annotations[0]: expected a number for bbox, got 'a'"),
    "three numbers": ("coco", coco(bbox=[6, 4, 3]), "annotations[0]: expected a bbox of 4 numbers"),
    "two points": (
        "coco",
        coco(segmentation=[[1, 1, 9, 9]]),
        "annotations[0]: expected an outline of at least 3 points, got 2",
    ),
    "outline on a line": (
        "coco",
        coco(segmentation=[[1, 1, 9, 1, 5, 1]]),
        "annotations[0]: expected an outline around an area",
    ),
    "odd outline": (
        "coco",
        coco(segmentation=[[1, 1, 9]]),
        "annotations[0]: expected a segmentation of x, y pairs, got 3",
    ),
    "unknown category": (
        "coco",
        coco(category_id=8),
        "annotations[0]: expected the id of a category of this file, got 8",
    ),
    "unknown image": ("coco", coco(image_id=8), "annotations[0]: expected the id of an image of this file, got 8"),
    "mask of another size": (
        "coco",
        coco(segmentation={"size": [60, 40], "counts": [2400]}),
        "annotations[0]: expected a mask of size [40, 60], its image's, got [60, 40]",
    ),
    "kind with a separator": (
        "coco",
        coco_file(categories=[{"id": 3, "name": "../x"}]),
        "instances.json categories: expected the name of a kind of defect, got '../x'",
    ),
    "kind twice": (
        "coco",
        coco_file(categories=[{"id": 3, "name": "x"}, {"id": 4, "name": "x"}]),
        "instances.json categories: expected each kind once, got x twice",
    ),
    "image missing": (
        "coco",
        coco_file(images=[*COCO_FILE["images"], {"id": 1, "file_name": "gone.png"}]),
        "instances.json images[2]: expected one image 'gone.png' below",
    ),
    "image outside": (
        "coco",
        coco_file(images=[*COCO_FILE["images"], {"id": 1, "file_name": "../../../etc/passwd"}]),
        "images[2]: expected one image '../../../etc/passwd' below",
    ),
    "image of another size": (
        "coco",
        coco_file(images=[COCO_FILE["images"][0] | {"width": 61}, COCO_FILE["images"][1]]),
        "images[0]: expected its image's size 40 x 60 px, got 40 x 61",
    ),
    "image id twice": (
        "coco",
        coco_file(images=[COCO_FILE["images"][0]] * 2),
        "images[1]: expected each id once, got 7 again",
    ),
    "labelled twice": (
        "coco",
        coco_file(images=[*COCO_FILE["images"], {"id": 1, "file_name": "images/a.png"}]),
        "image a.png is labelled twice in two ways: labels",
    ),
    "broken JSON": ("coco", {"annotations/instances.json": '{"images": [\n{]'}, "instances.json line 2: not JSON"),
    "deep JSON": ("coco", {"annotations/instances.json": "[" * 100_000}, "instances.json: not usable JSON"),
    "not UTF-8": ("yolo", {"labels/a.txt": b"\xff\xfe0"}, "a.txt: expected UTF-8 text, got other bytes at 0"),
    "beyond 1": (
        "yolo",
        {"labels/a.txt": "0 0.2 0.2 0.1 0.1\n0 1.2 0.2 0.1 0.1"},
        "a.txt line 2: expected numbers from 0 to 1",
    ),
    "not a number": ("yolo", {"labels/a.txt": "0 nan 0.2 0.1 0.1"}, "a.txt line 1: expected numbers from 0 to 1"),
    "box over the border": (
        "yolo",
        {"labels/a.txt": "0 0.9 0.5 0.4 0.2"},
        "a.txt line 1: box 42 16 66 24: expected it inside",
    ),
    "unknown kind": (
        "yolo",
        {"labels/a.txt": "1 0.2 0.2 0.1 0.1"},
        "a.txt line 1: expected a kind from 0 to 0, got '1'",
    ),
    "a detector's output": (
        "yolo",
        {"labels/a.txt": "0 0.2 0.2 0.1 0.1 0.9"},
        "a.txt line 1: expected 4 numbers for a box",
    ),
    "no names": ("yolo", {"data.yaml": "train: images"}, "data.yaml: expected names, a list or a map"),
    "names not from 0": (
        "yolo",
        {"data.yaml": "names: {1: x}"},
        "data.yaml names: expected the numbers 0 to 0, got [1]",
    ),
    "broken YAML": ("yolo", {"data.yaml": "names: ["}, "data.yaml: not YAML"),
    "YAML that builds objects": (
        "yolo",
        {"data.yaml": "names: !!python/object/apply:os.system [x]"},
        "data.yaml: not YAML",
    ),
    "label without image": ("yolo", {"labels/c.txt": ""}, "labels/c.txt: no image belongs to it"),
    "broken XML": ("voc", voc("</object>", ""), "a.xml: not usable XML (mismatched tag: line 5"),
    "entities": ("voc", {"Annotations/a.xml": ENTITIES}, "a.xml: not usable XML (expected XML without a document type"),
    "other XML": ("voc", {"Annotations/a.xml": "<svg/>"}, "a.xml: expected the root <annotation>, got <svg>"),
    "from 0 on": ("voc", voc("<xmin>7<", "<xmin>0<"), "a.xml object 1: expected xmin and ymin from 1 on, got 0"),
    "no box": ("voc", voc("<xmax>18</xmax>", ""), "a.xml object 1: expected a number for xmax, got ''"),
    "VOC of another size": (
        "voc",
        voc("<width>60<", "<width>61<"),
        "a.xml: expected its image's size 40 x 60 px, got 40 x 61",
    ),
    "VOC without image": ("voc", voc("a.png", "c.png"), "a.xml: expected one image 'c.png' below"),
    "two XML for an image": (
        "voc",
        {"Annotations/c.xml": VOC_FILE.replace("<xmax>18<", "<xmax>19<")},
        "is labelled twice in two ways: labels",
    ),
    "broken LabelMe": ("labelme", {"b.json": "{"}, "b.json line 1: not JSON"),
    "a line has no area": (
        "labelme",
        labelme({"label": "x", "points": [[1, 1], [9, 9]], "shape_type": "line"}),
        "a.json shapes[0]: expected one of polygon, rectangle, circle, which have an area, got 'line'",
    ),
    "polygon of two points": (
        "labelme",
        labelme({"label": "x", "points": [[1, 1], [9, 9]], "shape_type": "polygon"}),
        "a.json shapes[0]: expected an outline of at least 3 points, got 2",
    ),
    "shape without a name": ("labelme", labelme({"points": [[1, 1]]}), "a.json shapes[0]: expected the name of a kind"),
    "LabelMe of another size": (
        "labelme",
        labelme(imageHeight=41),
        "a.json: expected its image's size 40 x 60 px, got 41 x 60",
    ),
    "good and a defect": (
        "csv",
        {"labels.csv": "path,kind,x0,y0,x1,y1\na.png,x,6,4,18,10\na.png,,,,,\nb.png,,,,,\n"},
        "labels.csv line 3: the line says good and another one has a defect: labels contradict",
    ),
    "missing cell": (
        "csv",
        {"labels.csv": "path,kind,x0,y0,x1,y1\na.png,x,6,4,18\n"},
        "labels.csv line 2: expected as many cells",
    ),
    "missing column": ("csv", {"labels.csv": "path,x0,y0,x1,y1\n"}, "labels.csv: expected one column kind or class"),
    "level without a kind": (
        "masks",
        {"masks/b.png": np.full((40, 60), 2, np.uint8)},
        "b.png: expected levels from 0 to 1",
    ),
    "mask of another image": (
        "masks",
        {"masks/b.png": np.zeros((40, 61), np.uint8)},
        "b.png: expected its image's size 40 x 60",
    ),
    "two masks": ("masks", {"masks/a.png": np.zeros((40, 60), np.uint8)}, "a second mask for the same image"),
    "mask without image": ("masks", {"masks/c.png": np.zeros((40, 60), np.uint8)}, "c.png: no image belongs to it"),
    "damaged mask": ("masks", {"masks/b.png": b"\x89PNG"}, "b.png: not a readable image"),
    "damaged image": ("masks", {"images/b.png": b"\x89PNG"}, "b.png: "),
    "the same file in two ways": (
        "masks",
        {"images/b.png": texture(0, size=(40, 60))},
        "the same file is labelled in two ways: a.png (scratch), b.png (good)",
    ),
    "manifest's box": (
        "manifest",
        {"manifest.csv": "path,kind,boxes\na.png,x,1 2 3\nb.png,good,"},
        "manifest.csv line 2: expected boxes as",
    ),
    "box of a good image": (
        "manifest",
        {"manifest.csv": "path,kind,boxes\na.png,good,1 2 3 4 x\nb.png,good,"},
        "manifest.csv line 2: sample a.png: a good image has 1 boxes",
    ),
}
STOPS = {
    *("image id twice", "kind twice", "kind with a separator", "broken JSON", "deep JSON", "no names", "broken YAML"),
    *("names not from 0", "YAML that builds objects", "two masks", "labelled twice", "two XML for an image"),
    *("missing cell", "missing column", "manifest's box", "box of a good image"),
}
"""What is not a matter of single images stops the reading whatever the setting."""


def spoil(root: Path, name: str) -> tuple[Path, str, str]:
    form, files, message = BAD[name]
    return write(root, BY_HAND[form] | files), form, message


@pytest.mark.parametrize("name", BAD)
def test_labels_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    root, form, message = spoil(tmp_path, name)
    with pytest.raises(InputError) as caught:
        read(root, form)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if name in STOPS:
        with pytest.raises(InputError):
            read(root, form, on_bad="drop")
        return
    assert "labels.on_bad=drop leaves them out" in str(caught.value)
    if name == "the same file in two ways":
        with pytest.raises(InputError, match="expected labelled images, got none"):
            read(root, form, on_bad="drop")
        return
    labels = read(root, form, on_bad="drop")
    assert len(labels.dropped) == 1
    assert message in labels.dropped[0].reason
    assert 1 <= len(labels.images) <= 2


def test_an_image_is_left_out_as_a_whole(tmp_path: Path) -> None:
    """It has a defect whose place is not known: without it the image would look better than it is."""
    good_box = COCO_FILE["annotations"][0]
    bad_box = good_box | {"id": 2, "bbox": [70, 4, 5, 5]}
    root = write(
        tmp_path, BY_HAND["coco"] | {"annotations/instances.json": COCO_FILE | {"annotations": [good_box, bad_box]}}
    )
    labels = read(root, on_bad="drop")
    assert [image.id for image in labels.images] == ["b.png"]
    assert [item.path for item in labels.dropped] == ["a.png"]


def test_a_rounding_over_the_border_is_clipped_and_counted(tmp_path: Path) -> None:
    labels = read(write(tmp_path, BY_HAND["coco"] | coco(bbox=[-0.6, 4, 61.2, 36.4])))
    assert [defect.box for defect in labels.images[0].defects] == [(0, 4, 60, 40)]
    assert [item.num_clipped for item in labels.items] == [2, 0]
    with pytest.raises(InputError, match=r"box -1.1 4"):
        read(write(tmp_path, BY_HAND["coco"] | coco(bbox=[-1.1, 4, 61.2, 36.4])))


def test_an_image_without_labels_is_good_only_on_demand(tmp_path: Path) -> None:
    root = write(tmp_path, BY_HAND["yolo"] | {"images/c.png": texture(7, size=(40, 60))})
    labels = read(root)
    assert ([image.id for image in labels.images], labels.unlabelled) == (["a.png", "b.png"], ("c.png",))
    labels = read(root, unlabelled="good")
    assert [(image.id, image.kind) for image in labels.images][2] == ("c.png", "good")
    with pytest.raises(ConfigError, match=r"labels.unlabelled: expected one of leave_out, good, got 'x'"):
        read(root, unlabelled="x")
    with pytest.raises(ConfigError, match=r"labels.on_bad: expected one of error, drop, got 'skip'"):
        read(root, on_bad="skip")


@pytest.mark.parametrize(
    "line", ["6 4 18 10", "6 4 18 10 7", "6 4 18 10 0", "6 4 18.5 10 1", "-6 4 18 10 1", "9" * 400 + " 4 9 9 1"]
)
def test_a_line_of_deeppcb(tmp_path: Path, line: str) -> None:
    root = write(tmp_path, DEEPPCB | {"g1/1_not/1001.txt": f"1 1 5 5 1\n{line}\n"})
    dropped = read(root, on_bad="drop").dropped
    assert any(re.search(r"1001\.txt line 2: .*expected", item.reason) for item in dropped)


@pytest.mark.parametrize("name", ["", " x", "a/b", "a\\b", "..", ".x", "a;b", "a\nb", "a\0b", "good", "GOOD", None, 3])
def test_names_that_no_kind_can_have(name: object) -> None:
    with pytest.raises(InputError, match="x: expected"):
        check_kind(name, "x")


@pytest.mark.parametrize("name", ["scratch", "oil spot", "pin-hole", "rolled-in_scale", "Riß", "裂纹", "a.b"])
def test_names_that_a_kind_can_have(name: str) -> None:
    assert check_kind(name, "x") == name


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    root = write(tmp_path, DEEPPCB | {"test.txt": f"g1/{'9' * 400}.jpg g1/1_not/1003.txt\n"})
    assert any("test.txt line 1: expected the file" in item.reason for item in read(root, on_bad="drop").dropped)


def test_a_conversion_is_whole_or_nothing(tmp_path: Path) -> None:
    root = write(
        tmp_path / "in", pictures("a.png", "a.jpg") | {"l.csv": "path,kind,x0,y0,x1,y1\na.png,,,,,\na.jpg,,,,,\n"}
    )
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"images a.jpg and a.png: expected names that differ in more than the suffix"):
        convert_labels(read(root), "yolo", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    with pytest.raises(ConfigError, match=r"labels.to: expected one of coco, .* got 'deeppcb'"):
        convert_labels(read(root), "deeppcb", out)
    write(out, {"mine.txt": "x"})
    with pytest.raises(InputError, match="out: expected a folder that does not exist or is empty"):
        convert_labels(read(root), "coco", out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_conversion_stays_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", pictures("a.png", "b.png"))
    lines = ["path,kind", "../elsewhere/a.png,good", f"{tmp_path / 'elsewhere/b.png'},scratch"]
    root = write(tmp_path / "in", {"manifest.csv": "\n".join(lines)})
    before = sorted(tmp_path.rglob("*"))
    convert_labels(read(root), "manifest", tmp_path / "out")
    assert [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "out" not in (path, *path.parents)] == before
    assert len(list((tmp_path / "out/images").rglob("*.png"))) == 2


def test_kinds_that_no_image_shows_any_more(tmp_path: Path) -> None:
    """A name that is refused does not come back through the list of the kinds."""
    labels = read(write(tmp_path, BY_HAND["voc"] | voc("<name>scratch", "<name>../x")), on_bad="drop")
    assert (labels.kinds, len(labels.dropped)) == ((), 1)
    with pytest.raises(InputError, match=r"labels\.kinds: expected each kind once, got x twice"):
        read(tmp_path, kinds=("x", "x"))


def test_the_examples_of_the_guide_are_read(tmp_path: Path) -> None:
    guide = (PROJECT / "docs/guide/labels.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(json|xml|csv)\n(.*?)```", guide, re.DOTALL)
    names = ["labels.json", "0001.xml", "0001.json", "labels.csv", "manifest.csv"]
    pixels = {f"000{n}.png": texture(n, size=(512, 2048)) for n in (1, 2)}
    mask = np.zeros((512, 2048), np.uint8)
    mask[40:58, 600:720] = 255
    for (_, text), name in zip(blocks, names, strict=True):
        place = "images/" if name == "manifest.csv" else ""
        more = {"masks/0001.png": mask} if place else {}
        root = write(
            tmp_path / Path(name).stem / Path(name).suffix[1:], {place + key: value for key, value in pixels.items()}
        )
        first = read(write(root, {name: text} | more)).images[0]
        assert (first.defects[0].kind, first.defects[0].box) == ("scratch", (600, 40, 720, 58)), name


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    root = write(tmp_path / "kinds", pictures("scratch/a.png", "good/b.png"))
    with pytest.raises(InputError, match=r"1 images have a kind and no place, first scratch/a.png: coco needs places"):
        convert_labels(read(root), "coco", tmp_path / "out")
    assert convert_labels(read(root), "manifest", tmp_path / "out") == []
    left = read(root).without_unplaced()
    assert ([image.id for image in left.images], [item.path for item in left.dropped]) == (
        ["good/b.png"],
        ["scratch/a.png"],
    )
    outline = coco(segmentation=[[6, 4, 18, 4, 18, 10]])
    labels = read(write(tmp_path / "outline", BY_HAND["coco"] | outline))
    assert convert_labels(labels, "voc", tmp_path / "voc") == ["1 outlines are left out: voc holds boxes only"]
    boxes = read(write(tmp_path / "boxes", BY_HAND["coco"]))
    assert convert_labels(boxes, "masks", tmp_path / "masks") == ["1 boxes without an outline were filled"]
    both = [COCO_FILE["annotations"][0], outline["annotations/instances.json"]["annotations"][0] | {"id": 2}]
    labels = read(
        write(tmp_path / "both", BY_HAND["coco"] | {"annotations/instances.json": COCO_FILE | {"annotations": both}})
    )
    assert convert_labels(labels, "yolo", tmp_path / "yolo") == ["1 outlines are left out: 1 defects have a box only"]
