"""The record of a camera, from its frame counts alone."""

from itertools import pairwise

import numpy as np
import pytest

from zellige.station.camera_frames import Arrival, CameraFrame, FrameSequence, FrameStatus


def check_gapless(entries: list[CameraFrame]) -> None:
    assert [e.number for e in entries] == list(range(len(entries)))
    assert entries[0].first_line == 0
    for before, after in pairwise(entries):
        assert after.first_line == before.first_line + before.num_lines
        assert after.received_ns >= before.received_ns
    for entry in entries:
        assert (entry.status is FrameStatus.COMPLETE) == (entry.reason == "")


def arrival(frame_id: int | None, ms: int, reason: str = "") -> Arrival:
    pixels = np.zeros((10, 4), np.uint8)
    return Arrival(frame_id=frame_id, timestamp_ns=ms, received_ns=ms * 10**6, pixels=pixels, reason=reason)


C, I, M, L = FrameStatus.COMPLETE, FrameStatus.INCOMPLETE, FrameStatus.MISSING, FrameStatus.LOST  # noqa: E741


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([5, None, 7], [(C, 5), (C, None), (C, 7)]),
        ([5, None, 8], [(C, 5), (C, None), (M, 7), (C, 8)]),
        ([None, 5, 6], [(C, None), (C, 5), (C, 6)]),
        ([65535, None, 2], [(C, 65535), (C, None), (C, 2)]),
        ([5, 6, 7], [(C, 5), (C, 6), (C, 7)]),
        ([5, 8], [(C, 5), (M, 6), (M, 7), (C, 8)]),
        ([65534, 65535, 1], [(C, 65534), (C, 65535), (C, 1)]),
        ([65534, 2], [(C, 65534), (M, 65535), (M, 1), (C, 2)]),
        ([65535, 65536, 65538], [(C, 65535), (C, 65536), (M, 65537), (C, 65538)]),  # extended ids
        ([5, 5], [(C, 5), (L, None), (C, 5)]),
        ([500, 3], [(C, 500), (L, None), (C, 3)]),
        ([70000, 1, 2], [(C, 70000), (L, None), (C, 1), (C, 2)]),
        ([5, 5000], [(C, 5), (L, None), (C, 5000)]),
    ],
)
def test_frame_counts_become_a_gapless_record(
    ids: list[int | None], expected: list[tuple[FrameStatus, int | None]]
) -> None:
    sequence = FrameSequence(height_px=10, start_ns=0)
    entries = [e for i, frame_id in enumerate(ids) for e in sequence.arrived(arrival(frame_id, i))]
    assert [(e.status, e.frame_id) for e in entries] == expected
    check_gapless(entries)


def test_lines_that_pass_while_the_camera_is_lost() -> None:
    sequence = FrameSequence(height_px=10, start_ns=0, first_line=1000)
    for i in range(11):  # 10 lines every 10 ms
        last = list(sequence.arrived(arrival(i + 1, 10 * i)))[-1]
    assert last.first_line == 1100
    lost = sequence.lost("gone", 600 * 10**6)
    assert (lost.first_line, lost.num_lines) == (1110, 500)
    back, frame = sequence.arrived(arrival(1, 1100))
    assert (back.status, back.first_line, back.num_lines) == (L, 1610, 490)
    assert (frame.status, frame.first_line) == (C, 2100)
