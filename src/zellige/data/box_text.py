"""The boxes of an image in one cell of a manifest: `x0 y0 x1 y1 kind; x0 y0 x1 y1 kind`."""

from collections.abc import Iterable

from zellige.core.errors import InputError
from zellige.core.types import LabelledBox


def boxes_to_text(boxes: Iterable[LabelledBox]) -> str:
    """Write boxes so that `boxes_from_text` reads the same numbers."""
    return "; ".join(" ".join([*(_number(value) for value in box.box_px), box.kind]) for box in boxes)


def boxes_from_text(text: str) -> tuple[LabelledBox, ...]:
    """Read the boxes of a cell; an empty cell holds none.

    Raises:
        InputError: no four numbers and a kind, or a box that is none.
    """
    boxes = []
    for item in filter(None, (part.strip() for part in text.split(";"))):
        words = item.split(None, 4)
        try:
            x0, y0, x1, y1 = (float(word) for word in words[:4])
            kind = words[4]
        except (ValueError, IndexError):
            raise InputError(f"expected boxes as 'x0 y0 x1 y1 kind; ...', got {item!r}") from None
        boxes.append(LabelledBox(kind=kind, box_px=(x0, y0, x1, y1)))
    return tuple(boxes)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
