"""The last lines of an endless web, for pictures of what was found in them."""

import cv2
import numpy as np

from zellige.core.types import Pixels


class RecentLines:
    """A ring of lines: its memory is fixed when it is made."""

    def __init__(self, num_lines: int, line_shape: tuple[int, ...]) -> None:
        self._pixels = np.zeros((num_lines, *line_shape), np.uint8)
        self._numbers = np.full(num_lines, -1, np.int64)
        """Which line each place of the ring holds."""

    def add(self, first_line: int, pixels: Pixels) -> None:
        """Take lines (N, W) or (N, W, 3); those of before are overwritten in their turn."""
        kept = pixels[-len(self._pixels) :]
        numbers = first_line + len(pixels) - len(kept) + np.arange(len(kept))
        places = numbers % len(self._pixels)
        self._pixels[places], self._numbers[places] = kept, numbers

    def crop(self, box_px: tuple[int, int, int, int], *, margin_px: int, max_side_px: int) -> Pixels | None:
        """Cut a box of columns and lines out, with a margin; None where none of its lines is held any more.

        Args:
            box_px: x0, first line, x1, last line + 1.
            margin_px: what is shown around it.
            max_side_px: of a longer box, only the last so many lines and the middle so many columns are shown.
        """
        x0, y0, x1, y1 = box_px
        width = self._pixels.shape[1]
        left, right = max(0, x0 - margin_px), min(width, x1 + margin_px)
        if right - left > max_side_px:
            left = max(0, (left + right - max_side_px) // 2)
            right = left + max_side_px
        lines = np.arange(max(0, y0 - margin_px, y1 + margin_px - max_side_px), y1 + margin_px)
        places = lines % len(self._pixels)
        places = places[self._numbers[places] == lines]
        return self._pixels[places, left:right] if len(places) else None


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W) or (H, W, 3) RGB as PNG, quickly rather than small."""
    image = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
