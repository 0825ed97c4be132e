"""Freed memory is kept and taken again."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, torch
from zellige.training.allocator import keep_freed_memory
if "keep" in sys.argv:
    print(keep_freed_memory())
for _ in range(20):  # the heap grows for some rounds until its free parts meet
    torch.ones(10 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(10 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _FAULTS, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_blocks_are_used_again_instead_of_mapped_anew() -> None:
    kept, num_with = _run("keep")
    if kept == "False":
        pytest.skip("the C library is not glibc")
    (num_without,) = _run()
    assert int(num_with) < int(num_without) / 10
