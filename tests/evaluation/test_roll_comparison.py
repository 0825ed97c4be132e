"""A roll's records against the list of what is on it."""

from pathlib import Path

import pytest

from tests.core.test_roll_records import mark
from zellige.core.errors import InputError
from zellige.evaluation.roll_comparison import ListedDefect, compare_roll, read_listed

LISTED = [
    ListedDefect(kind="hole", box_mm=(10, 100, 14, 104)),
    ListedDefect(kind="scratch", box_mm=(50, 200, 52, 240)),
    ListedDefect(kind="stain", box_mm=(80, 500, 90, 510)),
]


def test_hits_escapes_and_false_alarms() -> None:
    """The hole is 1 mm too far right, the scratch in two parts, the stain 3 mm too far away; two records are alone."""
    found = [
        mark(1, 13, 100, width_mm=4, extent_mm=4),
        mark(2, 51, 199, width_mm=2, extent_mm=10),
        mark(3, 51, 225, width_mm=2, extent_mm=15),
        mark(4, 85, 513, width_mm=4, extent_mm=4),
        mark(5, 13, 110, width_mm=4, extent_mm=4),
    ]
    result = compare_roll(found, LISTED, within_mm=2)
    assert [(h.listed.kind, h.numbers, h.off_across_mm, h.off_along_mm) for h in result.hits] == [
        ("hole", (1,), 1, 0),
        ("scratch", (2, 3), 0, -0.5),
    ]
    assert [one.kind for one in result.escapes] == ["stain"]
    assert [d.number for d in result.false_alarms] == [4, 5]
    assert [h.listed.kind for h in compare_roll(found, LISTED, within_mm=3).hits] == ["hole", "scratch", "stain"]


def test_a_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "roll.csv"
    path.write_text("kind,x0_mm,y0_mm,x1_mm,y1_mm\nhole,10,100,14,104\nscratch,50.0, 200,52,240\n")
    assert read_listed(path) == tuple(LISTED[:2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind,x,y\n", "expected the columns kind,x0_mm,y0_mm,x1_mm,y1_mm, got 'kind,x,y'"),
        ("kind,x0_mm,y0_mm,x1_mm,y1_mm\nhole,1,2,3\n", "line 2: expected 5 values, got 4"),
        ("kind,x0_mm,y0_mm,x1_mm,y1_mm\nhole,1,2,3,four\n", "line 2: expected four numbers in mm"),
        ("kind,x0_mm,y0_mm,x1_mm,y1_mm\nhole,1,2,nan,4\n", "line 2: expected x0_mm < x1_mm"),
        ("kind,x0_mm,y0_mm,x1_mm,y1_mm\nhole,5,2,3,4\n", "line 2: expected x0_mm < x1_mm"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "roll.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_listed(path)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_listed(tmp_path / "none.csv")
