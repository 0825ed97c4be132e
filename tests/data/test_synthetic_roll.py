"""A synthetic roll has no gaps, and its defects lie where its list says."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.known_defects import read_known_defects
from zellige.data.synthetic import SyntheticWeb
from zellige.data.synthetic_camera import lines, wander_mm
from zellige.data.synthetic_materials import Material
from zellige.data.synthetic_roll import write_roll

WEB = SyntheticWeb(material=Material.STEEL, height=200, width=208)


def test_frames_follow_each_other_and_differ_from_the_good_web_where_the_list_says(tmp_path: Path) -> None:
    drawn = write_roll(tmp_path / "roll", WEB, num_frames=6, num_defects=3)
    files = sorted((tmp_path / "roll").iterdir())
    assert [file.name for file in files] == [f"l_{200 * k:07d}.png" for k in range(6)]
    roll = np.concatenate([cv2.imread(str(file))[..., ::-1] for file in files])
    good = lines(WEB, WEB.num_rolls, 0, 6 * 200)
    changed = np.abs(roll.astype(int) - good).max(2) > 8
    assert [defect.kind for defect in drawn] == ["scratch", "hole", "stain"]
    for defect, frame in zip(drawn, (1, 3, 5), strict=True):
        x0, y0, x1, y1 = (round(v / 0.2) for v in defect.box_mm)
        assert frame * 200 <= y0 < y1 <= (frame + 1) * 200
        assert changed[y0:y1, x0:x1].any()
        changed[max(0, y0 - 5) : y1 + 5, max(0, x0 - 5) : x1 + 5] = False  # the lens blurs the rims
    assert not changed.any()
    listed = read_known_defects(tmp_path / "roll.csv")["roll"]
    assert [one.kind for one in listed] == ["scratch", "hole", "stain"]
    assert np.allclose([one.box_mm for one in listed], [one.box_mm for one in drawn], atol=1e-5)


def test_edges_wander_with_the_web_and_the_list_counts_from_the_left_one(tmp_path: Path) -> None:
    """Against the roll without background: the same material between the edges, defects as far from the left one."""
    bare = write_roll(tmp_path / "bare", WEB, num_frames=2, num_defects=2)
    drawn = write_roll(tmp_path / "roll", WEB, num_frames=2, num_defects=2, background_px=40)
    frames = [[cv2.imread(str(file)) for file in sorted((tmp_path / name).iterdir())] for name in ("bare", "roll")]
    without, roll = (np.concatenate(part) for part in frames)
    assert roll.shape == (400, WEB.width + 80, 3)
    shift_px = -wander_mm(WEB, WEB.num_rolls, np.arange(400)) / 0.2
    assert np.abs(shift_px).min() > 1
    for line in (0, 150, 399):
        is_web = np.flatnonzero(roll[line].max(1) > 20)
        assert abs(is_web[0] - (40 + shift_px[line])) <= 1
        assert abs(is_web[-1] + 1 - (40 + WEB.width + shift_px[line])) <= 1
    np.testing.assert_array_equal(roll[:, 50:-50], without[:, 10:-10])
    for one, other in zip(drawn, bare, strict=True):
        x0, y0, x1, y1 = one.box_mm
        edge_mm = shift_px[round((y0 + y1) / 2 / 0.2)] * 0.2
        assert (x0 + edge_mm, y0, x1 + edge_mm, y1) == pytest.approx(other.box_mm, abs=1e-5)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 to as many defects, got 2 and 3"):
        write_roll(tmp_path / "few", WEB, num_frames=2, num_defects=3)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="expected a new folder"):
        write_roll(tmp_path / "there", WEB, num_frames=1, num_defects=0)
    with pytest.raises(ConfigError, match="background of 0 or at least 14 px, got 5"):
        write_roll(tmp_path / "narrow", WEB, num_frames=1, num_defects=0, background_px=5)
    assert not (tmp_path / "narrow").exists()
