import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import save_image, texture
from zellige.core.errors import ConfigError, InputError
from zellige.core.ignore import IgnoredShape
from zellige.core.screen import STATISTICS, unusual_cells
from zellige.core.types import GOOD, Color, Geometry, GeometryMode, Sample
from zellige.training import learn_screen as module
from zellige.training.learn_screen import learn_screen

GEOMETRY = Geometry(mode=GeometryMode.TILES, height=64, width=64, overlap_px=16)


def samples(folder: Path, images: list[np.ndarray]) -> list[Sample]:
    found = []
    for number, pixels in enumerate(images):
        path = folder / f"{number}.png"
        save_image(path, pixels)
        found.append(Sample(id=path.name, image_path=path, kind=GOOD, group_id=path.name))
    return found


def textures(count: int) -> list[np.ndarray]:
    return [texture(seed) for seed in range(count)]


def means_of(images: list[np.ndarray]) -> np.ndarray:
    """(N, R, K) mean levels of the cells of 16 px; the images are whole cells high and wide."""
    return np.stack([image.reshape(6, 16, 7, 16).mean(axis=(1, 3)) for image in images])


def test_limits_are_quantiles_moved_outwards(tmp_path: Path) -> None:
    images = textures(5)
    screen = learn_screen(samples(tmp_path, images), geometry=GEOMETRY, color=Color.GRAY, quantile=0.9, margin=0.5)
    low, median, high = np.quantile(means_of(images), [0.1, 0.5, 0.9])
    assert screen.low.shape == (len(STATISTICS), 1)
    assert screen.low[0, 0] == pytest.approx(low - 0.5 * (median - low), rel=1e-4)
    assert screen.high[0, 0] == pytest.approx(high + 0.5 * (high - median), rel=1e-4)
    loose = learn_screen(samples(tmp_path, images), geometry=GEOMETRY, color=Color.GRAY, quantile=1, margin=0)
    assert not any(unusual_cells(loose, image).any() for image in images)


def test_limits_by_column_allow_what_the_neighbors_do(tmp_path: Path) -> None:
    images = [np.clip(image.astype(int) + np.linspace(-60, 60, 112).astype(int), 0, 255) for image in textures(4)]
    images = [image.astype(np.uint8) for image in images]
    screen = learn_screen(
        samples(tmp_path, images), geometry=GEOMETRY, color=Color.GRAY, quantile=1, margin=0, per_column=True
    )
    highest = means_of(images).max(axis=(0, 1))
    expected = [highest[max(0, k - 1) : k + 2].max() for k in range(7)]
    assert (screen.low.shape, screen.width_px) == ((len(STATISTICS), 7), 112)
    assert screen.high[0] == pytest.approx(expected, rel=1e-4)
    images[0] = images[0][:, :80]
    with pytest.raises(InputError, match=r"one width, 80 px, got 112 px \(1\.png\)"):
        learn_screen(samples(tmp_path, images), geometry=GEOMETRY, color=Color.GRAY, per_column=True)


def test_what_is_not_inspected_is_not_learned_from(tmp_path: Path) -> None:
    image = texture(0)
    image[:, :32] = 255
    belt = Geometry(mode=GeometryMode.TILES, height=64, width=64, ignore=(IgnoredShape(columns=(0, 32)),))
    (sample,) = samples(tmp_path, [image])
    found = learn_screen([sample], geometry=belt, color=Color.GRAY, quantile=1, margin=0)
    assert found.high[0, 0] == pytest.approx(means_of([image])[:, :, 2:].max(), rel=1e-5)
    assert found.high[0, 0] < 250


def test_columns_that_are_never_inspected_have_limits_that_pass_everything(tmp_path: Path) -> None:
    images = textures(2)
    belt = Geometry(mode=GeometryMode.TILES, height=64, width=64, ignore=(IgnoredShape(columns=(0, 48)),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        screen = learn_screen(
            samples(tmp_path, images), geometry=belt, color=Color.GRAY, quantile=1, margin=0, per_column=True
        )
    assert (screen.low[:, :2] == screen.high[:, :2]).all()
    assert unusual_cells(screen, images[0])[:, :2].all()
    assert screen.high[0, 2] == pytest.approx(means_of(images)[:, :, 3].max(), rel=1e-4)  # what its neighbor allows


def test_many_cells_are_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = textures(4)
    monkeypatch.setattr(module, "MAX_CELLS", 4 * 14)  # 14 of the 42 cells of each image: every third
    screen = learn_screen(samples(tmp_path, images), geometry=GEOMETRY, color=Color.GRAY, quantile=1, margin=0)
    assert screen.high[0, 0] == pytest.approx(means_of(images).reshape(4, -1)[:, ::3].max(), rel=1e-4)
    by_column = learn_screen(
        samples(tmp_path, images), geometry=GEOMETRY, color=Color.GRAY, quantile=1, margin=0, per_column=True
    )
    highest = means_of(images)[:, ::3].max(axis=(0, 1))
    assert by_column.high[0] == pytest.approx([highest[max(0, k - 1) : k + 2].max() for k in range(7)], rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cell_px": 7}, "screen.cell_px: expected 8 to 64"),
        ({"quantile": 0.5}, "screen.quantile: expected above 0.5"),
        ({"margin": -0.1}, "screen.margin: expected 0 or more"),
        ({"geometry": Geometry(mode=GeometryMode.RESIZE, height=64, width=64)}, "expected geometry=tiles"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        learn_screen(samples(tmp_path, textures(1)), **{"geometry": GEOMETRY, "color": Color.GRAY, **setting})
