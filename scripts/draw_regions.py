"""Draw the picture of docs/guide/regions.md: made-up parts on a belt, and what of each frame is inspected."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from zellige.core.hatching import hatch
from zellige.core.ignore import Foreground, IgnoredShape
from zellige.core.roi import fill, find_roi
from zellige.core.types import Frame, Geometry, GeometryMode, Pixels

SIZE = (240, 320)
CLAMP = IgnoredShape(box=(112, 0, 152, 66))
GEOMETRY = Geometry(mode=GeometryMode.RESIZE, height=256, width=256, ignore=(CLAMP,), foreground=Foreground.AUTO)


def part_on_belt(seed: int, *, has_part: bool = True) -> Pixels:
    """A gray casting on a dark belt with dirt, held by a bright clamp."""
    rng = np.random.default_rng(seed)
    frame = 38 + 5 * rng.normal(size=SIZE) + 8 * cv2.GaussianBlur(rng.normal(size=SIZE), (0, 0), 4)
    for _ in range(25):
        y, x = rng.integers(4, SIZE[0] - 4), rng.integers(4, SIZE[1] - 4)
        frame[y : y + 3, x : x + 3] = rng.integers(90, 200)
    if has_part:
        part = np.zeros(SIZE, np.uint8)
        center, axes, angle = (160 + int(rng.integers(-25, 25)), 135), (105, 72), int(rng.integers(-15, 15))
        cv2.ellipse(part, center, axes, angle, 0, 360, 1, cv2.FILLED)
        cv2.circle(part, (center[0] + 25, 140), 22, 0, cv2.FILLED)  # a hole, through which the belt shows
        surface = 150 + 14 * cv2.GaussianBlur(rng.normal(size=SIZE), (0, 0), 2) * 4
        frame = np.where(part == 1, surface, frame)
    frame[0:62, 118:146] = 225 + 6 * rng.normal(size=(62, 28))
    return np.clip(frame, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    columns = []
    for seed in range(3):
        frame = Frame(pixels=part_on_belt(seed, has_part=seed < 2), pixel_size=None, source_id=str(seed))
        roi = find_roi(frame, GEOMETRY)
        assert roi is not None
        rgb = np.dstack([frame.pixels] * 3)
        filled = np.dstack([fill(frame.pixels, roi.inspected)] * 3)
        columns.append(np.vstack([rgb, hatch(rgb, roi.inspected), filled]))
        print(f"frame {seed}: {100 * roi.inspected.mean():.0f} % inspected; {roi.warning or 'the part was found'}")
    cv2.imwrite(str(out), np.hstack(columns), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
