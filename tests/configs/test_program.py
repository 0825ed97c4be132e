import subprocess
import sys
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


_INTERRUPTED_IN_A_CALLBACK = """
import os, signal, sys, time, weakref
from zellige.program import run

class Anything: pass

def main(config):
    thing = Anything()
    weakref.finalize(thing, os.kill, os.getpid(), signal.SIGINT)
    del thing  # the signal arrives in weakref.py, whose callbacks lose what is raised in them
    time.sleep(30)

sys.argv[1:] = ["data=folder", "data.root=x"]
run(main, "train")
"""


def test_an_interrupt_in_a_callback_is_not_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IN_A_CALLBACK], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines() == ["error: interrupted: nothing was kept of this run"]
