"""The target level of a set: that of the flat field which corrects it, or what data.target_dn says."""

import numpy as np
import pytest

from zellige.config_data import settled_target_dn
from zellige.config_rolls import MineConfig, mining_flat_field
from zellige.core.errors import ConfigError, InputError
from zellige.core.flat_field import FlatField, Reference


def flat_field(target_dn: float) -> FlatField:
    ones = np.ones(4, np.float32)
    return FlatField(
        offset_dn=ones,
        gain=ones,
        target_dn=target_dn,
        reference=Reference.WHITE,
        num_dark_lines=64,
        num_bright_lines=64,
    )


@pytest.mark.parametrize(
    ("said_dn", "file_dn", "expected"),
    [
        (None, None, None),
        (180.0, None, 180.0),
        (None, 150.0, 150.0),
        (150.4, 150.0, 150.0),
        (180.0, 150.0, "data.target_dn: expected a flat field with target 180 DN, got 150 DN"),
        (0.0, None, r"data.target_dn: expected a target level in \(0, 250\] DN, got 0"),
        (float("nan"), None, "data.target_dn: expected a target level"),
        (251.0, 150.0, "data.target_dn: expected a target level"),
    ],
)
def test_the_level_of_a_set(said_dn: float | None, file_dn: float | None, expected: float | str | None) -> None:
    field = None if file_dn is None else flat_field(file_dn)
    if isinstance(expected, str):
        with pytest.raises((ConfigError, InputError), match=expected):
            settled_target_dn(said_dn, field)
        return
    assert settled_target_dn(said_dn, field) == expected


def test_mining_without_what_the_run_learned_with() -> None:
    assert mining_flat_field(MineConfig(), None) is None
    with pytest.raises(ConfigError, match="flat_field: expected a file with target 150 DN, which the run's bundle"):
        mining_flat_field(MineConfig(), 150)
    with pytest.raises(ConfigError, match=r"flat_field=a\.json: expected none"):
        mining_flat_field(MineConfig(flat_field="a.json"), None)
