"""Bundles: written reproducibly and atomically; every damage and every trick is one line, before anything is used."""

import hashlib
import json
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.station.conftest import bundle_fields, bundle_members, good_pixels, make_model, small_disk
from zellige.core.bundle import encode_golden, read_bundle, write_bundle
from zellige.core.errors import BundleError
from zellige.core.manifest import RateInfo
from zellige.core.onnx_wire import refuse_external_data
from zellige.core.types import Calibration, Color, PixelSize, Rate

EPOCH = (1980, 1, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "tiny.zellige"
    write_bundle(path, members=bundle_members(), **bundle_fields())
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, good_bytes: bytes) -> Path:
    path = tmp_path / "tiny.zellige"
    path.write_bytes(good_bytes)
    return path


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(
    path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], compression: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for info, data in entries:
            archive.writestr(info, data, compress_type=compression)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def with_manifest(path: Path, change: Callable[[dict], object]) -> None:
    entries = entries_of(path)
    manifest = json.loads(entries["manifest.json"])
    change(manifest)
    rezip(path, list({**entries, "manifest.json": json.dumps(manifest).encode()}.items()))


# Written and read back


def test_content_comes_back(path: Path) -> None:
    bundle = read_bundle(path)
    assert bundle.id == hashlib.sha256(entries_of(path)["manifest.json"]).hexdigest()
    assert bundle.model_onnx == make_model()
    assert bundle.report == {"image_auroc": 1.0}
    assert bundle.manifest.pixel_size == PixelSize(cross_web_mm=0.5, down_web_mm=0.25)
    assert bundle.manifest.calibration.reject_score == 0.6
    frames = {entry.member: frame for entry, frame in bundle.golden_frames()}
    assert np.array_equal(frames["golden/good.png"].pixels, good_pixels())
    assert frames["golden/good.png"].pixel_size == bundle.manifest.pixel_size


def test_same_content_gives_same_bytes_whatever_the_order(tmp_path: Path, good_bytes: bytes) -> None:
    members = dict(reversed(bundle_members().items()))
    write_bundle(tmp_path / "b.zellige", members=members, **dict(reversed(bundle_fields().items())))
    assert (tmp_path / "b.zellige").read_bytes() == good_bytes


def test_is_a_plain_stored_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert names == ["manifest.json", *sorted(names[1:])]
        for info in archive.infolist():
            assert (info.compress_type, info.date_time) == (zipfile.ZIP_STORED, EPOCH)
            assert stat.S_IMODE(info.external_attr >> 16) == 0o644
        assert b"NaN" not in archive.read("manifest.json")


def test_rate_without_samples_is_null(tmp_path: Path) -> None:
    unmeasured = Rate(value=float("nan"), low=0.0, high=1.0, n=0)
    fields = bundle_fields(expected_rates={"escape_rate": unmeasured, "false_reject_rate": None})
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **fields)
    rates = read_bundle(tmp_path / "b.zellige").manifest.expected_rates
    assert rates.escape_rate == RateInfo(value=None, low=0.0, high=1.0, n=0)


def test_color_golden_frames_keep_their_channel_order(tmp_path: Path) -> None:
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[..., 0] = 200  # red
    members = {"model.onnx": make_model(3), "report.json": b"{}", "golden/r.png": encode_golden(pixels)}
    golden = [{"member": "golden/r.png", "decision": "REJECT", "score": 1.0, "source_kind": "red"}]
    write_bundle(tmp_path / "b.zellige", members=members, **bundle_fields(color=Color.RGB, golden=golden))
    ((_, frame),) = read_bundle(tmp_path / "b.zellige").golden_frames()
    assert np.array_equal(frame.pixels, pixels)


# Damaged


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "report.json", "golden/good.png", "golden/bar.png"])
@pytest.mark.parametrize("place", [0.0, 0.13, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_flipped_byte_in_any_member(path: Path, name: str, place: float, bit: int) -> None:
    data = bytearray(path.read_bytes())
    member = entries_of(path)[name]
    position = bytes(data).index(member) + round(place * (len(member) - 1))
    data[position] ^= bit
    path.write_bytes(data)
    refusal(path)


@pytest.mark.parametrize("name", ["model.onnx", "report.json", "golden/good.png"])
def test_changed_member_with_a_right_crc(path: Path, name: str) -> None:
    entries = entries_of(path)
    changed = bytearray(entries[name])
    changed[-1] ^= 1
    rezip(path, list({**entries, name: bytes(changed)}.items()))
    assert f"member '{name}' is damaged" in refusal(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_flipped_byte_changes_what_a_bundle_says(
    data: st.DataObject, good_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the zip's own bytes some are redundant (times); to flip these may pass, but then nothing has changed."""
    position = data.draw(st.integers(0, len(good_bytes) - 1))
    flipped = bytearray(good_bytes)
    flipped[position] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("flip")
    (folder / "b.zellige").write_bytes(flipped)
    (folder / "good.zellige").write_bytes(good_bytes)
    expected = read_bundle(folder / "good.zellige")
    try:
        actual = read_bundle(folder / "b.zellige")
    except BundleError:
        return
    assert (actual.id, dict(actual.members)) == (expected.id, dict(expected.members))


def test_every_directory_byte_flipped_is_refused_or_harmless(path: Path, good_bytes: bytes) -> None:
    expected = read_bundle(path)
    start = struct.unpack("<I", good_bytes[-6:-2])[0]
    for position in range(start, len(good_bytes)):
        flipped = bytearray(good_bytes)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        try:
            actual = read_bundle(path)
        except BundleError:
            continue
        assert (actual.id, dict(actual.members)) == (expected.id, dict(expected.members))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refusal(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"x" * 100, b"PK\x05\x06" + b"\0" * 18])
def test_not_a_bundle(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refusal(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.zellige")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "report.json", "golden/bar.png"])
def test_missing_member(path: Path, name: str) -> None:
    entries = entries_of(path)
    del entries[name]
    rezip(path, list(entries.items()))
    assert name in refusal(path)


def test_extra_member(path: Path) -> None:
    rezip(path, [*entries_of(path).items(), ("golden/extra.png", b"x")])
    assert "golden/extra.png" in refusal(path)


# Hostile


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(path: Path) -> None:
    rezip(path, [*entries_of(path).items(), ("model.onnx", b"other")])
    assert "twice" in refusal(path)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "golden/../../evil.json",
        "/etc/evil.json",
        "C:\\evil.json",
        "golden\\evil.json",
        "./evil.json",
        "golden//evil.json",
        "evil.pkl",
        "evil.py",
        "noend",
        "\u00e9vil.json",
        "nul\x00.json",
        ".hidden.json",
        "a" * 300 + ".json",
    ],
)
def test_hostile_names(path: Path, name: str) -> None:
    info = zipfile.ZipInfo("placeholder.json", EPOCH)
    info.filename = name
    rezip(path, [*entries_of(path).items(), (info, b"{}")])
    assert "plain relative name" in refusal(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_folders(path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("golden/link.png", EPOCH)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    rezip(path, [*entries_of(path).items(), (info, b"/etc/passwd")])
    assert "plain file" in refusal(path)


def test_folder_entry(path: Path) -> None:
    rezip(path, [*entries_of(path).items(), ("golden/", b"")])
    assert "plain file" in refusal(path)


def test_compressed_bomb_is_not_inflated(path: Path) -> None:
    bomb = bytes(200 << 20)
    rezip(path, [("manifest.json", bomb)], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "compressed" in refusal(path)


def test_member_above_its_limit(path: Path) -> None:
    rezip(path, [("manifest.json", bytes((16 << 20) + 1))])
    assert "at most" in refusal(path)


def test_too_many_members(path: Path) -> None:
    rezip(path, [(f"m{i}.json", b"{}") for i in range(1025)])
    assert "at most 1024 members" in refusal(path)


def test_lying_sizes(path: Path, good_bytes: bytes) -> None:
    """A directory entry that declares more bytes than the file has."""
    start = struct.unpack("<I", good_bytes[-6:-2])[0]
    data = bytearray(good_bytes)
    data[start + 20 : start + 28] = struct.pack("<II", 15 << 20, 15 << 20)
    path.write_bytes(data)
    refusal(path)


def test_encrypted_member(path: Path, good_bytes: bytes) -> None:
    start = struct.unpack("<I", good_bytes[-6:-2])[0]
    data = bytearray(good_bytes)
    data[start + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refusal(path)


@pytest.mark.parametrize(("before", "after"), [(b"#!/bin/sh\n", b""), (b"", b"tail"), (b"x" * 5000, b"y" * 5000)])
def test_bytes_outside_of_members(path: Path, good_bytes: bytes, before: bytes, after: bytes) -> None:
    path.write_bytes(before + good_bytes + after)
    refusal(path)


# Manifest


def test_a_bundle_of_schema_1_is_read(path: Path) -> None:
    """It does not say where the weights of the backbone come from."""
    with_manifest(path, lambda m: m.update(schema_version=1, backbone={"name": "lite", "weights_sha256": "0" * 64}))
    assert read_bundle(path).manifest.backbone.source is None


def test_a_bundle_of_schema_2_is_read(path: Path) -> None:
    """It names no kinds, and its calibration has no rules for them."""
    with_manifest(
        path,
        lambda m: (m.update(schema_version=2), m.pop("kinds"), m.pop("is_pair"), m["calibration"].pop("kind_rules")),
    )
    manifest = read_bundle(path).manifest
    assert (manifest.kinds, manifest.is_pair, manifest.calibration.kind_rules) == ((), False, ())


def test_a_bundle_of_schema_3_is_read(path: Path) -> None:
    """It does not say whether its images were flat-field corrected."""
    with_manifest(path, lambda m: (m.update(schema_version=3), m.pop("target_dn")))
    assert read_bundle(path).manifest.target_dn is None


def test_the_target_level_comes_back(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields(target_dn=180.0))
    assert read_bundle(tmp_path / "b.zellige").manifest.target_dn == 180
    for level in (0.0, 250.5, "180"):
        fields = bundle_fields(target_dn=level)
        with pytest.raises(BundleError, match="target_dn"):
            write_bundle(tmp_path / "no.zellige", members=bundle_members(), **fields)
    assert names_in(tmp_path) == ["b.zellige"]


def test_future_schema(path: Path) -> None:
    with_manifest(path, lambda m: m.update(schema_version=5, a_field_of_the_future=1))
    assert "made by a newer zellige: schema 5, this one reads 4" in refusal(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.update(schema_version="1"), "schema_version"),
        (lambda m: m.update(schema_version=True), "schema_version"),
        (lambda m: m.update(schema_version=0), "schema_version"),
        (lambda m: m.pop("schema_version"), "schema_version"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("geometry"), "geometry"),
        (lambda m: m["geometry"].update(height="64"), "geometry.height"),
        (lambda m: m["geometry"].update(height=3), "geometry"),
        (lambda m: m["geometry"].update(surprise=3), "geometry.surprise"),
        (lambda m: m["calibration"].update(accept_score=0.9), "accept_score <= reject_score"),
        (lambda m: m["calibration"].update(reject_score=None), "calibration.reject_score"),
        (lambda m: m["pixel_size"].update(cross_web_mm=-1), "pixel size"),
        (lambda m: m.update(color="sepia"), "color"),
        (lambda m: m.update(golden=[]), "golden"),
        (lambda m: m["golden"][0].update(decision="MAYBE"), "golden.0.decision"),
        (lambda m: m["golden"][0].update(score=float("nan")), "NaN"),
        (lambda m: m["golden"][0].update(score=float("inf")), "Infinity"),
        (lambda m: m["golden"][0].update(member="golden/none.png"), "golden/none.png"),
        (lambda m: m["golden"][0].update(member="../../etc/passwd"), "passwd"),
        (lambda m: m["members"]["model.onnx"].update(size=1), "model.onnx"),
        (lambda m: m["members"]["model.onnx"].update(sha256="0" * 64), "model.onnx"),
        (lambda m: m["members"]["model.onnx"].update(sha256="zz"), "members.model.onnx.sha256"),
    ],
)
def test_bad_manifest(path: Path, change: Callable[[dict], object], expected: str) -> None:
    with_manifest(path, change)
    assert expected in refusal(path)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1}'])
def test_manifest_that_is_no_manifest(path: Path, text: bytes) -> None:
    rezip(path, list({**entries_of(path), "manifest.json": text}.items()))
    assert "manifest.json" in refusal(path)


def test_area_rule_in_mm_needs_a_pixel_size(tmp_path: Path) -> None:
    calibration = Calibration(
        pixel_threshold=1, reject_score=1, accept_score=1, min_area_mm2=1, fitted_on="f", target="t", guarantee="g"
    )
    with pytest.raises(BundleError, match="min_area_mm2 needs a pixel size"):
        write_bundle(
            tmp_path / "b.zellige",
            members=bundle_members(),
            **bundle_fields(calibration=calibration, pixel_size=None),
        )


@pytest.mark.parametrize("png", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 40])
def test_golden_frame_that_is_no_png(tmp_path: Path, png: bytes) -> None:
    with pytest.raises(BundleError, match="expected a PNG"):
        write_bundle(tmp_path / "b.zellige", members={**bundle_members(), "golden/bar.png": png}, **bundle_fields())


def test_golden_frame_that_decodes_to_too_many_pixels(tmp_path: Path) -> None:
    png = bytearray(encode_golden(good_pixels()))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(BundleError, match="60000 x 60000"):
        write_bundle(
            tmp_path / "b.zellige", members={**bundle_members(), "golden/bar.png": bytes(png)}, **bundle_fields()
        )


def test_golden_frame_of_another_color(tmp_path: Path) -> None:
    members = {
        **bundle_members(),
        "golden/bar.png": encode_golden(np.zeros((80, 80, 3), np.uint8) + np.uint8([1, 2, 3])),
    }
    write_bundle(tmp_path / "b.zellige", members=members, **bundle_fields())
    with pytest.raises(BundleError, match="expected 1 channel"):
        list(read_bundle(tmp_path / "b.zellige").golden_frames())


def test_deep_and_damaged_report(tmp_path: Path) -> None:
    for report in (b"[1]", b"{", b"[" * 100_000):
        with pytest.raises(BundleError, match=r"report\.json"):
            write_bundle(tmp_path / "b.zellige", members={**bundle_members(), "report.json": report}, **bundle_fields())


# ONNX with data in other files


def tensor(name: str = "w", *, external: bool = True) -> onnx.TensorProto:
    result = helper.make_tensor(name, TensorProto.FLOAT, [4], np.arange(4, dtype=np.float32).tobytes(), raw=True)
    if external:
        onnx.external_data_helper.set_external_data(result, location="../../secret.bin")
        result.ClearField("raw_data")
    return result


def graph_with(**parts: list) -> onnx.GraphProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    for field, values in parts.items():
        getattr(graph, field).extend(values)
    return graph


def model_places() -> dict[str, onnx.ModelProto]:
    """A model with external data in each place where onnx.proto has a tensor."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor())
    inner = graph_with(initializer=[tensor()])
    loop = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=graph_with())
    nested = helper.make_node("If", ["x"], ["z"], then_branch=graph_with(node=[loop]), else_branch=graph_with())
    sparse = onnx.SparseTensorProto(values=tensor("v"), indices=tensor("i", external=False), dims=[8])
    many = helper.make_node("Custom", [], ["c"])
    many.attribute.append(onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSORS, tensors=[tensor()]))
    many_graphs = helper.make_node("Custom", [], ["c"])
    many_graphs.attribute.append(onnx.AttributeProto(name="g", type=onnx.AttributeProto.GRAPHS, graphs=[inner]))
    in_function = helper.make_model(graph_with())
    in_function.functions.append(helper.make_function("d", "f", [], ["c"], [constant], [helper.make_opsetid("", 18)]))
    in_training = helper.make_model(graph_with())
    in_training.training_info.append(onnx.TrainingInfoProto(initialization=inner))
    only_location = tensor()
    only_location.ClearField("external_data")
    only_entries = tensor()
    only_entries.ClearField("data_location")
    return {
        "initializer": helper.make_model(graph_with(initializer=[tensor()])),
        "only_location": helper.make_model(graph_with(initializer=[only_location])),
        "only_entries": helper.make_model(graph_with(initializer=[only_entries])),
        "sparse_initializer": helper.make_model(graph_with(sparse_initializer=[sparse])),
        "constant": helper.make_model(graph_with(node=[constant])),
        "subgraph": helper.make_model(graph_with(node=[loop])),
        "nested subgraph": helper.make_model(graph_with(node=[nested])),
        "tensors": helper.make_model(graph_with(node=[many])),
        "graphs": helper.make_model(graph_with(node=[many_graphs])),
        "function": in_function,
        "training": in_training,
    }


@pytest.mark.parametrize("place", list(model_places()))
def test_external_data_anywhere(place: str) -> None:
    with pytest.raises(BundleError, match="external data"):
        refuse_external_data(model_places()[place].SerializeToString(), "b.zellige")


def test_external_data_in_a_bundle(path: Path) -> None:
    """As the onnx package itself saves a model with its weights apart."""
    model = onnx.load_from_string(make_model())
    big = helper.make_tensor("big", TensorProto.FLOAT, [1000], np.zeros(1000, np.float32).tobytes(), raw=True)
    model.graph.initializer.append(big)
    apart = path.parent / "apart.onnx"
    onnx.save_model(model, str(apart), save_as_external_data=True, location="weights.bin", size_threshold=100)
    entries = {**entries_of(path), "model.onnx": apart.read_bytes()}
    manifest = json.loads(entries["manifest.json"])
    model_bytes = entries["model.onnx"]
    manifest["members"]["model.onnx"] = {
        "sha256": hashlib.sha256(model_bytes).hexdigest(),
        "size": len(model_bytes),
    }
    rezip(path, list({**entries, "manifest.json": json.dumps(manifest).encode()}.items()))
    assert "external data" in refusal(path)


def test_self_contained_models_pass() -> None:
    refuse_external_data(make_model(), "b")
    inner = helper.make_node("Constant", [], ["c"], value=tensor(external=False))
    refuse_external_data(helper.make_model(graph_with(node=[inner])).SerializeToString(), "b")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_as_a_model_are_refused_or_pass_without_a_crash(data: bytes) -> None:
    try:
        refuse_external_data(data, "b")
    except BundleError as error:
        assert "\n" not in str(error)  # noqa: PT017


def field(number: int, content: bytes) -> bytes:
    """Encode one length-delimited protobuf field."""
    size, prefix = len(content), bytearray([number << 3 | 2])
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(prefix) + bytes([size]) + content


def test_deeply_nested_model() -> None:
    graph = b""
    for _ in range(200):  # graph > node (1) > attribute (5) > graph (6) ...
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(BundleError, match="nested"):
        refuse_external_data(field(7, graph), "b")


# Writing is all or nothing

NAN_GOLDEN = {"member": "golden/good.png", "decision": "ACCEPT", "score": float("nan"), "source_kind": "good"}


@pytest.mark.parametrize(
    ("changes", "members", "expected"),
    [
        ({"surprise": 1}, {}, "surprise"),
        ({"run_name": 3}, {}, "run_name"),
        ({"golden": [NAN_GOLDEN]}, {}, "golden.0.score"),
        ({}, {"evil.pkl": b"x"}, "evil.pkl"),
        ({}, {"manifest.json": b"{}"}, "manifest.json"),
        ({}, {"model.onnx": b"no model"}, "model.onnx"),
    ],
)
def test_bad_content_leaves_the_old_file(path: Path, changes: dict, members: dict, expected: str) -> None:
    before = path.read_bytes()
    with pytest.raises(BundleError, match=expected):
        write_bundle(path, members={**bundle_members(), **members}, **bundle_fields(**changes))
    assert path.read_bytes() == before
    assert names_in(path.parent) == [path.name]


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken.zellige").mkdir()
    for target in (tmp_path / "none" / "b.zellige", tmp_path / "file" / "b.zellige", tmp_path / "taken.zellige"):
        with pytest.raises(BundleError, match="cannot be written"):
            write_bundle(target, members=bundle_members(), **bundle_fields())
    assert names_in(tmp_path) == ["file", "taken.zellige"]


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500)).astype(np.uint8)
    large = {**bundle_members(), "golden/large.png": encode_golden(noise)}
    with small_disk(tmp_path / "disk", "1m") as disk:
        path = disk / "b.zellige"
        write_bundle(path, members=bundle_members(), **bundle_fields())
        before = path.read_bytes()
        with pytest.raises(BundleError, match="No space left"):
            write_bundle(path, members=large, **bundle_fields())
        assert path.read_bytes() == before
        assert names_in(disk) == [path.name]


def test_killed_while_writing_leaves_the_old_file(path: Path) -> None:
    """A real process is killed while its partial file exists; the old bundle still verifies."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import zellige.core.bundle as b\n"
        "from tests.station.conftest import bundle_fields, bundle_members\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), 9)\n"
        "b.write_bundle(Path(sys.argv[1]), members=bundle_members(), **bundle_fields(run_name='other'))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, timeout=60)
    assert done.returncode == -9
    assert read_bundle(path).manifest.run_name == "tiny"
