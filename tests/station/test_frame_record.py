"""What `camera grab` leaves as a roll: complete frames are lines, all else is a hole of as many lines as recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.station.conftest import good_pixels, save
from tests.station.test_roll import DOWN, defects, drawn_place, inspect, place, summary
from zellige.core.errors import InputError
from zellige.core.types import Color, PixelSize
from zellige.data.roll_tiles import RollTiles, make_roll_set
from zellige.data.roll_windows import whole_runs
from zellige.data.splits import Fractions
from zellige.station.joined_source import join_sources
from zellige.station.sources import Lines, RollSource, open_source

HEIGHT, WIDTH = 10, 40


def write_grab(folder: Path, what: str, lost_lines: int = 25, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """A grab with an entry for each letter: c(omplete), i(ncomplete), m(issing), l(ost); incomplete ones end in 0."""
    folder.mkdir(parents=True)
    entries, line = [], 0
    for number, letter in enumerate(what):
        status = {"c": "complete", "i": "incomplete", "m": "missing", "l": "lost"}[letter]
        file = f"{number:06d}_{status}.pgm" if letter in "ci" else None
        if file:
            pixels = good_pixels(height, width, seed=number)
            if letter == "i":
                pixels[height // 2 :] = 0
            save(folder / file, pixels)
        num_lines = lost_lines if letter == "l" else height
        entries.append(entry(number, status, file, line, num_lines))
        line += num_lines
    write_record(folder, entries)
    return folder


def entry(number: int, status: str, file: str | None, line: int, num_lines: int) -> dict[str, Any]:
    reason = "" if status == "complete" else f"why {number}"
    known = {"frame_id": number + 1, "timestamp_ns": None, "received_ns": 7}
    return {"number": number, "status": status, **known, "first_line": line, "num_lines": num_lines} | {
        "reason": reason,
        "file": file,
    }


def write_record(folder: Path, entries: list[dict[str, Any]], after: str = "") -> None:
    (folder / "frames.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries) + after, encoding="utf-8")


def read_record(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text(encoding="utf-8").splitlines()]


def opened(folder: Path) -> RollSource:
    return open_source(folder, width_px=WIDTH, color=Color.GRAY)


def seen(source: RollSource) -> list[tuple[int, int, str]]:
    """First line, number of lines and reason ("" for lines) of each block; checks that none is left out."""
    blocks = list(source.blocks())
    assert [b.first_line for b in blocks] == [sum(a.num_lines for a in blocks[:n]) for n in range(len(blocks))]
    assert source.num_blocks == len(blocks)
    return [(b.first_line, b.num_lines, "" if isinstance(b, Lines) else b.reason) for b in blocks]


def test_only_complete_frames_are_lines(tmp_path: Path) -> None:
    folder = write_grab(tmp_path / "g", "cicmlcc")
    source = opened(folder)
    assert seen(source) == [
        (0, 10, ""),
        (10, 10, "incomplete: why 1"),
        (20, 10, ""),
        (30, 10, "missing: why 3"),
        (40, 25, "lost: why 4"),
        (65, 10, ""),
        (75, 10, ""),
    ]
    whole = {b.first_line: b.pixels for b in source.blocks() if isinstance(b, Lines)}
    for line, number in ((0, 0), (20, 2), (65, 5), (75, 6)):
        assert np.array_equal(whole[line], good_pixels(HEIGHT, WIDTH, seed=number))
    assert source.notes[0] == "frames.jsonl: of 7 frames 1 incomplete, 1 missing, 1 lost: their lines are undecided"
    assert "lost at line 40" in source.notes[1]
    assert whole_runs(source) == [(0, 10), (20, 30), (65, 85)]
    complete = opened(write_grab(tmp_path / "whole", "ccc"))
    assert complete.notes == ()
    assert complete.first_estimated_line is None


def test_without_the_record_an_incomplete_frame_is_a_hole(tmp_path: Path) -> None:
    folder = write_grab(tmp_path / "g", "cicmc")
    (folder / "frames.jsonl").unlink()
    source = opened(folder)
    assert seen(source) == [
        (0, 10, ""),
        (10, 10, "incomplete: 000001_incomplete.pgm: some of its packets did not come"),
        (20, 10, ""),
        (30, 10, "missing: no frames before 000004_complete.pgm"),
        (40, 10, ""),
    ]
    assert source.notes == ("of 4 frames 1 incomplete: their lines are undecided",)


def test_files_that_do_not_fit_the_record_are_holes(tmp_path: Path) -> None:
    folder = write_grab(tmp_path / "g", "ccccc")
    (folder / "000001_complete.pgm").unlink()
    save(folder / "000002_complete.pgm", good_pixels(HEIGHT + 2, WIDTH))
    (folder / "000003_complete.pgm").rename(folder / "000003_complete.png")  # by its content still a PGM
    source = opened(folder)
    assert seen(source) == [
        (0, 10, ""),
        (10, 10, "missing: 000001_complete.pgm is in frames.jsonl, the file is not there"),
        (20, 10, "wrong height: 000002_complete.pgm: expected the 10 lines of frames.jsonl, got 12"),
        (30, 10, ""),
        (40, 10, ""),
    ]
    assert source.notes == ("frames.jsonl: of 5 frames 1 without its file: their lines are undecided",)


@pytest.mark.parametrize("after", ["", '{"number": 3, "stat'])
def test_a_grab_that_was_killed(tmp_path: Path, after: str) -> None:
    """Files 3 and 5 have no whole entry: frames 3 to 5 are a hole."""
    folder = write_grab(tmp_path / "g", "cccccc")
    write_record(folder, read_record(folder)[:3], after)
    (folder / "000004_complete.pgm").unlink()
    source = opened(folder)
    assert [block[:2] for block in seen(source)] == [(0, 10), (10, 10), (20, 10), (30, 30)]
    assert seen(source)[-1][2].startswith("frames.jsonl ends after 3 whole entries")
    assert source.notes[0].startswith("frames.jsonl ends after 3 whole entries")
    for number in (3, 5):
        (folder / f"{number:06d}_complete.pgm").unlink()
    assert [block[:2] for block in seen(opened(folder))][3:] == ([(30, 10)] if after else [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_lines": 0}, "line 2: expected entry 1 of `zellige-station camera grab`, at line 10 of the roll"),
        ({"num_lines": 1e30}, "line 2: expected entry 1"),
        ({"number": 2}, "line 2: expected entry 1"),
        ({"first_line": 11}, "line 2: expected entry 1"),
        ({"status": "fine"}, "line 2: expected entry 1"),
        ({"file": 5}, "line 2: expected entry 1"),
        ({"file": "000000_complete.pgm"}, "got 000001_complete.pgm too; move it away"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = write_grab(tmp_path / "g", "ccc")
    entries = read_record(folder)
    entries[1] |= change
    write_record(folder, entries)
    with pytest.raises(InputError) as caught:
        opened(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_more_than_the_grab_is_refused(tmp_path: Path) -> None:
    folder = write_grab(tmp_path / "g", "ccc")
    save(folder / "dark.png", good_pixels(HEIGHT, WIDTH))
    with pytest.raises(InputError, match=r"images of its 3 entries, got dark\.png too"):
        opened(folder)
    (folder / "dark.png").rename(folder / "000001_complete.png")
    with pytest.raises(InputError, match="expected each frame once"):
        opened(folder)
    (folder / "000001_complete.png").unlink()
    for content in (b"\xff\n", b"[[\n" + b"{}\n", b"{}\n", b"[" * 100_000 + b"\n"):
        (folder / "frames.jsonl").write_bytes(content)
        with pytest.raises(InputError, match=r"^record .*frames\.jsonl: ") as caught:
            opened(folder)
        assert "\n" not in str(caught.value)


def test_a_grabbed_roll_through_the_program(bundle_path: Path, tmp_path: Path) -> None:
    folder = write_grab(tmp_path / "g", "ccicclcc", lost_lines=250, height=100, width=160)
    mark = good_pixels(100, 160, seed=7)
    mark[40:50, 60:80] = 255  # at line 890, behind the hole of 250 lines
    save(folder / "000007_complete.pgm", mark)
    assert inspect(bundle_path, folder, tmp_path / "out") == 1
    assert [place(row) for row in defects(tmp_path / "out")] == [drawn_place(60, 890, 80, 900)]
    content = summary(tmp_path / "out")
    holes = {s["reason"]: (s["from_mm"] / DOWN, s["to_mm"] / DOWN) for s in content["undecided"]}
    assert holes["incomplete: why 2"] == (200, 300)
    assert holes["lost: why 5"] == (500, 750)
    assert content["num_lines"] == 950
    assert "frames.jsonl: of 8 frames 1 incomplete, 1 lost: their lines are undecided" in content["notes"]


def test_a_lost_camera_of_a_row_is_named(tmp_path: Path) -> None:
    """Both are away for more lines than memory holds: the counts of both are unsure from line 10 on."""
    away = 1 << 36
    sources = [opened(write_grab(tmp_path / name, what, away)) for name, what in (("a", "clc"), ("b", "clcc"))]
    row = join_sources(sources, ["left", "right"])
    assert [(b.first_line, b.num_lines) for b in row.blocks()] == [
        (0, 10),
        (10, away),
        (10 + away, 10),
        (20 + away, 10),
    ]
    for name in ("left", "right"):
        assert any(
            n.startswith(f"camera {name}: from line 10 on its lines may not be those of the other") for n in row.notes
        )
    whole = join_sources([opened(tmp_path / "a"), opened(write_grab(tmp_path / "c", "ccc"))], ["left", "right"])
    assert not any(note.startswith("camera right") for note in whole.notes)


def test_no_training_image_shows_an_incomplete_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Three rolls whose second frame of three is incomplete: its half of zeros, and its lines, are in no image."""
    for k in range(3):
        write_grab(tmp_path / "rolls" / f"roll{k}", "cic", height=40)
    asked = RollTiles(
        source=tmp_path / "rolls",
        pixel_size=PixelSize(cross_web_mm=0.5, down_web_mm=0.5),
        color=Color.GRAY,
        tile_px=32,
    )
    with caplog.at_level("WARNING"):
        made = make_roll_set(tmp_path / "set", asked, Fractions(), seed=0)
    for k in range(3):
        assert sorted(p.name for p in (made / f"roll{k}").iterdir()) == [
            "l00000000_x00000.png",
            "l00000080_x00000.png",
        ]
        assert f"roll roll{k}: frames.jsonl: of 3 frames 1 incomplete" in caplog.text
