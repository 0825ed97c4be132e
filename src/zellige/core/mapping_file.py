"""Read settings that a person wrote: one mapping from a JSON file, or from a YAML file where PyYAML is there."""

import json
from pathlib import Path
from typing import Any

from zellige.core.errors import ConfigError

_MAX_BYTES = 1 << 20


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a .json file as JSON and any other as YAML (training brings PyYAML, a station may not have it).

    Args:
        path: the file.
        what: what it is, in words; opens every message.

    Raises:
        ConfigError: unreadable, too large, not JSON or YAML, not a mapping, or YAML without PyYAML.
    """
    where = f"{what} {path}"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{where}: expected at most {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read ({error})") from None
    try:
        content = json.loads(text) if path.suffix == ".json" else _load_yaml(text, where)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{where}: not valid JSON ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping, got {type(content).__name__}")
    return content


def _load_yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigError(f"{where}: PyYAML is not installed here; give the same as JSON, in a .json file") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from None
