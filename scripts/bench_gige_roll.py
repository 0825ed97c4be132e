"""Inspect a roll that comes from Aravis's fake GigE camera over loopback; print as JSON what became of its lines.

The real program runs, `zellige-station roll --camera`, and --restart-at kills the camera in the middle of it. The fake
camera draws a moving ramp that no net has learned. So the bundle gets a screen here that finds everything usual: each
pixel is looked at, no tile is passed, and what is measured is the way and not the net. --no-screen keeps the bundle as
it is. `num_lines` must be `num_lines_judged` + `num_lines_undecided`, and `num_gaps`, of the undecided stretches, 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from fake_camera import ADDRESS, FakeCamera

from zellige.core.bundle import read_bundle, write_bundle
from zellige.core.manifest import Manifest
from zellige.core.screen import MEMBER, STATISTICS, Screen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="one for gray lines, with a pixel size")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--frame-rate", type=float, default=30)
    parser.add_argument("--packet-size", type=int, default=8000)
    parser.add_argument("--lost-per-thousand", type=float, default=0, help="packets that the camera does not send")
    parser.add_argument("--restart-at", type=float, help="second at which the camera is killed")
    parser.add_argument("--away", type=float, default=1, help="seconds until it is started anew")
    parser.add_argument("--no-screen", action="store_true")
    args = parser.parse_args()
    camera = {
        "width_px": args.width,
        "height_px": args.height,
        "frame_rate_hz": args.frame_rate,
        "packet_size_bytes": args.packet_size,
    }
    num_frames = round(args.seconds * args.frame_rate)
    with tempfile.TemporaryDirectory() as name, FakeCamera(lost_per_thousand=args.lost_per_thousand) as fake:
        folder = Path(name)
        bundle = args.bundle if args.no_screen else with_blind_screen(args.bundle, folder / "blind.zellige")
        rate_hz = args.frame_rate * args.height
        (folder / "profile.json").write_text(json.dumps({"camera": camera, "line_rate_hz": rate_hz}))
        command = [sys.executable, "-m", "zellige.station.cli", "roll", str(bundle), "--camera", ADDRESS]
        command += ["--profile", str(folder / "profile.json"), "--out", str(folder / "out"), "--no-crops"]
        command += ["--frames", str(num_frames), *([] if args.no_screen else ["--screen"])]
        if args.restart_at is not None:
            fake.restart_after(args.restart_at, args.away)
        start = time.monotonic()
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        elapsed = time.monotonic() - start
        if done.returncode not in (0, 1):  # 1: something was undecided
            raise SystemExit(f"bench: the station ended with {done.returncode}")
        content = json.loads((folder / "out" / "roll.json").read_text())
        down_mm = read_bundle(bundle).manifest.pixel_size.down_web_mm
        result = {
            "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
            "elapsed_s": round(elapsed, 1),
            "num_restarts": fake.num_restarts,
            **account(content, down_mm),
            "load_1min": os.getloadavg()[0],
        }
    print(json.dumps(result))


def with_blind_screen(bundle: Path, path: Path) -> Path:
    """Write the bundle again with a screen whose limits nothing exceeds."""
    content = read_bundle(bundle)
    limits = np.full((len(STATISTICS), 1), 1e6, np.float32)
    screen = Screen(cell_px=16, low=-limits, high=limits)
    fields = {name: getattr(content.manifest, name) for name in Manifest.model_fields}
    del fields["schema_version"], fields["members"]
    write_bundle(path, members={**content.members, MEMBER: screen.to_bytes()}, **fields)
    return path


def account(content: dict[str, Any], down_mm: float) -> dict[str, Any]:
    """Add up what roll.json says of the lines: judged, or in a stretch that follows the one before it."""
    stretches = [(s["from_mm"] / down_mm, s["to_mm"] / down_mm) for s in content["undecided"]]
    overlaps = sum(after[0] < before[1] - 0.5 for before, after in pairwise(stretches))
    undecided = round(sum(stop - start for start, stop in stretches))
    unaccounted = content["num_lines"] - content["num_lines_judged"] - undecided
    return {
        "complete": content["complete"],
        "frames": next(note for note in content["notes"] if note.startswith("camera")),
        "num_lines": content["num_lines"],
        "num_lines_judged": content["num_lines_judged"],
        "num_lines_undecided": undecided,
        "num_gaps": overlaps + (unaccounted != 0),
        "num_defects": content["num_defects"],
        **{key: round(content["speed"][key], 1) for key in ("mp_per_s", "ceiling_mp_per_s")},
        "keeps_up": content["speed"]["keeps_up"],
    }


if __name__ == "__main__":
    main()
