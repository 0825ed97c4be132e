"""A template is found to a tenth of a pixel whatever defects the image has; what does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shifted import print_with, surface
from zellige.core.errors import InputError
from zellige.core.registration import find_shift, move

SIZE = (170, 210)


def with_defects(pixels: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Boxes of up to a tenth of each side, dark or bright, a little noise, another gain and offset."""
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    levels = pixels.astype(float)
    for _ in range(count):
        h, w = rng.integers(2, height // 10), rng.integers(2, width // 10)
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        levels[y : y + h, x : x + w] = rng.choice([0, 255])
    levels = rng.uniform(0.85, 1.0) * levels + rng.uniform(0, 15) + rng.normal(0, 2, levels.shape)
    return levels.clip(0, 255).round().astype(np.uint8)


shifts = st.floats(-7, 7, width=32)


@settings(deadline=None, max_examples=30)
@given(shifts, shifts, st.integers(0, 10**6), st.integers(0, 12), st.sampled_from([surface, print_with]))
def test_a_shift_is_found_to_a_tenth_of_a_pixel(dy: float, dx: float, seed: int, count: int, draw) -> None:
    template, image = draw(seed, SIZE), with_defects(draw(seed, SIZE, dy, dx), seed, count)
    found = find_shift(template, image, search_px=8)
    assert abs(found.dy_px - dy) < 0.1
    assert abs(found.dx_px - dx) < 0.1
    assert 0.5 < found.quality <= 1 + 1e-6


def test_a_large_frame_in_color_is_found_as_well() -> None:
    """2000 x 2200 px are more than what the fit looks at; a shift of 40 px is searched on a small version."""
    size = (2000, 2200)
    gray = [print_with(3, size), with_defects(print_with(3, size, 37.4, -25.7), 3, 20)]
    template, image = (np.dstack([255 - one, one // 2, one]) for one in gray)
    found = find_shift(template, image, search_px=40)
    assert (found.dy_px, found.dx_px) == pytest.approx((37.4, -25.7), abs=0.1)


@pytest.mark.parametrize(("dy", "dx"), [(0.0, 0.0), (3.0, -2.0), (0.5, -0.25), (-4.3, 1.9)])
def test_moving_gives_what_is_seen_from_there(dy: float, dx: float) -> None:
    moved = move(surface(1, SIZE), dy, dx)[8:-8, 8:-8].astype(float)
    expected = surface(1, SIZE, dy, dx)[8:-8, 8:-8]
    # Whole pixels come back as they are; of waves of 5 px a little contrast is lost, where unmoved they are 150 off.
    assert np.abs(moved - expected).max() <= (0 if dy == int(dy) and dx == int(dx) else 6)


def test_moving_repeats_the_border_and_keeps_the_channels() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    moved = move(pixels, 1, -2)
    np.testing.assert_array_equal(moved[1:, :3], pixels[:-1, 2:])
    np.testing.assert_array_equal(moved[0, :3], pixels[0, 2:])
    np.testing.assert_array_equal(moved[1:, 3:], pixels[:-1, 4:].repeat(2, axis=1))


@pytest.mark.parametrize(
    ("template", "image", "message"),
    [
        (surface(0, SIZE), np.full(SIZE, 90, np.uint8), r"fit within 8 px, got a correlation of 0\.00"),
        (surface(0, SIZE), surface(1, SIZE), "fit within 8 px, got a correlation of 0"),
        (print_with(0, SIZE), print_with(1, SIZE), "fit within 8 px, got a correlation of 0"),
        (
            surface(0, SIZE),
            surface(0, SIZE, 15.3, 0),
            r"got one that lies \+15\.3 px down-web and [+-]0\.0 px",
        ),
        (
            surface(0, SIZE),
            surface(0, SIZE, 2, -11),
            r"got one that lies \+2\.0 px down-web and -11\.0 px",
        ),
        (surface(0, SIZE), surface(0, SIZE, 90, 0), "fit within 8 px, got a correlation of"),
        (surface(0, SIZE), 255 - surface(0, SIZE), "fit within 8 px, got a correlation of"),
    ],
)
def test_what_does_not_fit_is_refused(template: np.ndarray, image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_shift(template, image, search_px=8, where="frame f")
    assert str(caught.value).startswith("frame f: expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("noise", [0, 4])
def test_a_flat_template_lies_right_anywhere(noise: float) -> None:
    """A blank stretch with the noise of a camera: there is nothing to move, and a defect on it is a difference."""
    template, image = (90 + np.random.default_rng(seed).normal(0, noise, SIZE) for seed in (0, 1))
    image[20:30, 50:90] = 250
    found = find_shift(template.astype(np.uint8), image.astype(np.uint8), search_px=8)
    assert (found.dy_px, found.dx_px) == (0, 0)


def test_stripes_are_not_moved_along_themselves() -> None:
    """Along a stripe any shift fits; noise must not choose one far away."""
    rng = np.random.default_rng(0)
    x = np.arange(SIZE[1])
    template, image = (
        np.tile(128 + 60 * np.sin((x - dx) / 5), (SIZE[0], 1)) + rng.normal(0, 2, SIZE) for dx in (0.0, 1.3)
    )
    found = find_shift(template.astype(np.uint8), image.astype(np.uint8), search_px=8)
    assert found.dx_px == pytest.approx(1.3, abs=0.1)
    assert abs(found.dy_px) < 2


def test_what_is_not_inspected_does_not_pull() -> None:
    """Two thirds of the image show something that moved the other way."""
    template = surface(5, SIZE)
    image = surface(5, SIZE, -3.6, 2.2)
    inspected = np.zeros(SIZE, np.bool_)
    inspected[:, :70] = True
    image[~inspected] = surface(5, SIZE, 4.0, -4.0)[~inspected]
    found = find_shift(template, image, search_px=8, inspected=inspected)
    assert (found.dy_px, found.dx_px) == pytest.approx((-3.6, 2.2), abs=0.1)
