"""Edges of the web: against edges drawn to a part of a pixel, and every state that is not web."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zellige.core.errors import ConfigError, InputError
from zellige.core.screened_map import SCREENED
from zellige.core.types import PixelSize
from zellige.core.web import Background, Datum, EdgeRule, WebState, cross_web_mm, find_web, mask_outside, web_mask

RULE = EdgeRule(background=Background.DARK, threshold_dn=64, width_px=120)


def draw(
    left: np.ndarray, right: np.ndarray, *, width: int = 200, web_dn: float = 120, background_dn: float = 8
) -> np.ndarray:
    """Draw lines (H, W); a pixel that the web covers in part has the mixed level."""
    columns = np.arange(width)
    covered = np.clip(np.minimum(columns + 1, right[:, None]) - np.maximum(columns, left[:, None]), 0, 1)
    noise = np.random.default_rng(0).normal(0, 2, covered.shape)
    return np.clip(np.rint(background_dn + (web_dn - background_dn) * covered + noise), 0, 255).astype(np.uint8)


def straight(left: float, right: float, num_lines: int = 32, **options: float) -> np.ndarray:
    return draw(np.full(num_lines, left), np.full(num_lines, right), **options)


@settings(deadline=None, max_examples=30)
@given(st.floats(5, 60), st.floats(-2, 2), st.booleans())
def test_edges_to_a_part_of_a_pixel(left: float, excess: float, is_bright: bool) -> None:
    levels = {"web_dn": 60.0, "background_dn": 200.0} if is_bright else {}
    rule = EdgeRule(background=Background.BRIGHT, threshold_dn=130, width_px=120) if is_bright else RULE
    (block,) = find_web(straight(left, left + 120 + excess, **levels), rule, first_line=640)
    assert (block.state, block.first_line, block.num_lines) == (WebState.WEB, 640, 32)
    # Between two centers the level is taken to change evenly, which is off by up to a tenth of a pixel.
    assert block.left_px == pytest.approx(left, abs=0.15)
    assert block.right_px == pytest.approx(left + 120 + excess, abs=0.15)


def test_wander_is_followed_and_the_mask_lies_inside() -> None:
    y = np.arange(500)
    left = 40 + 25 * np.sin(y / 80)
    blocks = find_web(draw(left, left + 120), RULE)
    assert [b.num_lines for b in blocks] == [32] * 15 + [20]
    assert max(abs(b.left_px - (40 + 25 * math.sin(b.center_line / 80))) for b in blocks) < 1.0
    mask = web_mask(blocks, 200, margin_px=2)
    columns = np.arange(200)
    inside = (columns >= left[:, None]) & (columns + 1 <= left[:, None] + 120)
    assert not (mask & ~inside).any()
    assert mask.sum() > 0.95 * inside.sum()


@pytest.mark.parametrize(
    ("pixels", "state"),
    [
        (straight(300, 300), WebState.NO_WEB),
        (straight(40, 43), WebState.NO_WEB),
        (straight(40, 150), WebState.WRONG_WIDTH),
        (straight(40, 175), WebState.WRONG_WIDTH),
        (straight(-20, 100), WebState.OUT_OF_VIEW),
        (straight(100, 220), WebState.OUT_OF_VIEW),
        (np.zeros((32, 200), np.uint8), WebState.BLACK),
        (np.full((32, 200), 255, np.uint8), WebState.SATURATED),
        (straight(40, 160, web_dn=600), WebState.SATURATED),
        (straight(40, 160), WebState.WEB),
        (np.repeat(straight(40, 160)[..., None], 3, axis=2), WebState.WEB),
    ],
    ids=["none", "thread", "narrow", "wide", "left", "right", "black", "white", "overexposed", "web", "color"],
)
def test_states(pixels: np.ndarray, state: WebState) -> None:
    (block,) = find_web(pixels, RULE)
    assert block.state is state
    assert web_mask([block], 200).any() == (state is WebState.WEB)


def test_holes_and_specks_do_not_move_the_edges() -> None:
    pixels = straight(40, 160)
    pixels[:, 90:110] = 5  # a hole as long as the block
    pixels[:, 10:14] = 250  # a thread beside the web
    (block,) = find_web(pixels, RULE)
    assert (block.state, block.left_px, block.right_px) == (
        WebState.WEB,
        pytest.approx(40, abs=0.15),
        pytest.approx(160, abs=0.15),
    )


def test_a_break_is_masked_where_it_is() -> None:
    pixels = straight(40, 160, 96)
    pixels[32:64] = 8
    blocks = find_web(pixels, RULE)
    assert [b.state for b in blocks] == [WebState.WEB, WebState.NO_WEB, WebState.WEB]
    rows = web_mask(blocks, 200).any(axis=1)
    assert rows[:32].all()
    assert not rows[32:64].any()
    assert rows[64:].all()


def test_a_camera_in_the_middle_sees_no_edges() -> None:
    rule = EdgeRule(
        background=Background.DARK, threshold_dn=64, width_px=None, sees_left_edge=False, sees_right_edge=True
    )
    (block,) = find_web(straight(-20, 150), rule)
    assert (block.state, block.left_px) == (WebState.WEB, 0.0)
    assert block.right_px == pytest.approx(150, abs=0.15)


def test_positions_from_each_datum() -> None:
    (block,) = find_web(straight(40, 160), RULE)
    size = PixelSize(cross_web_mm=0.5, down_web_mm=0.1)
    assert cross_web_mm(100, block, Datum.LEFT_EDGE, size) == pytest.approx(30, abs=0.15)
    assert cross_web_mm(100, block, Datum.RIGHT_EDGE, size) == pytest.approx(-30, abs=0.15)
    assert cross_web_mm(100, block, Datum.CAMERA, size, camera_mm=7) == 57
    (gone,) = find_web(straight(300, 300), RULE)
    with pytest.raises(InputError, match="expected the left_edge at line 0, got state no_web"):
        cross_web_mm(100, gone, Datum.LEFT_EDGE, size)


def test_outside_is_below_every_threshold() -> None:
    anomaly_map = np.array([[9, 2, 3], [4, 1, 8]], np.float32)
    mask = np.array([[False, True, True], [False, True, False]])
    assert mask_outside(anomaly_map, mask).tolist() == [[SCREENED, 2, 3], [SCREENED, 1, SCREENED]]
    with pytest.raises(InputError, match="map's size"):
        mask_outside(anomaly_map, mask[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold_dn": 0}, "threshold_dn"),
        ({"min_run_px": 0}, "at least 1"),
        ({"sees_left_edge": False}, "does not see both edges"),
        ({"width_px": 3}, "at least min_run_px"),
    ],
)
def test_bad_rules(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EdgeRule(**{"background": Background.DARK, "threshold_dn": 64, "width_px": 120, **change})
