"""Recorded rolls out of labelled pictures: laid end to end, with a list of their defects in mm.

Pictures of one group lie on one roll, so that a split by roll keeps groups whole. The recording has frames of one
height whatever the pictures' heights are, as a camera's has.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import read_frame
from zellige.core.known_defects import KnownDefect, write_known_defects
from zellige.core.progress import progress
from zellige.core.types import GOOD, Color, Pixels, PixelSize
from zellige.data.annotations import AnnotatedImage
from zellige.data.whole_folder import check_new, whole_folder
from zellige.station.recent_lines import encode_png

ROLLS, DEFECTS, PICTURES = "rolls", "defects.csv", "pictures.csv"
_COLUMNS = ("roll", "first_line", "num_lines", "y_mm", "picture", "kind", "group")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """How many rolls, and what lies on them: `good_rolls` of them have good pictures alone, the others all kinds."""

    rolls: int = 6
    good_rolls: int = 4
    pictures_per_roll: int = 60
    """Most pictures of a roll."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.good_rolls <= self.rolls or self.rolls < 1:
            raise ConfigError(
                f"rolls: expected at least 1, and 0 to as many good_rolls, got {self.rolls} and {self.good_rolls}"
            )
        if self.pictures_per_roll < 1:
            raise ConfigError(f"pictures_per_roll: expected at least 1, got {self.pictures_per_roll}")
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rolls, those of good pictures first."""
        good = (f"good_{number}" for number in range(1, self.good_rolls + 1))
        return (*good, *(f"mixed_{number}" for number in range(1, self.rolls - self.good_rolls + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidPicture:
    """A picture on a roll."""

    image: AnnotatedImage
    first_line: int

    @property
    def num_lines(self) -> int:
        return self.image.size[0]

    def known(self, pixel_size: PixelSize) -> Iterator[KnownDefect]:
        """Its defects, in mm of the roll."""
        across, down = pixel_size.cross_web_mm, pixel_size.down_web_mm
        for defect in self.image.defects:
            x0, y0, x1, y1 = defect.box
            top, bottom = (self.first_line + y for y in (y0, y1))
            yield KnownDefect(kind=defect.kind, box_mm=(x0 * across, top * down, x1 * across, bottom * down))


def deal_pictures(images: Sequence[AnnotatedImage], deal: Deal) -> dict[str, list[LaidPicture]]:
    """Deal pictures to rolls by group, and shuffle those of each roll.

    Of a group on a roll of good pictures the defective ones are left out. Each group, in an order of the seed, goes to
    the emptiest roll that has room for it; what no roll has room for is left out too.

    Raises:
        InputError: too few groups for the rolls, or no labelled defect for a roll of all kinds.
    """
    groups: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.id):
        groups[image.group_id or image.id].append(image)
    names, rng = sorted(groups), np.random.default_rng(deal.seed)
    held: dict[str, list[AnnotatedImage]] = {name: [] for name in deal.names}
    for index in rng.permutation(len(names)):
        group = groups[names[index]]
        good = [image for image in group if image.kind == GOOD]
        wanted = {roll: good if roll in deal.names[: deal.good_rolls] else group for roll in held}
        fitting = [r for r, part in wanted.items() if part and len(held[r]) + len(part) <= deal.pictures_per_roll]
        if fitting:
            roll = min(fitting, key=lambda name: len(held[name]))
            held[roll] += wanted[roll]
    _check_dealt(held, deal, len(names))
    return {roll: _end_to_end([laid[i] for i in rng.permutation(len(laid))]) for roll, laid in held.items()}


def _check_dealt(held: Mapping[str, Sequence[AnnotatedImage]], deal: Deal, num_groups: int) -> None:
    for roll, laid in held.items():
        if not laid:
            raise InputError(
                f"roll {roll}: expected a group of pictures for each of {deal.rolls} rolls, got too few: {num_groups} "
                f"groups, at most {deal.pictures_per_roll} pictures on a roll"
            )
    for roll in deal.names[deal.good_rolls :]:
        if not any(image.defects for image in held[roll]):
            raise InputError(
                f"roll {roll}: expected a picture with labelled defects, got {len(held[roll])} good ones alone; take "
                "more pictures_per_roll or fewer rolls that are not good_rolls"
            )


def _end_to_end(images: Sequence[AnnotatedImage]) -> list[LaidPicture]:
    first_lines = np.cumsum([0, *(image.size[0] for image in images)]).tolist()
    return [LaidPicture(image=image, first_line=line) for image, line in zip(images, first_lines, strict=False)]


def check_pictures(images: Sequence[AnnotatedImage]) -> PixelSize:
    """Refuse pictures that cannot lie on one web; returns their pixel size.

    Raises:
        InputError: another width or pixel size than the first picture's, no pixel size, or a kind that nobody placed.
    """
    if not images:
        raise InputError("pictures: expected labelled ones, none is left")
    first = images[0]
    if first.pixel_size is None:
        raise InputError(f"picture {first.id}: expected a pixel size (labels.pixel_size_mm), a roll is measured in mm")
    for image in images:
        if image.size[1] != first.size[1]:
            raise InputError(
                f"pictures: expected one width, got {first.size[1]} px of {first.id} and {image.size[1]} px of "
                f"{image.id}"
            )
        if image.pixel_size != first.pixel_size:
            raise InputError(
                f"pictures: expected one pixel size, got {first.pixel_size} of {first.id} and {image.pixel_size} of "
                f"{image.id}"
            )
        if image.unplaced:
            raise InputError(
                f"picture {image.id}: expected a box or an outline of {', '.join(image.unplaced)}, nobody said where "
                "it is; labels.on_bad=drop leaves such pictures out"
            )
    return first.pixel_size


def write_rolls(
    out: Path,
    rolls: Mapping[str, Sequence[LaidPicture]],
    *,
    pixel_size: PixelSize,
    color: Color,
    frame_lines: int = 512,
) -> None:
    """Write `rolls/NAME/l_LINE.png`, defects.csv for data=roll and pictures.csv: all of it or, after an error, nothing.

    Args:
        out: a folder that does not exist or is empty.
        rolls: from `deal_pictures`.
        pixel_size: of all pictures.
        color: what the frames have; pictures of another color are refused, but by luma.
        frame_lines: height of the frames; a roll's last one may be lower.

    Raises:
        ConfigError: frame_lines below 1.
        InputError: `out` holds files or cannot be written, a picture cannot be read, or two frames are equal.
    """
    if frame_lines < 1:
        raise ConfigError(f"frame_lines: expected at least 1, got {frame_lines}")
    check_new(out)
    try:
        with whole_folder(out) as folder, progress("laying pictures", sum(map(len, rolls.values()))) as advance:
            for name, laid in rolls.items():
                (folder / ROLLS / name).mkdir(parents=True)
                before: Pixels | None = None
                for line, pixels in _frames(laid, color, frame_lines, advance):
                    _refuse_doubled(before, pixels, name, line, laid)
                    (folder / ROLLS / name / f"l_{line:08d}.png").write_bytes(encode_png(pixels))
                    before = pixels
            known = {name: [d for one in laid for d in one.known(pixel_size)] for name, laid in rolls.items()}
            write_known_defects(folder / DEFECTS, known)
            _write_listing(folder / PICTURES, rolls, pixel_size)
    except OSError as error:
        raise InputError(f"out {out}: cannot be written ({error.strerror})") from None


def _frames(
    laid: Sequence[LaidPicture], color: Color, frame_lines: int, advance: Callable[[], None]
) -> Iterator[tuple[int, Pixels]]:
    """First line and pixels of each frame: the pictures one after the other, cut every `frame_lines`."""
    line, held = 0, np.empty(0, np.uint8)
    for one in laid:
        pixels = read_frame(one.image.image_path, color=color).pixels
        held = pixels if not len(held) else np.concatenate([held, pixels])
        while len(held) >= frame_lines:
            yield line, held[:frame_lines]
            line, held = line + frame_lines, held[frame_lines:]
        advance()
    if len(held):
        yield line, held


def _refuse_doubled(before: Pixels | None, pixels: Pixels, roll: str, line: int, laid: Sequence[LaidPicture]) -> None:
    """Refuse what a reader of recordings takes for a buffer that was stored twice; flat frames are none."""
    if before is None or not np.array_equal(before, pixels) or pixels.min() == pixels.max():
        return
    here = next(one for one in reversed(laid) if one.first_line <= line)
    raise InputError(
        f"roll {roll}: expected frames that differ, got one at line {line} (picture {here.image.id}) that equals the "
        "one before it; leave out pictures that are there twice, or take another frame_lines"
    )


def _write_listing(path: Path, rolls: Mapping[str, Sequence[LaidPicture]], pixel_size: PixelSize) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for name, laid in rolls.items():
            for one in laid:
                image, along_mm = one.image, round(one.first_line * pixel_size.down_web_mm, 6)
                group = image.group_id or image.id
                writer.writerow([name, one.first_line, one.num_lines, along_mm, image.id, image.kind, group])
