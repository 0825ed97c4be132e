"""Several cameras across one web: a defect on a seam is one record, also where the registration is a little off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zellige.core.camera_row import CameraRow, CameraView, join_cameras, join_lines, split_views
from zellige.core.errors import ConfigError, InputError
from zellige.core.open_region import WebDefect
from zellige.core.stitching import Stitcher, StitchRule

ROW = CameraRow(
    views=(
        CameraView(first_column_px=0, width_px=60),
        CameraView(first_column_px=48, width_px=60),
        CameraView(first_column_px=90, width_px=40),
    ),
    tolerance_px=3,
)


def inspect(web: np.ndarray, shifts: tuple[int, ...] = (0, 0, 0)) -> list[WebDefect]:
    """Each camera sees its columns, moved by its error of registration."""
    moved = [np.roll(web, shift, axis=1) for shift in shifts]
    maps = [m[:, v.first_column_px : v.stop_px].astype(np.float32) for m, v in zip(moved, ROW.views, strict=True)]
    rule = StitchRule(
        width_px=ROW.width_px,
        pixel_threshold=0.5,
        max_length_lines=500,
        seams_px=ROW.seams_px,
        seam_tolerance_px=ROW.tolerance_px,
    )
    stitcher = Stitcher(rule)
    found: list[WebDefect] = []
    for start in range(0, len(web), 16):
        found += stitcher.add(join_cameras([m[start : start + 16] for m in maps], ROW), start)
    return [*found, *stitcher.finish()]


def test_seams_are_in_the_middle_of_the_overlaps() -> None:
    assert (ROW.width_px, ROW.seams_px) == (130, (54, 99))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 129), st.integers(1, 80), st.integers(0, 40), st.integers(1, 24))
def test_registered_cameras_are_one_camera(x: int, width: int, y: int, length: int) -> None:
    web = np.zeros((64, 130), np.uint8)
    web[y : y + length, x : x + width] = 1
    (defect,) = inspect(web)
    stop = min(x + width, 130)
    assert (defect.box_px, defect.area_px) == ((x, y, stop, y + length), (stop - x) * length)


@pytest.mark.parametrize("shift", [-3, -2, 0, 1, 3])
def test_a_registration_that_is_off_neither_loses_nor_doubles(shift: int) -> None:
    """The middle camera is off by up to the tolerance: thin and wide bars at every place near both seams."""
    for seam in ROW.seams_px:
        for x in range(seam - 8, seam + 8):
            for width in (1, 2, 9):
                web = np.zeros((20, 130), np.uint8)
                web[10:19, x : x + width] = 1
                (defect,) = inspect(web, (0, shift, 0))
                assert defect.box_px[1::2] == (10, 19)
                assert min(0, shift) <= defect.box_px[0] - x <= max(0, shift)
                assert min(0, shift) <= defect.box_px[2] - (x + width) <= max(0, shift)


def test_lines_of_registered_cameras_are_those_of_one() -> None:
    web = np.random.default_rng(0).integers(0, 256, (5, 130, 3)).astype(np.uint8)
    together = np.concatenate([web[:, v.first_column_px : v.stop_px] for v in ROW.views], axis=1)
    assert np.array_equal(join_lines(split_views(together, ROW), ROW), web)
    with pytest.raises(InputError, match="expected lines of 160 columns, got 130"):
        split_views(web, ROW)


def test_bad_rows_and_maps() -> None:
    def view(first: int, width: int) -> CameraView:
        return CameraView(first_column_px=first, width_px=width)

    for views, message in (
        ((), "at least one camera"),
        ((view(1, 5),), "first of them at column 0"),
        ((view(0, 50), view(47, 50)), "at least 4 px in common, got 3"),
        ((view(0, 50), view(60, 50)), "at least 4 px in common, got a gap of 10 px"),
        ((view(0, 50), view(0, 60)), "from left to right"),
        ((view(0, 50), view(10, 20)), "reach further right"),
    ):
        with pytest.raises(ConfigError, match=message):
            CameraRow(views=views)
    maps = [np.zeros((4, v.width_px), np.float32) for v in ROW.views]
    for wrong in (maps[:2], [maps[0], maps[1][:3], maps[2]], maps[::-1]):
        with pytest.raises(InputError, match="maps of equal height and widths 60, 60, 40"):
            join_cameras(wrong, ROW)
