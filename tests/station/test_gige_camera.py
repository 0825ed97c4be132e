"""A real GigE Vision stream over loopback from Aravis's fake camera, and the record that is kept of it."""

import fcntl
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.station.conftest import Station
from tests.station.test_camera_frames import check_gapless
from zellige.core.errors import ConfigError, InputError, StationError
from zellige.core.image_files import read_pixels
from zellige.core.types import Color
from zellige.station import aravis
from zellige.station.camera_frames import CameraFrame, FrameStatus
from zellige.station.cli import main
from zellige.station.gige_camera import GigeCamera
from zellige.station.gige_stream import CameraSettings
from zellige.station.sources import Lines, open_source

FAKE = "arv-fake-gv-camera-0.8"
ADDRESS = "127.0.0.1"
SMALL = CameraSettings(width_px=512, height_px=64, frame_rate_hz=100, packet_size_bytes=4000)
StartFake = Callable[..., subprocess.Popen[bytes]]

pytestmark = pytest.mark.xdist_group("gige")  # one port on one address: one fake camera at a time


@pytest.fixture
def fake() -> Iterator[StartFake]:
    """Start the fake camera with some options; a call after the first replaces it. Ends with the test."""
    if shutil.which(FAKE) is None:
        pytest.skip(f"no {FAKE}: on Debian, apt install aravis-tools")
    try:
        aravis.Aravis()
    except StationError as error:
        pytest.skip(str(error))
    running: list[subprocess.Popen[bytes]] = []

    def check_port() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((ADDRESS, 3956))
            except OSError as error:
                pytest.skip(f"port 3956 of {ADDRESS}, which every GigE camera answers on, is not free: {error}")

    def stop() -> None:
        while running:
            process = running.pop()
            process.kill()
            process.wait()

    def start(*options: str) -> subprocess.Popen[bytes]:
        stop()
        check_port()  # the fake camera itself says nothing when it is not
        process = subprocess.Popen(
            [FAKE, "-i", ADDRESS, "-s", "Z1", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        running.append(process)
        time.sleep(0.1)
        return process

    with (Path(tempfile.gettempdir()) / "zellige-fake-camera.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of these tests on this machine
        yield start
        stop()


def open_camera(settings: CameraSettings = SMALL) -> GigeCamera:
    return GigeCamera(ADDRESS, settings, max_silence_s=10)  # no test waits forever


def take(camera: GigeCamera, num_entries: int) -> list[CameraFrame]:
    frames = camera.frames()
    return [next(frames) for _ in range(num_entries)]


def check_ramp(entry: CameraFrame) -> None:
    """The fake camera draws x + y + frame count, modulo 255: lines of another frame would differ."""
    assert entry.pixels is not None
    y, x = np.indices(entry.pixels.shape)
    drawn = (entry.pixels.astype(int) - x - y)[entry.pixels > 0] % 255
    assert len(np.unique(drawn)) <= 1
    if entry.frame_id is not None and drawn.size:
        assert drawn[0] == entry.frame_id % 255
    if entry.status is FrameStatus.COMPLETE:
        assert (entry.pixels == 0).sum() == ((x + y + (entry.frame_id or 0)) % 255 == 0).sum()


# The real stream


def test_frames_arrive_whole_and_in_order(fake: StartFake) -> None:
    fake()
    with open_camera() as camera:
        entries = take(camera, 150)
        assert (camera.width_px, camera.height_px, camera.packet_size_bytes) == (512, 64, 4000)
    check_gapless(entries)
    complete = [e for e in entries if e.status is FrameStatus.COMPLETE]
    assert len(complete) >= 140  # the machine may be busy
    for entry in complete:
        assert entry.pixels is not None
        check_ramp(entry)
        assert (entry.pixels.shape, entry.pixels.dtype) == ((64, 512), np.uint8)
        assert entry.pixels.flags.owndata
    # Its count starts near the wrap of 16 bits.
    ids = [e.frame_id for e in entries]
    assert ids[0] is not None
    assert ids[0] > 65390
    assert 65535 in ids
    assert ids[ids.index(65535) + 1] == 1
    stamps = [e.timestamp_ns for e in complete if e.timestamp_ns is not None]
    assert all(b > a for a, b in pairwise(stamps))


def test_lost_packets_are_stated(fake: StartFake) -> None:
    fake("-r", "100")  # 10 % of the packets; 10 packets a frame
    with open_camera() as camera:
        entries = take(camera, 120)  # at 1 or 2 frames in 10 the leader is lost, which tells the count
        counters = camera.counters()
    check_gapless(entries)
    statuses = {e.status for e in entries}
    assert FrameStatus.INCOMPLETE in statuses
    assert FrameStatus.COMPLETE in statuses
    assert counters["n_missing_packets"] > 0
    for entry in entries:
        if entry.status is FrameStatus.INCOMPLETE:
            with pytest.raises(InputError, match="incomplete, expected complete"):
                entry.to_frame(source_id="cam")
            assert entry.pixels is not None
            assert entry.pixels.shape == (64, 512)
        if entry.pixels is not None:
            check_ramp(entry)  # what did not come is 0, never lines of an older frame
    assert any(e.frame_id is None for e in entries)  # where the leader was lost
    assert {e.frame_id for e in entries if e.frame_id} <= set(range(65401, 65536))


def test_a_slow_reader_leaves_missing_frames(fake: StartFake) -> None:
    fake()
    with open_camera(replace(SMALL, num_buffers=2)) as camera:
        frames = camera.frames()
        entries = [next(frames)]
        time.sleep(0.3)  # about 30 frames into a ring of 2
        while len(entries) < 60 and entries[-1].status is not FrameStatus.LOST:
            entries.append(next(frames))
        assert camera.counters()["n_underruns"] > 0
    check_gapless(entries)
    assert [e.status for e in entries].count(FrameStatus.MISSING) >= 10
    ids = [e.frame_id for e in entries if e.frame_id is not None]
    assert all((b - a) % 65535 == 1 for a, b in pairwise(ids))  # every frame that the camera counted has its entry


def test_what_has_arrived_when_the_record_ends_is_given(fake: StartFake) -> None:
    fake()
    ended: list[bool] = []
    with open_camera() as camera:
        frames = camera.frames(lambda: bool(ended))
        entries = [next(frames)]
        time.sleep(0.1)  # about 10 frames into a ring of 16
        ended.append(True)
        entries += frames
    check_gapless(entries)
    assert 5 <= len(entries) <= 1 + SMALL.num_buffers


def test_a_camera_that_restarts_leaves_a_gapless_record(fake: StartFake) -> None:
    fake()
    entries = []
    with open_camera() as camera:
        for entry in camera.frames():
            entries.append(entry)
            if entry.number == 20:
                fake()  # killed and started anew: it has forgotten size, rate and who controls it
            if entry.number > 60:
                break
    check_gapless(entries)
    lost = [e for e in entries if e.status is FrameStatus.LOST]
    assert lost
    assert "no longer controlled" in lost[0].reason or "does not answer" in lost[0].reason
    assert all(e.pixels is None and e.frame_id is None for e in lost)
    before, after = entries[: lost[0].number], entries[lost[-1].number + 1]
    lines_per_ns = 64 * (len(before) - 1) / (before[-1].received_ns - before[0].received_ns)
    expected = lines_per_ns * (after.received_ns - before[-1].received_ns) - 64
    assert sum(e.num_lines for e in lost) == pytest.approx(expected, rel=0.1, abs=128)
    assert after.pixels is not None
    assert after.pixels.shape == (64, 512)


def test_a_camera_that_is_gone_is_lost_at_once(fake: StartFake) -> None:
    process = fake()
    ended: list[bool] = []
    with open_camera() as camera:
        frames = camera.frames(lambda: bool(ended))
        assert next(frames).status is not FrameStatus.LOST
        process.kill()
        process.wait()
        entry = next(e for e in frames if e.status is FrameStatus.LOST)
        assert "does not answer" in entry.reason
        again = next(frames)
        assert (again.number, again.status) == (entry.number + 1, FrameStatus.LOST)
        assert "attempt 1 failed" in again.reason
        ended.append(True)
        (last,) = frames
        assert (last.status, last.number) == (FrameStatus.LOST, again.number + 1)
        assert last.reason.startswith("camera was away when the record ended")


def test_memory_stays_bounded(fake: StartFake) -> None:
    fake()
    sizes = []
    for _ in range(8):
        with open_camera(CameraSettings(width_px=2048, height_px=1024, num_buffers=8)) as camera:
            take(camera, 1)  # 16 MB of buffers each time
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert max(sizes[4:]) < max(sizes[:4]) + 16e6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width_px": 100_000}, "expected 1 to 65536, got 100000"),
        ({"pixel_format": "Mono16"}, "expected Mono8 .8-bit gray., got 'Mono16'"),
        ({"num_buffers": 1}, "num_buffers: expected 2 to 1024, got 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CameraSettings(**settings)  # type: ignore[arg-type]


def test_a_camera_refuses_in_one_line(fake: StartFake) -> None:
    fake()
    with open_camera() as camera:
        take(camera, 1)
        with pytest.raises(StationError, match=r"^camera 127.0.0.1: another program controls it$"):
            open_camera().__enter__()  # somebody else controls it
        assert take(camera, 1)[0].status is not FrameStatus.LOST


# The command


def test_list_and_grab(fake: StartFake, station: Station, tmp_path: Path) -> None:
    fake()
    listed = station("camera", "list")
    assert listed.returncode == 0
    assert "Aravis-Fake-Z1\t127.0.0.1\tAravis\tFake\tZ1\n" in listed.stdout
    size = ["--width", "256", "--height", "32", "--frame-rate", "100"]
    done = station("camera", "grab", "Aravis-Fake-Z1", "--frames", "5", "--out", tmp_path / "o", *size)
    assert done.returncode in (0, 1), done.stderr
    entries = [json.loads(line) for line in (tmp_path / "o" / "frames.jsonl").read_text("utf-8").splitlines()]
    assert [e["number"] for e in entries] == [0, 1, 2, 3, 4]
    assert (done.returncode == 0) == all(e["status"] == "complete" for e in entries)
    assert f"5 entries: {sum(e['status'] == 'complete' for e in entries)} complete" in done.stdout
    for entry in entries:
        if entry["file"]:
            assert read_pixels(tmp_path / "o" / entry["file"]).shape == (32, 256)
            assert cv2.imread(str(tmp_path / "o" / entry["file"]), cv2.IMREAD_UNCHANGED).shape == (32, 256)
    again = station("camera", "grab", "Aravis-Fake-Z1", "--frames", "5", "--out", tmp_path / "o")
    assert again.returncode == 2
    assert "exists already" in again.stderr.splitlines()[-1]


def test_a_grab_with_lost_packets_is_a_roll_with_holes(fake: StartFake, station: Station, tmp_path: Path) -> None:
    fake("-r", "20")  # of a thousand packets
    size = ["--width", "512", "--height", "64", "--frame-rate", "100", "--packet-size", "1500"]
    done = station("camera", "grab", ADDRESS, "--frames", "30", "--out", tmp_path / "o", *size)
    assert done.returncode == 1, done.stderr
    entries = [json.loads(line) for line in (tmp_path / "o" / "frames.jsonl").read_text("utf-8").splitlines()]
    assert any(e["status"] == "incomplete" for e in entries)
    blocks = list(open_source(tmp_path / "o", width_px=512, color=Color.GRAY).blocks())
    assert len(blocks) == len(entries)
    for entry, block in zip(entries, blocks, strict=True):
        assert (block.first_line, block.num_lines) == (entry["first_line"], entry["num_lines"])
        if isinstance(block, Lines):
            assert entry["status"] == "complete"
            assert np.array_equal(block.pixels, read_pixels(tmp_path / "o" / entry["file"]))
        else:
            assert block.reason == f"{entry['status']}: {entry['reason']}"


def test_interrupt_stops_cleanly(fake: StartFake, tmp_path: Path) -> None:
    fake()
    command = ["camera", "grab", ADDRESS, "--frames", "100000", "--out", str(tmp_path / "o"), "--height", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zellige.station.cli", *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    record, deadline = tmp_path / "o" / "frames.jsonl", time.monotonic() + 60
    while not list(tmp_path.glob("o/000002_*.pgm")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "zellige-station: interrupted; the records so far are kept"
    assert [json.loads(line)["number"] for line in record.read_text("utf-8").splitlines()][:3] == [0, 1, 2]
    with open_camera() as camera:  # it let go of the camera
        take(camera, 1)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(aravis, "LIBRARY", "libaravis-0.0-not-there.so.0")
    assert main(["camera", "list"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "apt install libaravis-0.8-0" in err
