"""A flat field on disk: one JSON file that carries its id and is verified against it when it is read."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zellige.core.errors import InputError
from zellige.core.flat_field import FlatField, Reference, to_content

MAX_BYTES = 32 << 20


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    schema_version: Literal[1]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reference: str
    target_dn: float
    num_dark_lines: Annotated[int, Field(ge=1)]
    num_bright_lines: Annotated[int, Field(ge=1)]
    bad_columns: list[int]
    offset_dn: list[float] | list[list[float]]
    gain: list[float] | list[list[float]]


def write_flat_field(path: Path, flat_field: FlatField) -> str:
    """Write a flat field and return its id. The file appears whole or not at all.

    Raises:
        InputError: the place cannot be written to.
    """
    content: dict[str, Any] = {"schema_version": 1, "id": flat_field.id, **to_content(flat_field)}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"flat field {path}: cannot be written ({error.strerror})") from None
    return flat_field.id


def read_flat_field(path: Path) -> FlatField:
    """Read a flat field and verify that its content is the one its id was made from.

    Raises:
        InputError: unreadable, not of the schema, values outside their range, or changed since it was written.
    """
    where = f"flat field {path}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{where}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")
        content = _Content.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {field + ': ' if field else ''}{' '.join(first['msg'].split())}") from None
    if content.reference not in tuple(Reference):
        raise InputError(f"{where}: expected reference {', '.join(Reference)}, got {content.reference[:40]!r}")
    try:
        offset, gain = np.array(content.offset_dn, np.float32), np.array(content.gain, np.float32)
    except ValueError:
        raise InputError(f"{where}: expected columns of one length, got ragged lists") from None
    flat_field = FlatField(
        offset_dn=offset,
        gain=gain,
        target_dn=content.target_dn,
        reference=Reference(content.reference),
        num_dark_lines=content.num_dark_lines,
        num_bright_lines=content.num_bright_lines,
        bad_columns=tuple(content.bad_columns),
    )
    if flat_field.id != content.id:
        raise InputError(f"{where}: expected id {content.id[:12]}, its content gives {flat_field.id[:12]}; it changed")
    return flat_field
