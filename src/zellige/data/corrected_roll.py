"""A recorded roll as a station sees it after its flat field, which the code of the station applies."""

from collections.abc import Iterator
from dataclasses import replace

from zellige.core.flat_field import FlatField, apply_flat_field, check_lines_fit, prepare
from zellige.station.sources import Block, Lines, RollSource


def corrected_roll(source: RollSource, flat_field: FlatField | None, num_channels: int) -> RollSource:
    """Return a roll whose lines are flat-field corrected; the roll itself where there is no flat field.

    Args:
        source: the roll as it was recorded.
        flat_field: of the camera that recorded it.
        num_channels: of its lines.

    Raises:
        InputError: a flat field for other lines.
    """
    if flat_field is None:
        return source
    check_lines_fit(flat_field, source.width_px, num_channels, f"roll {source.name}")

    def blocks() -> Iterator[Block]:
        corrector = prepare(flat_field)
        for block in source.blocks():
            if isinstance(block, Lines):
                yield replace(block, pixels=apply_flat_field(block.pixels, corrector))
            else:
                yield block

    return replace(source, blocks=blocks)
