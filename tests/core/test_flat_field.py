"""Flat field: against a slow version in float64, against the camera that was simulated, and every bad reference."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.core.flat_field import FlatField, Reference, apply_flat_field, check_flat_field_fits, prepare
from zellige.core.flat_field_estimate import estimate_flat_field
from zellige.core.flat_field_file import read_flat_field, write_flat_field
from zellige.core.types import Color
from zellige.data.synthetic_camera import SyntheticWeb, expose
from zellige.data.synthetic_materials import Material

PROJECT = Path(__file__).parents[2]
WIDTH = 300


def make_flat_field(shape: tuple[int, ...] = (WIDTH,), bad: tuple[int, ...] = (), seed: int = 0) -> FlatField:
    rng = np.random.default_rng(seed)
    return FlatField(
        offset_dn=rng.uniform(0, 9, shape).astype(np.float32),
        gain=rng.uniform(0.8, 1.6, shape).astype(np.float32),
        target_dn=180.0,
        reference=Reference.WHITE,
        num_dark_lines=64,
        num_bright_lines=128,
        bad_columns=bad,
    )


def camera_lines(level: float, num_lines: int = 128, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Lines of an even target: column gain with lamp profile and 1 % fixed pattern, offset, noise."""
    columns, rng = np.random.default_rng(99), np.random.default_rng(seed)
    place = np.linspace(-1, 1, width)
    gain = (1 - 0.3 * place**2) * (1 + 0.01 * columns.standard_normal(width).clip(-2, 2))
    offset = 4 + columns.uniform(-1, 1, width)
    lines = offset + gain * level + rng.standard_normal((num_lines, width))
    return np.clip(np.rint(lines), 0, 255).astype(np.uint8)


def slow(pixels: np.ndarray, flat_field: FlatField) -> np.ndarray:
    exact = (pixels.astype(np.float64) - flat_field.offset_dn) * flat_field.gain.astype(np.float64)
    return np.clip(exact, 0, 255)


@pytest.mark.parametrize("shape", [(WIDTH,), (WIDTH, 3), (1,), (70_001,)])
@pytest.mark.parametrize("height", [1, 7, 401])
def test_correction_is_the_formula(shape: tuple[int, ...], height: int) -> None:
    if np.prod(shape) * height > 3_000_000:
        height = 9
    flat_field = make_flat_field(shape)
    pixels = np.random.default_rng(1).integers(0, 256, (height, *shape)).astype(np.uint8)
    before = pixels.copy()
    found = apply_flat_field(pixels, prepare(flat_field))
    assert found.dtype == np.uint8
    # Half a level of rounding, and float32's share where the exact value lies next to a half.
    assert np.abs(found - slow(pixels, flat_field)).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(pixels, before)


def test_correction_in_place_and_into_given_memory() -> None:
    corrector = prepare(make_flat_field())
    pixels = np.random.default_rng(1).integers(0, 256, (50, WIDTH)).astype(np.uint8)
    expected, out = apply_flat_field(pixels, corrector), np.zeros_like(pixels)
    assert apply_flat_field(pixels, corrector, out) is out
    np.testing.assert_array_equal(out, expected)
    apply_flat_field(pixels, corrector, pixels)
    np.testing.assert_array_equal(pixels, expected)


def test_bad_columns_take_their_nearest_good_neighbor() -> None:
    flat_field = make_flat_field((10, 3), bad=(0, 4, 5))
    pixels = np.random.default_rng(1).integers(30, 120, (4, 10, 3)).astype(np.uint8)
    found = apply_flat_field(pixels, prepare(flat_field))
    for bad, good in ((0, 1), (4, 3), (5, 6)):
        np.testing.assert_array_equal(found[:, bad], found[:, good])


def test_an_estimate_makes_the_camera_even() -> None:
    flat_field = estimate_flat_field(camera_lines(0, seed=1), camera_lines(130, seed=2), target_dn=180)
    corrected = apply_flat_field(camera_lines(130, 2000, seed=3), prepare(flat_field)).mean(axis=0)
    # The mean of 128 lines of noise 1 DN is known to 0.09 DN; times a gain of up to 2.
    np.testing.assert_allclose(corrected, 180, atol=1.0)
    darker = apply_flat_field(camera_lines(65, 2000, seed=4), prepare(flat_field)).mean(axis=0)
    np.testing.assert_allclose(darker, 90, atol=1.0)


def test_the_synthetic_camera_becomes_even() -> None:
    """Its lamp profile, column gains and offsets, seen through noise, flicker and another level of the lamp."""
    web = SyntheticWeb(material=Material.STEEL, color=Color.GRAY, width=1024)

    def scan(reflectance: float, roll: int) -> np.ndarray:
        return expose(np.full((258, web.width + 2, 3), reflectance, np.float32), web, roll, 0)

    flat_field = estimate_flat_field(scan(0, 0), scan(0.6, 0), target_dn=150)
    assert flat_field.bad_columns == ()
    lines = scan(0.45, 1)
    raw, corrected = lines.mean(axis=0), apply_flat_field(lines, prepare(flat_field)).mean(axis=0)
    assert np.ptp(raw) / raw.mean() > 0.15
    # Noise of about 1.7 DN, averaged over 258 lines, enters twice: 0.15 DN. The worst of 1,024 columns is further off.
    assert np.abs(corrected - corrected.mean()).max() < 1.0


def with_columns(lines: np.ndarray, columns: slice | list[int], value: float) -> np.ndarray:
    lines = lines.copy()
    lines[:, columns] = value
    return lines


DARK, BRIGHT = camera_lines(0, seed=1), camera_lines(130, seed=2)
DUSTY = (BRIGHT * np.where(abs(np.arange(WIDTH) - 150) < 2, 0.9, 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("dark", "bright", "message"),
    [
        (BRIGHT, DARK, "expected the dark reference below the bright one, got .* exchanged"),
        (DARK[:10], BRIGHT, "dark reference: expected at least 64 lines, got 10"),
        (DARK, BRIGHT[:, :-1], r"lines of one length, got \(300,\) and \(299,\)"),
        (DARK, BRIGHT.astype(np.float32), "bright reference: expected uint8"),
        (DARK, camera_lines(400), r"expected no saturated columns, got 300 of 300 \(0-299\)"),
        (DARK, camera_lines(20), "at least 40 DN above the dark one, got 1[0-9].*lengthen"),
        (DARK, DUSTY, "white reference: .*streak .* at column 149-151"),
        (DARK, with_columns(BRIGHT, slice(100, 109), 5), "at most 8 dead or hot columns, got 9: 100-108"),
    ],
)
def test_bad_references(dark: np.ndarray, bright: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate_flat_field(dark, bright, target_dn=180)


def test_dead_and_hot_columns_are_found() -> None:
    dark, bright = with_columns(DARK, [200], 90), with_columns(with_columns(BRIGHT, [200], 255), [40, 41], 6)
    flat_field = estimate_flat_field(dark, bright, target_dn=180)
    assert flat_field.bad_columns == (40, 41, 200)
    corrected = apply_flat_field(bright, prepare(flat_field)).mean(axis=0)
    np.testing.assert_allclose(corrected, 180, atol=5)


def test_good_material_may_be_less_even_than_a_white_target() -> None:
    """Material with a faint streak of its own is accepted, said to be material, and a deep streak is not."""
    faint = (BRIGHT * np.where(abs(np.arange(WIDTH) - 150) < 2, 0.94, 1)).astype(np.uint8)
    with pytest.raises(InputError, match="streak"):
        estimate_flat_field(DARK, faint, target_dn=120)
    flat_field = estimate_flat_field(DARK, faint, target_dn=120, reference=Reference.GOOD_MATERIAL)
    assert flat_field.reference is Reference.GOOD_MATERIAL
    deep = (BRIGHT * np.where(abs(np.arange(WIDTH) - 150) < 2, 0.8, 1)).astype(np.uint8)
    with pytest.raises(InputError, match=r"good_material reference: .*streak"):
        estimate_flat_field(DARK, deep, target_dn=120, reference=Reference.GOOD_MATERIAL)


def test_the_id_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.flat.json"
    for flat_field in (make_flat_field(bad=(3,)), make_flat_field((20, 3))):
        assert write_flat_field(path, flat_field) == flat_field.id
        read = read_flat_field(path)
        assert read.id == flat_field.id
        np.testing.assert_array_equal(read.gain, flat_field.gain)
    assert make_flat_field().id == make_flat_field().id
    assert len({make_flat_field().id, make_flat_field(seed=1).id, make_flat_field(bad=(3,)).id}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_dn": 181.0}, "expected id .* it changed"),
        ({"gain": [0.0] * 4}, "every gain in"),
        ({"gain": [1.0] * 3}, r"\(4,\) and \(3,\)"),
        ({"bad_columns": [4]}, "bad columns in order within 0 to 3"),
        ({"reference": "snow"}, "expected reference white, good_material, got 'snow'"),
        ({"schema_version": 2}, "schema_version"),
        ({"more": 1}, "more"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "a.flat.json"
    write_flat_field(path, make_flat_field((4,)))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        read_flat_field(path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.flat.json").write_text("hello")
    with pytest.raises(InputError, match=r"a\.flat\.json: Invalid JSON"):
        read_flat_field(tmp_path / "a.flat.json")


def test_wrong_lines_and_levels() -> None:
    flat_field = make_flat_field()
    with pytest.raises(InputError, match=r"lines of shape \(300,\), got uint8 \(299,\)"):
        apply_flat_field(np.zeros((4, 299), np.uint8), prepare(flat_field))
    with pytest.raises(InputError, match=r"got uint8 \(300, 3\)"):
        apply_flat_field(np.zeros((4, 300, 3), np.uint8), prepare(flat_field))
    check_flat_field_fits(flat_field, 180.4, "station")
    with pytest.raises(InputError, match="station: expected a flat field with target 150 DN, got 180 DN"):
        check_flat_field_fits(flat_field, 150, "station")
    with pytest.raises(ConfigError, match="target level"):
        estimate_flat_field(DARK, BRIGHT, target_dn=255)


def test_the_script_writes_it_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(PROJECT / "scripts/flat_field.py"))["main"]
    for name, lines in {"dark": DARK, "bright": BRIGHT, "1_incomplete": 0 * BRIGHT}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), lines)

    def run(dark: str, *bright: str) -> int:
        images = [tmp_path / f"{name}.png" for name in bright]
        arguments = ["--dark", tmp_path / f"{dark}.png", "--bright", *images, "--target-dn", 180]
        monkeypatch.setattr(sys, "argv", ["flat_field", *map(str, arguments), "--out", str(tmp_path / "x.flat.json")])
        return main()

    assert run("bright", "dark") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: flat field: expected the dark reference below")
    assert not (tmp_path / "x.flat.json").exists()
    assert run("dark", "bright") == 0
    expected = estimate_flat_field(DARK, BRIGHT, target_dn=180)
    assert read_flat_field(tmp_path / "x.flat.json").id == expected.id
    assert f"flat field {expected.id}" in capsys.readouterr().out
    assert run("dark", "bright", "1_incomplete") == 0
    assert capsys.readouterr().err == "left out: 1 incomplete frames\n"
    assert read_flat_field(tmp_path / "x.flat.json").id == expected.id
    assert run("dark", "1_incomplete") == 2
    assert "expected a complete frame, got 1 incomplete alone" in capsys.readouterr().err
