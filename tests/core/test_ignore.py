"""What can be declared as ignored, and every way to declare it wrongly."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zellige.core.errors import ConfigError
from zellige.core.ignore import IgnoredMask, IgnoredShape, LengthUnit

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda size: arrays(np.bool_, size))


@given(MASKS)
def test_a_mask_becomes_run_lengths_and_comes_back(mask: np.ndarray) -> None:
    encoded = IgnoredMask.of(mask)
    lengths = [(bool(value), len(list(group))) for value, group in groupby(mask.ravel())]
    expected = [length for _, length in lengths]
    assert encoded.runs == " ".join(map(str, [0, *expected] if lengths[0][0] else expected))
    np.testing.assert_array_equal(encoded.decode(), mask)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected one of box, polygon or columns per shape, got none"),
        ({"box": (0, 0, 1, 1), "columns": (0, 1)}, "got box and columns"),
        ({"polygon": ((0, 0), (4, 4))}, "expected 3 to 1000 corners, got 2"),
        ({"polygon": ()}, "expected 3 to 1000 corners, got 0"),
        ({"box": (5, 0, 2, 4)}, r"box \[5, 0, 2, 4\] px: expected each first edge below its second"),
        ({"box": (0, 4, 2, 4)}, "expected each first edge below its second"),
        ({"columns": (4, 4)}, "expected each first edge below its second"),
        ({"columns": (-1, 4)}, "expected finite numbers >= 0"),
        ({"polygon": ((0, 0), (4, 4), (0, float("nan")))}, "expected finite numbers >= 0"),
        ({"box": (0, 0, float("inf"), 4), "unit": LengthUnit.MM}, "expected finite numbers >= 0"),
    ],
)
def test_a_shape_that_is_none(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        IgnoredShape(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("height", "width", "runs", "message"),
    [
        (2, 3, "1 3 1", "expected runs over 6 px, got 5"),
        (2, 3, "1 3  2", "expected run lengths separated by spaces"),
        (2, 3, "-1 7", "expected run lengths separated by spaces"),
        (2, 3, "", "expected run lengths separated by spaces"),
        (2, 3, "6²", "expected run lengths separated by spaces"),
        (2, 3, "9999999999999", "expected run lengths separated by spaces"),
        (0, 3, "0", "expected 1 to 268435456 px"),
        (1 << 16, 1 << 16, str(1 << 32), "expected 1 to 268435456 px"),
        (1, 2_000_000, "1 " * 1_999_999 + "1", "expected at most 1000000 runs, got more"),
    ],
)
def test_a_mask_that_is_none(height: int, width: int, runs: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IgnoredMask(height=height, width=width, runs=runs)
