"""The synthetic web: physics that can be checked from outside, and a data set that is whole or absent."""

import csv
import signal
import subprocess
import sys
import time
from itertools import pairwise
from math import cos, hypot, pi, sin
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import read_mask, read_pixels
from zellige.core.types import Color, PixelSize
from zellige.data.index import load_splits
from zellige.data.splits import Fractions
from zellige.data.synthetic import Material, SyntheticWeb, defect_kinds, line_blocks, lines, make_synthetic_set
from zellige.data.synthetic_camera import WANDER_MM, expose, wander_mm
from zellige.data.synthetic_defects import see_defect
from zellige.data.synthetic_mosaic import PERIOD_MM, mosaic_tiles
from zellige.data.synthetic_noise import WebWindow, gauss, smooth_field, uniform

FRAME_LINES = 200
COUNTS = {"num_train_good": 4, "num_val_good": 3, "num_test_good": 2, "num_defective": 2}


def small(material: str, **changes) -> SyntheticWeb:
    return SyntheticWeb(**({"material": material, "height": FRAME_LINES, "width": 216, **COUNTS} | changes))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ALL_DEFECTS = [(material, kind) for material in Material for kind in defect_kinds(material)]


# --- the endless web


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=st.integers(0, 2000), cuts=st.sets(st.integers(1, 89), max_size=4))
@pytest.mark.parametrize("material", list(Material))
def test_the_web_is_the_same_however_it_is_cut(material, first, cuts):
    web = small(material)
    edges = [0, *sorted(cuts), 90]
    parts = [lines(web, 1, first + a, b - a) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), lines(web, 1, first, 90))


def test_line_blocks_run_on_without_end_and_without_a_seam():
    web = small("steel", color=Color.GRAY)
    blocks = line_blocks(web, 0, 37, first_line=5)
    seen = np.concatenate([next(blocks) for _ in range(4)])
    assert np.array_equal(seen, lines(web, 0, 5, 148))


@pytest.mark.parametrize("material", list(Material))
def test_a_line_ten_kilometers_down_the_web_is_like_any_other(material):
    web = small(material)
    near, far = (lines(web, 0, first, 60).astype(float) for first in (0, 50_000_000))
    assert not np.array_equal(near, far)
    assert far.std() == pytest.approx(near.std(), rel=0.5)


@pytest.mark.parametrize("material", list(Material))
@pytest.mark.parametrize(("color", "tail"), [("rgb", (3,)), ("gray", ())])
def test_lines_are_8_bit_in_the_declared_color_and_well_exposed(material, color, tail):
    pixels = lines(small(material, color=color), 0, 0, 100)
    assert (pixels.shape, pixels.dtype) == ((100, 216, *tail), np.uint8)
    assert (pixels == 255).mean() < 0.01
    assert 50 < pixels.mean() < 200


def test_rolls_differ_and_seeds_differ():
    webs = [(small("fabric"), 0), (small("fabric"), 1), (small("fabric", seed=1), 0)]
    shown = [lines(web, roll, 0, 40) for web, roll in webs]
    assert not any(np.array_equal(shown[a], shown[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_web_wanders_slowly_within_its_bound():
    web = small("zellige")
    strayed = np.concatenate([wander_mm(web, roll, np.arange(50_000)) for roll in range(3)])
    assert np.abs(strayed).max() <= WANDER_MM
    assert strayed.std() > 0.2
    one_roll = wander_mm(web, 0, np.arange(50_000))
    assert np.abs(np.diff(one_roll)).max() < 0.05 * web.pixel_size.cross_web_mm


def test_the_picture_wanders_as_stated():
    """The mosaic's joints repeat every 56 mm (280 lines): how far they moved sideways is seen by correlation."""
    web = small("zellige", width=512, color=Color.GRAY)
    strayed = wander_mm(web, 0, np.arange(20_000)) / web.pixel_size.cross_web_mm
    gap = 7 * 280
    start = int(np.argmax(np.abs(strayed[gap:] - strayed[:-gap])))
    first, last = (np.abs(np.diff(lines(web, 0, n, 280).astype(float), axis=1)) for n in (start, start + gap))
    expected = strayed[start + 140 + gap] - strayed[start + 140]
    assert abs(expected) > 3
    shifts = np.arange(-12, 13)
    match = [np.corrcoef(first[:, 15:-15].ravel(), np.roll(last, s, axis=1)[:, 15:-15].ravel())[0, 1] for s in shifts]
    assert shifts[int(np.argmax(match))] == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("down_web_mm", [0.1, 0.2, 0.3])
def test_position_is_line_number_times_pixel_size(down_web_mm):
    """The weave's down-web period, 1.45 mm +- 4 % by roll, is found at any pixel size."""
    web = small("fabric", height=500, pixel_size=PixelSize(cross_web_mm=0.2, down_web_mm=down_web_mm), color="gray")
    num_lines = round(80 / down_web_mm)
    profile = lines(web, 0, 0, num_lines)[:, :24:12].astype(float).mean(axis=1)
    power = np.abs(np.fft.rfft(profile - profile.mean())) ** 2
    per_mm = np.fft.rfftfreq(num_lines, down_web_mm)
    band = (per_mm > 0.5) & (per_mm < 0.9)
    assert 1 / per_mm[band][np.argmax(power[band])] == pytest.approx(1.45, rel=0.06)


def test_the_lamp_is_brighter_in_the_middle_and_columns_keep_their_response():
    web = small("steel", width=512, color=Color.GRAY)
    mean = np.mean([lines(web, roll, 0, 60).mean(axis=0) for roll in range(12)], axis=0)
    assert mean[206:306].mean() > 1.05 * max(mean[:50].mean(), mean[-50:].mean())


def test_noise_grows_with_light_and_is_fresh_on_each_line():
    """A uniform surface: the variance is read noise plus signal / 45 electrons per gray level."""
    web = small("steel", width=512, color=Color.GRAY)
    for level in (0.1, 0.4, 0.8):
        flat = np.full((402, 514, 3), level, np.float32)
        pixels = expose(flat, web, 0, 0).astype(float)
        residual = pixels - pixels.mean(axis=0) - (pixels.mean(axis=1) - pixels.mean())[:, None]
        assert residual.var() == pytest.approx(0.8**2 + 1 / 12 + pixels.mean() / 45, rel=0.1)
        assert abs(np.corrcoef(residual[:-1].ravel(), residual[1:].ravel())[0, 1]) < 0.02


# --- the noise under it


def test_noise_is_a_function_of_the_place_with_the_stated_spread():
    lines_, columns = np.arange(300)[:, None], np.arange(200)[None, :]
    flat, normal = uniform(3, lines_, columns), gauss(3, lines_, columns, channels=3)
    assert np.array_equal(flat[100:150, 20:90], uniform(3, lines_[100:150], columns[:, 20:90]))
    assert (flat.min() >= -1, flat.max() < 1) == (True, True)
    assert (flat.mean(), flat.var()) == pytest.approx((0, 1 / 3), abs=0.01)
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.01)
    assert np.abs(np.corrcoef(normal.reshape(-1, 3).T) - np.eye(3)).max() < 0.02


def test_a_smooth_field_matches_a_slow_spline():
    """Reference: the cubic B-spline sum written out knot by knot."""
    size = PixelSize(cross_web_mm=0.25, down_web_mm=0.5)
    window = WebWindow(first_column=-7, first_line=11, width=12, height=9, pixel_size=size)

    def basis(t: float) -> float:
        t = abs(t)
        return 2 / 3 - t * t + t**3 / 2 if t < 1 else max(0.0, 2 - t) ** 3 / 6

    expected = np.zeros((9, 12))
    for i, y in enumerate((np.arange(11, 20) + 0.5) * 0.5):
        for j, x in enumerate((np.arange(-7, 5) + 0.5) * 0.25):
            for row in range(-2, 15):
                for column in range(-6, 6):
                    knot = float(uniform(5, row, column)[0])
                    expected[i, j] += knot * basis(y / 1.5 - row) * basis(x / 0.8 - column)
    assert smooth_field(5, window, (0.8, 1.5)) == pytest.approx(expected, abs=1e-5)


# --- the mosaic


def test_the_tiles_of_a_mosaic_fill_the_plane_but_for_the_grout():
    size = PixelSize(cross_web_mm=0.1, down_web_mm=0.1)
    window = WebWindow(first_column=0, first_line=0, width=1680, height=1680, pixel_size=size)
    count = np.zeros((1680, 1680), np.uint8)
    for tile in mosaic_tiles(window, 4):
        one = np.zeros_like(count)
        cv2.fillPoly(one, [np.round(tile.outline_mm / 0.1 - 0.5).astype(np.int32)], 1)
        count += one
    assert (count > 1).mean() < 0.002
    assert 0.80 < (count == 1).mean() < 0.93
    # No hole in the pattern: grout is never wider than a few of its widths, even where eight tips meet.
    assert cv2.distanceTransform((count == 0).view(np.uint8), cv2.DIST_L2, 5).max() * 0.1 < 1.6


def test_a_mosaic_repeats_in_shape_but_no_two_tiles_are_alike():
    size = PixelSize(cross_web_mm=0.2, down_web_mm=0.2)
    window = WebWindow(first_column=0, first_line=0, width=840, height=840, pixel_size=size)
    stars = [t for t in mosaic_tiles(window, 4) if t.index == 0]
    shapes = [t.outline_mm - np.array(t.cell) * PERIOD_MM for t in stars]
    worst = max(float(np.abs(a - shapes[0]).max()) for a in shapes[1:])
    assert 0.01 < worst < 1.0
    assert len({s.tobytes() for s in shapes}) == len(shapes)


# --- defects


def measured_mm(mask: np.ndarray, kind: str, size: PixelSize) -> float:
    """Largest diameter of a hole or stain, longer side of the smallest turned rectangle of others; by trying angles."""
    y, x = np.nonzero(mask)
    x_mm, y_mm = (x + 0.5) * size.cross_web_mm, (y + 0.5) * size.down_web_mm
    rectangles = []
    for angle in np.arange(0, pi / 2, pi / 360):
        sides = []
        for c, s in ((cos(angle), sin(angle)), (-sin(angle), cos(angle))):
            along = c * x_mm + s * y_mm
            pixel = abs(c) * size.cross_web_mm + abs(s) * size.down_web_mm
            sides.append(float(along.max() - along.min()) + pixel / 2)
        rectangles.append(sides)
    if kind in ("hole", "stain"):
        return max(max(sides) for sides in rectangles)
    return max(min(rectangles, key=lambda sides: sides[0] * sides[1]))


@pytest.mark.parametrize("pixel_size", [(0.2, 0.2), (0.2, 0.3)])
@pytest.mark.parametrize(("material", "kind"), ALL_DEFECTS)
def test_the_mask_has_the_stated_size_within_a_pixel(material, kind, pixel_size):
    size = PixelSize(cross_web_mm=pixel_size[0], down_web_mm=pixel_size[1])
    web = small(material, pixel_size=size, height=300, width=400)
    for first_line in (0, 777, 1603):
        seen = see_defect(web, 2, first_line, kind, 0.7)
        assert measured_mm(seen.mask, kind, size) == pytest.approx(seen.size_mm, abs=hypot(*pixel_size))
        assert seen.width_mm <= seen.size_mm


@pytest.mark.parametrize(("material", "kind"), ALL_DEFECTS)
def test_only_the_masked_place_and_its_rim_change(material, kind):
    web = small(material)
    first_line = 900
    seen = see_defect(web, 2, first_line, kind, 1.0)
    good = lines(web, 2, first_line, web.height).astype(int)
    change = np.abs(expose(seen.reflectance, web, 2, first_line).astype(int) - good).max(axis=2)
    radius = 10
    rim = cv2.dilate(seen.mask.view(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)).astype(bool)
    assert seen.mask.shape == (web.height, web.width)
    assert not change[~rim].any()
    assert change[seen.mask].mean() > 12
    assert cv2.connectedComponents(seen.mask.view(np.uint8), connectivity=8)[0] == 2


@pytest.mark.parametrize(("material", "kind"), [pair for pair in ALL_DEFECTS if pair[1] != "missing_tile"])
def test_strength_goes_from_hard_to_obvious(material, kind):
    web = small(material)
    faint, strong = (see_defect(web, 2, 300, kind, s).contrast for s in (0.3, 1.0))
    assert 0.01 < faint < strong


def test_a_missing_tile_is_found_in_the_smallest_frame_at_any_place():
    web = SyntheticWeb(material="zellige", height=200, width=200)
    for first_line in range(0, 560, 31):
        seen = see_defect(web, first_line % 5, first_line, "missing_tile", 1.0)
        assert seen.mask[1:-1, 1:-1].sum() == seen.mask.sum() > 0


def test_kinds_belong_to_materials():
    common = {"scratch", "hole", "stain"}
    assert set(defect_kinds(Material.ZELLIGE)) == common | {"missing_tile"}
    assert set(defect_kinds(Material.FABRIC)) == common | {"thick_yarn"}
    assert set(defect_kinds(Material.STEEL)) == common


# --- the data set on disk


@pytest.mark.parametrize("material", list(Material))
def test_a_set_reads_as_a_manifest_with_splits_by_roll(tmp_path, material):
    web = small(material, pixel_size=PixelSize(cross_web_mm=0.2, down_web_mm=0.25))
    folder = make_synthetic_set(tmp_path, web)
    splits, report = load_splits(folder, "manifest", Fractions(), seed=0, duplicates="ignore")
    kinds = defect_kinds(material)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (4, 3, 2 + 2 * len(kinds))
    assert not report.skipped
    assert report.color == "rgb"
    groups = [{s.group_id for s in part} for part in (splits.train, splits.val, splits.test)]
    assert sum(len(g) for g in groups) == len(set.union(*groups))
    assert {k: sum(s.kind == k for s in splits.test) for k in kinds} == dict.fromkeys(kinds, 2)
    for sample in (*splits.train, *splits.val, *splits.test):
        assert sample.pixel_size == web.pixel_size
        assert read_pixels(sample.image_path).shape == (web.height, web.width, 3)
        assert (sample.mask_path is not None) == sample.is_defective
        if sample.mask_path is not None:
            assert read_mask(sample.mask_path, (web.height, web.width)).any()


def test_frames_of_two_splits_are_no_near_duplicates_though_the_mosaic_repeats(tmp_path):
    counts = {"num_train_good": 24, "num_val_good": 12, "num_test_good": 12, "num_defective": 0}
    folder = make_synthetic_set(tmp_path, SyntheticWeb(material="zellige", color="gray", **counts))
    splits, _ = load_splits(folder, "manifest", Fractions(), seed=0, duplicates="error")
    assert len(splits.train) == 24


def test_each_defect_is_stated_once_with_size_and_contrast(tmp_path):
    folder = make_synthetic_set(tmp_path, small("fabric", num_defective=4))
    manifest, stated = rows_of(folder / "manifest.csv"), rows_of(folder / "defects.csv")
    assert [r["path"] for r in stated] == [r["path"] for r in manifest if r["label"] == "defective"]
    assert all(float(r["size_mm"]) >= float(r["width_mm"]) > 0 for r in stated)
    contrasts = [float(r["contrast"]) for r in stated]
    assert max(contrasts) > 3 * min(contrasts) > 0
    assert [r["pixel_size"] for r in manifest] == ["0.2"] * len(manifest)


def test_a_good_frame_of_the_set_is_a_piece_of_the_endless_web(tmp_path):
    web = small("steel", color=Color.GRAY)
    folder = make_synthetic_set(tmp_path, web)
    good = next(r for r in rows_of(folder / "manifest.csv") if r["split"] == "val")
    _, first_line, _ = Path(good["path"]).stem.split("_")
    expected = lines(web, int(good["group"].removeprefix("roll")), int(first_line), web.height)
    assert np.array_equal(read_pixels(folder / good["path"]), expected)


def test_same_settings_same_bytes_other_settings_other_folder(tmp_path):
    web = small("zellige", num_defective=1)
    one, two = make_synthetic_set(tmp_path / "a", web), make_synthetic_set(tmp_path / "b", web)
    assert one.name == two.name
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    other = make_synthetic_set(tmp_path / "a", small("zellige", num_defective=1, seed=1))
    assert other.name != one.name


def test_a_name_and_its_enumeration_are_the_same_setting():
    assert small("steel", color="gray") == small(Material.STEEL, color=Color.GRAY)


def test_a_whole_set_is_reused_and_a_damaged_one_is_made_again(tmp_path):
    web = small("steel", num_defective=1)
    folder = make_synthetic_set(tmp_path, web)
    before = folder.stat().st_ino
    assert make_synthetic_set(tmp_path, web).stat().st_ino == before
    lost = next((folder / "masks").rglob("*.png"))
    lost.unlink()
    assert make_synthetic_set(tmp_path, web) == folder
    assert lost.is_file()
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_generation_leaves_no_finished_folder(tmp_path, stop):
    program = (
        "import sys; from pathlib import Path; from zellige.data.synthetic import SyntheticWeb, make_synthetic_set;"
        "make_synthetic_set(Path(sys.argv[1]), SyntheticWeb(material='steel', num_train_good=3000))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.rglob("*.png"))) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(stop)
        assert process.wait(30) != 0
    finally:
        process.kill()
    left = [p.name for p in tmp_path.iterdir()]
    assert all(name.startswith(".") for name in left)
    if stop is signal.SIGINT:
        assert left == []


def test_a_root_that_is_a_file_is_an_input_error(tmp_path):
    root = tmp_path / "taken"
    root.write_text("x")
    with pytest.raises(InputError, match=r"synthetic set .*taken: expected a folder") as caught:
        make_synthetic_set(root, small("steel"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"material": "silk"}, "synthetic material: expected one of zellige, fabric, steel, got 'silk'"),
        ({"color": "luma"}, "synthetic color: expected rgb or gray, got 'luma'"),
        ({"num_train_good": 0}, "synthetic num_train_good: expected a whole number from 1 up, got 0"),
        ({"num_defective": -1}, "synthetic num_defective: expected a whole number from 0 up, got -1"),
        ({"num_val_good": 2.5}, "synthetic num_val_good: expected a whole number from 1 up, got 2.5"),
        ({"num_rolls": 2}, "synthetic num_rolls: expected a whole number from 3 up, got 2"),
        ({"height": 100}, r"synthetic height: expected 200 to 8192 px \(40 mm\), got 100"),
        ({"width": 100_000}, r"synthetic width: expected 200 to 8192 px \(40 mm\), got 100000"),
        (
            {"pixel_size": PixelSize(cross_web_mm=2, down_web_mm=0.2)},
            "synthetic pixel size cross_web_mm: expected 0.05 to 0.5 mm, got 2",
        ),
    ],
)
def test_a_wrong_setting_is_one_clear_line(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        small(changes.pop("material", "steel"), **changes)
