"""Pictures laid end to end are a recording that is read back as laid, and the list says where their defects are."""

import csv
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import save_image, texture
from zellige.core.errors import ConfigError, InputError
from zellige.core.known_defects import KnownDefect, read_known_defects, write_known_defects
from zellige.core.types import Color, PixelSize
from zellige.data.annotations import AnnotatedDefect, AnnotatedImage
from zellige.data.roll_of_pictures import Deal, check_pictures, deal_pictures, write_rolls
from zellige.station.sources import Lines, open_source

WIDTH, SIZE = 80, PixelSize(cross_web_mm=0.5, down_web_mm=0.25)


def make_pictures(folder: Path, num_groups: int = 12) -> list[AnnotatedImage]:
    """Of each group a good picture, and a defective one with a white box where its label is; heights differ."""
    pictures = []
    for number in range(num_groups):
        for is_defective in (False, True):
            height = 40 + 7 * (number % 3)
            pixels = np.minimum(texture(2 * number + is_defective, size=(height, WIDTH)), 250)
            box = (10 + number, 5, 20 + number, 17)
            if is_defective:
                pixels[box[1] : box[3], box[0] : box[2]] = 255
            path = folder / f"{number}_{is_defective}.png"
            save_image(path, pixels)
            defects = (AnnotatedDefect(kind=f"kind {number % 2}", box=box),) if is_defective else ()
            pictures.append(
                AnnotatedImage(
                    id=path.name,
                    image_path=path,
                    size=(height, WIDTH),
                    defects=defects,
                    group_id=f"g{number}",
                    pixel_size=SIZE,
                )
            )
    return pictures


def recorded(folder: Path) -> np.ndarray:
    blocks = list(open_source(folder, width_px=None, color=Color.GRAY).blocks())
    assert all(isinstance(block, Lines) for block in blocks)
    return np.concatenate([block.pixels for block in blocks])


@pytest.mark.parametrize("frame_lines", [16, 40, 999])
def test_the_recording_shows_the_pictures_and_the_list_their_defects(tmp_path: Path, frame_lines: int) -> None:
    pictures = make_pictures(tmp_path / "pictures")
    rolls = deal_pictures(pictures, Deal(rolls=4, good_rolls=2, pictures_per_roll=6, seed=3))
    out = tmp_path / "out"
    write_rolls(out, rolls, pixel_size=SIZE, color=Color.GRAY, frame_lines=frame_lines)
    with (out / "pictures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = read_known_defects(out / "defects.csv")
    assert sorted(path.name for path in (out / "rolls").iterdir()) == ["good_1", "good_2", "mixed_1", "mixed_2"]
    assert set(known) == {"mixed_1", "mixed_2"}
    for path in (out / "rolls").iterdir():
        mine = [row for row in rows if row["roll"] == path.name]
        roll = recorded(path)
        stored = [recorded(tmp_path / "pictures" / row["picture"]) for row in mine]
        assert np.array_equal(roll, np.concatenate(stored))
        assert [int(row["first_line"]) for row in mine] == np.cumsum([0, *map(len, stored)])[:-1].tolist()
        assert [float(row["y_mm"]) for row in mine] == [int(row["first_line"]) * 0.25 for row in mine]
        white = np.zeros(roll.shape, bool)
        for defect in known.get(path.name, []):
            x0, y0, x1, y1 = (round(v / s) for v, s in zip(defect.box_mm, (0.5, 0.25, 0.5, 0.25), strict=True))
            white[y0:y1, x0:x1] = True
        assert np.array_equal(roll == 255, white)


def test_groups_stay_together_and_rolls_of_good_pictures_are_good(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path)
    deal = Deal(rolls=5, good_rolls=3, pictures_per_roll=4)
    rolls = deal_pictures(pictures, deal)
    of_group: dict[str, set[str]] = {}
    for name, laid in rolls.items():
        assert 0 < len(laid) <= 4
        assert all(after.first_line == one.first_line + one.num_lines for one, after in pairwise(laid))
        if name.startswith("good"):
            assert not any(one.image.defects for one in laid)
        for one in laid:
            of_group.setdefault(str(one.image.group_id), set()).add(name)
    assert all(len(names) == 1 for names in of_group.values())
    assert deal_pictures(pictures[::-1], deal) == rolls
    assert deal_pictures(pictures, Deal(rolls=5, good_rolls=3, pictures_per_roll=4, seed=1)) != rolls


def changed(image: AnnotatedImage, **fields: object) -> AnnotatedImage:
    known = {name: getattr(image, name) for name in AnnotatedImage.__dataclass_fields__}
    return AnnotatedImage(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (40, 81)}, "expected one width, got 80 px of 0_False.png and 81 px of 0_True.png"),
        ({"pixel_size": PixelSize(cross_web_mm=1, down_web_mm=1)}, "expected one pixel size, got"),
        ({"defects": (), "unplaced": ("hole",)}, "0_True.png: expected a box or an outline of hole"),
    ],
)
def test_pictures_that_fit_no_web(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    good, bad, *_ = make_pictures(tmp_path, 1)
    assert check_pictures([good, bad]) == SIZE
    with pytest.raises(InputError, match=re.escape(message)):
        check_pictures([good, changed(bad, **fields)])
    with pytest.raises(InputError, match="expected a pixel size"):
        check_pictures([changed(good, pixel_size=None)])


def test_mistakes(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "pictures", 3)
    with pytest.raises(InputError, match="for each of 4 rolls, got too few: 3 groups"):
        deal_pictures(pictures, Deal(rolls=4, good_rolls=2))
    with pytest.raises(InputError, match=r"mixed_1: expected a picture with labelled defects, got 1 good ones alone"):
        deal_pictures([one for one in pictures if not one.defects], Deal(rolls=3, good_rolls=2))
    for wrong in ({"rolls": 0}, {"rolls": 2, "good_rolls": 3}, {"pictures_per_roll": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="expected"):
            Deal(**{"good_rolls": 0, **wrong})
    rolls = deal_pictures(pictures, Deal(rolls=2, good_rolls=1))
    settings = {"pixel_size": SIZE, "color": Color.GRAY}
    with pytest.raises(InputError, match="expected a folder that does not exist or is empty"):
        write_rolls(tmp_path / "pictures", rolls, **settings)
    with pytest.raises(ConfigError, match="frame_lines: expected at least 1, got 0"):
        write_rolls(tmp_path / "out", rolls, **settings, frame_lines=0)
    twice = deal_pictures([pictures[1], changed(pictures[1], id="again", group_id="g9")], Deal(rolls=1, good_rolls=0))
    with pytest.raises(InputError, match="expected frames that differ, got one at line 40"):
        write_rolls(tmp_path / "out", twice, **settings, frame_lines=40)
    assert not (tmp_path / "out").exists()


def test_known_defects_come_back(tmp_path: Path) -> None:
    known = {"a": [KnownDefect(kind="hole, large", box_mm=(0.1, 0.2, 0.4, 1e3))], "b": []}
    write_known_defects(tmp_path / "d.csv", known)
    (back,) = read_known_defects(tmp_path / "d.csv")["a"]
    assert back.kind == "hole, large"
    assert back.box_mm == pytest.approx((0.1, 0.2, 0.4, 1e3), abs=2e-6)
