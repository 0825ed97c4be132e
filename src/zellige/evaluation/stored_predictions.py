"""The files of stored predictions: scores.json, and per sample what a detector that names said.

The latter is a map of kinds, uint8 (H, W), or boxes, float32 (N, 6).
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from zellige.core.errors import InputError
from zellige.core.named import FoundBoxes, KindMap, Named

Split = Literal["val", "test"]

_SCHEMA, _NAMED_SCHEMA = 1, 2
"""Without and with kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """The content of scores.json; `kinds` and `named_hashes` are empty where the detector names none."""

    split: Split
    ids: list[str]
    scores: list[float]
    map_hashes: list[str]
    kinds: list[str] = field(default_factory=list)
    named_hashes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Give the file's text; without kinds it says nothing of them."""
        content: dict[str, object] = {"schema": _NAMED_SCHEMA if self.kinds else _SCHEMA, "split": self.split}
        content |= {"ids": self.ids, "scores": self.scores, "map_hashes": self.map_hashes}
        if self.kinds:
            content |= {"kinds": self.kinds, "named_hashes": self.named_hashes}
        return json.dumps(content, ensure_ascii=False)

    def fingerprint(self) -> str:
        """Hash all of it."""
        digest = hashlib.sha256(self.split.encode())
        columns: list[list[str] | list[float]] = [self.ids, self.scores, self.map_hashes]
        if self.kinds:
            digest.update(json.dumps(self.kinds).encode())
            columns.append(self.named_hashes)
        for row in zip(*columns, strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def read_scores(path: Path) -> StoredScores:
    """Read a scores.json.

    Raises:
        InputError: not there, damaged, or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"predictions {path}: expected a file written by a PredictionWriter, got none") from None
    except (OSError, ValueError) as error:
        raise InputError(f"predictions {path}: damaged ({error})") from None
    schema = content.pop("schema", None) if isinstance(content, dict) else None
    if schema not in (_SCHEMA, _NAMED_SCHEMA) or (schema == _NAMED_SCHEMA) != ("kinds" in content):
        raise InputError(f"predictions {path}: expected schema {_SCHEMA} or {_NAMED_SCHEMA}, got something else")
    try:
        stored = StoredScores(**content)
        lengths = {len(stored.ids), len(stored.scores), len(stored.map_hashes)}
        lengths |= {len(stored.named_hashes)} if stored.kinds else set()
        is_sound = stored.split in get_args(Split) and len(lengths) == 1 and all(map(math.isfinite, stored.scores))
    except TypeError:
        is_sound = False
    if not is_sound:
        raise InputError(f"predictions {path}: expected a split and as many finite scores and map hashes as ids")
    return stored


def write_named(path: Path, named: Named, sample_id: str, shape: tuple[int, ...]) -> str:
    """Write one file and return the hash of its content; `shape` is that of the sample's anomaly map.

    Raises:
        InputError: a kind map of another size, or boxes that are not finite.
    """
    where = f"prediction {sample_id}"
    if isinstance(named, KindMap) and named.numbers.shape != shape:
        raise InputError(f"{where}: expected a kind map of the map's size {shape}, got {named.numbers.shape}")
    if isinstance(named, FoundBoxes) and not named.is_finite:
        raise InputError(f"{where}: expected finite boxes, got NaN or infinity")
    stored = np.ascontiguousarray(named.numbers if isinstance(named, KindMap) else named.boxes)
    np.save(path, stored, allow_pickle=False)
    return hashlib.sha256(f"{stored.dtype} {stored.shape}".encode() + stored.tobytes()).hexdigest()


def read_named(path: Path, kinds: tuple[str, ...], sample_id: str) -> Named:
    """Read what `write_named` wrote.

    Raises:
        InputError: gone, damaged, or neither of the two forms.
    """
    try:
        stored = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"prediction {sample_id}: expected its kinds in {path}, they were dropped or never written"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"prediction {sample_id}: kinds {path} are damaged ({error})") from None
    try:
        if stored.dtype == np.uint8:
            return KindMap(numbers=stored, kinds=kinds)
        return FoundBoxes(boxes=stored, kinds=kinds)
    except InputError as error:
        raise InputError(f"prediction {sample_id}: {path}: {error}") from None
