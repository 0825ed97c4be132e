"""A bundle that names by a map: on a roll and behind a screen its defects have the kinds that they have in an image."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.station.conftest import (
    CALIBRATION,
    bad_pixels,
    bundle_fields,
    bundle_members,
    make_model,
    read_records,
    save,
)
from tests.station.test_roll import defects, inspect
from tests.station.test_screen import EXTREMES, both, roll_with
from zellige.core.bundle import write_bundle
from zellige.core.kind_rules import KindRule, Severity
from zellige.core.screen import MEMBER
from zellige.core.types import Calibration
from zellige.station.cli import main

KINDS = ("bright", "dark")
BOXES = [
    (40, 95, 80, 105, 255),
    (100, 190, 110, 260, 255),  # over a border of frames, at line 200
    (20, 500, 24, 700, 0),
    (62, 395, 66, 399, 0),  # over borders of tiles
    (150, 380, 155, 400, 0),  # ten columns of it are dark and ten bright: the longer part names it
    (150, 400, 155, 440, 255),
]


def naming_model() -> bytes:
    """The model of conftest, and the kind of each pixel: 1 above mid-gray, 2 below."""
    model = onnx.load_from_string(make_model())
    graph = model.graph
    graph.node.extend(
        [
            helper.make_node("Greater", ["x", "offset"], ["is_bright"]),
            helper.make_node("Where", ["is_bright", "one", "two"], ["kind_map"]),
        ]
    )
    graph.initializer.extend(helper.make_tensor(n, TensorProto.UINT8, [], [v]) for n, v in (("one", 1), ("two", 2)))
    shape = ["batch", 1, 64, 64]
    graph.output.append(helper.make_tensor_value_info("kind_map", TensorProto.UINT8, shape))
    return model.SerializeToString()


def naming_bundle(folder: Path, calibration: Calibration = CALIBRATION) -> Path:
    path = folder / "named.zellige"
    members = {**bundle_members(naming_model()), MEMBER: EXTREMES.to_bytes()}
    write_bundle(path, members=members, **bundle_fields(calibration=calibration, kinds=KINDS))
    return path


def test_each_defect_of_a_roll_has_its_kind_with_a_screen_and_without(tmp_path: Path) -> None:
    whole, screened = both(naming_bundle(tmp_path), roll_with(tmp_path, BOXES), tmp_path)
    found = {(round(float(row["y_mm"])), row["kind"]) for row in defects(whole)}
    assert found == {(24, "bright"), (48, "bright"), (125, "dark"), (99, "dark"), (95, "bright")}
    assert defects(screened) == defects(whole)


def test_an_image_has_the_same_kinds_behind_a_screen(tmp_path: Path) -> None:
    pixels = bad_pixels()
    pixels[60:64, 100:140] = 0
    save(tmp_path / "bad.png", pixels)
    for name, extra in (("all", ()), ("screened", ("--screen",))):
        out = str(tmp_path / name)
        assert main(["inspect", str(naming_bundle(tmp_path)), str(tmp_path / "bad.png"), "--out", out, *extra]) == 1
    (whole,), (screened,) = read_records(tmp_path / "all"), read_records(tmp_path / "screened")
    assert sorted(defect["kind"] for defect in whole["defects"]) == ["bright", "dark"]
    assert screened["defects"] == whole["defects"]


def test_rules_of_kinds_are_refused_on_a_roll(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = (KindRule(kind="dark", severity=Severity.MINOR),)
    fields = {name: getattr(CALIBRATION, name) for name in CALIBRATION.__slots__} | {"kind_rules": rules}
    roll = roll_with(tmp_path, [])
    assert inspect(naming_bundle(tmp_path, Calibration(**fields)), roll, tmp_path / "out") == 2
    assert "expected no rules of kinds, which are not applied to the defects of a roll yet" in capsys.readouterr().err
