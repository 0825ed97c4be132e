"""The record that `zellige-station camera grab` leaves beside its files: which of them may be judged."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zellige.core.errors import InputError
from zellige.station.camera_frames import FrameStatus

RECORD = "frames.jsonl"
_MAX_LINES = 1 << 40
"""More lines than any camera gives while it is away: four months at 100 kHz."""
_FILE = re.compile(r"(\d+)_(?:complete|incomplete)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFrame:
    """Lines of a recording: those of a file, or a hole."""

    path: Path | None
    """None: a hole."""
    num_lines: int = 0
    """0: as many as the file has."""
    reason: str = ""
    """Why it is a hole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """Every line of a grabbed roll, in order."""

    frames: tuple[RecordedFrame, ...]
    notes: tuple[str, ...]
    first_estimated_line: int | None
    """Where the camera was lost for the first time; None where it never was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    status: FrameStatus
    file: str | None
    num_lines: int
    reason: str


def read_frame_record(folder: Path, files: Sequence[Path], usual_lines: int) -> FrameRecord:
    """Take order, status and number of lines of a folder's frames from its record.

    A complete frame whose file is not there is a hole. So is what a grab that was killed wrote after its last whole
    entry. A file may have been converted: its name without suffix counts.

    Args:
        folder: of the grab.
        files: the images in it.
        usual_lines: of a frame that has no entry.

    Raises:
        InputError: a damaged record, or images that are not of this record.
    """
    where = folder / RECORD
    entries, is_cut_off = _read_entries(where)
    by_stem = {path.stem: path for path in files}
    if len(by_stem) < len(files):
        twice = next(path for path in files if by_stem[path.stem] != path)
        raise InputError(f"record {where}: expected each frame once, got {twice.name} and {by_stem[twice.stem].name}")
    frames = [_to_frame(entry, by_stem) for entry in entries]
    notes = _count(entries, frames)
    first_lost = _first_lost(entries)
    if first_lost is not None:
        notes.append(
            f"{RECORD}: the camera was lost at line {first_lost}: how many lines passed is an estimate, and so is the "
            "place of all lines after it"
        )
    if num_after := _num_after(by_stem.values(), len(entries), is_cut_off, where):
        reason = f"{RECORD} ends after {len(entries)} whole entries: nobody knows which frames after them are complete"
        frames.append(RecordedFrame(path=None, num_lines=num_after * usual_lines, reason=reason))
        notes.append(f"{reason}; they are undecided")
    return FrameRecord(frames=tuple(frames), notes=tuple(notes), first_estimated_line=first_lost)


def _to_frame(entry: _Entry, by_stem: dict[str, Path]) -> RecordedFrame:
    """Take the entry's file out of those that are there."""
    path = by_stem.pop(Path(entry.file).stem, None) if entry.file else None
    if entry.status is not FrameStatus.COMPLETE:
        return RecordedFrame(path=None, num_lines=entry.num_lines, reason=f"{entry.status}: {entry.reason}")
    reason = "" if path else f"missing: {entry.file} is in {RECORD}, the file is not there"
    return RecordedFrame(path=path, num_lines=entry.num_lines, reason=reason)


def _count(entries: Sequence[_Entry], frames: Sequence[RecordedFrame]) -> list[str]:
    """Say how many frames are holes, and why."""
    pairs = zip(entries, frames, strict=True)
    counts = Counter(
        "without its file" if entry.status is FrameStatus.COMPLETE else str(entry.status)
        for entry, frame in pairs
        if frame.path is None
    )
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    return [f"{RECORD}: of {len(entries)} frames {said}: their lines are undecided"] if counts else []


def _read_entries(where: Path) -> tuple[list[_Entry], bool]:
    """Entries, and whether the last line was cut off in the middle, as by a kill."""
    try:
        lines = where.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"record {where}: cannot be read ({error})") from None
    entries: list[_Entry] = []
    first_line = 0
    for number, line in enumerate(lines):
        is_last = number == len(lines) - 1
        if is_last and not line:
            break
        try:
            entry = _to_entry(json.loads(line), number, first_line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if is_last and isinstance(error, json.JSONDecodeError):
                return entries, True
            raise InputError(
                f"record {where}: line {number + 1}: expected entry {number} of `zellige-station camera grab`, at line "
                f"{first_line} of the roll, got {line[:80]!r}; without {RECORD} the frames are read by their names"
            ) from None
        entries.append(entry)
        first_line += entry.num_lines
    return entries, False


def _to_entry(content: dict[str, Any], number: int, first_line: int) -> _Entry:
    num_lines, file = content["num_lines"], content["file"]
    if (content["number"], content["first_line"]) != (number, first_line):
        raise ValueError
    if type(num_lines) is not int or not 1 <= num_lines <= _MAX_LINES or not isinstance(file, str | None):
        raise TypeError
    return _Entry(
        status=FrameStatus(content["status"]), file=file, num_lines=num_lines, reason=str(content.get("reason", ""))
    )


def _first_lost(entries: Sequence[_Entry]) -> int | None:
    line = 0
    for entry in entries:
        if entry.status is FrameStatus.LOST:
            return line
        line += entry.num_lines
    return None


def _num_after(files: Iterable[Path], num_entries: int, is_cut_off: bool, where: Path) -> int:
    """Count the frames that the record does not tell any more; refuse images that are not of this record."""
    last = num_entries if is_cut_off else num_entries - 1
    for path in files:
        found = _FILE.fullmatch(path.stem)
        if found is None or int(found[1]) < num_entries:
            raise InputError(
                f"record {where}: expected the images of its {num_entries} entries, got {path.name} too; move it away"
            )
        last = max(last, int(found[1]))
    return last + 1 - num_entries
