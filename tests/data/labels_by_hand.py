"""One small labelled set in the form of every format, written by hand, and how tests read such sets."""

import json
from pathlib import Path

import numpy as np

from tests.conftest import save_image, texture
from zellige.data.label_formats import read_labels
from zellige.data.label_listing import Source
from zellige.data.label_scan import LabelSet, scan_labels

HEIGHT, WIDTH = 40, 60
SIZE = (HEIGHT, WIDTH)

# One scratch with the box (6, 4) to (18, 10) in a.png of 60 x 40 px, nothing in b.png, in the form of each format.
COCO_FILE = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 9, "file_name": "b.png", "height": 40, "width": 60},
    ],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [6, 4, 12, 6], "area": 72, "iscrowd": 0}],
    "categories": [{"id": 3, "name": "scratch"}],
}
VOC_FILE = """<annotation>
  <filename>a.png</filename>
  <size><width>60</width><height>40</height><depth>1</depth></size>
  <object><name>scratch</name><bndbox><xmin>7</xmin><ymin>5</ymin><xmax>18</xmax><ymax>10</ymax></bndbox></object>
</annotation>"""
LABELME_FILE = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [{"label": "scratch", "points": [[18, 4], [6, 10]], "group_id": None, "shape_type": "rectangle"}],
    "imagePath": "..\\elsewhere\\a.png",
    "imageData": None,
    "imageHeight": 40,
    "imageWidth": 60,
}
EMPTY_LABELME = LABELME_FILE | {"shapes": [], "imagePath": "b.png"}


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            save_image(path, content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def pictures(*names: str) -> dict[str, object]:
    return {name: texture(seed, size=SIZE) for seed, name in enumerate(names)}


def scratch_mask(value: int = 255) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[4:10, 6:18] = value
    return mask


BY_HAND: dict[str, dict[str, object]] = {
    "coco": {**pictures("images/a.png", "images/b.png"), "annotations/instances.json": COCO_FILE},
    "yolo": {
        **pictures("images/a.png", "images/b.png"),
        "labels/a.txt": "0 0.2 0.175 0.2 0.15\n\n",
        "labels/b.txt": "",
        "data.yaml": "train: images\nval: images\nnames:\n  0: scratch\n",
    },
    "voc": {
        **pictures("JPEGImages/a.png", "JPEGImages/b.png"),
        "Annotations/a.xml": VOC_FILE,
        "Annotations/b.xml": "<annotation><filename>b.png</filename></annotation>",
    },
    "labelme": {**pictures("a.png", "b.png"), "a.json": LABELME_FILE, "b.json": EMPTY_LABELME},
    "csv": {
        **pictures("a.png", "b.png"),
        "labels.csv": "filename,width,class,xmin,ymin,xmax,ymax\na.png,60,scratch,6,4,18,10\nb.png,60,,,,,\n",
    },
    "masks": {
        **pictures("images/a.png", "images/b.png"),
        "masks/a_mask.png": scratch_mask(1),
        "masks/b.png": np.zeros(SIZE, np.uint8),
        "kinds.txt": "scratch\n",
    },
    "manifest": {
        **pictures("a.png", "b.png"),
        "manifest.csv": "path,kind,boxes\na.png,scratch,6 4 18 10 scratch\nb.png,good,\n",
    },
}


DEEPPCB = {
    **pictures("g1/1/1001_test.jpg", "g1/1/1001_temp.jpg", "g1/1/1002_test.jpg", "g1/1/1003_test.jpg"),
    "g1/1_not/1001.txt": "6 4 18 10 3\n20,5,30,15,6\n",
    "g1/1_not/1003.txt": "6 4 18 10 1\n",
    "trainval.txt": "g1/1/1001.jpg g1/1_not/1001.txt\ng1/1/1002.jpg g1/1_not/1002.txt\n",
    "test.txt": "g1/1/1003.jpg g1/1_not/1003.txt\n",
}


def read(root: Path, name: str = "auto", **more: object) -> LabelSet:
    scanning = {key: more.pop(key) for key in ("on_bad", "unlabelled", "pixel_size") if key in more}
    return scan_labels(read_labels(name, Source(root=root, **more))[1], **scanning)


def as_table(labels: LabelSet) -> list[tuple[str, list[tuple[str, tuple[float, ...]]]]]:
    return [(image.id, [(defect.kind, defect.box) for defect in image.defects]) for image in labels.images]
