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
from zellige.core.tiling import KindNumbers
from zellige.core.types import AnomalyMap, Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraView:
    """Where one camera's columns lie on the common grid."""

    first_column_px: int
    width_px: int
    name: str = ""

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
            names = f"{left.name or number} and {right.name or number + 1}"
            if not left.first_column_px < right.first_column_px:
                raise ConfigError(
                    f"camera row: expected cameras {names} from left to right, got first columns "
                    f"{left.first_column_px} and {right.first_column_px}"
                )
            overlap = left.stop_px - right.first_column_px
            if overlap < 2 * self.tolerance_px:
                raise ConfigError(
                    f"camera row: expected cameras {names} with at least {2 * self.tolerance_px} px in common, got "
                    + (f"a gap of {-overlap} px between their views" if overlap < 0 else f"{overlap} px")
                )
            if right.stop_px <= left.stop_px:
                raise ConfigError(
                    f"camera row: expected camera {right.name or number + 1} to reach further right than "
                    f"{left.name or number}, got columns up to {right.stop_px} and {left.stop_px}"
                )

    @property
    def width_px(self) -> int:
        """Width of the whole row."""
        return self.views[-1].stop_px

    @property
    def num_columns(self) -> int:
        """Columns of all cameras, those that two of them see counted twice."""
        return sum(view.width_px for view in self.views)

    @property
    def seams_px(self) -> tuple[int, ...]:
        """Columns where one camera's side ends and the next one's begins."""
        return tuple((left.stop_px + right.first_column_px) // 2 for left, right in pairwise(self.views))

    @property
    def sides_px(self) -> tuple[tuple[int, int], ...]:
        """Columns of the row that each camera answers for, from seam to seam."""
        return tuple(pairwise((0, *self.seams_px, self.width_px)))

    def reach_px(self, number: int) -> tuple[int, int]:
        """Columns of the row where a camera's map counts: its side, and the tolerance beyond the seams."""
        view, (start, stop) = self.views[number], self.sides_px[number]
        return max(start - self.tolerance_px, view.first_column_px), min(stop + self.tolerance_px, view.stop_px)


def split_views(lines: Pixels, row: CameraRow) -> list[Pixels]:
    """Take apart lines that hold all cameras one after the other.

    Args:
        lines: uint8 (H, N) or (H, N, 3), N the row's `num_columns`: first the left camera's columns, and so on.
        row: where they lie.

    Returns:
        For each camera its lines (H, w) or (H, w, 3); nothing is copied.

    Raises:
        InputError: another number of columns.

    Example:
        >>> import numpy as np
        >>> views = CameraView(first_column_px=0, width_px=3), CameraView(first_column_px=2, width_px=2)
        >>> row = CameraRow(views=views, tolerance_px=0)
        >>> [view.tolist() for view in split_views(np.array([[1, 2, 3, 3, 4]], np.uint8), row)]
        [[[1, 2, 3]], [[3, 4]]]
    """
    if lines.shape[1] != row.num_columns:
        raise InputError(f"camera row: expected lines of {row.num_columns} columns, got {lines.shape[1]}")
    stops = np.cumsum([view.width_px for view in row.views])
    return np.split(lines, stops[:-1], axis=1)


def join_lines(views: Sequence[Pixels], row: CameraRow) -> Pixels:
    """Put the cameras' lines side by side, of each camera its side of the seams: uint8 (H, W) or (H, W, 3).

    For what is measured or looked at. The net is shown each camera's own lines, in which there is no seam.

    Example:
        >>> import numpy as np
        >>> views = CameraView(first_column_px=0, width_px=4), CameraView(first_column_px=2, width_px=4)
        >>> row = CameraRow(views=views, tolerance_px=0)
        >>> join_lines([np.full((1, 4), 1, np.uint8), np.full((1, 4), 2, np.uint8)], row).tolist()
        [[1, 1, 1, 2, 2, 2]]
    """
    if len(views) == 1:
        return views[0]
    parts = zip(views, row.views, row.sides_px, strict=True)
    return np.concatenate(
        [lines[:, start - view.first_column_px : stop - view.first_column_px] for lines, view, (start, stop) in parts],
        axis=1,
    )


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
    if len(maps) == 1:
        return maps[0]
    joined = np.full((heights.pop(), row.width_px), -np.inf, np.float32)
    for number, (anomaly_map, view) in enumerate(zip(maps, row.views, strict=True)):
        first, last = row.reach_px(number)
        part = anomaly_map[:, first - view.first_column_px : last - view.first_column_px]
        np.maximum(joined[:, first:last], part, out=joined[:, first:last])
    return joined


def join_kinds(numbers: Sequence[KindNumbers], maps: Sequence[AnomalyMap], row: CameraRow) -> KindNumbers:
    """Join the cameras' kinds (H, w) of the same lines: each pixel has that of the camera whose map counts there.

    Args:
        numbers: of the kinds, one for each camera, from left to right.
        maps: as for `join_cameras`, of the same sizes; where two reach a column, the higher value's camera names it.
        row: where they lie.

    Example:
        >>> import numpy as np
        >>> views = CameraView(first_column_px=0, width_px=4), CameraView(first_column_px=2, width_px=4)
        >>> row = CameraRow(views=views, tolerance_px=1)
        >>> maps = np.full((1, 4), 1, np.float32), np.full((1, 4), 2, np.float32)
        >>> join_kinds([np.full((1, 4), 1, np.uint8), np.full((1, 4), 2, np.uint8)], maps, row).tolist()
        [[1, 1, 2, 2, 2, 2]]
    """
    if len(numbers) == 1:
        return numbers[0]
    joined = np.zeros((len(maps[0]), row.width_px), np.uint8)
    highest = np.full(joined.shape, -np.inf, np.float32)
    for number, (own, anomaly_map, view) in enumerate(zip(numbers, maps, row.views, strict=True)):
        first, last = row.reach_px(number)
        columns = slice(first - view.first_column_px, last - view.first_column_px)
        is_higher = anomaly_map[:, columns] > highest[:, first:last]
        joined[:, first:last][is_higher] = own[:, columns][is_higher]
        np.maximum(highest[:, first:last], anomaly_map[:, columns], out=highest[:, first:last])
    return joined
