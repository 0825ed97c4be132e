"""From what a detector says of tiles to what it says of a frame: one score, one map and, where it names, the kinds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zellige.core.boxes import join_boxes
from zellige.core.named import KindMap, Named, frame_score
from zellige.core.tiling import Tiles, join, join_kind_maps
from zellige.core.types import AnomalyMap
from zellige.models.detector import BoxOutput, DetectorOutput, NamedOutput


def kinds_of(detector: nn.Module) -> tuple[str, ...]:
    """The kinds of defects that a detector names; none where it names none."""
    return tuple(getattr(detector, "kinds", ()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileOutputs:
    """What a detector says of N tiles, on the CPU: of the last two at most one is not None."""

    scores: NDArray[np.float32]
    """(N,)."""
    maps: NDArray[np.float32]
    """(N, h, w)."""
    kind_maps: NDArray[np.uint8] | None
    """(N, h, w)."""
    boxes: NDArray[np.float32] | None
    """(N, M, 6)."""
    kinds: tuple[str, ...]

    @classmethod
    def gather(cls, outputs: Sequence[DetectorOutput], kinds: tuple[str, ...]) -> "TileOutputs":
        """Put the outputs of batches one after the other."""
        named = [output.kind_map for output in outputs if isinstance(output, NamedOutput)]
        boxes = [output.boxes for output in outputs if isinstance(output, BoxOutput)]
        return cls(
            scores=torch.cat([output.score for output in outputs]).cpu().numpy(),
            maps=torch.cat([output.anomaly_map for output in outputs])[:, 0].cpu().numpy(),
            kind_maps=torch.cat(named)[:, 0].cpu().numpy() if named else None,
            boxes=torch.cat(boxes).float().cpu().numpy() if boxes else None,
            kinds=kinds,
        )

    def of_frame(self, start: int, tiles: Tiles) -> tuple[float, AnomalyMap, Named | None]:
        """Join those of one frame, whose first tile is number `start`: its score, map (H, W) and what is named.

        Raises:
            InputError: numbers of kinds that there are not.
        """
        own = slice(start, start + len(tiles.pixels))
        named: Named | None = None
        if self.kind_maps is not None:
            named = KindMap(numbers=join_kind_maps(self.kind_maps[own], tiles), kinds=self.kinds)
        elif self.boxes is not None:
            named = join_boxes(self.boxes[own], tiles, self.kinds)
        return frame_score(self.scores[own], named), join(self.maps[own], tiles), named
