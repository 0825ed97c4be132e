"""Several cameras across one web: their maps side by side become one map, so a defect on a seam is one defect.

Each camera's columns lie on one common grid, known from registration (a target seen by both). Where two views overlap,
the seam runs down the middle of the overlap; each camera answers for its side of it, and for so many pixels beyond it
as the registration may be wrong by. In this strip the higher value counts, so what only one of them sees is not lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.core.types import AnomalyMap


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraView:
    """Where one camera's columns lie on the common grid."""

    first_column_px: int
    width_px: int

    @property
    def stop_px(self) -> int:
        return self.first_column_px + self.width_px


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRow:
    """Cameras from left to right; the first begins at column 0."""

    views: tuple[CameraView, ...]
    tolerance_px: int = 2
    """How far the registration of two neighbors may be off."""

    def __post_init__(self) -> None:
        if not self.views or self.views[0].first_column_px != 0:
            raise ConfigError("camera row: expected at least one camera, the first of them at column 0")
        if self.tolerance_px < 0 or any(view.width_px < 1 for view in self.views):
            raise ConfigError("camera row: expected a tolerance of at least 0 and widths of at least 1")
        for number, (left, right) in enumerate(pairwise(self.views)):
            overlap = left.stop_px - right.first_column_px
            if overlap < 2 * self.tolerance_px or not left.first_column_px < right.first_column_px:
                raise ConfigError(
                    f"camera row: expected cameras {number} and {number + 1} from left to right with at least "
                    f"{2 * self.tolerance_px} px in common, got {overlap}"
                )
            if right.stop_px <= left.stop_px:
                raise ConfigError(f"camera row: expected camera {number + 1} to reach further right than {number}")

    @property
    def width_px(self) -> int:
        """Width of the whole row."""
        return self.views[-1].stop_px

    @property
    def seams_px(self) -> tuple[int, ...]:
        """Columns where one camera's side ends and the next one's begins."""
        return tuple((left.stop_px + right.first_column_px) // 2 for left, right in pairwise(self.views))


def join_cameras(maps: Sequence[AnomalyMap], row: CameraRow) -> AnomalyMap:
    """Join the cameras' maps of the same lines into one map (H, W) of the row's width.

    Args:
        maps: one (H, w) float32 for each camera, from left to right, of the same lines of the web.
        row: where they lie.

    Raises:
        InputError: another number of maps, another width, or maps of different heights.

    Example:
        >>> import numpy as np
        >>> views = CameraView(first_column_px=0, width_px=6), CameraView(first_column_px=4, width_px=6)
        >>> row = CameraRow(views=views, tolerance_px=0)
        >>> join_cameras([np.full((1, 6), 1, np.float32), np.full((1, 6), 2, np.float32)], row).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]]
    """
    shapes = [m.shape for m in maps]
    heights = {shape[0] for shape in shapes}
    if [shape[1] for shape in shapes] != [view.width_px for view in row.views] or len(heights) != 1:
        widths = ", ".join(str(view.width_px) for view in row.views)
        raise InputError(f"camera row: expected maps of equal height and widths {widths}, got {shapes}")
    joined = np.full((heights.pop(), row.width_px), -np.inf, np.float32)
    seams = (0, *row.seams_px, row.width_px)
    for anomaly_map, view, start, stop in zip(maps, row.views, seams, seams[1:], strict=False):
        first = max(start - row.tolerance_px, view.first_column_px)
        last = min(stop + row.tolerance_px, view.stop_px)
        part = anomaly_map[:, first - view.first_column_px : last - view.first_column_px]
        np.maximum(joined[:, first:last], part, out=joined[:, first:last])
    return joined
