"""Several cameras across one web through the real program: what one wide camera would have found, each defect once.

The model is that of conftest: a pixel's anomaly is its distance from mid-gray, so what is drawn is what must be found.
"""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import PROJECT
from tests.station.conftest import good_pixels, save
from tests.station.test_roll import ACROSS, DOWN, defects, drawn_place, inspect, place, summary, write_frames
from tests.station.test_screen import screened_bundle
from zellige.core.flat_field import FlatField, Reference
from zellige.core.flat_field_file import write_flat_field
from zellige.core.types import Color, PixelSize
from zellige.data.synthetic_camera import SyntheticWeb
from zellige.data.synthetic_materials import Material
from zellige.data.synthetic_roll import roll_frames
from zellige.station.cli import main
from zellige.station.profile import read_profile

WIDTH = 240
VIEWS = {"left": (0, 100), "middle": (76, 180), "right": (150, 240)}
"""First and last column + 1; seams at 88 and 165."""
TWO = {"left": (0, 130), "right": (106, 240)}
"""The seam is at 118."""


def cameras(views: dict[str, tuple[int, int]] = VIEWS, **of_each: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "offset_mm": first * ACROSS, **{k: v[name] for k, v in of_each.items() if name in v}}
        for name, (first, _) in views.items()
    ]


def cut(folder: Path, web: np.ndarray, views: dict[str, tuple[int, int]] = VIEWS) -> dict[str, Path]:
    """Write what each camera sees as a PGM."""
    folder.mkdir()
    sources = {name: folder / f"{name}.pgm" for name in views}
    for name, (first, stop) in views.items():
        save(sources[name], web[:, first:stop])
    return sources


def inspect_row(
    bundle: Path, sources: dict[str, Path], out: Path, *extra: object, profile: dict[str, Any] | None = None
) -> int:
    out.parent.mkdir(exist_ok=True)
    (out.parent / "row.json").write_text(json.dumps({"cameras": cameras(), **(profile or {})}))
    named = [f"--source={name}={path}" for name, path in sources.items()]
    arguments = [*named, "--profile", out.parent / "row.json", "--out", out, "--threads", "1", *extra]
    return main(["roll", str(bundle), *map(str, arguments)])


def drawn(boxes: list[tuple[int, int, int, int]], num_lines: int) -> np.ndarray:
    web = good_pixels(num_lines, WIDTH)
    for x0, y0, x1, y1 in boxes:
        web[y0:y1, x0:x1] = 215  # not white: much white in a line is too much light
    return web


def stretches(out: Path) -> list[tuple[str | None, float, float, str]]:
    """Camera, first line, last line + 1 and reason."""
    return [(s["camera"], s["from_mm"] / DOWN, s["to_mm"] / DOWN, s["reason"]) for s in summary(out)["undecided"]]


# What one wide camera would have found


def test_a_row_of_cameras_is_one_wide_camera(bundle_path: Path, tmp_path: Path) -> None:
    """Defects in one view, in an overlap, over a seam, over all three views, and a streak on a seam."""
    boxes = [
        (10, 20, 30, 30),
        (78, 60, 86, 70),
        (80, 195, 98, 205),
        (60, 240, 200, 250),
        (160, 380, 172, 400),
        (152, 410, 158, 420),
        (86, 450, 90, 800),
        (230, 890, 240, 900),
    ]
    web = drawn(boxes, 900)
    sources = cut(tmp_path / "row", web)
    sources["middle"] = write_frames(tmp_path / "row" / "m", web[:, slice(*VIEWS["middle"])], 130)
    save(tmp_path / "wide.png", web)
    assert inspect_row(bundle_path, sources, tmp_path / "out") == 1
    assert inspect(bundle_path, tmp_path / "wide.png", tmp_path / "wide") == 1
    assert sorted(map(place, defects(tmp_path / "out"))) == sorted(drawn_place(*box) for box in boxes)
    assert defects(tmp_path / "out") == defects(tmp_path / "wide")
    content = summary(tmp_path / "out")
    assert (content["complete"], content["undecided"], content["notes"]) == (True, [], [])
    assert (content["width_mm"], content["num_lines"], content["num_lines_judged"]) == (WIDTH * ACROSS, 900, 900)
    borders = [(c["name"], c["from_mm"], c["to_mm"]) for c in content["cameras"]]
    assert borders == [("left", 0, 44), ("middle", 44, 82.5), ("right", 82.5, 120)]
    (number,) = [d["number"] for d in defects(tmp_path / "out") if float(d["width_mm"]) == 70]
    crop = cv2.imread(str(tmp_path / "out" / "crops" / f"{int(number):06}.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(crop, web[240 - 32 : 250 + 32, 60 - 32 : 200 + 32])


@pytest.mark.parametrize("off_px", [-2, 0, 2])
def test_exactly_one_record_at_every_phase_of_the_overlap(bundle_path: Path, tmp_path: Path, off_px: int) -> None:
    """The right camera is off by up to the tolerance; bars of three widths at each column around the overlap.

    With an encoder, whose counts are those of both cameras.
    """
    places = [(x, width) for width in (1, 2, 20) for x in range(100 - width, 134)]
    boxes = [(x, 8 + 7 * number, x + width, 11 + 7 * number) for number, (x, width) in enumerate(places)]
    web = drawn(boxes, boxes[-1][3] + 8)
    sources = cut(tmp_path / "row", web, {**TWO, "right": (106 + off_px, 240 + off_px)} if off_px < 1 else TWO)
    if off_px > 0:
        save(sources["right"], np.pad(web, ((0, 0), (0, 2)), mode="edge")[:, 106 + off_px : 240 + off_px])
    (tmp_path / "counts.txt").write_text("\n".join(str(4 * line) for line in range(len(web))))
    encoder = {"mm_per_count": DOWN / 4, "counts_per_line": 4}
    profile = {"cameras": cameras(TWO), "encoder": encoder}
    extra = ("--counts", tmp_path / "counts.txt", "--no-crops")
    assert inspect_row(bundle_path, sources, tmp_path / "out", *extra, profile=profile) == 1
    found = [place(row) for row in defects(tmp_path / "out")]
    assert len(found) == len(boxes)
    for (x, y, width, length, _), box in zip(found, boxes, strict=True):
        expected = drawn_place(*box)
        assert (y, length) == (expected[1], expected[3])
        edges = [x - width / 2 - box[0] * ACROSS, x + width / 2 - box[2] * ACROSS]
        # What the right camera sees lies further left by so much.
        low, high = sorted((0.0, -off_px * ACROSS))
        assert all(low - 1e-9 <= edge <= high + 1e-9 for edge in edges)


def test_a_synthetic_web_has_the_same_records(bundle_path: Path, tmp_path: Path) -> None:
    """Regions of a real texture, and of real defects in it, wherever they fall."""
    size = PixelSize(cross_web_mm=0.2, down_web_mm=0.2)
    made = SyntheticWeb(
        material=Material.ZELLIGE, height=200, width=WIDTH, pixel_size=size, color=Color.GRAY, num_rolls=8
    )
    frames = [pixels for pixels, _ in roll_frames(made, 8, 2, 2)]
    web = np.concatenate(frames)
    save(tmp_path / "wide.png", web)
    profile = {"registration_px": 0}
    assert inspect_row(bundle_path, cut(tmp_path / "row", web), tmp_path / "out", profile=profile) == 1
    assert inspect(bundle_path, tmp_path / "wide.png", tmp_path / "wide") == 1
    found = defects(tmp_path / "wide")
    over_seams = [d for d in found for s in (88, 165) if abs(float(d["x_mm"]) - s * ACROSS) < float(d["width_mm"]) / 2]
    assert len(found) > 20
    assert len(over_seams) > 3
    places = [np.array(list(map(place, defects(tmp_path / name)))) for name in ("out", "wide")]
    # Values at the threshold may fall on either side of it, by how tiles are blended.
    assert places[0] == pytest.approx(places[1], abs=ACROSS, rel=0.01)


@pytest.mark.parametrize("datum", ["left_edge", "right_edge"])
def test_edges_are_those_of_the_row(bundle_path: Path, tmp_path: Path, datum: str) -> None:
    """A web that wanders, its left edge in the middle camera's view; the right camera sees a bright background."""
    dark = np.full((800, WIDTH), 5, np.uint8)
    left = 90 + np.arange(800) // 80
    texture = good_pixels(800, 120)
    marks = [(left[y] + 70, y, left[y] + 80, y + 6) for y in range(50, 800, 100)]
    for y in range(800):
        dark[y, left[y] : left[y] + 120] = texture[y]
    for x0, y0, x1, y1 in marks:
        dark[y0:y1, x0:x1] = 255
    bright = dark.copy()
    for y in range(800):
        bright[y, left[y] + 120 :] = 250
    sources = cut(tmp_path / "row", dark)
    save(sources["right"], bright[:, slice(*VIEWS["right"])])
    save(tmp_path / "wide.png", dark)
    edges = {"background": "dark", "threshold_dn": 60, "width_px": 120, "block_lines": 8}
    profile = {"edges": edges, "datum": datum, "edge_margin_px": 3}
    own = {"right": {"background": "bright", "threshold_dn": 190}}
    row = {**profile, "cameras": cameras(edges=own)}
    assert inspect_row(bundle_path, sources, tmp_path / "out", profile=row) == 1
    assert inspect(bundle_path, tmp_path / "wide.png", tmp_path / "wide", profile=profile) == 1
    found, wide = (list(map(place, defects(tmp_path / name))) for name in ("out", "wide"))
    assert len(found) == len(marks)
    assert np.array(found) == pytest.approx(np.array(wide), abs=0.5 * ACROSS)
    from_left = 75 * ACROSS if datum == "left_edge" else (75 - 120) * ACROSS
    assert [x for x, *_ in found] == pytest.approx([from_left] * len(marks), abs=0.5 * ACROSS)
    assert summary(tmp_path / "out")["undecided"] == []
    assert summary(tmp_path / "out")["width_mm"] == pytest.approx(60, abs=0.5)


def test_each_camera_has_its_flat_field(bundle_path: Path, tmp_path: Path) -> None:
    """The right camera has half of the light: corrected, nothing is found."""
    width = VIEWS["right"][1] - VIEWS["right"][0]
    field = FlatField(
        offset_dn=np.zeros(width, np.float32),
        gain=np.full(width, 2, np.float32),
        target_dn=128,
        reference=Reference.WHITE,
        num_dark_lines=64,
        num_bright_lines=64,
    )
    write_flat_field(tmp_path / "right.flat.json", field)
    web = drawn([], 300)
    sources = cut(tmp_path / "row", web)
    save(sources["right"], web[:, slice(*VIEWS["right"])] // 2)
    settings = {"right": {"file": "right.flat.json", "target_dn": 128}}
    assert inspect_row(bundle_path, sources, tmp_path / "raw") == 1
    profile = {"cameras": cameras(flat_field=settings)}
    assert inspect_row(bundle_path, sources, tmp_path / "flat", profile=profile) == 0
    assert [c["flat_field_id"] for c in summary(tmp_path / "flat")["cameras"]] == [None, None, field.id]


def test_cameras_have_one_level(bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle declares none: each file fits its own setting, and the net would see two levels."""
    settings = {}
    for name, level in (("left", 180), ("right", 120)):
        width = VIEWS[name][1] - VIEWS[name][0]
        flat = FlatField(
            offset_dn=np.zeros(width, np.float32),
            gain=np.ones(width, np.float32),
            target_dn=level,
            reference=Reference.WHITE,
            num_dark_lines=64,
            num_bright_lines=64,
        )
        write_flat_field(tmp_path / f"{name}.flat.json", flat)
        settings[name] = {"file": f"{name}.flat.json", "target_dn": level}
    sources = cut(tmp_path / "row", drawn([], 300))
    assert inspect_row(bundle_path, sources, tmp_path / "out", profile={"cameras": cameras(flat_field=settings)}) == 2
    assert "cameras: expected flat fields of one target level, got 180, 120 DN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_each_camera_is_screened(tmp_path: Path) -> None:
    bundle = screened_bundle(tmp_path)
    boxes = [(10, 20, 30, 30), (80, 195, 98, 205), (120, 300, 200, 310)]
    sources = cut(tmp_path / "row", drawn(boxes, 600))
    assert inspect_row(bundle, sources, tmp_path / "out", "--screen") == 1
    assert list(map(place, defects(tmp_path / "out"))) == [drawn_place(*box) for box in boxes]
    counts = summary(tmp_path / "out")["screen"]
    # Tiles of 64 px that overlap by 16: two columns in each view, four rows in each of four frames of 208 lines.
    assert counts["num_tiles"] == 3 * 2 * 4 * 4
    assert 0.4 < counts["num_screened"] / counts["num_tiles"] < 0.9


# What a camera does not give


def test_a_hole_of_one_camera_is_undecided_in_its_part(bundle_path: Path, tmp_path: Path) -> None:
    """The middle camera misses lines 300 to 399, the left one ends at 1000; the others are judged there."""
    boxes = [(10, 340, 30, 350), (120, 330, 130, 340), (170, 350, 180, 360), (10, 1050, 20, 1060), (95, 1050, 99, 1060)]
    web = drawn(boxes, 1200)
    sources = cut(tmp_path / "row", web)
    sources["middle"] = write_frames(tmp_path / "row" / "m", web[:, slice(*VIEWS["middle"])])
    (sources["middle"] / "frame_3.png").unlink()
    save(sources["left"], web[:1000, slice(*VIEWS["left"])])
    assert inspect_row(bundle_path, sources, tmp_path / "out") == 1
    seen = [boxes[0], boxes[2], boxes[4]]
    assert sorted(map(place, defects(tmp_path / "out"))) == sorted(drawn_place(*box) for box in seen)
    content = summary(tmp_path / "out")
    assert stretches(tmp_path / "out") == [
        ("middle", 292, 300, "camera middle: beside lines that cannot be judged"),
        ("middle", 300, 400, "camera middle: missing: no frames before frame_4.png"),
        ("middle", 400, 408, "camera middle: beside lines that cannot be judged"),
        ("left", 992, 1000, "camera left: beside lines that cannot be judged"),
        ("left", 1000, 1200, "camera left: its recording has ended"),
    ]
    assert content["num_lines_judged"] == 1200 - 116 - 208
    assert "camera left: 200 lines fewer than the longest recording has; they are undecided" in content["notes"]
    svg = (tmp_path / "out" / "roll_map.svg").read_text(encoding="utf-8")
    assert re.findall(r'class="seam" x2="300" y1="([\d.]+)"', svg) == ["44", "82.5"]
    hatched = set(re.findall(r'class="undecided" [^>]*y="([\d.]+)" height="([\d.]+)"', svg))
    assert hatched == {("44", "38.5"), ("0", "44")}
    page = (tmp_path / "out" / "roll.html").read_text(encoding="utf-8")
    assert "between cameras left | middle | right" in page


def test_lines_without_any_camera_and_before_the_first_are_of_the_whole_width(
    bundle_path: Path, tmp_path: Path
) -> None:
    """All cameras miss lines 200 to 299; the left one has given nothing before line 100; a dark view is named."""
    web = drawn([(100, 350, 140, 360)], 600)
    dark = web.copy()
    dark[400:464] = 0
    seen = {"left": web, "middle": web, "right": dark}
    sources = {name: write_frames(tmp_path / name, seen[name][:, slice(*view)]) for name, view in VIEWS.items()}
    for source in sources.values():
        (source / "frame_2.png").unlink()
    (sources["left"] / "frame_0.png").write_bytes(b"no picture")
    assert inspect_row(bundle_path, sources, tmp_path / "out") == 1
    assert list(map(place, defects(tmp_path / "out"))) == [drawn_place(100, 350, 140, 360)]
    found = stretches(tmp_path / "out")
    assert [s[:3] for s in found] == [
        (None, 0, 100),
        (None, 200, 300),
        ("right", 392, 400),
        ("right", 400, 464),
        ("right", 464, 472),
    ]
    assert found[0][3].startswith("camera left: ")
    assert "camera left: missing: no frames before frame_3.png; camera middle: missing" in found[1][3]
    assert found[3][3] == "camera right: web: black"


def test_memory_does_not_grow_with_the_roll(bundle_path: Path, tmp_path: Path) -> None:
    """Four times the lines, with an endless streak on the seam and holes of one camera: no more memory."""
    peaks = []
    for num_lines in (1_200, 3_600):
        web = good_pixels(num_lines, WIDTH)
        web[:, 115:120] = 255
        folder = tmp_path / str(num_lines)
        sources = cut(folder, web, TWO)
        del web
        tracemalloc.start()
        inspect_row(bundle_path, sources, folder / "out", profile={"cameras": cameras(TWO), "max_streak_mm": 200})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The longer roll alone is 0.6 MB more.
    assert peaks[1] < peaks[0] + 150_000


# Mistakes


@pytest.mark.parametrize(
    ("profile", "sources", "words"),
    [
        ({}, ("left", "middle"), "expected --source NAME=SOURCE for each of the cameras left, middle, right, got left"),
        ({}, ("left", "middle", "wrong"), "got left, middle, wrong"),
        ({}, None, "for each of the cameras left, middle, right, got"),
        ({"cameras": []}, (*VIEWS,), "expected cameras in the profile"),
        ({"cameras": cameras({**VIEWS, "right": (190, 240)})}, (*VIEWS,), "a gap of 10 px between their views"),
        ({"cameras": cameras({**VIEWS, "right": (177, 240)})}, (*VIEWS,), "at least 4 px in common, got 3 px"),
        ({"cameras": cameras({**VIEWS, "middle": (0, 99)})}, (*VIEWS,), "left and middle from left to right"),
        ({"cameras": [*cameras(), {"name": "left", "offset_mm": 99}]}, (*VIEWS,), "expected every camera once"),
        ({"cameras": [{"name": "a=b", "offset_mm": 0}]}, (*VIEWS,), "cameras.0.name"),
        ({"width_px": 100}, (*VIEWS,), "middle.pgm: expected lines of 100 px (the profile's width_px), got 104 px"),
        (
            {"cameras": cameras(pixel_size={"right": {"cross_web_mm": 0.52, "down_web_mm": 0.25}})},
            (*VIEWS,),
            "camera right: expected pixels of 0.5 mm across, to 2 px over its 90, got 0.52 mm",
        ),
        ({"flat_field": {"file": "f.json", "target_dn": 128}}, (*VIEWS,), "flat_field: expected none beside cameras"),
        ({"camera_mm": 3}, (*VIEWS,), "camera_mm: expected none beside cameras"),
        (
            {"edges": {"background": "dark", "threshold_dn": 60, "width_px": None}},
            (*VIEWS,),
            "expected both edges and width_px beside cameras",
        ),
        (
            {"edges": {"background": "dark", "threshold_dn": 60, "width_px": 241}},
            (*VIEWS,),
            "edges.width_px: expected at most the 240 px that the cameras see, got 241",
        ),
        (
            {"cameras": cameras(edges={"left": {"background": "dark", "threshold_dn": 60}})},
            (*VIEWS,),
            "expected edges in the profile where a camera has its own",
        ),
    ],
)
def test_a_mistake_is_one_line(
    bundle_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    profile: dict[str, Any],
    sources: tuple[str, ...] | None,
    words: str,
) -> None:
    files = cut(tmp_path / "row", drawn([], 100))
    if sources is None:
        full = {"cameras": cameras(), **profile}
        assert inspect(bundle_path, files["left"], tmp_path / "out", profile=full) == 2
    else:
        named = {name: files.get(name, files["right"]) for name in sources}
        assert inspect_row(bundle_path, named, tmp_path / "out", profile=profile) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert words in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["SOURCE", "--source", "left=SOURCE"], "got several of them"),
        (["--source", "left"], "expected NAME=SOURCE"),
        (
            ["--profile", "ROW", *(f"--source={name}=rec" for name in VIEWS)],
            "expected another recording for each camera",
        ),
        (["--source", "left=a", "--source", "left=b"], "expected camera left once, got a and b"),
        (["--camera", "--profile", "ROW"], "several are inspected from recordings alone"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "row.json").write_text(json.dumps({"cameras": cameras()}))
    arguments = [str(tmp_path / "row.json") if a == "ROW" else a for a in arguments]
    assert main(["roll", str(bundle_path), *arguments, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert words in message


def test_the_example_in_the_guide_is_read(tmp_path: Path) -> None:
    text = (PROJECT / "docs/guide/roll.md").read_text("utf-8").split("## Several cameras across the web")[1]
    (tmp_path / "p.json").write_text(text.split("```json")[1].split("```")[0])
    profile = read_profile(tmp_path / "p.json")
    first, second = profile.cameras
    assert (first.flat_field is not None and first.flat_field.file) == tmp_path / "left.flat.json"
    # The guide says that these have 100 columns of 4,096 in common.
    assert profile.pixel_size is not None
    assert 4096 - second.offset_mm / profile.pixel_size.cross_web_mm == pytest.approx(100)
