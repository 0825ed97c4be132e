import json
import math
import re
from pathlib import Path

import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.run_folder import check_run_name, new_run_name, run_folder, write_json
from zellige.training.resume import RESUME_FILE


def test_it_appears_whole(tmp_path: Path) -> None:
    with run_folder(tmp_path / "runs", "a") as folder:
        assert folder.parent == tmp_path / "runs"
        assert not (tmp_path / "runs/a").exists()
        (folder / "result").write_text("1")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "runs",
        "runs/a",
        "runs/a/result",
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_gone_after_any_error(tmp_path: Path, error: type[BaseException]) -> None:
    def fill() -> None:
        with run_folder(tmp_path, "a") as folder:
            (folder / "half").write_text("1")
            raise error

    with pytest.raises(error):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_an_older_rest_is_cleared_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a.partial/rest").mkdir(parents=True)

    def interrupted(path: Path) -> None:
        assert path.name == "rest"
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), run_folder(tmp_path, "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_may_not_make_the_same_run(tmp_path: Path) -> None:
    with run_folder(tmp_path, "a") as folder:
        (folder / "mine").write_text("1")
        with pytest.raises(ConfigError, match=r"another process is making .*/\.a\.partial"), run_folder(tmp_path, "a"):
            pass
        with run_folder(tmp_path, "b"):
            pass
        assert (folder / "mine").exists()
    assert (tmp_path / "a/mine").exists()
    with pytest.raises(ConfigError, match="exists already"), run_folder(tmp_path, "a"):
        pass
    assert (tmp_path / "a/mine").exists()


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "../a", "a b", "ñ", "a\n", "x" * 101])
def test_names_that_are_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="run_name: expected letters"):
        check_run_name(tmp_path, name)


@pytest.mark.parametrize("data_name", ["floor", "Böden (2) ñ", "..", "", "x" * 300, "a/b"])
def test_a_name_of_our_own_is_always_a_good_one(tmp_path: Path, data_name: str) -> None:
    name = new_run_name(data_name, "patchcore")
    check_run_name(tmp_path, name)
    assert re.search(r"-patchcore-\d{8}-\d{6}$", name)


def test_json_is_strict_and_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": "ñ", "a": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, None], "b": "ñ"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, None], "b": "ñ"}
    assert list(tmp_path.iterdir()) == [path]


def fail_with(error: type[BaseException], folder: Path) -> None:
    with run_folder(folder, "a") as partial:
        (partial / RESUME_FILE).write_text("state")
        (partial / "half").write_text("1")
        (partial / "predictions").mkdir()
        raise error


def test_the_state_of_a_fit_outlives_an_error_but_not_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        fail_with(InputError, tmp_path)
    assert [path.name for path in (tmp_path / ".a.partial").iterdir()] == [RESUME_FILE]
    with run_folder(tmp_path, "a") as partial:
        assert (partial / RESUME_FILE).read_text() == "state"
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        fail_with(KeyboardInterrupt, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_of_a_killed_process_only_the_state_is_left(tmp_path: Path) -> None:
    left = tmp_path / ".a.partial"
    (left / "predictions").mkdir(parents=True)
    for name in (RESUME_FILE, f"{RESUME_FILE}.partial", "config.yaml", "predictions/x.npy"):
        (left / name).write_text("1")
    with run_folder(tmp_path, "a") as partial:
        assert [path.name for path in partial.iterdir()] == [RESUME_FILE]
    assert list((tmp_path / "a").iterdir()) == []
