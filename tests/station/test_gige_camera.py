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
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.station.conftest import Station
from zellige.core.errors import ConfigError, InputError, StationError
from zellige.core.image_files import read_pixels
from zellige.station import aravis
from zellige.station.camera_frames import Arrival, CameraFrame, FrameSequence, FrameStatus
from zellige.station.cli import main
from zellige.station.gige_camera import GigeCamera
from zellige.station.gige_stream import CameraSettings

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


def check_gapless(entries: list[CameraFrame]) -> None:
    assert [e.number for e in entries] == list(range(len(entries)))
    assert entries[0].first_line == 0
    for before, after in pairwise(entries):
        assert after.first_line == before.first_line + before.num_lines
        assert after.received_ns >= before.received_ns
    for entry in entries:
        assert (entry.status is FrameStatus.COMPLETE) == (entry.reason == "")


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
        # The fake camera draws a ramp that moves by one gray level per frame: x + y + offset, modulo 255.
        steps = np.diff(entry.pixels.astype(int), axis=1) % 255
        assert (entry.pixels.shape, entry.pixels.dtype) == ((64, 512), np.uint8)
        assert (steps == 1).all()
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
        entries = take(camera, 40)
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
            # What did not come is 0, never lines of an older frame: all that came is one ramp.
            rows = [row for row in entry.pixels.astype(int) if row.all()]
            assert all((np.diff(row) % 255 == 1).all() for row in rows)


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
    # 64 lines every 10 ms: what the record says has passed, against the clock.
    elapsed_s = (entries[-1].received_ns - entries[0].received_ns) / 1e9
    assert entries[-1].first_line == pytest.approx(6400 * elapsed_s, rel=0.25)
    after = entries[lost[-1].number + 1]
    assert after.pixels is not None
    assert after.pixels.shape == (64, 512)


def test_a_camera_that_is_gone_is_lost_at_once(fake: StartFake) -> None:
    process = fake()
    with open_camera() as camera:
        frames = camera.frames()
        assert next(frames).status is not FrameStatus.LOST
        process.kill()
        process.wait()
        entry = next(e for e in frames if e.status is FrameStatus.LOST)
        assert "does not answer" in entry.reason
        again = next(frames)
        assert (again.number, again.status) == (entry.number + 1, FrameStatus.LOST)
        assert "attempt 1 failed" in again.reason


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
    with pytest.raises(StationError, match=r"^camera No-Such: [^\n]*not found[^\n]*$"):
        GigeCamera("No-Such").__enter__()
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


# The record alone


def arrival(frame_id: int, ms: int, reason: str = "") -> Arrival:
    pixels = np.zeros((10, 4), np.uint8)
    return Arrival(frame_id=frame_id, timestamp_ns=ms, received_ns=ms * 10**6, pixels=pixels, reason=reason)


C, I, M, L = FrameStatus.COMPLETE, FrameStatus.INCOMPLETE, FrameStatus.MISSING, FrameStatus.LOST  # noqa: E741


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([5, 6, 7], [(C, 5), (C, 6), (C, 7)]),
        ([5, 8], [(C, 5), (M, 6), (M, 7), (C, 8)]),
        ([65534, 65535, 1], [(C, 65534), (C, 65535), (C, 1)]),
        ([65534, 2], [(C, 65534), (M, 65535), (M, 1), (C, 2)]),
        ([65535, 65536, 65538], [(C, 65535), (C, 65536), (M, 65537), (C, 65538)]),  # extended ids
        ([5, 5], [(C, 5), (L, None), (C, 5)]),
        ([500, 3], [(C, 500), (L, None), (C, 3)]),
        ([70000, 1, 2], [(C, 70000), (L, None), (C, 1), (C, 2)]),
        ([5, 5000], [(C, 5), (L, None), (C, 5000)]),
    ],
)
def test_frame_counts_become_a_gapless_record(ids: list[int], expected: list[tuple[FrameStatus, int | None]]) -> None:
    sequence = FrameSequence(height_px=10, start_ns=0)
    entries = [e for i, frame_id in enumerate(ids) for e in sequence.arrived(arrival(frame_id, i))]
    assert [(e.status, e.frame_id) for e in entries] == expected
    check_gapless(entries)


def test_lines_that_pass_while_the_camera_is_lost() -> None:
    sequence = FrameSequence(height_px=10, start_ns=0, first_line=1000)
    for i in range(11):  # 10 lines every 10 ms
        last = list(sequence.arrived(arrival(i + 1, 10 * i)))[-1]
    assert last.first_line == 1100
    lost = sequence.lost("gone", 600 * 10**6)
    assert (lost.first_line, lost.num_lines) == (1110, 500)
    back, frame = sequence.arrived(arrival(1, 1100))
    assert (back.status, back.first_line, back.num_lines) == (L, 1610, 490)
    assert (frame.status, frame.first_line) == (C, 2100)
