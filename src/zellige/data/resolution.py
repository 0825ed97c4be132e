"""Whether pixels are small enough for the smallest defect that must be found."""

from zellige.core.errors import ConfigError
from zellige.core.types import PixelSize, Splits

LEAST_PX = 3
"""Pixels across the smallest defect: with fewer, noise of one pixel looks like it."""


def coarsest_pixel_size(splits: Splits) -> PixelSize | None:
    """The coarsest that an image has, along either axis; None where none has one."""
    sizes = (sample.pixel_size for part in splits.labelled().values() for sample in part)
    known = (size for size in sizes if size is not None)
    return max(known, key=lambda size: max(size.cross_web_mm, size.down_web_mm), default=None)


def check_resolution(pixel_size: PixelSize | None, smallest_defect_mm: float | None) -> None:
    """Refuse a pixel size that gives less than `LEAST_PX` on the smallest defect, along either axis.

    Raises:
        ConfigError: too coarse, no pixel size, or a size that is none.
    """
    if smallest_defect_mm is None:
        return
    if not 0 < smallest_defect_mm < float("inf"):
        raise ConfigError(f"data.smallest_defect_mm: expected a length above 0 mm, got {smallest_defect_mm}")
    if pixel_size is None:
        raise ConfigError(
            f"data.smallest_defect_mm={smallest_defect_mm:g}: expected data.pixel_size_mm with it, got none"
        )
    coarsest = max(pixel_size.cross_web_mm, pixel_size.down_web_mm)
    if smallest_defect_mm < LEAST_PX * coarsest * (1 - 1e-9):
        raise ConfigError(
            f"data.pixel_size_mm or a manifest's pixel_size: expected at most {smallest_defect_mm / LEAST_PX:.3g} mm, "
            f"{LEAST_PX} px on the smallest defect of {smallest_defect_mm:g} mm, got {coarsest:g} mm: "
            f"{smallest_defect_mm / coarsest:.2g} px"
        )
