"""MLflow tracking against a real SQLite store, read back with sqlite3 alone."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from zellige.core.errors import ConfigError, InputError
from zellige.tracking import RunIdentity, check_run_name_free, flatten, log_run, make_store

FINGERPRINT = "0123456789abcdef" * 4
CONFIG = {"data": {"root": "räw", "fractions": [0.6, 0.2], "limit": None}, "model": {"layers": "x" * 900}, "seed": 3}
LOG_ONE = """
import signal, sys
from pathlib import Path
from zellige.tracking import RunIdentity, log_run
signal.signal(signal.SIGINT, signal.default_int_handler)
run_dir, store = Path(sys.argv[1]), Path(sys.argv[2])
identity = RunIdentity(run_name=run_dir.name, data_name="d", data_fingerprint="f", git_commit=None, bundle_id="b")
log_run(run_dir, store=store, experiment="e", identity=identity, config={}, metrics={"m": 1.0}, tags={},
        registered_model="zellige")
"""


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty_store, tmp_path / "ml é runs"))


def make_run_folder(root: Path, name: str) -> Path:
    run_dir = root / "runs" / name
    (run_dir / "pictures").mkdir(parents=True)
    for file in ("config.yaml", "report.json", "report.html", "data_report.json", "predictions.csv"):
        (run_dir / file).write_text(f"{file} of {name}")
    cv2.imwrite(str(run_dir / "pictures" / "scores.png"), np.arange(64, dtype=np.uint8).reshape(8, 8))
    (run_dir / f"{name}.zellige").write_bytes(b"bundle of " + name.encode())
    return run_dir


def log(run_dir: Path, store: Path, *, name: str | None = None, model: str | None = "zellige", **values: object) -> str:
    identity = RunIdentity(
        run_name=name or run_dir.name,
        data_name="magnetic tile",
        data_fingerprint=FINGERPRINT,
        git_commit="c0ffee",
        bundle_id="b1",
    )
    settings = {"config": CONFIG, "metrics": {"image_auroc": 0.75}, "tags": {"calibrated": "no"}, **values}
    return log_run(run_dir, store=store, experiment="e", identity=identity, registered_model=model, **settings)


def rows(store: Path, query: str) -> list[tuple]:
    with sqlite3.connect(store / "mlflow.db") as database:
        return database.execute(query).fetchall()


def run_names(store: Path) -> list[str]:
    return [name for (name,) in rows(store, "select name from runs where lifecycle_stage = 'active' order by name")]


def candidates(store: Path) -> list[tuple]:
    """The alias, the version, and the run that the version was made by."""
    return rows(
        store,
        "select a.alias, a.version, r.name from registered_model_aliases a join model_versions v on"
        " a.name = v.name and a.version = v.version join runs r on r.run_uuid = v.run_id",
    )


def artifact_files(store: Path) -> list[Path]:
    return [path for path in (store / "artifacts").rglob("*") if path.is_file()]


def test_a_run_is_stored_with_settings_metrics_tags_and_data_set(store: Path, tmp_path: Path) -> None:
    metrics = {"image_auroc": 0.75, "escape_rate/hölle (b)": 0.5, "pixel_auroc": None, "aupro": float("nan")}
    run_id = log(make_run_folder(tmp_path, "tiles-1"), store, metrics=metrics)

    assert rows(store, "select name, status, run_uuid from runs") == [("tiles-1", "FINISHED", run_id)]
    assert dict(rows(store, "select key, value from latest_metrics")) == {
        "image_auroc": 0.75,
        "escape_rate/hölle _28_b_29_": 0.5,
    }
    params = dict(rows(store, "select key, value from params"))
    long = params.pop("model.layers")
    assert params == {"data.root": "räw", "data.fractions": "[0.6, 0.2]", "data.limit": "null", "seed": "3"}
    assert long == "x" * 500 + "… (900 characters, whole in config.yaml)"
    tags = dict(rows(store, "select key, value from tags"))
    assert tags["zellige.run_name"] == tags["mlflow.runName"] == "tiles-1"
    assert tags["zellige.bundle_id"] == "b1"
    assert tags["zellige.data_fingerprint"] == FINGERPRINT
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["calibrated"] == "no"
    assert rows(store, "select name, digest from datasets") == [("magnetic tile", FINGERPRINT[:36])]


def test_the_files_of_a_run_are_stored_byte_for_byte(store: Path, tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path, "a")
    run_id = log(run_dir, store)
    folder = store / "artifacts" / run_id / "artifacts"
    stored = {path.relative_to(folder).as_posix(): path.read_bytes() for path in artifact_files(store)}
    expected = {
        path.relative_to(run_dir).as_posix(): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()
    }
    expected["bundle/a.zellige"] = expected.pop("a.zellige")
    assert stored == expected


def test_the_newest_run_is_the_candidate_and_its_version_points_to_its_bundle(store: Path, tmp_path: Path) -> None:
    log(make_run_folder(tmp_path, "a"), store)
    run_id = log(make_run_folder(tmp_path, "b"), store)
    assert candidates(store) == [("candidate", 2, "b")]
    ((source,),) = rows(store, "select source from model_versions where version = 2")
    assert source == (store / "artifacts" / run_id / "artifacts" / "bundle").as_uri()
    tags = rows(store, "select version, value from model_version_tags where key = 'zellige.run_name' order by version")
    assert tags == [(1, "a"), (2, "b")]


def test_a_run_without_a_bundle_makes_no_version(store: Path, tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path, "a")
    (run_dir / "a.zellige").unlink()
    log(run_dir, store, model=None)
    assert rows(store, "select * from registered_models") == []


def test_a_taken_name_is_refused_and_another_experiment_may_have_it(store: Path, tmp_path: Path) -> None:
    check_run_name_free(store, "e", "a")
    log(make_run_folder(tmp_path, "a"), store)
    with pytest.raises(ConfigError, match=r"run_name must be new, a exists: experiment e of .*ml é runs"):
        check_run_name_free(store, "e", "a")
    with pytest.raises(ConfigError, match="run_name must be new"):
        log(tmp_path / "runs" / "a", store)
    check_run_name_free(store, "another", "a")
    assert run_names(store) == ["a"]
    assert candidates(store) == [("candidate", 1, "a")]


@pytest.mark.parametrize("name", ["", ".", ".hidden", "-x", "a/b", "it's", "a b", "a\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(store: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="run_name must be letters"):
        check_run_name_free(store, "e", name)


def test_a_run_folder_under_its_temporary_name_is_taken(store: Path, tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path, "a")
    log(run_dir.rename(run_dir.with_name(".a.partial")), store, name="a")
    assert run_names(store) == ["a"]


def test_a_run_folder_of_another_run_or_with_missing_files_is_refused(store: Path, tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path, "a")
    with pytest.raises(InputError, match="expected b, got a"):
        log(run_dir, store, name="b")
    (run_dir / "report.json").unlink()
    (run_dir / "a.zellige").unlink()
    with pytest.raises(InputError, match=r"lacks report\.json, a\.zellige: .*runs/a"):
        log(run_dir, store)
    assert run_names(store) == []


def unreadable_picture(run_dir: Path, store: Path) -> None:
    (run_dir / "pictures" / "zz.png").symlink_to("/proc/self/mem")


def full_database(run_dir: Path, store: Path) -> None:
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute(
            "create trigger full before update on registered_model_aliases begin select raise(abort, 'disk full'); end"
        )


@pytest.mark.parametrize("spoil", [unreadable_picture, full_database])
def test_a_failure_takes_the_whole_run_back(store: Path, tmp_path: Path, spoil: Callable[[Path, Path], None]) -> None:
    log(make_run_folder(tmp_path, "good"), store)
    before = sorted(artifact_files(store))
    run_dir = make_run_folder(tmp_path, "bad")
    spoil(run_dir, store)
    with pytest.raises(ConfigError) as caught:
        log(run_dir, store)
    assert len(str(caught.value).splitlines()) == 1
    assert str(store) in str(caught.value)
    assert run_names(store) == ["good"]
    assert sorted(artifact_files(store)) == before
    assert candidates(store) == [("candidate", 1, "good")]

    (run_dir / "pictures" / "zz.png").unlink(missing_ok=True)
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute("drop trigger if exists full")
    log(run_dir, store)
    assert run_names(store) == ["bad", "good"]


def test_a_failure_of_the_first_run_leaves_no_registered_model(store: Path, tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path, "bad")
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute(
            "create trigger full before insert on registered_model_aliases begin select raise(abort, 'disk full'); end"
        )
    with pytest.raises(ConfigError, match="disk full"):
        log(run_dir, store)
    assert rows(store, "select * from registered_models") == []
    assert run_names(store) == []


def interrupt_while_copying(run_dir: Path, store: Path, number: int) -> int:
    """Log in another process and send it a signal while the bundle (a 4 GiB hole) is copied; return its exit code."""
    with (run_dir / f"{run_dir.name}.zellige").open("wb") as bundle:
        bundle.truncate(2**32)
    process = subprocess.Popen([sys.executable, "-c", LOG_ONE, str(run_dir), str(store)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(store.glob("artifacts/*/artifacts/bundle/*")):
        time.sleep(0.002)
    process.send_signal(number)
    code = process.wait(timeout=60)
    (run_dir / f"{run_dir.name}.zellige").write_bytes(b"small")
    return code


def test_ctrl_c_takes_the_run_back(store: Path, tmp_path: Path) -> None:
    code = interrupt_while_copying(make_run_folder(tmp_path, "a"), store, signal.SIGINT)
    assert code != 0
    assert run_names(store) == []
    assert artifact_files(store) == []
    assert rows(store, "select * from registered_models") == []


def test_what_a_killed_process_left_is_replaced(store: Path, tmp_path: Path) -> None:
    code = interrupt_while_copying(make_run_folder(tmp_path, "a"), store, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert rows(store, "select name, status from runs") == [("a", "RUNNING")]
    check_run_name_free(store, "e", "a")
    run_id = log(tmp_path / "runs" / "a", store)
    assert rows(store, "select run_uuid from runs where lifecycle_stage = 'active'") == [(run_id,)]
    assert {path.relative_to(store / "artifacts").parts[0] for path in artifact_files(store)} == {run_id}


def test_two_processes_may_make_the_store_and_log_at_once(tmp_path: Path) -> None:
    store = tmp_path / "new" / "mlruns"
    folders = [make_run_folder(tmp_path, name) for name in ("a", "b")]
    processes = [subprocess.Popen([sys.executable, "-c", LOG_ONE, str(folder), str(store)]) for folder in folders]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert run_names(store) == ["a", "b"]
    assert sorted(rows(store, "select version from model_versions")) == [(1,), (2,)]
    assert len(candidates(store)) == 1


def test_an_interrupted_making_of_the_store_is_made_again(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.partial").write_bytes(b"half")
    make_store(tmp_path)
    assert rows(tmp_path, "select name from experiments") == [("Default",)]
    assert not (tmp_path / ".mlflow.db.partial").exists()


def test_an_unusable_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    for store in (tmp_path / "file", tmp_path, tmp_path / "50%"):
        with pytest.raises(ConfigError) as caught:
            check_run_name_free(store, "e", "a")
        assert len(str(caught.value).splitlines()) == 1
        assert str(store) in str(caught.value)


def test_settings_are_flattened_to_dotted_keys() -> None:
    nested = {"a": {"b": {"c": 1.5}, "empty": {}}, "yes": True, "text": "1", "kinds": ["é"], "root": Path("x")}
    assert flatten(nested) == {
        "a.b.c": "1.5",
        "a.empty": "{}",
        "yes": "true",
        "text": "1",
        "kinds": '["é"]',
        "root": '"x"',
    }
