"""The automatic foreground: against parts whose outline is known, and pictures on which it must not be trusted."""

import re

import cv2
import numpy as np
import pytest

from tests.conftest import texture
from zellige.core.foreground import find_foreground

SIZE = (300, 400)


def scene(background: int, part: int, *, scatter: float = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A disc with texture on a background with noise, and where the disc is."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(SIZE, np.uint8)
    cv2.circle(truth, (210, 140), 100, 1, cv2.FILLED)
    surface = part + 3 * scatter * cv2.GaussianBlur(rng.normal(size=SIZE), (0, 0), 2)
    pixels = np.where(truth == 1, surface, background) + scatter * rng.normal(size=SIZE)
    return np.clip(pixels, 0, 255).astype(np.uint8), truth.astype(bool)


def found_in(pixels: np.ndarray, ignored: np.ndarray | None = None) -> np.ndarray:
    found, reason = find_foreground(pixels, np.zeros(pixels.shape[:2], bool) if ignored is None else ignored)
    assert reason == ""
    assert found is not None
    return found


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize(("background", "part"), [(20, 150), (235, 90), (128, 210), (10, 70)])
def test_bright_and_dark_parts_are_found_with_a_margin(background: int, part: int) -> None:
    pixels, truth = scene(background, part)
    found = found_in(pixels)
    assert found[truth].all()
    assert overlap(found, truth) > 0.9


def test_a_part_that_differs_in_color_alone() -> None:
    """Red on green of the same luminance (ITU-R BT.601), which a gray threshold cannot see."""
    _, truth = scene(0, 0)
    pixels = np.where(truth[..., None], np.array([200, 40, 60], np.uint8), np.array([40, 122, 60], np.uint8))
    assert abs(int(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[truth][0]) - 90) <= 1
    assert overlap(found_in(pixels), truth) > 0.9


def test_holes_faces_and_notches_belong_to_the_part_and_dirt_does_not() -> None:
    pixels, truth = scene(20, 150)
    pixels[110:160, 190:230] = 20  # a hole
    pixels[180:200, 150:260] = 75  # a darker face
    pixels[125:165, 105:150] = 20  # a notch of 40 px in the outline
    pixels[20:28, 20:28] = pixels[270:273, 10:60] = 255  # dirt
    found = found_in(pixels)
    assert found[truth].all()
    assert overlap(found, truth) > 0.9


def test_a_web_that_crosses_the_frame() -> None:
    pixels = np.full(SIZE, 20, np.uint8)
    pixels[:, 80:320] = 160
    found = found_in(pixels)
    assert found[:, 80:320].all()
    assert found.mean() < 0.65


def test_a_large_frame_is_looked_at_small() -> None:
    pixels, truth = scene(20, 150)
    large = cv2.resize(pixels, None, fx=5, fy=5, interpolation=cv2.INTER_NEAREST)
    found = found_in(large)
    assert found.shape == large.shape
    assert overlap(found, cv2.resize(truth.view(np.uint8), None, fx=5, fy=5, interpolation=0) > 0) > 0.9


def full_texture() -> np.ndarray:
    return texture(0, size=SIZE)


def texture_with_a_defect() -> np.ndarray:
    pixels = full_texture()
    pixels[100:130, 100:140] = 255
    return pixels


def part_to_the_edges() -> np.ndarray:
    """Background in one corner only: the border looks like the part."""
    pixels = np.full(SIZE, 160, np.uint8)
    pixels[:150, :150] = 20
    return pixels


def part_from_the_left() -> np.ndarray:
    pixels = np.full(SIZE, 20, np.uint8)
    pixels[:, :180] = 160
    return pixels


def faint_part() -> np.ndarray:
    return scene(100, 116, scatter=0.5)[0]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (full_texture, "the part would be . % of the frame"),
        (texture_with_a_defect, "the part would be . % of the frame"),
        (lambda: np.full(SIZE, 20, np.uint8), "the part would be 0 % of the frame"),
        (part_to_the_edges, "the border of the frame is not background"),
        (part_from_the_left, "the border of the frame is not background"),
        (faint_part, "the part differs from its background by 1[567] gray levels, expected 18"),
    ],
)
def test_where_it_is_not_clear_there_is_no_mask_but_a_reason(make, reason: str) -> None:
    found, words = find_foreground(make(), np.zeros(SIZE, bool))
    assert found is None
    assert re.search(reason, words), words


def test_a_border_that_is_ignored_says_nothing() -> None:
    pixels, _ = scene(20, 150)
    ignored = np.ones(SIZE, bool)
    ignored[5:-5, 5:-5] = False
    found, words = find_foreground(pixels, ignored)
    assert found is None
    assert "the whole border of the frame is ignored" in words
