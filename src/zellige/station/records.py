"""Verdicts on disk: one JSON object per line, in order, whole lines only, whatever interrupts the program."""

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zellige.core.errors import StationError
from zellige.core.types import Verdict

RECORDS = "verdicts.jsonl"


def to_record(verdict: Verdict, *, sequence: int, is_calibrated: bool) -> dict[str, Any]:
    """Turn a verdict into what is stored: plain JSON values, a score of null where there was none.

    A defect has its mm fields only where the pixel size is known.
    """
    defects = [{key: value for key, value in asdict(d).items() if value is not None} for d in verdict.defects]
    return {
        "sequence": sequence,
        "source_id": verdict.source_id,
        "decision": verdict.decision.value,
        "score": verdict.score if math.isfinite(verdict.score) else None,
        "reason": verdict.reason,
        "defects": defects,
        "bundle_id": verdict.bundle_id,
        "elapsed_ms": round(verdict.elapsed_ms, 3),
        "calibrated": is_calibrated,
    }


class LineFile:
    """A file of whole lines: a line that cannot be written whole is taken back. A line is the system's when written."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Open the file; its folder is made where needed.

        Raises:
            StationError: it exists and `overwrite` is false, or the folder cannot be written.
        """
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, flags, 0o644)
        except FileExistsError:
            if not path.parent.is_dir():
                raise StationError(f"folder {path.parent}: expected a folder, got a file") from None
            raise StationError(f"records {path}: exist already; use --overwrite or another --out") from None
        except OSError as error:
            raise StationError(f"records {path}: cannot be written ({error.strerror})") from None
        self._size = 0

    def append(self, text: str) -> None:
        """Write one line; `text` ends with its newline.

        Raises:
            StationError: the disk is full or gone; the lines so far are kept.
        """
        # A lone surrogate of a file name that is not UTF-8 becomes a JSON escape.
        line = memoryview(text.encode("utf-8", "backslashreplace"))
        size, written = len(line), 0
        try:
            while written < size:
                written += os.write(self._file, line[written:])
        except OSError as error:
            raise StationError(
                f"records {self.path}: cannot be written ({error.strerror}); the records so far are kept"
            ) from None
        finally:
            if written < size:
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
        self._size += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
        except OSError as problem:
            if error is None:
                raise StationError(f"records {self.path}: cannot be stored ({problem.strerror})") from None
        finally:
            os.close(self._file)


class RecordWriter(LineFile):
    """Appends records to DIR/verdicts.jsonl."""

    def __init__(self, out_dir: Path, *, overwrite: bool) -> None:
        """Open the file; see `LineFile`."""
        super().__init__(out_dir / RECORDS, overwrite=overwrite)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record as one line; see `LineFile.append`."""
        self.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
