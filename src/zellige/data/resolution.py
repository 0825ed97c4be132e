"""Whether pixels are small enough for the smallest defect that must be found."""

from zellige.core.errors import ConfigError
from zellige.core.types import PixelSize

LEAST_PX = 3
"""Pixels across the smallest defect: with fewer, noise of one pixel looks like it."""


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
            f"data.pixel_size_mm: expected at most {smallest_defect_mm / LEAST_PX:.3g} mm, {LEAST_PX} px on the "
            f"smallest defect of {smallest_defect_mm:g} mm, got {coarsest:g} mm: "
            f"{smallest_defect_mm / coarsest:.2g} px"
        )
