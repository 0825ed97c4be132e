"""The page and the map of a judged roll: read back with other parsers than ours, and by hand."""

import base64
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.station.roll_folder import defect, summary, write_crop, write_roll
from zellige.core.errors import InputError
from zellige.station import roll_layout, roll_page
from zellige.station.roll_page import write_roll_page

HOSTILE = "</script><script>alert('1')</script>\"&<b onclick=x>\x01"
NS = "{http://www.w3.org/2000/svg}"


def read_svg(folder: Path) -> tuple[ET.Element, ET.Element, ET.Element]:
    root = ET.fromstring((folder / "roll_map.svg").read_text(encoding="utf-8"))  # noqa: S314
    plot, strip = (next(e for e in root.iter(f"{NS}svg") if e.get("id") == name) for name in ("plot", "strip"))
    return root, plot, strip


def read_data(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


class Tags(HTMLParser):
    """Every tag with its attributes, and all text that is shown."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] not in ("script", "style"):
            self.text += data


def test_a_known_defect_lies_where_the_axes_say(tmp_path: Path) -> None:
    known = defect(7, x_mm=250.0, y_mm=30_000.0, width_mm=100.0, extent_mm=2000.0, length_mm=2000.0, kind="hole")
    folder = write_roll(tmp_path / "roll", summary(), [known])
    write_roll_page(folder)
    root, plot, _ = read_svg(folder)
    [mark] = [e for e in plot.iter(f"{NS}rect") if e.get("data-number") == "7"]
    left, top, width, height = (float(plot.get(key, "")) for key in ("x", "y", "width", "height"))
    box = [float(v) for v in plot.get("viewBox", "").split()]
    x, y, w, h = (float(mark.get(key, "")) for key in ("x", "y", "width", "height"))
    # 30 m of 100 m along; from 200 to 300 mm of 1,000 mm across.
    assert [(x - box[0]) / box[2], (y - box[1]) / box[3]] == pytest.approx([0.3, 0.2])
    assert [w / box[2], h / box[3]] == pytest.approx([0.02, 0.1])
    x_px, y_px = left + 0.3 * width, top + 0.2 * height
    places = {e.text: (float(e.get("x", "")), float(e.get("y", ""))) for e in root.iter(f"{NS}text")}
    assert places["30"][0] == pytest.approx(x_px, abs=0.1)
    assert places["200"][1] == pytest.approx(y_px, abs=8)
    assert places["left: B"][1] == pytest.approx(top + height / 4, abs=8)

    color = re.search(r"\.k0\{fill:#(\w{6})", (folder / "roll_map.svg").read_text())
    assert color
    pixels = cv2.imread(str(folder / "roll_map.png"))[..., ::-1]
    is_hole = (pixels == list(bytes.fromhex(color[1]))).all(-1)
    is_hole[: int(top)], is_hole[int(top + height) + 1 :] = False, False
    rows, columns = np.nonzero(is_hole)
    marker = 7  # at most half of the smallest marker of 10 px, and rounding
    expected = [x_px, y_px, x_px + 0.02 * width, y_px + 0.1 * height]
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == pytest.approx(expected, abs=marker)


@pytest.mark.parametrize(
    ("content", "x_mm", "share"),
    [
        ({"lanes": [], "grades": []}, 100.0, 0.1),
        ({"lanes": [], "grades": []}, -100.0, 0.9),  # from the right edge
        ({"lanes": [{"name": "web", "from_mm": 300.0, "to_mm": 1300.0}], "grades": []}, 400.0, 0.1),
    ],
)
def test_places_across_count_from_any_datum(tmp_path: Path, content: dict, x_mm: float, share: float) -> None:
    folder = write_roll(tmp_path / "roll", summary(**content), [defect(1, x_mm, 500.0)])
    write_roll_page(folder)
    _, plot, _ = read_svg(folder)
    [mark] = [e for e in plot.iter(f"{NS}rect") if e.get("data-number")]
    height = float(plot.get("viewBox", "").split()[3])
    assert height == pytest.approx(1000)
    assert (float(mark.get("y", "")) + 5) / height == pytest.approx(share)


def test_the_density_strip_is_a_histogram_of_starts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, 99_000, 400)
    defects = [defect(i, 500.0, y) for i, y in enumerate(starts, 1)]
    defects.append(defect(999, 500.0, 50_000.0, is_continuation="true"))
    folder = write_roll(tmp_path / "roll", summary(), defects)
    write_roll_page(folder)
    _, _, strip = read_svg(folder)
    bars = {float(e.get("x", "")): e for e in strip.iter(f"{NS}rect")}
    step = float(next(iter(bars.values())).get("width", ""))
    counts, edges = np.histogram(starts, np.arange(0, 100_000 + step, step))
    expected = counts / counts.max()
    drawn = [float(bars[edge].get("height", "")) if edge in bars else 0.0 for edge in edges[:-1]]
    assert drawn == pytest.approx(expected, abs=1e-4)
    root = (folder / "roll_map.svg").read_text()
    assert f"peak {counts.max() / (step / 1000):.3g}" in root  # a web of 1 m


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    lanes = [{"name": HOSTILE, "from_mm": 0, "to_mm": 1000}]
    content = summary(
        source=HOSTILE,
        bundle_id=HOSTILE,
        lanes=lanes,
        grades=[{"lane": HOSTILE, "grade": HOSTILE, "points": None, "reasons": [HOSTILE]}],
        undecided=[{"from_mm": 1, "to_mm": 2, "reason": HOSTILE}],
        repeats=[{"period_mm": 5, "rollers": [HOSTILE], "numbers": [1]}],
        notes=[HOSTILE],
    )
    folder = write_roll(tmp_path / "roll", content, [defect(1, 10, 10, kind=HOSTILE, lanes=HOSTILE)])
    page = write_roll_page(folder)
    tags = Tags(page)
    assert [tag for tag, _ in tags.tags].count("script") == 2
    assert not any(tag == "b" and attributes for tag, attributes in tags.tags)
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    addresses = [v for _, attributes in tags.tags for k, v in attributes.items() if k in ("src", "href")]
    assert addresses == ["data:,"]
    assert read_data(page)["kinds"] == [HOSTILE]
    assert tags.text.count("alert('1')") >= 10
    root, _, _ = read_svg(folder)
    assert not list(root.iter(f"{NS}script"))
    assert "alert" in "".join(root.itertext())


@pytest.mark.parametrize("count", [0, 20_000])
def test_any_number_of_defects(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(2)
    places = np.column_stack([rng.uniform(10, 990, count), rng.uniform(0, 99_900, count)])
    defects = [defect(i, *place, score=i / 1000, kind=f"kind {i % 11}") for i, place in enumerate(places.tolist(), 1)]
    folder = write_roll(tmp_path / "roll", summary(), defects)
    page = write_roll_page(folder)
    data = read_data(page)
    assert len(data["rows"]) == count
    _, plot, _ = read_svg(folder)
    assert sum(1 for e in plot.iter(f"{NS}rect") if e.get("data-number")) == count
    assert page.stat().st_size < 60_000 + 300 * count
    assert (folder / "roll_map.svg").stat().st_size < 30_000 + 130 * count
    text = Tags(page).text
    assert ("No defect was found" in text) == (count == 0)
    assert f"{count:,}" in text
    assert ("other kinds" in text) == (count > 0)


def test_the_most_notable_defects_and_the_largest_pictures_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_layout, "MAX_DRAWN", 30)
    monkeypatch.setattr(roll_page, "MAX_CROPS", 3)
    defects = [defect(i, 500, 100 * i, length_mm=math.sqrt(i), score=0.5) for i in range(1, 41)]
    folder = write_roll(tmp_path / "roll", summary(), defects)
    for number in (2, 9, 17, 30, 40):
        write_crop(folder, number, gray=number)
    (folder / "crops" / "000030.png").write_bytes(b"\x89PNG half written")
    page = write_roll_page(folder)
    data, text = read_data(page), Tags(page).text
    assert [row[0] for row in data["rows"]] == list(range(11, 41))
    assert list(data["crops"]) == ["40", "30", "17"]
    assert data["crops"]["30"] == ""
    picture = base64.b64decode(data["crops"]["17"].removeprefix("data:image/png;base64,"))
    assert (cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE) == 17).all()
    assert "30 most notable of 40 defects" in text
    assert "3 largest defects" in text
    assert "2 more" in text


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    folder = write_roll(tmp_path / "roll", summary(), [defect(1, 500, 100)])
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200), np.uint8)
    cv2.imwrite(str(folder / "crops" / "000001.png"), noise)
    uri = read_data(write_roll_page(folder))["crops"]["1"]
    assert len(uri) < 150_000
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (270, 360, 3)


def test_a_roll_that_was_cut_short_has_its_page(tmp_path: Path) -> None:
    keys = ("schema", "source", "bundle_id", "num_lines", "undecided")
    content = {key: value for key, value in summary().items() if key in keys}
    folder = write_roll(tmp_path / "roll", content | {"complete": False, "reason": "killed"}, [defect(1, 40, 9980)])
    text = Tags(write_roll_page(folder)).text
    assert "Not complete:" in text
    assert "killed" in text
    assert "not searched yet" in text
    assert "no roller fault seen" not in text
    assert "Number of defects, in steps of" in text  # without a width there is no density
    _, plot, _ = read_svg(folder)
    assert plot.get("viewBox") == "0 0 10000 10"  # as far as its only defect reaches


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "roll.json").unlink(), r"roll\.json: expected the summary"),
        (lambda folder: (folder / "defects.csv").unlink(), r"defects\.csv: expected the table"),
        (lambda folder: (folder / "roll.json").write_text("{"), r"roll\.json: expected JSON"),
        (lambda folder: (folder / "roll.json").write_text("[]"), r"roll\.json: expected a JSON object"),
        (lambda folder: (folder / "roll.json").write_bytes(b"\xff"), r"roll\.json: .*UTF-8"),
        (edit("roll.json", '"grades"', '"marks"'), r"roll\.json: .* without grades"),
        (edit("roll.json", '"schema": 1', '"schema": 2'), r"roll\.json: schema: "),
        (edit("roll.json", "1000.0", "NaN"), r"roll\.json: "),
        (edit("roll.json", '"from_mm": 500.0', '"from_mm": 1001.0'), r"roll\.json: expected from_mm up to to_mm"),
        (edit("defects.csv", "number,x_mm", "x_mm,number"), r"defects\.csv: expected the columns number,x_mm"),
        (edit("defects.csv", "22.0", "inf"), r"defects\.csv line 2: length_mm: expected a number from 0, got 'inf'"),
        (edit("defects.csv", "22.0", "long"), r"defects\.csv line 2: length_mm: expected a number"),
        (edit("defects.csv", ",false,", ",no,"), r"defects\.csv line 2: is_continuing: expected true or false"),
        (edit("defects.csv", "\n1,", "\n0x1,"), r"defects\.csv line 2: number: expected a whole number"),
        (edit("defects.csv", "\n2,", "\n1,"), r"defects\.csv line 3: expected each number once"),
        (edit("defects.csv", ",false\n", "\n"), r"defects\.csv line 2: expected 12 values, got 11"),
        (edit("defects.csv", "slub", '"slub'), r"defects\.csv line \d: expected CSV"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    folder = write_roll(tmp_path / "roll", summary(), [defect(1, 10, 10), defect(2, 10, 500)])
    spoil(folder)
    with pytest.raises(InputError, match=words) as caught:
        write_roll_page(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "roll.html").exists()
