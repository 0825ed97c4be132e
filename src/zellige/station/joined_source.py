"""The sources of cameras side by side as one source: lines that were scanned together come together.

The cameras are triggered by one encoder, so line n of one is line n of all. A joined line holds the columns of the left
camera, then those of the next one, and so on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zellige.core.flat_field import FlatField, apply_flat_field, prepare
from zellige.core.types import Pixels
from zellige.station.sources import Block, Hole, Lines, RollSource


def corrected(source: RollSource, flat_field: FlatField) -> RollSource:
    """Return the source with every line corrected by its camera's flat field."""
    corrector = prepare(flat_field)

    def blocks() -> Iterator[Block]:
        for block in source.blocks():
            if isinstance(block, Lines):
                yield replace(block, pixels=apply_flat_field(block.pixels, corrector))
            else:
                yield block

    return replace(source, blocks=blocks)


def join_sources(sources: Sequence[RollSource], names: Sequence[str]) -> RollSource:
    """Make one source of cameras side by side.

    Lines that some cameras did not give, in a hole or because their recording is shorter, are `absent` there, and their
    columns repeat what the camera gave last, so that the web's edges stay where they were. Lines that no camera gave,
    or where a camera has not given any line yet, are a hole.

    Args:
        sources: of recordings, from left to right.
        names: of the cameras.
    """
    ends: list[int] = []

    def blocks() -> Iterator[Block]:
        cameras = [_Camera(source.blocks()) for source in sources]
        line = 0
        while lefts := [left for camera in cameras if (left := camera.num_left)]:
            parts = [camera.take(min(lefts)) for camera in cameras]
            yield _joined(parts, names, line, min(lefts))
            line += min(lefts)
        ends[:] = [camera.num_lines for camera in cameras]

    def notes() -> tuple[str, ...]:
        own = [f"camera {n}: {note}" for n, s in zip(names, sources, strict=True) for note in s.final_notes()]
        short = [
            f"camera {name}: {max(ends) - end} lines fewer than the longest recording has; they are undecided"
            for name, end in zip(names, ends, strict=False)
            if end < max(ends)
        ]
        return (*own, *short)

    unsure = (
        f"camera {name}: from line {source.first_estimated_line} on its lines may not be those of the other cameras: "
        "it was lost there, and how many lines passed is an estimate"
        for name, source in zip(names, sources, strict=True)
        if source.first_estimated_line is not None
    )
    counts = {source.num_blocks for source in sources}
    return RollSource(
        name=", ".join(f"{name}: {source.name}" for name, source in zip(names, sources, strict=True)),
        width_px=sum(source.width_px for source in sources),
        num_blocks=counts.pop() if len(counts) == 1 else 0,
        blocks=blocks,
        notes=(*(f"camera {n}: {note}" for n, s in zip(names, sources, strict=True) for note in s.notes), *unsure),
        final_notes=notes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some lines of one camera."""

    pixels: Pixels | None
    """Its last line again where there is a reason; None where it has given none yet."""
    reason: str = ""
    """Why it did not give these lines; "" where it did."""


class _Camera:
    """One camera's blocks, taken in pieces of any size."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._block: Block | None = next(blocks, None)
        self._taken = 0
        """Lines of the block that were taken."""
        self._last_line: Pixels | None = None
        """(1, W) or (1, W, 3)"""
        self.num_lines = 0
        """Lines taken so far, holes included."""

    @property
    def num_left(self) -> int:
        """Lines that it has ready; 0 where it has ended."""
        return 0 if self._block is None else self._block.num_lines - self._taken

    def take(self, count: int) -> _Part:
        """Take the next lines, at most `num_left`; any number where it has ended."""
        block, start = self._block, self._taken
        if block is None:
            return self._without("its recording has ended", count)
        self._taken += count
        self.num_lines += count
        if self._taken == block.num_lines:
            self._block, self._taken = next(self._blocks, None), 0
        if isinstance(block, Hole):
            return self._without(block.reason, count)
        pixels = block.pixels[start : start + count]
        self._last_line = pixels[-1:].copy()
        return _Part(pixels)

    def _without(self, reason: str, count: int) -> _Part:
        if self._last_line is None:
            return _Part(None, reason)
        # A view: all cameras together may be away for more lines than there is memory for.
        return _Part(np.broadcast_to(self._last_line, (count, *self._last_line.shape[1:])), reason)


def _joined(parts: Sequence[_Part], names: Sequence[str], line: int, count: int) -> Block:
    absent = tuple((number, part.reason) for number, part in enumerate(parts) if part.reason)
    views = [part.pixels for part in parts if part.pixels is not None]
    if len(absent) == len(parts) or len(views) < len(parts):
        reason = "; ".join(f"camera {names[number]}: {reason}" for number, reason in absent)
        return Hole(first_line=line, num_lines=count, reason=reason)
    return Lines(first_line=line, pixels=np.concatenate(views, axis=1), absent=absent)
