"""The settings of a model that compares: who sees templates, and what is refused before a run."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import save_image
from tests.data.test_pairs import SIZE, write_set
from tests.shifted import surface
from zellige.comparison_runs import write_templates
from zellige.config import ExportConfig, GeometryConfig, TrainConfig, to_geometry
from zellige.config_data import DataConfig, load_data
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Registration
from zellige.models.padim import Padim
from zellige.release import check_ready

MODEL = SimpleNamespace(_target_="zellige.models.padim.Padim", name="padim")


def data(root: Path) -> DataConfig:
    return DataConfig(name="set", layout="manifest", root=str(root), duplicates="ignore")


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model that is there say that it compares."""
    monkeypatch.setattr(Padim, "is_pair", True, raising=False)


def test_only_a_model_that_compares_sees_templates(tmp_path: Path) -> None:
    config = data(write_set(tmp_path))
    as_read, report = load_data(config)
    alone, same = load_data(config, MODEL)
    assert all(sample.template_path for sample in as_read.test)
    assert not any(sample.template_path for part in alone.labelled().values() for sample in part)
    assert same.fingerprint == report.fingerprint == alone.fingerprint


def test_a_model_that_compares_needs_them(tmp_path: Path, comparing: None) -> None:
    config = data(write_set(tmp_path))
    assert all(sample.template_path for part in load_data(config, MODEL)[0].labelled().values() for sample in part)
    rows = (tmp_path / "manifest.csv").read_text().splitlines()
    (tmp_path / "manifest.csv").write_text("\n".join([*rows[:-1], rows[-1].rsplit(",", 1)[0] + ","]))
    with pytest.raises(InputError, match=r"expected a template for each image, .*; 1 of 12 have none, first img/11"):
        load_data(config, MODEL)


def test_a_target_of_others_is_not_imported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"_target_: expected one that begins with zellige\.models\."):
        load_data(data(write_set(tmp_path)), SimpleNamespace(_target_="os.system"))


def test_the_geometry_says_how_to_register() -> None:
    geometry = to_geometry(GeometryConfig(mode="tiles", registration="translation", search_px=5))
    assert (geometry.registration, geometry.search_px) == (Registration.TRANSLATION, 5)
    assert to_geometry(GeometryConfig(mode="resize")).registration is Registration.NONE
    with pytest.raises(ConfigError, match=r"geometry\.registration: expected one of none, translation, got 'ecc'"):
        to_geometry(GeometryConfig(mode="resize", registration="ecc"))


def test_a_comparison_tells_the_station_which_template_is_whose(tmp_path: Path) -> None:
    splits, _ = load_data(data(write_set(tmp_path / "a, b")))
    table = write_templates(splits.test, tmp_path / "templates.csv")
    assert table is not None
    with table.open(newline="") as file:
        rows = [(row["image"], row["template"]) for row in csv.DictReader(file)]
    assert rows == [(str(sample.image_path), str(sample.template_path)) for sample in splits.test]
    alone, _ = load_data(data(tmp_path / "a, b"), MODEL)
    assert write_templates(alone.test, tmp_path / "none.csv") is None


def test_the_bundles_template_must_fit_the_set(tmp_path: Path, comparing: None) -> None:
    root = write_set(tmp_path, num=40)
    given = tmp_path / "own.png"

    def check(model: object) -> None:
        splits, report = load_data(data(root), model)
        geometry = GeometryConfig(mode="resize", height=64, width=64)
        export = ExportConfig(template=str(given))
        check_ready(
            TrainConfig(data=data(root), geometry=geometry, model=MODEL, trainer=None, export=export), splits, report
        )

    save_image(given, surface(0, SIZE))
    check(MODEL)
    alone = SimpleNamespace(_target_="zellige.models.patchcore.PatchCore")
    with pytest.raises(ConfigError, match=r"export\.template=.*own\.png: expected a model that compares"):
        check(alone)
    save_image(given, surface(0, (64, 90)))
    with pytest.raises(InputError, match=r"own\.png: expected the size of the images, 64 to 64 px high and 80 to 80"):
        check(MODEL)
    given.unlink()
    with pytest.raises(InputError, match=r"template .*own\.png: cannot be read"):
        check(MODEL)
