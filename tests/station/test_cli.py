"""The real program in a process of its own: records, pictures, exit codes, and every mistake as one line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.station.conftest import (
    Station,
    bad_pixels,
    bundle_fields,
    bundle_members,
    good_pixels,
    read_records,
    save,
    small_disk,
)
from zellige.core.bundle import read_bundle, write_bundle
from zellige.station.cli import main


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a run that failed for a user's mistake."""
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("zellige-station: ")
    return done.stderr


# Results


def test_records_of_a_folder(bundle_path: Path, images: Path, tmp_path: Path, station: Station) -> None:
    out = tmp_path / "out"
    done = station("inspect", bundle_path, images, "--out", out)
    assert (done.returncode, done.stderr) == (1, "")
    assert "3 images: 1 ACCEPT, 1 REJECT, 1 UNDECIDED" in done.stdout
    good, bar, corrupt = read_records(out)
    assert [r["sequence"] for r in (good, bar, corrupt)] == [0, 1, 2]
    assert [r["decision"] for r in (good, bar, corrupt)] == ["ACCEPT", "REJECT", "UNDECIDED"]
    assert bar["source_id"] == str(images / "rollo ñ°2" / "raya.png")
    assert bar["defects"] == [
        {
            "box_px": [40, 30, 80, 35],
            "area_px": 200,
            "length_px": 40.0,
            "peak_score": 127 / 128,
            "box_mm": [20.0, 7.5, 40.0, 8.75],
            "area_mm2": 25.0,
            "length_mm": 20.0,
            "kind": "anomaly",
        }
    ]
    assert good["score"] == 10 / 128
    assert corrupt["score"] is None
    assert "z_corrupt.png" in corrupt["reason"]
    assert {r["bundle_id"] for r in (good, bar, corrupt)} == {read_bundle(bundle_path).id}
    assert all(r["calibrated"] is True and r["elapsed_ms"] > 0 for r in (good, bar, corrupt))
    assert "ñ" in (out / "verdicts.jsonl").read_text("utf-8")


def test_exit_code_zero_when_all_are_accepted(
    bundle_path: Path, images: Path, tmp_path: Path, station: Station
) -> None:
    done = station("inspect", bundle_path, images / "a_good.png", "--out", tmp_path / "out")
    assert done.returncode == 0
    assert list((tmp_path / "out" / "overlays").iterdir()) == []


def test_uncalibrated_records_are_in_px(images: Path, tmp_path: Path, station: Station) -> None:
    write_bundle(tmp_path / "u.zellige", members=bundle_members(), **bundle_fields(pixel_size=None))
    done = station("inspect", tmp_path / "u.zellige", images / "rollo ñ°2", "--out", tmp_path / "out")
    (record,) = read_records(tmp_path / "out")
    assert record["calibrated"] is False
    assert set(record["defects"][0]) == {"box_px", "area_px", "length_px", "peak_score", "kind"}
    assert "uncalibrated" in done.stdout
    message = one_line(
        station("inspect", tmp_path / "u.zellige", images, "--out", tmp_path / "o2", "--pixel-size-mm", "0.5")
    )
    assert "uncalibrated" in message


def test_a_frame_that_does_not_fit_is_a_record(bundle_path: Path, tmp_path: Path, station: Station) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    save(folder / "1_small.png", good_pixels(20, 20))
    save(folder / "2_color.png", np.zeros((80, 80, 3), np.uint8) + np.uint8([9, 5, 1]))
    save(folder / "3_deep.png", np.zeros((80, 80), np.uint16) + np.uint16(40_000))
    (folder / "4_empty.png").write_bytes(b"")
    (folder / "5_text.jpg").write_text("hello")
    save(folder / "6_good.PNG", good_pixels())
    done = station("inspect", bundle_path, folder, "--out", tmp_path / "out")
    assert done.returncode == 1
    records = read_records(tmp_path / "out")
    assert [r["decision"] for r in records] == ["UNDECIDED"] * 5 + ["ACCEPT"]
    for record, word in zip(records, ("tile", "gray", "8 bits", "empty", "5_text.jpg"), strict=False):
        assert word in record["reason"]
        assert "\n" not in record["reason"]


def test_pixel_size_of_this_camera(bundle_path: Path, images: Path, tmp_path: Path, station: Station) -> None:
    bar = images / "rollo ñ°2" / "raya.png"
    station("inspect", bundle_path, bar, "--out", tmp_path / "out", "--pixel-size-mm", "0.505x0.25")
    assert read_records(tmp_path / "out")[0]["defects"][0]["length_mm"] == pytest.approx(40 * 0.505)


def test_overlays(bundle_path: Path, images: Path, tmp_path: Path, station: Station) -> None:
    """A picture of what was not accepted: the frame enlarged three times, the bar's outline red, a caption below."""
    station("inspect", bundle_path, images, "--out", tmp_path / "out")
    (path,) = (tmp_path / "out" / "overlays").iterdir()
    assert path.name == "000001_raya.jpg"
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert picture.shape[1] == 3 * 160
    assert picture.shape[0] > 3 * 96 + 40
    red = (picture[..., 0] > 200) & (picture[..., 1] < 130) & (picture[..., 2] < 130)
    ys, xs = np.nonzero(red[: 3 * 96 - 8, : 3 * 81])
    assert (xs.min(), ys.min()) == pytest.approx((3 * 40, 3 * 30), abs=3)
    assert ys.max() == pytest.approx(3 * 35, abs=3)


@pytest.mark.parametrize(("choice", "count"), [("all", 2), ("rejected", 1), ("none", None)])
def test_choice_of_overlays(
    bundle_path: Path, images: Path, tmp_path: Path, station: Station, choice: str, count: int | None
) -> None:
    station("inspect", bundle_path, images, "--out", tmp_path / "out", "--overlays", choice)
    folder = tmp_path / "out" / "overlays"
    assert (len(list(folder.iterdir())) if folder.exists() else None) == count


def test_out_inside_the_inspected_folder(bundle_path: Path, images: Path, station: Station) -> None:
    for extra in ((), ("--overwrite",)):
        station("inspect", bundle_path, images, "--out", images / "out", *extra)
        assert len(read_records(images / "out")) == 3


def test_names_that_are_not_utf8(bundle_path: Path, tmp_path: Path, station: Station) -> None:
    folder = tmp_path / "bytes"
    folder.mkdir()
    save(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")), bad_pixels())
    done = station("inspect", bundle_path, folder, "--out", tmp_path / "out")
    (record,) = read_records(tmp_path / "out")
    assert done.returncode == 1
    assert os.fsencode(record["source_id"]).endswith(b"/caf\xe9.png")
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 1


# Existing results


def test_old_results_are_kept_unless_overwritten(
    bundle_path: Path, images: Path, tmp_path: Path, station: Station
) -> None:
    out = tmp_path / "out"
    station("inspect", bundle_path, images, "--out", out)
    before = (out / "verdicts.jsonl").read_bytes()
    assert "--overwrite" in one_line(station("inspect", bundle_path, images, "--out", out))
    assert (out / "verdicts.jsonl").read_bytes() == before
    (out / "overlays" / "mine.jpg").write_text("not ours")
    done = station("inspect", bundle_path, images / "a_good.png", "--out", out, "--overwrite")
    assert done.returncode == 0
    assert len(read_records(out)) == 1
    assert [p.name for p in (out / "overlays").iterdir()] == ["mine.jpg"]


# Mistakes


def test_mistakes_are_one_line_and_write_nothing(
    bundle_path: Path, images: Path, tmp_path: Path, station: Station
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    damaged = tmp_path / "damaged.zellige"
    damaged.write_bytes(bundle_path.read_bytes()[:-100])
    out = tmp_path / "out"
    for arguments, word in (
        ((bundle_path, images, tmp_path / "none.png"), "none.png: expected a file or folder"),
        ((bundle_path, tmp_path / "empty"), "expected at least one image"),
        ((tmp_path / "none.zellige", images), "No such file"),
        ((damaged, images), "damaged.zellige"),
        ((images / "a_good.png", images), "a_good.png"),
        ((bundle_path, images, "--pixel-size-mm", "0.6"), "expected pixel size 0.5 x 0.25 mm"),
        ((bundle_path, images, "--pixel-size-mm", "1x2x3"), "one or two numbers"),
        ((bundle_path, images, "--pixel-size-mm", "wide"), "one or two numbers"),
        ((bundle_path, images, "--pixel-size-mm", "-1"), "pixel size"),
        ((bundle_path, images, "--pixel-size-mm", "nan"), "pixel size"),
    ):
        assert word in one_line(station("inspect", *arguments, "--out", out))
        assert not out.exists()
    assert "file" in one_line(station("inspect", bundle_path, images, "--out", tmp_path / "file"))


def test_golden_mismatch_stops_before_the_first_image(images: Path, tmp_path: Path, station: Station) -> None:
    entry = {"member": "golden/good.png", "decision": "REJECT", "score": 0.9, "source_kind": "good"}
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields(golden=[entry]))
    message = one_line(station("inspect", tmp_path / "b.zellige", images, "--out", tmp_path / "out"))
    assert "golden frame golden/good.png: expected REJECT, got ACCEPT" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [(), ("inspect",), ("inspect", "b"), ("nonsense",), ("describe",)])
def test_usage(station: Station, arguments: tuple[str, ...]) -> None:
    done = station(*arguments)
    assert done.returncode == 2
    assert "usage: zellige-station" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("threads", ["0", "-1", "two", "9999"])
def test_bad_number_of_threads(bundle_path: Path, images: Path, tmp_path: Path, station: Station, threads: str) -> None:
    done = station("inspect", bundle_path, images, "--out", tmp_path / "out", "--threads", threads)
    assert done.returncode == 2
    assert "expected a whole number from 1 to 1024" in done.stderr


# Faults


def test_full_disk_keeps_whole_records(bundle_path: Path, tmp_path: Path, station: Station) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(300):
        save(folder / f"{i:03d}.png", good_pixels(64, 64, seed=i))
    with small_disk(tmp_path / "disk", "40k") as disk:
        done = station("inspect", bundle_path, folder, "--out", disk / "out", "--overlays", "none")
        message = one_line(done)
        assert "No space left" in message
        assert "the records so far are kept" in message
        records = read_records(disk / "out")
    assert 10 < len(records) < 300
    assert [r["sequence"] for r in records] == list(range(len(records)))


def test_full_disk_while_drawing_leaves_no_half_picture(bundle_path: Path, tmp_path: Path, station: Station) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(40):
        save(folder / f"{i:03d}.png", bad_pixels())
    with small_disk(tmp_path / "disk", "300k") as disk:
        message = one_line(station("inspect", bundle_path, folder, "--out", disk / "out"))
        assert "No space left" in message
        records = read_records(disk / "out")
        pictures = sorted((disk / "out" / "overlays").iterdir())
        for path in pictures:
            assert path.read_bytes().endswith(b"\xff\xd9")  # a JPEG's end
    assert 0 < len(pictures) < 40
    assert len(records) in (len(pictures), len(pictures) + 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_records_are_whole(bundle_path: Path, tmp_path: Path, number: int, code: int) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    save(folder / "0.png", bad_pixels(2000, 3000))
    for i in range(1, 300):
        os.link(folder / "0.png", folder / f"{i}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "zellige.station.cli", "inspect", bundle_path, folder, "--out", out]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "verdicts.jsonl").exists() and len((out / "verdicts.jsonl").read_bytes()) > 500:
                break
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    if number == signal.SIGINT:
        assert stderr == "zellige-station: interrupted; the records so far are kept\n"
    text = (out / "verdicts.jsonl").read_text("utf-8")
    assert text.endswith("\n")
    sequences = [json.loads(line)["sequence"] for line in text.splitlines()]
    assert sequences == list(range(len(sequences)))
    assert 0 < len(sequences) < 300


# Describe


def test_describe(bundle_path: Path, station: Station) -> None:
    done = station("describe", bundle_path)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "tiny",
        read_bundle(bundle_path).id,
        "tiles of 64 x 64 px",
        "gray",
        "0.5 x 0.25 mm, within 2 %",
        "REJECT when the score is above 0.6",
        "NOT SHOWN: 12 good samples",
        "0.00 % (95 %: 0.00 to 9.51 %, n = 30)",
        "not measured",
        "2 frames (1 ACCEPT, 1 REJECT)",
        "golden/bar.png",
    ):
        assert words in done.stdout
    assert station("describe", bundle_path).stdout == done.stdout
    assert "flat field" not in done.stdout


def test_describe_says_the_target_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "b.zellige", members=bundle_members(), **bundle_fields(target_dn=180.0))
    assert main(["describe", str(tmp_path / "b.zellige")]) == 0
    assert "flat field     the images are corrected, with target 180 DN\n" in capsys.readouterr().out


def test_describe_uncalibrated_as_json(tmp_path: Path, station: Station) -> None:
    write_bundle(tmp_path / "u.zellige", members=bundle_members(), **bundle_fields(pixel_size=None))
    assert "uncalibrated" in station("describe", tmp_path / "u.zellige").stdout
    content = json.loads(station("describe", tmp_path / "u.zellige", "--json").stdout)
    assert content["id"] == read_bundle(tmp_path / "u.zellige").id
    assert content["manifest"]["pixel_size"] is None
    assert content["manifest"]["calibration"]["reject_score"] == 0.6


def test_version_and_help(station: Station) -> None:
    assert re.fullmatch(r"zellige-station \d+\.\d+\.\d+\n", station("--version").stdout)
    for arguments in (("--help",), ("inspect", "--help"), ("describe", "--help")):
        done = station(*arguments)
        assert done.returncode == 0
        assert "BUNDLE" in done.stdout or "COMMAND" in done.stdout
