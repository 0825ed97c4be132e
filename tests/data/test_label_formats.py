"""Each format against files written by hand, and a set that goes through every format and comes back."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from tests.conftest import save_image
from tests.data.labels_by_hand import (
    BY_HAND,
    COCO_FILE,
    DEEPPCB,
    HEIGHT,
    LABELME_FILE,
    SIZE,
    WIDTH,
    as_table,
    pictures,
    read,
    scratch_mask,
    write,
)
from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import read_mask
from zellige.core.types import PixelSize
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage, Canvas
from zellige.data.convert_labels import convert_labels
from zellige.data.deeppcb_labels import read_boxes
from zellige.data.formats import read_manifest
from zellige.data.index import load_splits
from zellige.data.label_formats import FORMATS, detect_format, read_labels
from zellige.data.label_listing import Source
from zellige.data.label_scan import LabelSet
from zellige.data.shapes import decode, encode, mask_of
from zellige.data.splits import Fractions
from zellige.data.voc_labels import read_objects, read_xml, voc_text
from zellige.data.yolo_labels import read_yolo, yolo_text


@pytest.mark.parametrize("name", BY_HAND)
def test_a_format_written_by_hand(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, BY_HAND[name])
    assert detect_format(root) == name
    labels = read(root)
    (a, ((kind, box),)), b = as_table(labels)
    assert (kind, labels.kinds) == ("scratch", ("scratch",))
    assert np.allclose(box, (6, 4, 18, 10), rtol=0, atol=1e-9)
    assert (a.endswith("a.png"), b[0].endswith("b.png"), b[1]) == (True, True, [])
    assert [image.kind for image in labels.images] == ["scratch", "good"]
    assert labels.dropped == labels.unlabelled == ()


def test_coco_outlines_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Polygons, text and lists of run lengths; and our file read back by pycocotools."""
    mask = scratch_mask() > 0
    rle = encode(mask)
    drawn = [
        [[6, 4, 18, 4, 18, 10.5, 6, 10]],
        [[1, 1, 9, 2, 5, 8], [20, 20, 30, 20, 30, 30]],
        {"size": [40, 60], "counts": rle.counts},
        {"size": [40, 60], "counts": [6 * 40 + 4, 6, 34, 6, 60 * 40 - 6 * 40 - 50]},
    ]
    own = {"image_id": 7, "category_id": 3, "area": 1, "iscrowd": 0}
    annotations = [own | {"id": number, "segmentation": item} for number, item in enumerate(drawn, start=1)]
    root = write(
        tmp_path / "in", {**BY_HAND["coco"], "annotations/instances.json": COCO_FILE | {"annotations": annotations}}
    )
    theirs = COCO(str(root / "annotations/instances.json"))
    image = read(root).images[0]
    for defect, annotation in zip(image.defects, theirs.loadAnns([1, 2, 3, 4]), strict=True):
        assert np.array_equal(mask_of(defect, SIZE), theirs.annToMask(annotation) > 0)
    assert image.defects[3].box == (6, 4, 8, 10)
    convert_labels(read(root), "coco", tmp_path / "out")
    written = COCO(str(tmp_path / "out/annotations.json"))
    for defect, annotation in zip(image.defects, written.loadAnns(written.getAnnIds()), strict=True):
        ours = mask_of(defect, SIZE)
        assert np.array_equal(written.annToMask(annotation) > 0, ours)
        assert annotation["area"] == ours.sum()
    assert read(tmp_path / "out").images == tuple(
        replace(image, image_path=tmp_path / "out/images" / image.id) for image in read(root).images
    )


def test_splits_and_files_of_coco(tmp_path: Path) -> None:
    one, two = ({**COCO_FILE, "images": [image], "annotations": []} for image in COCO_FILE["images"])
    files = {
        **pictures("train2017/a.png", "val2017/b.png"),
        "annotations/train.json": one,
        "annotations/instances_val.json": two,
    }
    labels = read(write(tmp_path, files))
    assert [(image.id, image.split) for image in labels.images] == [
        ("train2017/a.png", "train"),
        ("val2017/b.png", "val"),
    ]


def test_an_outline_in_yolo_and_its_splits(tmp_path: Path) -> None:
    files = {
        **pictures("images/train/a.png", "images/test/b.png"),
        "labels/train/a.txt": "1 0.1 0.1 0.3 0.1 0.3 0.25\n",
        "labels/test/b.txt": "",
        "classes.txt": "hole\nscratch\n",
    }
    labels = read(write(tmp_path, files))
    b, a = labels.images
    assert (a.id, a.split, b.id, b.split) == ("train/a.png", "train", "test/b.png", "test")
    assert np.allclose(a.defects[0].polygons, [[(6, 4), (18, 4), (18, 10)]])
    assert np.allclose(a.defects[0].box, (6, 4, 18, 10))
    assert labels.kinds == ("hole", "scratch")
    assert read(tmp_path, kinds=("x", "y")).images[1].defects[0].kind == "y"


def test_voc_boxes_as_edges(tmp_path: Path) -> None:
    root = write(tmp_path, BY_HAND["voc"])
    assert as_table(read(root, voc_boxes="edges"))[0][1] == [("scratch", (7, 5, 18, 10))]
    with pytest.raises(ConfigError, match=r"labels.voc_boxes: expected one of devkit, edges, got 'x'"):
        read(root, voc_boxes="x")


def test_shapes_of_labelme(tmp_path: Path) -> None:
    shapes = [
        {"label": "ring", "points": [[30, 20], [30, 25]], "shape_type": "circle"},
        {"label": "two", "points": [[1, 1], [3, 1], [3, 3]], "shape_type": "polygon", "group_id": 4},
        {"label": "two", "points": [[9, 1], [9, 3], [11, 3]], "group_id": 4},
    ]
    root = write(tmp_path, {**pictures("a.png"), "a.json": LABELME_FILE | {"shapes": shapes}})
    ring, two = read(root).images[0].defects
    assert np.allclose(ring.box, (25, 15, 35, 25), atol=0.01)
    assert abs(mask_of(ring, SIZE).sum() - np.pi * 25) < 4
    assert (two.box, len(two.polygons)) == ((1, 1, 11, 3), 2)


def save_palette(path: Path, levels: np.ndarray, colors: Sequence[int], transparency: int | None = None) -> None:
    picture = PIL.Image.fromarray(levels, "P")
    picture.putpalette(colors)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **({} if transparency is None else {"transparency": transparency}))


def test_masks_of_every_sort(tmp_path: Path) -> None:
    names = ("binary", "palette", "rgba", "rgb")
    write(tmp_path, pictures(*(f"images/{name}.png" for name in names)))
    save_image(tmp_path / "masks/binary.png", scratch_mask())
    save_palette(tmp_path / "masks/palette.png", scratch_mask(3), [0, 0, 0, 9, 9, 9, 8, 8, 8, 35, 164, 54])
    clear = np.dstack([np.full(SIZE, 54), np.full(SIZE, 164), np.full(SIZE, 35), scratch_mask()]).astype(np.uint8)
    (tmp_path / "masks/rgba.png").write_bytes(cv2.imencode(".png", clear)[1].tobytes())
    save_image(tmp_path / "masks/rgb.png", np.dstack([scratch_mask(), scratch_mask(0), scratch_mask(0)]))
    assert detect_format(tmp_path) == "masks"
    labels = read(tmp_path)
    assert {kind for _, ((kind, _),) in as_table(labels)} == {"defect"}
    for image in labels.images:
        assert np.array_equal(decode(image.defects[0].mask), scratch_mask() > 0), image.id


def test_a_palette_numbers_the_kinds(tmp_path: Path) -> None:
    levels = scratch_mask(2)
    levels[30:33, 40:50] = 1
    write(tmp_path, pictures("images/a.png"))
    save_palette(tmp_path / "masks/a.png", levels, [0, 0, 0, 255, 0, 0, 250, 0, 0])
    assert as_table(read(tmp_path, kinds=("hole", "scratch"))) == [
        ("a.png", [("hole", (40, 30, 50, 33)), ("scratch", (6, 4, 18, 10))])
    ]
    with pytest.raises(InputError, match=r"a.png: expected levels from 0 to 1 .the number of kinds., got 2"):
        read(tmp_path, kinds=("hole",))


def test_deeppcb_pairs(tmp_path: Path) -> None:
    root = write(tmp_path, DEEPPCB)
    assert detect_format(root) == "deeppcb"
    labels = read(root, on_bad="drop", templates="good")
    assert as_table(labels) == [
        ("g1/1/1001_temp.jpg", []),
        ("g1/1/1001_test.jpg", [("mousebite", (6, 4, 18, 10)), ("pin-hole", (20, 5, 30, 15))]),
        ("g1/1/1003_test.jpg", [("open", (6, 4, 18, 10))]),
    ]
    assert [(image.split, image.group_id) for image in labels.images[1:]] == [
        ("train", "g1/1/1001.jpg"),
        ("test", "g1/1/1003.jpg"),
    ]
    first, second = labels.dropped
    assert "trainval.txt line 2: expected the file" in first.reason or "trainval.txt line 2" in second.reason
    assert labels.unlabelled == ("g1/1/1002_test.jpg",)


def test_folders_of_kinds(tmp_path: Path) -> None:
    root = write(tmp_path / "all", pictures("scratch/a.png", "hole/deep/b.png", "good/c.png"))
    assert detect_format(root) == "folder"
    for folder in (root, write(tmp_path / "defects only", pictures("scratch/a.png", "hole/deep/b.png"))):
        found = {image.id: (image.kind, image.unplaced) for image in read(folder).images}
        assert found["scratch/a.png"] == ("scratch", ("scratch",))
        assert found["hole/deep/b.png"] == ("hole", ("hole",))
    assert {image.id: image.kind for image in read(root).images}["good/c.png"] == "good"
    with pytest.raises(InputError, match=r"got one folder set with folders in it; set labels\.root to the folder"):
        read(write(tmp_path / "around", pictures("set/scratch/a.png", "set/hole/b.png")))


# --- there and back

boxes = st.tuples(
    st.integers(0, WIDTH * 4 - 9), st.integers(0, HEIGHT * 4 - 9), st.integers(1, 8), st.integers(1, 8)
).map(lambda b: (b[0] / 4, b[1] / 4, (b[0] + b[2]) / 4, (b[1] + b[3]) / 4))
box_defects = st.lists(
    st.builds(AnnotatedDefect, kind=st.sampled_from(("hole", "long scratch")), box=boxes), max_size=4
).map(tuple)
KINDS = ("hole", "long scratch")


def annotated(defects: tuple[AnnotatedDefect, ...]) -> AnnotatedImage:
    return AnnotatedImage(id="sub/a.png", image_path=Path("sub/a.png"), size=SIZE, defects=defects)


@given(defects=box_defects)
@settings(max_examples=40, deadline=None)
def test_boxes_come_back_from_text(
    tmp_path_factory: pytest.TempPathFactory, defects: tuple[AnnotatedDefect, ...]
) -> None:
    """YOLO right to 1e-6 px; VOC to whole px, outwards by less than one."""
    folder, image = tmp_path_factory.getbasetemp(), annotated(defects)
    (folder / "a.txt").write_text(yolo_text(image, KINDS, as_outlines=False))
    back = read_yolo(folder / "a.txt", KINDS, Canvas(SIZE))
    assert [defect.kind for defect in back] == [defect.kind for defect in defects]
    assert all(np.allclose(a.box, b.box, rtol=0, atol=1e-6) for a, b in zip(back, defects, strict=True))
    (folder / "a.xml").write_text(voc_text(image))
    back = read_objects(read_xml(folder / "a.xml"), "x", "devkit", Canvas(SIZE))
    for found, defect in zip(back, defects, strict=True):
        expected = (*np.floor(defect.box[:2]), *np.ceil(defect.box[2:]))
        assert (found.kind, found.box) == (defect.kind, expected)


def make_set(root: Path) -> LabelSet:
    """Three images: outlines of two kinds and a mask with a hole, a good one, and one with a mask over all of it."""
    ring = np.zeros(SIZE, bool)
    ring[20:36, 30:50] = True
    ring[24:30, 34:40] = False
    ring_rle = encode(ring)
    two = (((2.0, 2.0), (8.0, 2.0), (8.0, 7.0), (2.0, 7.0)),)
    everything = encode(np.ones(SIZE, bool))
    drawn = {
        "sub/a.png": (
            AnnotatedDefect(kind="hole", box=(2.0, 2.0, 8.0, 7.0), polygons=two),
            AnnotatedDefect(kind="long scratch", box=(30.0, 20.0, 50.0, 36.0), mask=ring_rle),
        ),
        "sub/b ñ.png": (),
        "c.png": (AnnotatedDefect(kind="hole", box=(0.0, 0.0, 60.0, 40.0), mask=everything),),
    }
    write(root / "images", pictures(*drawn))
    document = {
        "images": [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in enumerate(drawn)],
        "categories": [{"id": 1, "name": "hole"}, {"id": 2, "name": "long scratch"}],
        "annotations": [
            {
                "id": 0,
                "image_id": n,
                "category_id": 1 + (defect.kind != "hole"),
                "bbox": [defect.box[0], defect.box[1], defect.box[2] - defect.box[0], defect.box[3] - defect.box[1]],
                "segmentation": {"size": list(SIZE), "counts": defect.mask.counts}
                if defect.mask
                else [[value for corner in polygon for value in corner] for polygon in defect.polygons],
            }
            for n, defects in enumerate(drawn.values())
            for defect in defects
        ],
    }
    write(root, {"labels.json": document})
    labels = read(root)
    assert {image.id: image.defects for image in labels.images} == drawn
    return labels


TARGETS = [name for name, form in FORMATS.items() if form.write is not None]


@pytest.mark.parametrize("name", TARGETS)
def test_a_set_comes_back(tmp_path: Path, name: str) -> None:
    """Same images, kinds and boxes; same pixels where the format holds outlines."""
    labels = make_set(tmp_path / "in")
    convert_labels(labels, name, tmp_path / "out")
    assert detect_format(tmp_path / "out") == name
    back = read(tmp_path / "out")
    # Folders are named by the kind of the image, which is mixed where there are two, and cut off from the boxes.
    prefix = {"sub/a.png": "mixed/", "sub/b ñ.png": "good/", "c.png": "hole/"} if name == "folder" else {}
    names = {prefix.get(image.id, "") + image.id: image for image in labels.images}
    assert {image.id for image in back.images} == set(names)
    for image in back.images:
        original = names[image.id]
        assert image.image_path.read_bytes() == original.image_path.read_bytes()
        assert image.kind == original.kind
        if name != "folder":
            found = sorted((defect.kind, defect.box) for defect in image.defects)
            assert [kind for kind, _ in found] == sorted(defect.kind for defect in original.defects)
            for (_, box), expected in zip(found, sorted((d.kind, d.box) for d in original.defects), strict=True):
                assert np.allclose(box, expected[1], rtol=0, atol=1e-6)
        if FORMATS[name].holds_outlines:
            kinds = {"mixed"} if image.kind == "mixed" and name == "folder" else {d.kind for d in image.defects}
            for kind in kinds:
                assert np.array_equal(pixels_of(image, kind), pixels_of(original, None if kind == "mixed" else kind))


def pixels_of(image: AnnotatedImage, kind: str | None) -> np.ndarray:
    drawn = [mask_of(defect, image.size) for defect in image.defects if kind in (None, defect.kind)]
    return np.logical_or.reduce(drawn)


def test_a_manifest_is_what_training_reads(tmp_path: Path) -> None:
    files = {**pictures(*(f"{i:02}.png" for i in range(12)))}
    lines = ["path,kind,x0,y0,x1,y1", *(f"{i:02}.png,,,,," for i in range(8))]
    lines += [f"{i:02}.png,scratch,6,4,18,10.5" for i in range(8, 11)] + [
        "11.png,scratch,6,4,18,10",
        "11.png,hole,30,20,33,23",
    ]
    labels = read(
        write(tmp_path / "in", {**files, "l.csv": "\n".join(lines)}),
        pixel_size=PixelSize(cross_web_mm=0.1, down_web_mm=0.2),
    )
    warnings = convert_labels(labels, "manifest", tmp_path / "boxes")
    assert warnings == ["4 images have boxes but no mask (labels.fill_boxes=true fills them)"]
    convert_labels(labels, "manifest", tmp_path / "filled", fill_boxes=True)
    samples = {row.sample.id: row.sample for row in read_manifest(tmp_path / "filled", None).rows}
    last = samples["images/11.png"]
    assert (last.kind, last.pixel_size) == ("mixed", PixelSize(cross_web_mm=0.1, down_web_mm=0.2))
    assert [(box.kind, box.box_px) for box in last.boxes] == [("scratch", (6, 4, 18, 10)), ("hole", (30, 20, 33, 23))]
    expected = scratch_mask() > 0
    expected[20:23, 30:33] = True
    assert np.array_equal(read_mask(last.mask_path, SIZE), expected)
    fractions = Fractions(train_defects=0.5)
    prints = []
    for name in ("boxes", "filled"):
        splits, report = load_splits(tmp_path / name, "manifest", fractions, seed=0, duplicates="ignore")
        assert len(splits.train_defects) == 2
        assert all(sample.boxes for sample in splits.train_defects)
        assert report.is_calibrated
        prints.append(splits.fingerprint)
    manifest = tmp_path / "filled/manifest.csv"
    manifest.write_text(manifest.read_text().replace("30 20 33 23", "30 20 34 23"))
    prints.append(load_splits(tmp_path / "filled", "manifest", fractions, seed=0, duplicates="ignore")[0].fingerprint)
    assert len(set(prints)) == 3
    manifest.write_text(manifest.read_text().replace("30 20 34 23", "30 20 61 23"))
    with pytest.raises(InputError, match="expected it inside the image of 60 x 40 px"):
        load_splits(tmp_path / "filled", "manifest", fractions, seed=0)


def test_a_defective_image_with_an_empty_mask_does_not_become_good(tmp_path: Path) -> None:
    files = pictures("good/a.png", "scratch/b.png") | {"ground_truth/scratch/b_mask.png": scratch_mask(0)}
    labels = read(write(tmp_path / "in", files))
    assert [(image.kind, image.defects) for image in labels.images] == [("good", ()), ("scratch", ())]
    convert_labels(labels, "manifest", tmp_path / "out")
    assert [image.kind for image in read(tmp_path / "out").images] == ["good", "scratch"]


@pytest.mark.parametrize("name", ["coco", "yolo", "manifest", "folder"])
def test_declared_splits_come_back(tmp_path: Path, name: str) -> None:
    lines = ["path,kind,boxes,split", "a.png,good,,train", "b.png,scratch,6 4 18 10 scratch,train", "c.png,good,,test"]
    root = write(tmp_path / "in", {**pictures("a.png", "b.png", "c.png"), "manifest.csv": "\n".join(lines)})
    convert_labels(read(root), name, tmp_path / "out")
    found = {Path(image.id).name: image.split for image in read(tmp_path / "out").images}
    assert found == {"a.png": "train", "b.png": "train", "c.png": "test"}


def test_ambiguous_and_unknown_folders(tmp_path: Path) -> None:
    both = write(tmp_path / "both", {**BY_HAND["voc"], **BY_HAND["yolo"]})
    with pytest.raises(ConfigError, match=r"labels.format: .*both could be yolo or voc; say which"):
        detect_format(both)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"no known format of labels found; set labels.format to one of coco"):
        detect_format(tmp_path / "none")
    with pytest.raises(InputError, match="does not exist"):
        detect_format(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"labels.format: expected auto or one of coco"):
        read_labels("heap", Source(root=both))


REAL_PCB = Path("data/raw/DeepPCB-dev")
REAL_NEU = Path("data/raw/NEU-DET")


@pytest.mark.real
@pytest.mark.skipif(not REAL_PCB.is_dir(), reason="data/raw/DeepPCB-dev is not there")
def test_the_real_boards(tmp_path: Path) -> None:
    """Every box of the published text files, and back from COCO and YOLO."""
    listing = read_labels("auto", Source(root=REAL_PCB))[1]
    tested = [entry for entry in listing.entries if entry.id.endswith("_test.jpg")]
    assert len(tested) == 1168
    num_boxes = 0
    for entry in tested:
        texts = sorted(entry.image_path.parents[1].glob(f"*_not/{entry.image_path.name.removesuffix('_test.jpg')}.txt"))
        expected = np.loadtxt(texts[0], dtype=int, ndmin=2)
        found = read_boxes(texts[0], Canvas((640, 640)))
        assert np.array_equal([defect.box for defect in found], expected[:, :4])
        num_boxes += len(found)
    assert num_boxes > 6000


@pytest.mark.real
@pytest.mark.skipif(not REAL_NEU.is_dir(), reason="data/raw/NEU-DET is not there")
def test_the_real_strip() -> None:
    listing = read_labels("voc", Source(root=REAL_NEU))[1]
    defects = [defect for entry in listing.entries for defect in entry.read_defects(Canvas((200, 200)))]
    assert (len(listing.entries), len(defects), listing.dropped) == (1800, 4189, [])
