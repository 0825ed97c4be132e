"""Keep a fitted detector on disk: tensors only, no code, written whole or not at all."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from zellige.core.errors import InputError


def save_checkpoint(detector: nn.Module, path: Path) -> None:
    """Write the detector's tensors to a safetensors file; an interrupted write leaves the old file.

    Raises:
        InputError: it cannot be written, such as on a full disk.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        save_file({key: value.contiguous() for key, value in detector.state_dict().items()}, partial)
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
