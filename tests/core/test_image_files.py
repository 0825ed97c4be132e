"""Files of every sort come back as what they show, or are refused in one line. Pillow writes them: another codec."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zellige.core.errors import InputError
from zellige.core.image_files import IMAGE_SUFFIXES, in_color, read_frame, read_mask, read_pixels
from zellige.core.types import Color

PACKS = Path("data/raw")
HEIGHT, WIDTH = 40, 60
_X, _Y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
GRAY = (2 * _X + 3 * _Y).astype(np.uint8)
RGB = np.dstack([GRAY, 255 - GRAY, np.full_like(GRAY, 40)])


def encoded(pixels: np.ndarray, fmt: str, **settings: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, fmt, **settings)
    return out.getvalue()


def put(folder: Path, data: bytes, name: str = "a.png") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("suffix", "fmt", "settings"),
    [
        (".png", "png", {}),
        (".bmp", "bmp", {}),
        (".tif", "tiff", {}),
        (".tiff", "tiff", {"compression": "tiff_lzw"}),
        (".webp", "webp", {"lossless": True}),
        (".ppm", "ppm", {}),
    ],
)
def test_color_files_keep_their_rgb_order(tmp_path: Path, suffix: str, fmt: str, settings: dict[str, object]) -> None:
    path = put(tmp_path, encoded(RGB, fmt, **settings), f"é 鋼{suffix}")
    assert suffix in IMAGE_SUFFIXES
    np.testing.assert_array_equal(read_pixels(path), RGB)


def test_gray_stored_as_rgb_comes_back_as_gray(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_pixels(put(tmp_path, encoded(np.dstack([GRAY] * 3), "png"))), GRAY)


@pytest.mark.parametrize("settings", [{}, {"big_tiff": True}])
def test_a_tiff_of_two_pages_is_refused(tmp_path: Path, settings: dict[str, bool]) -> None:
    out = io.BytesIO()
    page = Image.fromarray(GRAY)
    page.save(out, "tiff", save_all=True, append_images=[page], **settings)
    with pytest.raises(InputError, match="several pages"):
        read_pixels(put(tmp_path, out.getvalue(), "a.tif"))
    assert np.array_equal(read_pixels(put(tmp_path, encoded(GRAY, "tiff", **settings), "b.tif")), GRAY)


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
def test_jpeg_is_complete_with_bytes_after_its_end(tmp_path: Path, settings: dict[str, object]) -> None:
    path = put(tmp_path, encoded(GRAY, "jpeg", **settings) + b"\0" * 64 + b"\xff\xda tail")
    assert np.abs(read_pixels(path).astype(int) - GRAY).mean() < 4


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_pixels(tmp_path / "a.jpg").shape == (HEIGHT, WIDTH, 3)


def test_palette_and_opaque_alpha_are_resolved(tmp_path: Path) -> None:
    palette = Image.fromarray(np.uint8(_X % 3), "P")
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 90, 7])
    palette.save(tmp_path / "p.png")
    colors = np.array([[10, 20, 30], [200, 0, 0], [0, 90, 7]], np.uint8)
    np.testing.assert_array_equal(read_pixels(tmp_path / "p.png"), colors[_X % 3])
    opaque = np.full_like(GRAY, 255)
    np.testing.assert_array_equal(read_pixels(put(tmp_path, encoded(np.dstack([RGB, opaque]), "png"))), RGB)
    np.testing.assert_array_equal(read_pixels(put(tmp_path, encoded(np.dstack([GRAY, opaque]), "png"))), GRAY)


def _bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def _huge_jpeg() -> bytes:
    data = bytearray(encoded(GRAY, "jpeg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


PNG, JPEG = encoded(RGB, "png"), encoded(RGB, "jpeg")
HALF_CLEAR = np.where(_X < 5, 0, 255).astype(np.uint8)
BAD = {
    "empty": (b"", "empty file"),
    "text": (b"no image at all", "not a readable image"),
    "truncated png": (PNG[: len(PNG) // 2], "truncated"),
    "png without end": (PNG[:-12], "truncated"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "jpeg without end": (JPEG[:-2], "truncated"),
    "flipped png": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "not a readable image"),
    "truncated bmp": (encoded(RGB, "bmp")[:-50], "not a readable image"),
    "truncated tiff": (encoded(RGB, "tiff")[:-50], "not a readable image"),
    "truncated webp": (encoded(RGB, "webp")[:-50], "not a readable image"),
    "truncated pgm": (encoded(GRAY, "ppm")[:-50], "not a readable image"),
    "16-bit": (encoded(GRAY.astype(np.uint16) * 200, "png"), "uint16"),
    "float": (encoded(GRAY.astype(np.float32), "tiff"), "float32"),
    "transparent": (encoded(np.dstack([RGB, HALF_CLEAR]), "png"), "transparent"),
    "gray and alpha": (encoded(np.dstack([GRAY, HALF_CLEAR]), "png"), "transparent"),
    "png bomb": (_bomb(), "at most"),
    "jpeg bomb": (_huge_jpeg(), "at most"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    data, reason = BAD[name]
    path = put(tmp_path, data)
    with pytest.raises(InputError, match=reason) as error:
        read_pixels(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_pixels(path)


def test_color_modes(tmp_path: Path) -> None:
    assert in_color(GRAY, Color.LUMA, "x") is GRAY
    luma = in_color(RGB, Color.LUMA, "x")
    np.testing.assert_allclose(luma, RGB @ [0.299, 0.587, 0.114], atol=1)
    with pytest.raises(InputError, match="expected a gray image"):
        in_color(RGB, Color.GRAY, "x")
    with pytest.raises(InputError, match="expected a color image"):
        in_color(GRAY, Color.RGB, "x")
    assert read_frame(put(tmp_path, PNG), color=Color.RGB).size == (HEIGHT, WIDTH)


DEFECT = (_X > 20) & (_X < 30) & (_Y > 5) & (_Y < 15)
GREEN = np.array([0x23, 0xA4, 0x36], np.uint8)
MASKS = {
    "0 and 255": np.where(DEFECT, 255, 0),
    "all gray values": np.where(DEFECT, 128, 127),
    "0 and 1": DEFECT.astype(np.uint8),
    "color on black": np.where(DEFECT[..., None], GREEN, 0),
    "color on white": np.where(DEFECT[..., None], GREEN, 255),
    "color on transparent": np.dstack([np.full((HEIGHT, WIDTH, 3), GREEN), np.where(DEFECT, 200, 100)]),
    "gray on transparent": np.dstack([np.zeros_like(GRAY), np.where(DEFECT, 255, 0)]),
    "opaque alpha": np.dstack([np.where(DEFECT[..., None], GREEN, 0), np.full_like(GRAY, 255)]),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_style_give_the_same_defect(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, encoded(MASKS[name].astype(np.uint8), "png"))
    np.testing.assert_array_equal(read_mask(path, (HEIGHT, WIDTH)), DEFECT)


def test_palette_and_one_bit_masks(tmp_path: Path) -> None:
    palette = Image.fromarray(DEFECT.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "p.png")
    palette.putpalette([200, 200, 200, 35, 164, 54])
    palette.save(tmp_path / "t.png", transparency=0)
    Image.fromarray(DEFECT).save(tmp_path / "b.png")
    for name in ("p.png", "t.png", "b.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, (HEIGHT, WIDTH)), DEFECT)


def test_empty_mask_is_returned_and_unclear_ones_are_refused(tmp_path: Path) -> None:
    assert not read_mask(put(tmp_path, encoded(np.zeros_like(GRAY), "png")), (HEIGHT, WIDTH)).any()
    with pytest.raises(InputError, match="size 41 x 60 px, got 40 x 60"):
        read_mask(put(tmp_path, encoded(GRAY, "png")), (41, 60))
    both = np.where(DEFECT[..., None], GREEN, np.where(_X < 5, 0, 255)[..., None])
    neither = np.where(DEFECT[..., None], GREEN, 90)
    for pixels, found in ((both, "both"), (neither, "neither")):
        with pytest.raises(InputError, match=f"background .* got {found}"):
            read_mask(put(tmp_path, encoded(pixels.astype(np.uint8), "png")), (HEIGHT, WIDTH))


@pytest.mark.real
@pytest.mark.skipif(not (PACKS / "AWS-cookies").is_dir(), reason="data/raw/AWS-cookies is absent")
def test_all_published_cookie_masks_mark_a_small_part() -> None:
    masks = sorted((PACKS / "AWS-cookies").rglob("anomaly-*.png"))
    shares = [read_mask(path, (768, 576)).mean() for path in masks]
    assert len(shares) == 32
    assert min(shares) > 0.005
    assert max(shares) < 0.1
