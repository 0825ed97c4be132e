"""The report of labels: counted by hand, escaped, and through the real program."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Programs, texture
from tests.data.labels_by_hand import BY_HAND, COCO_FILE, pictures, read, write
from zellige.core.types import PixelSize
from zellige.data.label_page import label_page
from zellige.data.label_report import report_labels

KINDS = [{"id": 3, "name": "scratch"}, {"id": 4, "name": "hole & rim"}, {"id": 5, "name": "never"}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """a.png with a scratch of 12 x 6 and a hole of 3 x 20 px, b.png good, c.png a copy of b.png."""
    files = BY_HAND["coco"] | {"images/c.png": texture(1, size=(40, 60))}
    images = [*COCO_FILE["images"], {"id": 1, "file_name": "c.png"}]
    own = {"image_id": 7, "iscrowd": 0, "area": 1}
    annotations = [
        own | {"id": 1, "category_id": 3, "bbox": [6, 4, 12, 6], "segmentation": [[6, 4, 18, 4, 18, 10, 6, 10]]},
        own | {"id": 2, "category_id": 4, "bbox": [40, 10, 3, 20]},
    ]
    document = COCO_FILE | {"images": images, "annotations": annotations, "categories": KINDS}
    return write(tmp_path / "in", files | {"annotations/instances.json": document})


def test_what_is_counted(root: Path) -> None:
    labels = read(root, pixel_size=PixelSize(cross_web_mm=0.1, down_web_mm=0.5))
    report = report_labels(labels, "here", "coco", ["one more"])
    assert (report.num_images, report.num_good, report.num_defective, report.num_defects) == (3, 2, 1, 2)
    scratch, hole, never = report.kinds
    assert (scratch.images, scratch.defects, scratch.with_outline, scratch.length_px) == (1, 1, 1, (12, 12, 12))
    assert scratch.length_mm == (3, 3, 3)  # 6 px of 0.5 mm down-web are longer than 12 px of 0.1 mm
    assert (hole.with_outline, hole.length_px, hole.length_mm) == (0, (20, 20, 20), (10, 10, 10))
    assert (never.images, never.defects, never.length_px) == (0, 0, None)
    assert {(b.low, b.high): b.defects for b in report.lengths_px if b.defects} == {(8, 16): 1, (16, 32): 1}
    assert {(b.low, b.high): b.defects for b in report.lengths_mm if b.defects} == {(2, 5): 1, (10, 20): 1}
    assert report.sizes_px == [(40, 60, 3)]
    assert report.num_gray == 3
    assert (report.exact_pairs, report.duplicate_examples) == (1, [("b.png", "c.png", 1.0)])
    assert report.warnings == ["one more"]
    assert json.loads(json.dumps(report.to_json()))["kinds"][1]["kind"] == "hole & rim"


def test_the_page_shows_it(root: Path) -> None:
    labels = read(root)
    page = label_page(report_labels(labels, "<here>", "coco"), labels.images)
    assert "&lt;here&gt;" in page
    assert "<here>" not in page
    assert "hole &amp; rim" in page
    assert "hole & rim" not in page
    assert page.count("<svg viewBox") == 4  # a.png in the rows of both its kinds, b.png and c.png among the good ones
    assert page.count('<rect class="line box" stroke="#0f9fd6" x="40" y="10" width="3" height="20"/>') == 2
    assert page.count('<path class="line" stroke="#e8432e" d="M6,4 18,4 18,10 6,10Z"/>') == 2
    assert len(re.findall(r'<image [^>]*href="data:image/jpeg;base64,', page)) == 4
    assert not re.findall(r'(?:href|src)="(?!data:)', page)
    assert "in mm" not in page


def test_the_program_converts_and_reports(programs: Programs, root: Path, tmp_path: Path) -> None:
    kinds = json.loads((root / "annotations/instances.json").read_text())
    kinds["categories"][1]["name"] = "hole"
    (root / "annotations/instances.json").write_text(json.dumps(kinds))
    out = tmp_path / "out (1)"
    arguments = (f"labels.root={root}", "labels.to=manifest", "labels.fill_boxes=true", "labels.pixel_size_mm=0.1")
    ended = programs.run("prepare_data.py", *arguments, f"out={out}", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "coco, 3 images\n2 good, 1 defective\n2 defects: scratch 1, hole 1" in ended.out
    assert json.loads((out / "labels_report.json").read_text())["format"] == "coco"
    assert (out / "labels_report.html").is_file()
    ended = programs.run("prepare_data.py", "data=manifest", f"data.root={out}", "out=again", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "boxes" in (out / "manifest.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels.root=gone", "out=x"], "labels gone: expected a folder or a file, it does not exist"),
        (["labels.root=."], "out: expected a folder for the report and the converted set, got none; set out=DIR"),
        (["labels.root=.", "out=x", "labels.pixel_size_mm=fine"], "labels.pixel_size_mm: expected one or two numbers"),
        (["labels.roott=."], "roott"),
    ],
)
def test_a_mistake_is_one_line(programs: Programs, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in programs.run("prepare_data.py", *arguments, folder=tmp_path).mistake()
    assert list(tmp_path.iterdir()) == []


def test_a_good_set_needs_no_kind(tmp_path: Path) -> None:
    labels = read(
        write(tmp_path, pictures("images/a.png", "images/b.png") | {"labels/a.txt": "", "classes.txt": "x\n"})
    )
    report = report_labels(labels, "here", "yolo")
    assert (report.num_good, report.unlabelled) == (1, ["b.png"])
    assert "Without labels: 1" in label_page(report, labels.images)
