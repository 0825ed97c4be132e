"""What every synthetic anomaly keeps to, whatever the tile: flat, saturated, tiny, gray or RGB."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import texture
from zellige.core.errors import ConfigError, InputError
from zellige.data.synthetic_anomalies import KINDS, Anomaly, make_anomaly

EXPECTED_KINDS = {"cut_paste", "scar", "perlin", "scratch", "spot", "stain", "smudge", "missing"}


def tile(look: str, side: int, *, rgb: bool, seed: int = 0) -> np.ndarray:
    if look == "texture":
        return texture(seed, rgb=rgb, size=(side, side + 8))
    if look == "noise":
        return np.random.default_rng(seed).integers(0, 256, (side, side + 8, *([3] if rgb else [])), np.uint8)
    if look == "stripes":
        stripes = np.tile(np.repeat([40, 210], 4), side)[: side + 8].astype(np.uint8)
        return np.broadcast_to(stripes[:, None] if rgb else stripes, (side, side + 8, *([3] if rgb else []))).copy()
    return np.full((side, side + 8, *([3] if rgb else [])), {"black": 0, "white": 255, "even": 128}[look], np.uint8)


def changed(good: np.ndarray, anomaly: Anomaly) -> np.ndarray:
    differs = anomaly.pixels != good
    return differs if differs.ndim == 2 else differs.any(-1)


def test_the_kinds() -> None:
    assert set(KINDS) == EXPECTED_KINDS


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    look=st.sampled_from(["texture", "noise", "stripes", "black", "white", "even"]),
    side=st.sampled_from([32, 33, 50, 96, 160]),
    rgb=st.booleans(),
    num_others=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_mask_is_what_changed(kind: str, look: str, side: int, rgb: bool, num_others: int, seed: int) -> None:
    good = tile(look, side, rgb=rgb)
    before = good.copy()
    others = [tile(look, side, rgb=rgb, seed=1 + i) for i in range(num_others)]
    found = make_anomaly(good, others, np.random.default_rng(seed), kind)
    assert np.array_equal(good, before)
    assert found.kind == kind
    assert (found.pixels.shape, found.pixels.dtype) == (good.shape, np.uint8)
    assert (found.mask.shape, found.mask.dtype) == (good.shape[:2], bool)
    assert found.mask.any()
    differs = changed(good, found)
    assert not differs[~found.mask].any()
    assert differs[found.mask].mean() >= 0.5
    again = make_anomaly(good, others, np.random.default_rng(seed), kind)
    assert np.array_equal(again.pixels, found.pixels)
    assert np.array_equal(again.mask, found.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_give_two_anomalies(kind: str) -> None:
    good = texture(0, size=(128, 128))
    first, second = (make_anomaly(good, [texture(1, size=(128, 128))], np.random.default_rng(s), kind) for s in (0, 1))
    assert not np.array_equal(first.pixels, second.pixels)


def test_without_a_kind_every_kind_comes() -> None:
    good, rng = texture(0, size=(64, 64)), np.random.default_rng(0)
    assert {make_anomaly(good, [], rng).kind for _ in range(120)} == set(KINDS)


@pytest.mark.parametrize("kind", sorted(EXPECTED_KINDS - {"cut_paste", "perlin"}))
def test_sizes_reach_from_a_few_pixels_to_a_quarter_of_the_tile(kind: str) -> None:
    side = 256
    good, rng = tile("noise", side, rgb=False), np.random.default_rng(0)
    lengths = []
    for _ in range(80):
        points = cv2.findNonZero(make_anomaly(good, [], rng, kind).mask.astype(np.uint8))
        lengths.append(max(cv2.minAreaRect(points)[1]) + 1)
    # Bent lines and uneven blobs reach a little beyond the drawn size.
    assert max(lengths) <= 1.5 * side / 4
    assert min(lengths) <= 14
    assert max(lengths) >= 25


@pytest.mark.parametrize(("kind", "low", "high"), [("scratch", 1.5, 4.0), ("spot", 1.5, 4.0), ("stain", 0.7, 2.0)])
def test_contrast_follows_the_spread_of_the_surface(kind: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    for spread in (8.0, 20.0):
        good = np.clip(128 + spread * np.random.default_rng(1).normal(size=(200, 200)), 0, 255).astype(np.uint8)
        for _ in range(20):
            found = make_anomaly(good, [], rng, kind)
            shift = abs(float(found.pixels[found.mask].astype(float).mean() - good[found.mask].mean()))
            # Soft edges take away from the mean, never add; chance within small regions does both.
            assert shift <= 1.5 * high * spread
            assert shift >= 0.2 * low * spread


def test_cut_paste_has_the_papers_area_and_aspect() -> None:
    good, rng = tile("noise", 200, rgb=False), np.random.default_rng(0)
    shapes = []
    for _ in range(200):
        rows, columns = np.nonzero(make_anomaly(good, [tile("noise", 200, rgb=False, seed=9)], rng, "cut_paste").mask)
        shapes.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    h, w = np.array(shapes, float).T
    share, aspect = h * w / good.size, w / h
    # A px of rounding on each side.
    assert 0.018 < share.min() < 0.03
    assert 0.13 < share.max() < 0.16
    assert 0.28 < aspect.min() < 0.5
    assert 2 < aspect.max() < 3.5


def test_what_is_pasted_comes_from_the_other_tile() -> None:
    good, other = tile("even", 64, rgb=False), tile("white", 64, rgb=False)
    found = make_anomaly(good, [other], np.random.default_rng(0), "cut_paste")
    assert found.pixels[found.mask].min() >= 0.9 * 255 - 1


@pytest.mark.parametrize(
    ("pixels", "others", "kind", "error", "message"),
    [
        (np.zeros((64, 64), np.uint8), [], "crack", ConfigError, "anomaly kind: expected one of cut_paste, .*'crack'"),
        (np.zeros((31, 64), np.uint8), [], None, InputError, r"of at least 32 px, got uint8 \(31, 64\)"),
        (np.zeros((64, 64), np.float32), [], None, InputError, "got float32"),
        (np.zeros((64, 64, 4), np.uint8), [], None, InputError, r"got uint8 \(64, 64, 4\)"),
        (np.zeros((64, 64), np.uint8), [np.zeros((64, 65), np.uint8)], None, InputError, r"got uint8 \(64, 65\)"),
    ],
)
def test_what_is_refused(pixels, others, kind, error, message) -> None:
    with pytest.raises(error, match=message):
        make_anomaly(pixels, others, np.random.default_rng(0), kind)
