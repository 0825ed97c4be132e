"""`zellige-station camera`: which cameras are there, and does this one deliver? For the hands of an integrator."""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

from zellige.core.errors import StationError
from zellige.station.aravis import list_cameras
from zellige.station.camera_frames import CameraFrame, FrameStatus
from zellige.station.frame_record import RECORD
from zellige.station.gige_camera import GigeCamera
from zellige.station.gige_stream import CameraSettings

_GRAB_HELP = """Writes DIR/frames.jsonl (one entry per frame: complete, incomplete, missing or lost) and each complete
or incomplete frame as DIR/NUMBER_STATUS.pgm, uncompressed, so that the disk is all that can slow it down.

exit code:
  0  every entry is a complete frame   1  at least one is not
  2  error (one line on stderr)        130  interrupted; the entries so far are whole
"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of argparse."""
    camera = commands.add_parser("camera", help="list GigE Vision cameras, or take some frames from one")
    actions = camera.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="print id, address, vendor, model and serial of each camera that answers")
    grab = actions.add_parser(
        "grab",
        help="take frames, store them, and count what did not arrive",
        description=_GRAB_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grab.add_argument(
        "camera", metavar="CAMERA", help="id, serial, IP or MAC address; see `zellige-station camera list`"
    )
    grab.add_argument("--frames", type=int, required=True, metavar="N", help="entries of the record to take")
    grab.add_argument("--out", type=Path, required=True, metavar="DIR", help="where they go; made if needed")
    grab.add_argument("--width", type=int, metavar="PX", help="columns (default: as the camera is set)")
    grab.add_argument("--height", type=int, metavar="PX", help="lines per frame (default: as the camera is set)")
    grab.add_argument(
        "--frame-rate", type=float, metavar="HZ", help="frames per second (default: as the camera is set)"
    )
    grab.add_argument("--packet-size", type=int, metavar="BYTES", help="at most the network card's MTU")
    grab.add_argument("--packet-delay", type=int, metavar="NS", help="pause of the camera between two packets")
    grab.add_argument("--buffers", type=int, default=16, metavar="N", help="frames in the ring (default: %(default)s)")
    grab.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="give up without a frame for S (default: %(default)g)"
    )


def run(parsed: argparse.Namespace) -> bool:
    """Do what the parsed command line says; return whether all is well.

    Raises:
        StationError: no Aravis, no such camera, or DIR cannot be written.
        ConfigError: a setting out of its range.
    """
    if parsed.action == "list":
        cameras = list_cameras()
        for info in cameras:
            sys.stdout.write("\t".join((info.id, info.address, info.vendor, info.model, info.serial)) + "\n")
        if not cameras:
            sys.stdout.write("no GigE Vision camera answered (same subnet? firewall? powered?)\n")
        return bool(cameras)
    settings = CameraSettings(
        width_px=parsed.width,
        height_px=parsed.height,
        frame_rate_hz=parsed.frame_rate,
        packet_size_bytes=parsed.packet_size,
        packet_delay_ns=parsed.packet_delay,
        num_buffers=parsed.buffers,
    )
    return grab_frames(parsed.camera, settings, parsed.out, num_frames=parsed.frames, timeout_s=parsed.timeout)


def grab_frames(name: str, settings: CameraSettings, out_dir: Path, *, num_frames: int, timeout_s: float) -> bool:
    """Store `num_frames` entries of a camera's record and print a summary; return whether all are complete frames.

    Raises:
        StationError: no Aravis, no such camera, or `out_dir` holds a record already or cannot be written.
    """
    counts: Counter[FrameStatus] = Counter()
    start = last = time.monotonic()
    with GigeCamera(name, settings, max_silence_s=timeout_s) as camera:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            record = (out_dir / RECORD).open("x", encoding="utf-8", buffering=1)  # a kill loses one entry at most
        except FileExistsError:
            raise StationError(f"record {out_dir / RECORD}: exists already; use another --out") from None
        with record:
            for frame in camera.frames():
                record.write(json.dumps(_store(frame, out_dir)) + "\n")
                counts[frame.status] += 1
                now = time.monotonic()
                last = last if frame.status is FrameStatus.LOST else now
                if counts.total() >= num_frames or now - last > timeout_s:
                    break
        counters = camera.counters()
        sys.stdout.write(_summary(camera, counts, counters, time.monotonic() - start))
    if now - last > timeout_s:
        sys.stdout.write(f"gave up: no frame for {now - last:.1f} s ({frame.reason})\n")
    return counts[FrameStatus.COMPLETE] == num_frames


def _store(frame: CameraFrame, out_dir: Path) -> dict[str, Any]:
    entry = {field.name: getattr(frame, field.name) for field in fields(frame) if field.name != "pixels"}
    if frame.pixels is None:
        return {**entry, "file": None}
    name = f"{frame.number:06d}_{frame.status}.pgm"
    height, width = frame.pixels.shape
    try:
        (out_dir / name).write_bytes(b"P5\n%d %d\n255\n" % (width, height) + frame.pixels.tobytes())
    except OSError as error:
        raise StationError(f"frame {out_dir / name}: cannot be written ({error.strerror})") from None
    return {**entry, "file": name}


def _summary(camera: GigeCamera, counts: Counter[FrameStatus], counters: dict[str, int], elapsed_s: float) -> str:
    what = ", ".join(f"{counts[status]} {status}" for status in FrameStatus)
    rate = counts[FrameStatus.COMPLETE] / elapsed_s
    return (
        f"{counts.total()} entries: {what}\n"
        f"{camera.width_px} x {camera.height_px} px, {rate:.1f} complete frames/s, "
        f"{rate * camera.width_px * camera.height_px / 1e6:.1f} MP/s, packets of {camera.packet_size_bytes} bytes\n"
        f"packets: {counters['n_missing_packets']} missing, {counters['n_resent_packets']} resent, "
        f"{counters['n_underruns']} without a free buffer\n"
    )
