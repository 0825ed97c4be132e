"""`data.smallest_defect_mm` looks at the pixel sizes that the images have, wherever these come from."""

from pathlib import Path

import pytest

from tests.data.test_pairs import write_set
from zellige.config_data import DataConfig, load_data
from zellige.core.errors import ConfigError


def data(root: Path, sizes_mm: list[float | None], *, own_mm: float | None) -> DataConfig:
    """A manifest of 12 images with sizes of their own, and 0.3 mm as the smallest defect: 3 px of 0.1 mm."""
    write_set(root)
    header, *rows = (root / "manifest.csv").read_text().splitlines()
    cells = ["" if size is None else f"{size}x{size}" for size in (sizes_mm * 12)[:12]]
    text = [f"{header},pixel_size", *(f"{row},{cell}" for row, cell in zip(rows, cells, strict=True))]
    (root / "manifest.csv").write_text("\n".join(text) + "\n")
    return DataConfig(
        name="set",
        layout="manifest",
        root=str(root),
        duplicates="ignore",
        pixel_size_mm=own_mm,
        smallest_defect_mm=0.3,
    )


def test_sizes_of_the_manifest_alone_are_enough(tmp_path: Path) -> None:
    splits, _ = load_data(data(tmp_path, [0.1], own_mm=None))
    assert {sample.pixel_size.cross_web_mm for sample in splits.test if sample.pixel_size} == {0.1}


@pytest.mark.parametrize(
    ("sizes_mm", "own_mm", "message"),
    [
        ([0.1, 0.2], 0.1, "got 0.2 mm: 1.5 px"),
        ([0.1, 0.2], None, "got 0.2 mm: 1.5 px"),
        ([None], 0.2, "got 0.2 mm: 1.5 px"),
        ([None], None, "expected data.pixel_size_mm with it, got none"),
    ],
)
def test_one_image_that_is_too_coarse_is_refused(
    tmp_path: Path, sizes_mm: list[float | None], own_mm: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(data(tmp_path, sizes_mm, own_mm=own_mm))
