import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.data.duplicates import find_pairs, hash_of, merge_groups, thumbnail_of

REAL = Path("data/raw/MagneticTile")


def texture(seed: int, size: tuple[int, int] = (120, 160), blur: float = 4) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, size), (0, 0), blur)
    return noise / noise.std()


def as_image(texture_: np.ndarray, gain: float = 20, offset: float = 120) -> np.ndarray:
    return np.clip(texture_ * gain + offset, 0, 255).astype(np.uint8)


def found(images: list[np.ndarray]) -> set[tuple[int, int]]:
    pairs = find_pairs([thumbnail_of(image) for image in images], [str(i) for i in range(len(images))])
    return {(pair.first, pair.second) for pair in pairs}


def test_the_same_texture_under_other_exposure_crop_and_codec_is_found() -> None:
    base = texture(0)
    gradient = np.linspace(-30, 30, base.shape[1])[None]
    jpeg = cv2.imdecode(cv2.imencode(".jpg", as_image(base), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)
    copies = [
        as_image(base),
        as_image(base, gain=8, offset=60),
        np.clip(as_image(base) + gradient, 0, 255).astype(np.uint8),
        jpeg,
        cv2.resize(as_image(base), (240, 180)),
        as_image(base)[2:-1, 1:-2],
        np.dstack([as_image(base)] * 3),
    ]
    others = [as_image(texture(seed)) for seed in range(1, 20)]
    num = len(copies)
    assert found(copies + others) == {(i, j) for i in range(num) for j in range(i + 1, num)}


def test_parts_in_the_same_fixture_are_not_duplicates() -> None:
    layout = np.where(texture(99, blur=8) > 0, 3.0, -3.0)
    parts = [as_image(layout + 0.6 * texture(seed, blur=3)) for seed in range(20)]
    assert found(parts) == set()
    again = as_image(layout + 0.6 * texture(7, blur=3), gain=15, offset=100)
    assert found([*parts, again]) == {(7, 20)}


def test_bland_images_match_by_bytes_alone() -> None:
    rng = np.random.default_rng(0)
    bland = [np.full((80, 80), 100 + i, np.uint8) for i in range(10)]
    noisy = [np.clip(rng.normal(128, 1, (400, 400)), 0, 255).astype(np.uint8) for _ in range(10)]
    assert found(bland + noisy) == set()
    pairs = find_pairs([thumbnail_of(image) for image in bland[:4]], ["x", "y", "x", "x"])
    assert [(p.first, p.second, p.is_exact) for p in pairs] == [(0, 2, True), (2, 3, True)]


def test_hash_is_64_bits_blind_to_gain_and_offset() -> None:
    first, second = hash_of(thumbnail_of(as_image(texture(3)))), hash_of(thumbnail_of(as_image(texture(3), 40, 90)))
    assert 0 <= first < 2**64
    assert (first ^ second).bit_count() <= 6
    assert (first ^ hash_of(thumbnail_of(as_image(texture(4))))).bit_count() > 16


def test_search_over_several_blocks_finds_all_pairs_that_a_plain_loop_finds() -> None:
    images = [as_image(texture(seed, (48, 48), 2)) for seed in range(600)]
    images += [as_image(texture(seed, (48, 48), 2), gain=12) for seed in (0, 300, 599)]
    assert found(images) == {(0, 600), (300, 601), (599, 602)}


def test_none_and_one_image() -> None:
    assert find_pairs([], []) == []
    assert find_pairs([thumbnail_of(as_image(texture(0)))], ["x"]) == []


def test_merging_is_transitive_and_named_by_the_first() -> None:
    thumbnails = [thumbnail_of(as_image(texture(seed))) for seed in (0, 1, 0, 1, 2)]
    pairs = find_pairs(thumbnails, list("abcde"))
    assert merge_groups(["z", "y", "y", "x", "w"], pairs) == ["x", "x", "x", "x", "w"]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="data/raw/MagneticTile is absent")
def test_magnetic_tile_falls_into_groups_of_its_six_exposures() -> None:
    paths = sorted(REAL.glob("MT_*/Imgs/*.jpg"))
    pairs = find_pairs([thumbnail_of(cv2.imread(str(path), 0)) for path in paths], [path.name for path in paths])
    series = [re.match(r"exp(\d)", path.name).group(1) for path in paths]
    within = np.mean([series[pair.first] == series[pair.second] for pair in pairs])
    sizes = Counter(merge_groups([path.name for path in paths], pairs))
    assert len(pairs) > 3000
    assert within < 0.03
    assert max(sizes.values()) <= 24
    assert sum(size == 6 for size in sizes.values()) > 150
