"""Write a synthetic line-scan data set: images, exact masks, and the manifest that `zellige.data.formats` reads.

A set is complete or absent: it is written into a hidden folder beside its place and renamed at the end.
"""

import csv
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.progress import progress
from zellige.core.types import GOOD, Pixels, PixelSize
from zellige.data.synthetic_camera import SyntheticWeb, expose, line_blocks, lines
from zellige.data.synthetic_defects import SeenDefect, defect_kinds, see_defect
from zellige.data.synthetic_materials import Material
from zellige.data.synthetic_noise import draw

__all__ = ["Material", "SyntheticWeb", "defect_kinds", "line_blocks", "lines", "make_synthetic_set"]

_LOOK = 1
"""Raise it when the same settings give other pictures, so that an old set is not taken for a new one."""
_STRENGTHS = {Material.ZELLIGE: (0.5, 1.0), Material.FABRIC: (0.5, 1.0), Material.STEEL: (0.07, 0.6)}
"""Faintest and strongest defect of a set: a good detector finds most of them, and not all."""
_MANIFEST = ("path", "label", "kind", "mask", "group", "pixel_size", "split")
_DEFECTS = ("path", "kind", "size_mm", "width_mm", "contrast")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """One frame to scan. `strength` of its defect, 0 to 1; 0 on a good one."""

    split: str
    roll: int
    first_line: int
    kind: str
    strength: float

    @property
    def name(self) -> str:
        return f"{self.split}/roll{self.roll:02d}_{self.first_line:07d}_{self.kind}.png"


def make_synthetic_set(root: Path, web: SyntheticWeb) -> Path:
    """Write the data set of these settings under `root`, or find it there, and return its folder.

    The folder is `root/<material>-<hash of the settings>` and holds images/, masks/ (255 on the defect), manifest.csv
    and defects.csv, which states kind, size_mm, width_mm and measured contrast of every defect.

    Raises:
        InputError: the place cannot be written to, or the disk is full; nothing is left behind.
    """
    folder = root / f"{web.material}-{_settings_hash(web)}"
    planned = _plan(web)
    if _is_complete(folder, planned):
        logger.info("synthetic set found: %s", folder)
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=root))
    except OSError as error:
        raise InputError(f"synthetic set {root}: expected a folder to write to ({error.strerror})") from None
    try:
        partial.chmod(0o755)
        _write_set(partial, web, planned)
        _put_in_place(partial, folder, planned)
    except OSError as error:
        raise InputError(f"synthetic set {folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("synthetic set written: %s", folder)
    return folder


def _settings_hash(web: SyntheticWeb) -> str:
    return hashlib.sha256(json.dumps([_LOOK, asdict(web)], sort_keys=True).encode()).hexdigest()[:8]


def _is_complete(folder: Path, planned: Sequence[_Planned]) -> bool:
    """Tell whether every file of the plan is there (somebody may have deleted a part of it)."""
    wanted = [folder / "manifest.csv", folder / "defects.csv"]
    wanted += [folder / "images" / p.name for p in planned]
    wanted += [folder / "masks" / p.name for p in planned if p.kind != GOOD]
    return all(path.is_file() and path.stat().st_size > 0 for path in wanted)


def _put_in_place(partial: Path, folder: Path, planned: Sequence[_Planned]) -> None:
    if folder.exists() and not _is_complete(folder, planned):
        shutil.rmtree(folder)
    try:
        partial.rename(folder)
    except OSError:
        if not _is_complete(folder, planned):
            raise
        # Another process was first, and wrote the same.


def _plan(web: SyntheticWeb) -> list[_Planned]:
    """List every frame; each goes to the roll of its split that has the fewest so far."""
    wanted = [("train", GOOD, 0.0)] * web.num_train_good
    wanted += [("val", GOOD, 0.0)] * web.num_val_good
    wanted += [("test", GOOD, 0.0)] * web.num_test_good
    low, high = _STRENGTHS[web.material]
    for kind in defect_kinds(web.material):
        for k in range(web.num_defective):
            wanted.append(("test", kind, low * (high / low) ** ((k + 0.5) / web.num_defective)))
    planned, used = [], dict.fromkeys(range(web.num_rolls), 0)
    for split, kind, strength in wanted:
        roll = min(web.rolls[split], key=lambda r: used[r])
        gap = int(draw(web.seed, 0, web.height, roll, used[roll], 6))
        first_line = 2 * web.height * used[roll] + gap
        used[roll] += 1
        planned.append(_Planned(split=split, roll=roll, first_line=first_line, kind=kind, strength=strength))
    return planned


def _write_set(folder: Path, web: SyntheticWeb, planned: Sequence[_Planned]) -> None:
    for split in ("train", "val", "test"):
        (folder / "images" / split).mkdir(parents=True)
    (folder / "masks" / "test").mkdir(parents=True)
    defects = []
    with progress(f"Scanning {web.material}", len(planned)) as advance:
        for frame in planned:
            if frame.kind == GOOD:
                pixels = lines(web, frame.roll, frame.first_line, web.height)
            else:
                seen = see_defect(web, frame.roll, frame.first_line, frame.kind, frame.strength)
                pixels = expose(seen.reflectance, web, frame.roll, frame.first_line)
                _write_png(folder / "masks" / frame.name, seen.mask.astype(np.uint8) * np.uint8(255))
                defects.append(_defect_row(frame, seen))
            _write_png(folder / "images" / frame.name, pixels)
            advance()
    _write_csv(folder / "defects.csv", _DEFECTS, defects)
    _write_csv(folder / "manifest.csv", _MANIFEST, (_manifest_row(frame, web.pixel_size) for frame in planned))


def _manifest_row(frame: _Planned, size: PixelSize) -> tuple[str, ...]:
    is_good = frame.kind == GOOD
    across, down = size.cross_web_mm, size.down_web_mm
    return (
        f"images/{frame.name}",
        GOOD if is_good else "defective",
        frame.kind,
        "" if is_good else f"masks/{frame.name}",
        f"roll{frame.roll:02d}",
        f"{across}" if across == down else f"{across}x{down}",
        frame.split,
    )


def _defect_row(frame: _Planned, seen: SeenDefect) -> tuple[str, ...]:
    return f"images/{frame.name}", frame.kind, f"{seen.size_mm}", f"{seen.width_mm}", f"{seen.contrast}"


def _write_csv(
    path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]] | Iterator[tuple[str, ...]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_png(path: Path, pixels: Pixels | NDArray[np.uint8]) -> None:
    image = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    # Run-length with Huffman coding: on noisy images smaller and faster than the default strategy.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    encoded = cv2.imencode(".png", np.ascontiguousarray(image), options)[1]
    path.write_bytes(encoded.tobytes())
