"""Keep a fitted detector on disk: tensors only, no code, written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zellige.core.errors import InputError


def save_checkpoint(detector: nn.Module, path: Path) -> None:
    """Write the detector's tensors to a safetensors file; an interrupted write leaves the old file.

    Raises:
        InputError: it cannot be written, such as on a full disk.
    """
    write_tensors(detector.state_dict(), path)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file that appears whole or not at all, even where the power fails.

    Raises:
        InputError: it cannot be written, such as on a full disk.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, partial, metadata)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path}: cannot be written ({_line(error)})") from None
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(detector: nn.Module, path: Path) -> None:
    """Load a detector's tensors.

    Raises:
        InputError: no such file, damaged, or of another detector.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path}: not found; is this a finished run folder?")
    try:
        detector.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(f"checkpoint {path}: damaged or of another detector ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
