"""Proposed labels against masks drawn by numpy, rasterized by pycocotools and filled by scipy."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tests.conftest import save_image
from zellige.core.regions import find_defects
from zellige.core.types import Defect
from zellige.data.annotations import AnnotatedImage
from zellige.data.coco_labels import coco_text
from zellige.data.label_formats import read_labels
from zellige.data.label_listing import Source
from zellige.data.label_scan import scan_labels
from zellige.data.proposals import MOST_PROPOSED, propose
from zellige.data.shapes import mask_of

SIZE = (60, 80)
YS, XS = np.mgrid[: SIZE[0], : SIZE[1]]
SHAPES = {
    "one pixel": (YS == 9) & (XS == 70),
    "corner": (YS == 59) & (XS == 79),
    "row": (YS == 30) & (XS > 10) & (XS < 60),
    "diagonal": (YS == XS) & (YS < 40),
    "square": (YS >= 5) & (YS < 15) & (XS >= 20) & (XS < 40),
    "ellipse": ((YS - 30) / 20) ** 2 + ((XS - 40) / 33) ** 2 < 1,
    "ring": (np.hypot(YS - 30, XS - 40) < 22) & (np.hypot(YS - 30, XS - 40) > 12),
    "everything": YS >= 0,
}


def levels(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 0.9, 0.1).astype(np.float32)


@pytest.mark.parametrize("name", SHAPES)
def test_an_outline_covers_its_region(name: str) -> None:
    mask = SHAPES[name]
    (label,) = propose(find_defects(levels(mask), pixel_threshold=0.5), levels(mask), 0.5)
    ys, xs = np.nonzero(mask)
    assert label.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    drawn, filled = mask_of(label, SIZE), ndimage.binary_fill_holes(mask)
    assert drawn is not None
    assert (drawn & filled).sum() >= 0.9 * (drawn | filled).sum()
    assert len(label.polygons) == 1
    assert len(label.polygons[0]) <= (40 if name != "diagonal" else 240)  # a thin one keeps its steps


def test_two_regions_in_one_window_keep_their_own_outlines() -> None:
    mask = ((YS >= 4) & (YS < 30) & (XS < 4)) | ((YS >= 26) & (YS < 30) & (XS < 30))  # an L around a square
    mask |= (YS >= 8) & (YS < 18) & (XS >= 10) & (XS < 20)
    found = propose(find_defects(levels(mask), pixel_threshold=0.5), levels(mask), 0.5)
    drawn = sorted(int(mask_of(label, SIZE).sum()) for label in found)
    assert drawn == [100, 26 * 4 + 26 * 4]


def test_a_box_without_a_region_stays_a_box_and_few_are_proposed() -> None:
    box = {"area_px": 50, "length_px": 10.0, "kind": "crack"}
    many = [Defect(box_px=(i, 0, i + 10, 5), peak_score=1.0, **box) for i in range(MOST_PROPOSED + 5)]
    found = propose(many, np.zeros((20, 300), np.float32), 0.5)
    assert [(label.kind, label.polygons) for label in found] == [("crack", ())] * MOST_PROPOSED
    assert found[0].box == (0, 0, 10, 5)


def test_the_labels_come_back_from_coco(tmp_path: Path) -> None:
    images = []
    for name, mask in SHAPES.items():
        path = tmp_path / "images" / name / "image.png"
        save_image(path, (mask * 255).astype(np.uint8))
        labels = propose(find_defects(levels(mask), pixel_threshold=0.5), levels(mask), 0.5)
        images.append(AnnotatedImage(id=f"{name}/image.png", image_path=path, size=SIZE, defects=labels))
    path = tmp_path / "images" / "good.png"
    save_image(path, np.full(SIZE, 7, np.uint8))
    images.append(AnnotatedImage(id="good.png", image_path=path, size=SIZE))
    (tmp_path / "coco.json").write_text(coco_text(images, ("anomaly", "scratch")), encoding="utf-8")
    (tmp_path / "report.json").write_text(json.dumps({"words": ["none"]}), encoding="utf-8")
    form, listing = read_labels("auto", Source(root=tmp_path))
    assert form == "coco"
    back = {item.image.id: item.image for item in scan_labels(listing).items}
    assert listing.unlabelled == {}
    assert {name: image.defects for name, image in back.items()} == {image.id: image.defects for image in images}
