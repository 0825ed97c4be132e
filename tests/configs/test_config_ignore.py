"""Regions as they are written in a setting."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.configs.test_configs import composed
from tests.conftest import save_image
from zellige.config import GeometryConfig, to_geometry
from zellige.config_ignore import read_ignore_mask, to_ignore
from zellige.core.errors import ConfigError, InputError
from zellige.core.ignore import Foreground, IgnoredShape, LengthUnit


def test_shapes_from_the_command_line(tmp_path: Path) -> None:
    mask = np.zeros((30, 50), np.uint8)
    mask[3:9, 4:7] = 255
    save_image(tmp_path / "mask.png", mask)
    config = composed(
        "train",
        "data.root=x",
        "geometry=tiles",
        "geometry.ignore=[{box:[0,0,40,20]},{columns:[0,3.5],unit:mm},{polygon:[[0,0],[9,0],[0,9]]}]",
        f"geometry.ignore_mask={tmp_path / 'mask.png'}",
        "geometry.foreground=auto",
    )
    geometry = to_geometry(config.geometry)
    assert geometry.ignore == (
        IgnoredShape(box=(0, 0, 40, 20)),
        IgnoredShape(columns=(0, 3.5), unit=LengthUnit.MM),
        IgnoredShape(polygon=((0, 0), (9, 0), (0, 9))),
    )
    assert geometry.foreground is Foreground.AUTO
    assert geometry.ignore_mask is not None
    np.testing.assert_array_equal(geometry.ignore_mask.decode(), mask > 0)
    assert not to_geometry(composed("train", "data.root=x", "geometry=tiles").geometry).has_roi


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("columns", r"geometry.ignore: expected a list such as \[{columns: \[0, 40\]}\], got 'columns'"),
        ([[0, 40]], r"geometry.ignore\[0\]: expected box, polygon or columns, and perhaps unit, got \[0, 40\]"),
        ([{"circle": [3, 4, 5]}], r"geometry.ignore\[0\]: expected box, polygon or columns"),
        ([{"columns": [0, 4]}, {"box": [0, 0, 4]}], r"geometry.ignore\[1\].box: expected 4 numbers, got \[0, 0, 4\]"),
        ([{"columns": [0, "4"]}], r"columns: expected 2 numbers, got \[0, '4'\]"),
        ([{"columns": [False, True]}], "columns: expected 2 numbers"),
        ([{"columns": "04"}], "columns: expected 2 numbers, got '04'"),
        ([{"columns": [0, 4], "unit": "cm"}], r"geometry.ignore\[0\].unit: expected px or mm, got 'cm'"),
        ([{"polygon": 5}], "polygon: expected a list of corners"),
        ([{"polygon": [[0, 0], [1]]}], r"polygon\[1\]: expected 2 numbers, got \[1\]"),
        ([{"polygon": [[0, 0], [1, 1]]}], "expected 3 to 1000 corners, got 2"),
        ([{"unit": "px"}], "expected one of box, polygon or columns per shape, got none"),
        ([{"box": [8, 0, 3, 3]}], "expected each first edge below its second"),
    ],
)
def test_a_setting_that_is_no_shape(entries: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_ignore(entries)


def test_masks_and_words_that_are_refused(tmp_path: Path) -> None:
    for level, found in ((0, "nothing"), (255, "the whole frame")):
        save_image(tmp_path / "mask.png", np.full((8, 9), level, np.uint8))
        with pytest.raises(ConfigError, match=f"expected a part of the frame drawn in white, got {found}"):
            read_ignore_mask(str(tmp_path / "mask.png"))
    with pytest.raises(InputError, match=r"none\.png"):
        read_ignore_mask(str(tmp_path / "none.png"))
    with pytest.raises(ConfigError, match=r"geometry\.foreground: expected one of none, auto, got 'otsu'"):
        to_geometry(GeometryConfig(mode="tiles", foreground="otsu"))
