"""Freed memory is kept and taken again."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, torch
from zellige.training.allocator import keep_freed_memory

def faults():
    for _ in range(20):  # the heap grows for some rounds until its free parts meet
        torch.ones(10 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults())
"""


def test_blocks_are_used_again_instead_of_mapped_anew() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    num_without, kept, num_with = done.stdout.split()
    if kept == "False":
        pytest.skip("the C library is not glibc")
    assert int(num_with) < int(num_without) / 10
