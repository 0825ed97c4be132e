from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from zellige.program import quote_path


@pytest.mark.parametrize(
    "path",
    [
        "/data/plain-name_1.2",
        "/data/año (2), x=1/größe",
        "relative/it's here",
        "/tab\there",
        "/back\\slash's",
        "/back\\",
        "/a'b\\'c",
        "C:/x y",
        "/with spaces/ in it",
        "/#hash/~tilde/{brace}/[list]/$sign",
    ],
)
def test_a_path_reaches_the_program_as_it_was_typed(path: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([quote_path(f"data.root={path}")])
    assert override.key_or_group == "data.root"
    assert override.value() == path


@pytest.mark.parametrize(
    "argument",
    [
        "--help",
        "data=folder",
        "geometry.height=64",
        "model.stages=[2,3]",
        "data.root='/quoted/año'",
        'data.root="/quoted/año"',
        "data.root=${oc.env:HOME}/x",
        "data.pixel_size_mm=[0.1,0.2]",
        "+experiment/sub=x",
        str(Path("plain/path")),
    ],
)
def test_everything_else_is_left_alone(argument: str) -> None:
    assert quote_path(argument) == argument
