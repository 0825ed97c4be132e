"""A bundle that compares: where templates come from, and what happens without a usable one. The real program."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.shifted import surface
from tests.station.conftest import CALIBRATION, TILE, Station, bundle_fields, bundle_members, read_records, save
from tests.station.test_cli import one_line
from zellige.core.bundle import encode_golden, read_bundle, write_bundle
from zellige.core.errors import BundleError, InputError
from zellige.core.types import Calibration, Geometry, GeometryMode, Registration
from zellige.station.cli import main
from zellige.station.describe import describe
from zellige.station.speed import measure_speed
from zellige.station.templates import find_templates

SIZE = (96, 160)
GEOMETRY = Geometry(
    mode=GeometryMode.TILES, height=TILE, width=TILE, overlap_px=16, registration=Registration.TRANSLATION, search_px=6
)
LIMITS: Calibration = dataclasses.replace(CALIBRATION, pixel_threshold=0.3, reject_score=0.3, accept_score=0.3)


def difference_model(num_channels: int = 2) -> bytes:
    """anomaly_map = |image - template| / 255, averaged over 3 x 3 px; score = its maximum."""
    half = num_channels // 2
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Split", ["x", "halves"], ["image", "template"], axis=1),
        helper.make_node("Sub", ["image", "template"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["difference"]),
        helper.make_node("Mul", ["difference", "factor"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "channel"], ["gray"], keepdims=1),
        helper.make_node("AveragePool", ["gray"], ["anomaly_map"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMax", ["anomaly_map", "space"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "difference",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", num_channels, TILE, TILE])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", 1, TILE, TILE]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
        ],
        [
            helper.make_tensor("halves", TensorProto.INT64, [2], [half, half]),
            helper.make_tensor("factor", TensorProto.FLOAT, [], [1 / 255]),
            helper.make_tensor("channel", TensorProto.INT64, [1], [1]),
            helper.make_tensor("space", TensorProto.INT64, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def template(kind: int = 0) -> np.ndarray:
    return surface(kind, SIZE) // 2 + 40


def piece(kind: int = 0, *, dy: float = 0.0, dx: float = 0.0, has_defect: bool = False) -> np.ndarray:
    pixels = surface(kind, SIZE, dy, dx) // 2 + 40
    if has_defect:
        pixels[40:48, 60:70] = 255
    return pixels


def write_pair_bundle(path: Path, *, own: bool = False, pair: bool = True, golden_template: bool = True) -> Path:
    golden = {"member": "golden/0.png", "decision": "ACCEPT", "score": 0.0, "source_kind": "good"}
    members = bundle_members(difference_model())
    members = {name: data for name, data in members.items() if not name.startswith("golden")}
    members["golden/0.png"] = encode_golden(template(5))
    if golden_template:
        golden["template"] = "golden/0_template.png"
        members["golden/0_template.png"] = encode_golden(template(5))
    if own:
        members["template.png"] = encode_golden(template())
    fields = bundle_fields(geometry=GEOMETRY, golden=[golden], calibration=LIMITS, is_pair=pair)
    write_bundle(path, members=members, **fields)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_pair_bundle(tmp_path / "pair.zellige")


def decisions(out: Path) -> dict[str, str]:
    return {Path(record["source_id"]).name: record["decision"] for record in read_records(out)}


def write_pieces(folder: Path) -> Path:
    """Two products, moved by fractions of a pixel; of each a good and a bad piece."""
    folder.mkdir()
    for kind in (0, 1):
        save(folder / f"good{kind}.png", piece(kind, dy=1.4, dx=-2.3))
        save(folder / f"bad{kind}.png", piece(kind, dy=-3.7, has_defect=True))
    return folder


def test_one_template_for_all_and_the_bundles_own(bundle: Path, tmp_path: Path, station: Station) -> None:
    """Pieces of the other product do not fit: UNDECIDED, since nobody can say that they are defective."""
    pieces, gold = write_pieces(tmp_path / "pieces"), tmp_path / "gold.png"
    save(gold, template())
    expected = {"good0.png": "ACCEPT", "bad0.png": "REJECT", "good1.png": "UNDECIDED", "bad1.png": "UNDECIDED"}
    done = station("inspect", bundle, pieces, "--template", gold, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr, decisions(tmp_path / "out")) == (1, "", expected)
    found = next(record for record in read_records(tmp_path / "out") if record["source_id"].endswith("bad0.png"))
    x0, y0, x1, y1 = found["defects"][0]["box_px"]
    assert (abs(x0 - 60) <= 2, abs(y0 - 40) <= 2, abs(x1 - 70) <= 2, abs(y1 - 48) <= 2) == (True,) * 4
    own = write_pair_bundle(tmp_path / "own.zellige", own=True)
    station("inspect", own, pieces, "--out", tmp_path / "own")
    assert decisions(tmp_path / "own") == expected
    save(gold, template(1))
    station("inspect", own, pieces / "good1.png", "--template", gold, "--out", tmp_path / "given")
    assert decisions(tmp_path / "given") == {"good1.png": "ACCEPT"}


def test_templates_by_name(bundle: Path, tmp_path: Path, station: Station) -> None:
    """In a folder: NAME and NAME_temp; beside the images too, and then they are not inspected."""
    pieces, gold = write_pieces(tmp_path / "pieces"), tmp_path / "gold"
    gold.mkdir()
    for kind in (0, 1):
        save(gold / f"good{kind}.bmp", template(kind))
    save(gold / "bad0.png", template())
    station("inspect", bundle, pieces, "--template", gold, "--out", tmp_path / "out")
    assert decisions(tmp_path / "out") == {
        "good0.png": "ACCEPT",
        "bad0.png": "REJECT",
        "good1.png": "ACCEPT",
        "bad1.png": "UNDECIDED",
    }
    missing = next(record for record in read_records(tmp_path / "out") if record["decision"] == "UNDECIDED")
    assert missing["reason"].endswith(f"expected a template, got none: no files bad1.* in {gold}")
    for part in ("a", "b"):
        (tmp_path / "boards" / part).mkdir(parents=True)
        save(tmp_path / "boards" / part / "1_test.png", piece(part == "b", dx=0.5, has_defect=part == "b"))
        save(tmp_path / "boards" / part / "1_temp.png", template(part == "b"))
    boards = tmp_path / "boards"
    station("inspect", bundle, boards, "--template", boards, "--out", tmp_path / "both")
    assert [record["decision"] for record in read_records(tmp_path / "both")] == ["ACCEPT", "REJECT"]


def test_two_images_of_one_name_are_each_others_template_and_both_inspected(bundle: Path, tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        (tmp_path / "days" / day).mkdir(parents=True)
        save(tmp_path / "days" / day / "1.png", piece(has_defect=day == "day2"))
    days = str(tmp_path / "days")
    assert main(["inspect", str(bundle), days, "--template", days, "--out", str(tmp_path / "out")]) == 1
    assert [record["decision"] for record in read_records(tmp_path / "out")] == ["REJECT", "REJECT"]


def test_a_single_template_among_the_images_is_not_inspected(bundle: Path, tmp_path: Path) -> None:
    pieces = write_pieces(tmp_path / "pieces")
    save(pieces / "gold.png", template())
    images = sorted(pieces.iterdir())
    found = find_templates(read_bundle(bundle), pieces / ".." / "pieces" / "gold.png", images)
    assert found is not None
    assert found.without_templates(images) == [image for image in images if image.name != "gold.png"]
    with pytest.raises(InputError, match=r"gold\.png: expected an image besides the templates, got none"):
        found.without_templates([pieces / "gold.png"])


def test_templates_by_table(bundle: Path, tmp_path: Path, station: Station) -> None:
    pieces = write_pieces(tmp_path / "pieces")
    save(tmp_path / "gold.png", template())
    table = tmp_path / "table.csv"
    table.write_text("image,template\npieces/good0.png,gold.png\npieces/bad0.png,gold.png\n")
    station("inspect", bundle, pieces, "--template", table, "--out", tmp_path / "out")
    assert decisions(tmp_path / "out") == {
        "good0.png": "ACCEPT",
        "bad0.png": "REJECT",
        "good1.png": "UNDECIDED",
        "bad1.png": "UNDECIDED",
    }
    for text, message in (
        ("image\npieces/good0.png\n", "expected the columns image and template, got image"),
        ("image,template\npieces/good0.png,\n", "line 2: expected an image and its template"),
        ("image,template\na.png,./a.png\n", "line 2: a.png is its own template"),
        ("image,template\na.png,b.png\n./a.png,b.png\n", "line 3: ./a.png is there twice"),
        ("image,template\nelsewhere.png,gold.png\n", "no image has one there, first not in"),
    ):
        table.write_text(text)
        done = station("inspect", bundle, pieces, "--template", table, "--out", tmp_path / "o")
        assert message in one_line(done)


def test_a_template_that_cannot_be_used_makes_the_image_undecided(
    bundle: Path, tmp_path: Path, station: Station
) -> None:
    pieces, gold = tmp_path / "pieces", tmp_path / "gold"
    for folder in (pieces, gold):
        folder.mkdir()
    for name in ("1_far", "2_size", "3_color", "4_corrupt", "5_gone", "6_good"):
        save(pieces / f"{name}.png", piece(dy=9 if name == "1_far" else 0))
        if name != "5_gone":
            save(gold / f"{name}.png", template())
    save(gold / "2_size.png", template()[:, :-1])
    save(gold / "3_color.png", np.dstack([template(), template(1), template(2)]))
    (gold / "4_corrupt.png").write_bytes(b"no image")
    station("inspect", bundle, pieces, "--template", gold, "--out", tmp_path / "out")
    records = read_records(tmp_path / "out")
    assert [record["decision"] for record in records] == ["UNDECIDED"] * 5 + ["ACCEPT"]
    words = ("within 6 px", "size 96 x 160 px, got 96 x 159", "gray image, got color", "not a readable", "5_gone.*")
    for record, word in zip(records, words, strict=False):
        assert word in record["reason"]
        assert record["score"] is None


def test_speed_is_measured_with_templates(bundle: Path, bundle_path: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    save(good, piece(dy=0.5))
    save(tmp_path / "gold.png", template())
    table = tmp_path / "table.csv"
    table.write_text("image,template\ngood.png,gold.png\n")
    assert len(measure_speed(bundle, [good, good], num_threads=1, template=table).frame_ms) == 2
    with pytest.raises(InputError, match="compares each image with a template and carries none"):
        measure_speed(bundle, [good])
    assert measure_speed(bundle_path, [good], num_threads=1, template=table).frame_mp == (96 * 160 / 1e6,)


def test_what_the_user_forgot_is_one_line(bundle: Path, bundle_path: Path, tmp_path: Path, station: Station) -> None:
    pieces = write_pieces(tmp_path / "pieces")
    save(tmp_path / "gold.png", template())
    (tmp_path / "empty").mkdir()
    own = tmp_path / "bundle_without.zellige"
    own.write_bytes(bundle.read_bytes())
    for arguments, message in (
        ((own,), "compares each image with a template and carries none; expected --template FILE, FOLDER or CSV"),
        ((own, "--template", tmp_path / "gone.png"), "gone.png: cannot be read (No such file"),
        ((own, "--template", tmp_path / "gone.csv"), "gone.csv: cannot be read (No such file"),
        ((own, "--template", tmp_path / "empty"), "no image has one there, first no files bad0.* in"),
        ((own, "--template", pieces), "no image has one there, first no files bad0.* in"),
        ((bundle_path, "--template", tmp_path / "gold.png"), "expected none, this bundle looks at images alone"),
    ):
        message_of = one_line(station("inspect", arguments[0], pieces, *arguments[1:], "--out", tmp_path / "out"))
        assert message in message_of
    assert not (tmp_path / "out").exists()
    done = station("roll", bundle, pieces, "--out", tmp_path / "roll")
    assert "a roll has no template" in one_line(done)


def test_golden_frames_travel_with_their_templates(tmp_path: Path) -> None:
    bundle = read_bundle(write_pair_bundle(tmp_path / "own.zellige", own=True))
    ((_, frame),) = bundle.golden_frames()
    np.testing.assert_array_equal(frame.template, template(5))
    np.testing.assert_array_equal(bundle.template(), template())
    assert set(bundle.manifest.members) >= {"template.png", "golden/0_template.png"}
    expected = (
        "template       each image is compared with one, moved onto the image from up to 6 px away; one is carried"
    )
    assert expected in describe(bundle).splitlines()
    for pair, golden_template in ((True, False), (False, True)):
        with pytest.raises(BundleError, match="expected golden frames with templates where is_pair, and only there"):
            write_pair_bundle(tmp_path / "bad.zellige", pair=pair, golden_template=golden_template)
