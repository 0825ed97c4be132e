"""Stream from Aravis's fake GigE camera over loopback and print one JSON line: what arrived, and what it cost.

Needs libaravis-0.8-0 and aravis-tools, and nothing else on port 3956 of 127.0.0.1. `cpu_share` is the CPU time of this
process (Aravis's receiving thread, one copy into numpy) over the elapsed time, in cores; `camera_cpu_share` that of the
fake camera. `--work-ms` lets the reader compute so long after each frame, as an inspection would.
"""

import argparse
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

from zellige.station.camera_frames import FrameStatus
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
    args = parser.parse_args()
    settings = CameraSettings(
        width_px=args.width,
        height_px=args.height,
        frame_rate_hz=args.frame_rate,
        packet_size_bytes=args.packet_size,
        socket_buffer_bytes=int(args.socket_buffer_mb * 2**20),
        num_buffers=args.buffers,
    )
    fake = subprocess.Popen(["arv-fake-gv-camera-0.8", "-i", "127.0.0.1", "-r", str(args.lost_per_thousand)])
    try:
        time.sleep(0.3)
        print(json.dumps({"settings": vars(args), **measure(settings, args.seconds, args.work_ms, fake.pid)}))
    finally:
        fake.kill()
        fake.wait()


def measure(settings: CameraSettings, seconds: float, work_ms: float, pid: int) -> dict[str, object]:
    counts: Counter[FrameStatus] = Counter()
    with GigeCamera("127.0.0.1", settings, max_silence_s=5) as camera:
        start, cpu, camera_cpu = time.monotonic(), time.process_time(), cpu_s(pid)
        for frame in camera.frames():
            counts[frame.status] += 1
            busy_until = time.thread_time() + work_ms / 1000
            while time.thread_time() < busy_until:
                pass
            if time.monotonic() - start >= seconds:
                break
        elapsed, counters = time.monotonic() - start, camera.counters()
        cpu, camera_cpu = time.process_time() - cpu, cpu_s(pid) - camera_cpu
    return {
        "elapsed_s": round(elapsed, 2),
        "sent": counts.total() - counts[FrameStatus.LOST],
        **{str(status): counts[status] for status in FrameStatus},
        "complete_mp_per_s": round(
            counts[FrameStatus.COMPLETE] * camera.width_px * camera.height_px / 1e6 / elapsed, 1
        ),
        **counters,
        "cpu_share": round(cpu / elapsed, 3),
        "camera_cpu_share": round(camera_cpu / elapsed, 3),
        "rmem_max": int(Path("/proc/sys/net/core/rmem_max").read_text()),
        "load_1min": os.getloadavg()[0],
    }


def cpu_s(pid: int) -> float:
    """CPU seconds of a process. Source: proc(5), fields utime and stime of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
