"""Frames from an endless web: every line counts exactly once, with the neighbors that it had."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zellige.core.errors import ConfigError, InputError
from zellige.core.frame_cutter import FrameCutter


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.data())
def test_every_line_counts_once(height: int, data: st.DataObject) -> None:
    context = data.draw(st.integers(0, (height - 1) // 2))
    blocks = data.draw(st.lists(st.integers(0, 90), max_size=6))
    channels = data.draw(st.sampled_from([1, 3]))
    shape = (sum(blocks), 5) if channels == 1 else (sum(blocks), 5, 3)
    web = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    cutter = FrameCutter(
        height_px=height, context_px=context, width_px=5, num_channels=channels, source_id="c", first_line=1000
    )
    cuts, start = [], 0
    for count in blocks:
        cuts += cutter.add(web[start : start + count])
        start += count
    cuts += cutter.finish()
    line = 1000
    for cut in cuts:
        frame = cut.frame
        first = frame.first_line - 1000
        np.testing.assert_array_equal(frame.pixels, web[first : first + len(frame.pixels)])
        assert cut.first_kept_line == line
        assert len(frame.pixels) == min(height, len(web))
        # Enough context on both sides, but where the web begins and ends.
        assert cut.keep_start >= context or first == 0
        assert cut.keep_stop <= len(frame.pixels) - context or first + len(frame.pixels) == len(web)
        line += cut.keep_stop - cut.keep_start
    assert line == 1000 + len(web)


def test_lines_of_another_length_are_refused() -> None:
    cutter = FrameCutter(height_px=8, context_px=2, width_px=5, source_id="camera 1")
    cutter.add(np.zeros((3, 5), np.uint8))
    for wrong in (np.zeros((2, 4), np.uint8), np.zeros((2, 5, 3), np.uint8), np.zeros((2, 5), np.uint16)):
        with pytest.raises(InputError, match=r"frame camera 1: expected 8-bit lines of shape \(5,\) at line 3, got"):
            cutter.add(wrong)
    with pytest.raises(ConfigError, match="less than half of the height 8, got 4"):
        FrameCutter(height_px=8, context_px=4, width_px=5, source_id="c")
