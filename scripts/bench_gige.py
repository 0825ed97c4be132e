"""Stream from Aravis's fake GigE camera over loopback and print one JSON line: what arrived, and what it cost.

Needs libaravis-0.8-0 and aravis-tools, and nothing else on port 3956 of 127.0.0.1. `cpu_share` is the CPU time of this
process (Aravis's receiving thread, one copy into numpy) over the elapsed time, in cores; `camera_cpu_share` that of the
fake camera. `--work-ms` lets the reader compute so long after each frame, as an inspection would. `--restart-at` kills
the camera in the middle and starts it anew. `num_gaps` counts where the record's numbers, its lines or, between losses,
the camera's own count do not follow each other; it must be 0 whatever happens.
"""

import argparse
import json
import os
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fake_camera import ADDRESS, FakeCamera

from zellige.station.camera_frames import CameraFrame, FrameStatus
from zellige.station.gige_camera import GigeCamera
from zellige.station.gige_stream import CameraSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--frame-rate", type=float, default=30)
    parser.add_argument("--packet-size", type=int, default=8000)
    parser.add_argument("--socket-buffer-mb", type=float, default=16)
    parser.add_argument("--buffers", type=int, default=16)
    parser.add_argument("--work-ms", type=float, default=0)
    parser.add_argument("--lost-per-thousand", type=float, default=0, help="packets that the camera does not send")
    parser.add_argument("--restart-at", type=float, help="second at which the camera is killed")
    parser.add_argument("--away", type=float, default=1, help="seconds until it is started anew")
    args = parser.parse_args()
    settings = CameraSettings(
        width_px=args.width,
        height_px=args.height,
        frame_rate_hz=args.frame_rate,
        packet_size_bytes=args.packet_size,
        socket_buffer_bytes=int(args.socket_buffer_mb * 2**20),
        num_buffers=args.buffers,
    )
    with FakeCamera(lost_per_thousand=args.lost_per_thousand) as fake:
        if args.restart_at is not None:
            fake.restart_after(args.restart_at, args.away)
        print(json.dumps({"settings": vars(args), **measure(settings, args.seconds, args.work_ms, fake)}))


def measure(settings: CameraSettings, seconds: float, work_ms: float, fake: FakeCamera) -> dict[str, object]:
    counts: Counter[FrameStatus] = Counter()
    entries: list[CameraFrame] = []
    with GigeCamera(ADDRESS, settings, max_silence_s=5) as camera:
        start, cpu, camera_cpu = time.monotonic(), time.process_time(), fake.cpu_s()
        for frame in camera.frames():
            counts[frame.status] += 1
            entries.append(without_pixels(frame))
            busy_until = time.thread_time() + work_ms / 1000
            while time.thread_time() < busy_until:
                pass
            if time.monotonic() - start >= seconds:
                break
        elapsed, counters = time.monotonic() - start, camera.counters()
        cpu, camera_cpu = time.process_time() - cpu, fake.cpu_s() - camera_cpu
    return {
        "elapsed_s": round(elapsed, 2),
        "sent": counts.total() - counts[FrameStatus.LOST],
        **{str(status): counts[status] for status in FrameStatus},
        "num_entries": len(entries),
        "num_gaps": count_gaps(entries),
        "num_restarts": fake.num_restarts,
        "complete_mp_per_s": round(
            counts[FrameStatus.COMPLETE] * camera.width_px * camera.height_px / 1e6 / elapsed, 1
        ),
        **counters,
        "cpu_share": round(cpu / elapsed, 3),
        "camera_cpu_share": round(camera_cpu / elapsed, 3),
        "rmem_max": int(Path("/proc/sys/net/core/rmem_max").read_text()),
        "load_1min": os.getloadavg()[0],
    }


def without_pixels(entry: CameraFrame) -> CameraFrame:
    return replace(entry, pixels=None)


def count_gaps(entries: list[CameraFrame]) -> int:
    """Count the neighbors in a record of which one does not follow the other.

    Between losses the camera's count, of 16 bits that wrap from 65535 to 1, must have grown by as many frames as there
    are entries.
    """
    gaps = int(bool(entries) and (entries[0].number, entries[0].first_line) != (0, 0))
    known: CameraFrame | None = None
    for before, after in pairwise([*entries[:1], *entries]):
        if after is not before:
            gaps += after.number != before.number + 1 or after.first_line != before.first_line + before.num_lines
        if after.status is FrameStatus.LOST:
            known = None
        elif after.frame_id is not None:
            if known is not None and known.frame_id is not None:
                gaps += (after.frame_id - known.frame_id - (after.number - known.number)) % 65535 != 0
            known = after
    return gaps


if __name__ == "__main__":
    main()
