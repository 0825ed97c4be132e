"""Positions from the encoder: against a web whose true travel is known, and every fault that an encoder has."""

import numpy as np
import pytest

from zellige.core.encoder import EncoderRule, EncoderTrack, TravelFault, line_borders_mm
from zellige.core.errors import ConfigError, InputError
from zellige.core.stitching import Stitcher, StitchRule
from zellige.core.types import PixelSize

RULE = EncoderRule(mm_per_count=0.02, counts_per_line=5)
PITCH_MM = 0.1


def track(*blocks: list[int] | np.ndarray, rule: EncoderRule = RULE) -> list[tuple[list[float], tuple]]:
    encoder = EncoderTrack(rule)
    travels = [encoder.add(np.asarray(block, np.int64)) for block in blocks]
    return [(np.round(t.position_mm, 6).tolist(), t.faults) for t in travels]


def true_travel_mm(num_lines: int, seed: int) -> np.ndarray:
    """Travel at each line of a free-running camera while the speed goes between 50 and 150 %."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_lines + 1)
    speed = 1 + 0.5 * np.sin(2 * np.pi * (time / rng.uniform(300, 3000) + rng.uniform()))
    return np.concatenate([[0], np.cumsum(speed[:-1])]) * PITCH_MM


@pytest.mark.parametrize("seed", range(3))
def test_positions_while_the_speed_changes_by_half(seed: int) -> None:
    """Marks of known place on the web, seen in frames, come back within one pixel plus 0.1 % of the length."""
    num_lines, height = 20_000, 500
    travel = true_travel_mm(num_lines, seed)
    counts = np.floor(travel / RULE.mm_per_count).astype(np.int64)
    # A mark of 4 mm every 23 mm: a line shows it when its middle lies on the mark.
    middle = (travel[:-1] + travel[1:]) / 2
    is_mark = middle % 23 < 4
    size = PixelSize(cross_web_mm=PITCH_MM, down_web_mm=PITCH_MM)
    encoder = EncoderTrack(RULE)
    stitcher = Stitcher(StitchRule(width_px=8, pixel_threshold=0.5, max_length_lines=5000, pixel_size=size))
    found = []
    for first in range(0, num_lines, height):
        lines = slice(first, first + height)
        positions = encoder.add(counts[lines]).position_mm
        anomaly_map = np.zeros((height, 8), np.float32)
        anomaly_map[is_mark[lines], 2:5] = 1
        found += stitcher.add(anomaly_map, first, borders_mm=line_borders_mm(positions, RULE.pitch_mm))
    found += stitcher.finish()
    starts = np.arange(0, travel[-1], 23)
    assert len(found) == len(starts)
    for defect, start in zip(found, starts, strict=True):
        assert defect.box_mm is not None
        end = min(start + 4, travel[-1])
        for actual, true in ((defect.box_mm[1], start), (defect.box_mm[3], end)):
            assert abs(actual - true) <= PITCH_MM + 0.001 * true
        assert defect.length_mm == pytest.approx(end - start, abs=2 * PITCH_MM)


def test_rows_times_pitch_would_have_been_wrong() -> None:
    """What the test above would say without the encoder: more than ten pixels away from rows x pitch."""
    travel = true_travel_mm(20_000, 0)
    assert np.abs(travel - np.arange(20_001) * PITCH_MM).max() > 10 * PITCH_MM


@pytest.mark.parametrize(
    ("steps", "faults"),
    [
        ([5] * 100, ()),
        ([4, 6] * 50, ()),
        ([5] * 50 + [6] + [5] * 50, ()),
        ([6] * 100, (TravelFault.COMPRESSED,)),
        ([4] * 100, (TravelFault.STRETCHED,)),
        ([5] * 50 + [10] + [5] * 49, (TravelFault.GAP,)),
        ([0] * 100, (TravelFault.STOPPED,)),
        ([5] * 50 + [-5] * 20 + [5] * 30, (TravelFault.REVERSED,)),
        ([5] * 50 + [1_000_000] + [5] * 49, (TravelFault.JUMP,)),
        ([5] * 50 + [-1_000_000] + [5] * 49, (TravelFault.JUMP,)),
    ],
    ids=["even", "jitter", "late", "over-speed", "slow", "gap", "stopped", "jog", "jump", "jump back"],
)
def test_faults_of_a_block(steps: list[int], faults: tuple[TravelFault, ...]) -> None:
    counts = 1000 + np.concatenate([[0], np.cumsum(steps)])
    ((_, found),) = track(counts)
    assert found == faults
    # The same steps between two blocks.
    assert track(counts[:1], counts[1:])[1][1] == faults


def test_positions_go_on_over_blocks_gaps_and_jumps() -> None:
    (first, _), (second, gap), (third, jump) = track([7, 12, 17], [42, 47], [5_000_000, 5_000_005])
    assert first == [0.0, 0.1, 0.2]
    assert (second, gap) == ([0.7, 0.8], (TravelFault.GAP,))
    assert (third, jump) == ([0.9, 1.0], (TravelFault.JUMP,))


def test_lines_seen_again_after_a_jog_are_not_new() -> None:
    encoder = EncoderTrack(RULE)
    counts = np.array([0, 5, 10, 15, 10, 5, 10, 15, 20, 25], np.int64)
    travels = [encoder.add(counts[:5]), encoder.add(counts[5:])]
    assert np.concatenate([t.is_new for t in travels]).tolist() == [True] * 4 + [False] * 4 + [True] * 2
    assert all(TravelFault.REVERSED in t.faults for t in travels)
    assert np.concatenate([t.position_mm for t in travels]) == pytest.approx(counts * 0.02)


def test_a_counter_that_wraps() -> None:
    rule = EncoderRule(mm_per_count=0.02, counts_per_line=5, counter_bits=16)
    counts = (np.arange(40_000) * 5 + 65_000) % 65_536
    encoder = EncoderTrack(rule)
    travels = [encoder.add(part) for part in np.split(counts, 8)]
    np.testing.assert_allclose(np.concatenate([t.position_mm for t in travels]), np.arange(40_000) * 0.1)
    assert not any(t.faults for t in travels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mm_per_count": 0}, "mm_per_count"),
        ({"pitch_tolerance": 0.6}, "pitch_tolerance"),
        ({"counter_bits": 70}, "counter_bits"),
        ({"counter_bits": 12}, "less than half of a counter of 12 bits"),
        ({"max_gap_lines": 1}, "max_gap_lines"),
    ],
)
def test_bad_rules(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderRule(**{"mm_per_count": 0.02, "counts_per_line": 5, **change})


def test_bad_counts() -> None:
    for counts in (np.zeros(0, np.int64), np.zeros(3), np.zeros((2, 2), np.int64)):
        with pytest.raises(InputError, match="expected whole counts"):
            EncoderTrack(RULE).add(counts)
    with pytest.raises(InputError, match=r"expected counts in \[0, 2\^16\)"):
        EncoderTrack(EncoderRule(mm_per_count=0.02, counts_per_line=5, counter_bits=16)).add(np.array([65_536]))
