"""What a roll leaves on disk: defects.csv line by line, crops, and roll.json, which says from the start how far it is.

Whatever ends the program, defects.csv has whole lines, and roll.json says that it is not complete until it is. When
the disk is full, pictures stop first, then the inspection; room for roll.json is kept in a reserve.
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import time
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from zellige.core.errors import StationError
from zellige.core.roll_records import RollDefect
from zellige.core.types import Pixels
from zellige.station.recent_lines import encode_png
from zellige.station.records import LineFile

DEFECTS, ROLL, CROPS = "defects.csv", "roll.json", "crops"
_RESERVE = ".reserve"
_RESERVE_BYTES = 512 << 10
_EVERY_S = 5.0
_CROP_NAME = re.compile(r"\d{6,}\.png")
MAX_DEFECTS_HELD = 100_000
"""Defects in memory, for grades and repeats; those beyond are in defects.csv alone."""
MAX_CROPS = 5_000
KEPT_FREE_BYTES = 16 << 20
"""Where less is free on the disk, no more pictures are written: the room is for records (about 100 bytes each)."""
_MAX_STRETCHES = 2_000
"""Undecided stretches that are told apart; beyond, the last one grows over what follows."""


class RollReport:
    """Writes a roll's results as they come."""

    def __init__(self, out_dir: Path, header: dict[str, Any], *, overwrite: bool, with_crops: bool = True) -> None:
        """Begin a report; `header` is in roll.json from the start.

        Raises:
            StationError: there is one already and `overwrite` is false, or the folder cannot be written.
        """
        self.out_dir, self._header = out_dir, header
        self._lines = LineFile(out_dir / DEFECTS, overwrite=overwrite)
        self._lines.append(_row([field.name for field in fields(RollDefect)]))
        self._max_crops = MAX_CROPS if with_crops else 0
        self.num_defects = 0
        self.num_crops = 0
        self.defects: list[RollDefect] = []
        self.undecided: list[dict[str, Any]] = []
        self._last_stretch: dict[str | None, dict[str, Any]] = {}
        """Of each camera; under None of the whole width."""
        self.notes: list[str] = []
        self._written_s = time.monotonic()
        try:
            (out_dir / CROPS).mkdir(exist_ok=True)
            for path in (out_dir / CROPS).iterdir():
                if _CROP_NAME.fullmatch(path.name):
                    path.unlink()
            (out_dir / _RESERVE).write_bytes(bytes(_RESERVE_BYTES))
            self._write({**self._so_far(0), "reason": "the program was ended before its first frame"})
        except OSError as error:
            raise StationError(f"folder {out_dir}: cannot be written ({error.strerror})") from None

    def add_defect(self, defect: RollDefect, crop: Pixels | None) -> None:
        """Store a defect and its picture, which may be missing.

        Raises:
            StationError: the disk is full; what is in defects.csv is kept.
        """
        self._lines.append(_row(astuple(defect)))
        self.num_defects += 1
        if len(self.defects) < MAX_DEFECTS_HELD:
            self.defects.append(defect)
        if crop is None or self.num_crops >= self._max_crops:
            return
        path = self.out_dir / CROPS / f"{defect.number:06d}.png"
        problem = ""
        try:
            if shutil.disk_usage(self.out_dir).free > KEPT_FREE_BYTES:
                path.write_bytes(encode_png(crop))
                self.num_crops += 1
            else:
                problem = f"less than {KEPT_FREE_BYTES >> 10} KiB are free"
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            problem = str(error.strerror)
        if problem:
            self._max_crops = self.num_crops
            self.notes.append(f"no pictures from defect {defect.number} on: {problem}")

    def add_stretch(self, from_mm: float, to_mm: float, reason: str, camera: str | None = None) -> None:
        """Note that a stretch of the roll is UNDECIDED, or that of one of several cameras, in the order of the web."""
        last = self._last_stretch.get(camera)
        is_next = last is not None and abs(last["to_mm"] - from_mm) < 1e-6
        if last is not None and is_next and last["reason"] == reason:
            last["to_mm"] = to_mm
        elif len(self.undecided) >= _MAX_STRETCHES:
            reason = "many stretches; what lies between them counts as undecided too"
            self.undecided[-1].update(to_mm=max(to_mm, self.undecided[-1]["to_mm"]), reason=reason, camera=None)
        else:
            self._last_stretch[camera] = {"from_mm": from_mm, "to_mm": to_mm, "reason": reason, "camera": camera}
            self.undecided.append(self._last_stretch[camera])

    def checkpoint(self, num_lines: int) -> None:
        """Bring roll.json up to date every few seconds, so that little is lost when the program is killed."""
        if time.monotonic() - self._written_s < _EVERY_S:
            return
        with contextlib.suppress(OSError):  # a full disk is met by defects.csv or at the end, and said there
            self._write(self._so_far(num_lines))
        self._written_s = time.monotonic()

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the last roll.json and close defects.csv.

        Raises:
            StationError: roll.json cannot be written; the one of before says that the roll is not complete.
        """
        with contextlib.suppress(OSError):
            (self.out_dir / _RESERVE).unlink()
        try:
            self._write({**self._header, **summary})
        except OSError as error:
            raise StationError(f"{self.out_dir / ROLL}: cannot be written ({error.strerror}); see {DEFECTS}") from None
        with self._lines:
            pass

    def _so_far(self, num_lines: int) -> dict[str, Any]:
        return {
            **self._header,
            "complete": False,
            "reason": f"the program was ended, or still runs; inspected up to line {num_lines}",
            "num_lines": num_lines,
            "num_defects": self.num_defects,
            "undecided": self.undecided,
        }

    def _write(self, content: dict[str, Any]) -> None:
        path = self.out_dir / ROLL
        partial = path.with_name(f".{ROLL}.partial")
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with partial.open("wb") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _row(values: Any) -> str:
    """One CSV line: floats to six places, true and false in small letters, lanes joined by ";"."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([_cell(value) for value in values])
    return out.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(round(float(value), 6))
    return ";".join(value) if isinstance(value, (tuple, list)) else str(value)
