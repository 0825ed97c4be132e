"""Ignore regions and foreground on the station: what is declared never rejects, everything else does as before."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.core.test_bundle import with_manifest
from tests.station.conftest import TILE, Station, bad_pixels, bundle_fields, bundle_members, good_pixels, save
from tests.station.test_runtime import frame, golden
from zellige.core.bundle import read_bundle, write_bundle
from zellige.core.errors import BundleError
from zellige.core.ignore import Foreground, IgnoredMask, IgnoredShape, LengthUnit
from zellige.core.types import Decision, Geometry, GeometryMode
from zellige.station.runtime import Runtime, inspect, inspect_with_map

BAR = IgnoredShape(box=(38, 28, 82, 37))
"""Around the white bar of `bad_pixels`."""
DRAWN = np.zeros((96, 160), bool)
DRAWN[28:37, 38:82] = True
DECLARATIONS: dict[str, dict[str, Any]] = {
    "box": {"ignore": (BAR,)},
    "polygon": {"ignore": (IgnoredShape(polygon=((38, 28), (82, 28), (82, 37), (38, 37))),)},
    "mm": {"ignore": (IgnoredShape(box=(19, 7, 41, 9.25), unit=LengthUnit.MM),)},
    "columns": {"ignore": (IgnoredShape(columns=(38, 82)),)},
    "mask": {"ignore_mask": IgnoredMask.of(DRAWN)},
}


def write(folder: Path, *, mode: GeometryMode = GeometryMode.TILES, **declared: Any) -> Path:
    size = {"height": TILE, "width": TILE} | ({"overlap_px": 16} if mode is GeometryMode.TILES else {})
    fields = bundle_fields(
        geometry=Geometry(mode=mode, **size, **declared), golden=[golden("golden/good.png", "ACCEPT", 10 / 128)]
    )
    members = bundle_members()
    del members["golden/bar.png"]
    write_bundle(folder / "b.zellige", members=members, **fields)
    return folder / "b.zellige"


def runtime_of(folder: Path, **declared: Any) -> Runtime:
    return Runtime(read_bundle(write(folder, **declared)), num_threads=1)


@pytest.mark.parametrize("mode", list(GeometryMode))
@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_defect_inside_never_rejects_and_one_outside_does(tmp_path: Path, name: str, mode: GeometryMode) -> None:
    runtime = runtime_of(tmp_path, mode=mode, **DECLARATIONS[name])
    clean, inside = inspect(runtime, frame(good_pixels())), inspect(runtime, frame(bad_pixels()))
    assert inside.decision is Decision.ACCEPT
    assert inside.score == clean.score  # to the bit: the net has not seen it
    outside = bad_pixels()
    outside[50:80, 90:130] = 255
    verdict = inspect(runtime, frame(outside))
    assert verdict.decision is Decision.REJECT
    assert [defect.box_px for defect in verdict.defects] == [pytest.approx((90, 50, 130, 80), abs=2)]


def test_a_defect_over_the_edge_of_a_region_is_its_part_outside(tmp_path: Path) -> None:
    """The bar is 40 px long; from x = 60 on it is ignored."""
    runtime = runtime_of(tmp_path, ignore=(IgnoredShape(columns=(60, 160)),))
    (defect,) = inspect(runtime, frame(bad_pixels())).defects
    assert defect.box_px == (40, 30, 60, 35)
    assert defect.area_mm2 == pytest.approx(20 * 5 * 0.5 * 0.25)


def test_a_frame_of_another_size_than_the_mask_is_undecided(tmp_path: Path) -> None:
    runtime = runtime_of(tmp_path, **DECLARATIONS["mask"])
    verdict = inspect(runtime, frame(good_pixels(width=161)))
    assert verdict.decision is Decision.UNDECIDED
    assert verdict.reason == (
        "frame f: geometry.ignore_mask: expected frames of the mask's size 96 x 160 px, got 96 x 161"
    )
    columns = runtime_of(tmp_path, **DECLARATIONS["columns"])
    assert inspect(columns, frame(good_pixels(height=300))).decision is Decision.ACCEPT


def part_on_belt() -> np.ndarray:
    """A good part of 60 x 90 px on a black belt with a white speck."""
    pixels = np.full((96, 160), 8, np.uint8)
    pixels[20:80, 40:130] = good_pixels(60, 90)
    pixels[5:8, 5:8] = 255
    return pixels


def test_the_belt_around_a_part_is_not_inspected_and_the_part_is(tmp_path: Path) -> None:
    runtime = runtime_of(tmp_path, mode=GeometryMode.RESIZE, foreground=Foreground.AUTO)
    whole = Runtime(read_bundle(write(tmp_path, mode=GeometryMode.RESIZE)), num_threads=1)
    assert inspect(whole, frame(part_on_belt())).decision is Decision.REJECT
    verdict, anomaly_map = inspect_with_map(runtime, frame(part_on_belt()))
    assert anomaly_map is not None
    # What is left of the belt is a rim of two pixels; it differs from mid-gray, and this model calls that an anomaly.
    rim = np.ones((96, 160), bool)
    rim[24:76, 44:126] = False
    assert (anomaly_map[~rim] < 0.2).all()
    assert (anomaly_map[:14] < -1e9).all()
    spoilt = part_on_belt()
    spoilt[40:60, 70:90] = 255
    assert (70, 40, 90, 60) in [pytest.approx(d.box_px, abs=3) for d in inspect(runtime, frame(spoilt)).defects]
    assert "background" not in verdict.reason


def test_without_a_part_the_whole_frame_is_inspected_and_the_reason_says_so(tmp_path: Path) -> None:
    runtime = runtime_of(tmp_path, foreground=Foreground.AUTO)
    verdict = inspect(runtime, frame(good_pixels()))
    assert verdict.decision is Decision.ACCEPT
    assert "; the background is inspected too: the part would be 0 % of the frame" in verdict.reason


def test_regions_travel_in_the_bundle_and_its_id_stands_for_them(tmp_path: Path) -> None:
    declared = {**DECLARATIONS["mask"], "ignore": (BAR, DECLARATIONS["mm"]["ignore"][0]), "foreground": Foreground.AUTO}
    path = write(tmp_path, **declared)
    bundle = read_bundle(path)
    geometry = bundle.manifest.geometry
    assert (geometry.ignore, geometry.foreground) == (declared["ignore"], Foreground.AUTO)
    assert geometry.ignore_mask is not None
    np.testing.assert_array_equal(geometry.ignore_mask.decode(), DRAWN)

    def shift(manifest: dict[str, Any]) -> None:
        first, *rest = manifest["geometry"]["ignore_mask"]["runs"].split(" ")
        rest[-1] = str(int(rest[-1]) - 1)
        manifest["geometry"]["ignore_mask"]["runs"] = " ".join([str(int(first) + 1), *rest])

    with_manifest(path, lambda manifest: None)  # written in another form, so with an id of its own
    same = read_bundle(path).id
    with_manifest(path, shift)
    assert read_bundle(path).id != same
    write(tmp_path, **declared)
    with_manifest(path, lambda m: m["geometry"]["ignore_mask"].update(runs="1 2 3"))
    with pytest.raises(BundleError, match=r"geometry.ignore_mask.*expected runs over 15360 px, got 6"):
        read_bundle(path)
    write(tmp_path, **declared)
    with_manifest(path, lambda m: m["geometry"]["ignore"][0].update(box=[9, 9, 3, 3]))
    with pytest.raises(BundleError, match="expected each first edge below its second"):
        read_bundle(path)


def test_describe_and_overlay_show_what_is_not_inspected(tmp_path: Path, station: Station) -> None:
    path = write(tmp_path, **DECLARATIONS["mask"], ignore=(IgnoredShape(columns=(0, 20)),), foreground=Foreground.AUTO)
    text = station("describe", path).stdout
    assert "ignored        columns [0, 20] px\n" in text
    assert f"ignored        a mask for frames of 96 x 160 px, {100 * DRAWN.mean():.1f} % of them\n" in text
    assert "foreground     the background around the part is not inspected\n" in text
    save(tmp_path / "good.png", np.full((96, 160), 128, np.uint8))
    columns = write(tmp_path, ignore=(IgnoredShape(columns=(0, 20)),))
    done = station("inspect", columns, tmp_path / "good.png", "--out", tmp_path / "out", "--overlays", "all")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/verdicts.jsonl").read_text())["decision"] == "ACCEPT"
    (drawn,) = (tmp_path / "out/overlays").iterdir()
    picture = cv2.imdecode(np.frombuffer(drawn.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE).astype(int)
    assert picture[4 : 3 * 96 - 4, 4:54].mean() < 110
    assert picture[4 : 3 * 96 - 4, 4:54].std() > 20
    assert abs(picture[4 : 3 * 96 - 4, 68:] - 128).max() < 12
