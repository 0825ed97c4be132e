"""Small image sets that need no download, and the real programs, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import pytest

RUN_TESTS = (
    "tests/export/test_export_script.py",
    "tests/pipeline/test_extend.py",
    "tests/pipeline/test_mine.py",
    "tests/pipeline/test_station_install.py",
    "tests/pipeline/test_suggest.py",
    "tests/pipeline/test_train.py",
    "tests/pipeline/test_train_distributed.py",
)
"""They share one program server and one trained run, which take half a minute to make: they belong on one worker."""

PROGRAM_TESTS = (
    "tests/configs/test_configs.py",
    "tests/data/test_label_report.py",
    "tests/pipeline/test_auto_stages.py",
    "tests/pipeline/test_bad_input.py",
    "tests/pipeline/test_compare.py",
    "tests/pipeline/test_folds.py",
    "tests/pipeline/test_name_kinds.py",
    "tests/pipeline/test_notebooks.py",
    "tests/pipeline/test_roll_of_pictures.py",
    "tests/pipeline/test_screen.py",
    "tests/pipeline/test_sweep.py",
    "tests/pipeline/test_train_gradient.py",
    "tests/pipeline/test_train_supervised.py",
)
"""They share one program server and one comparison, and need no trained run: they belong on another worker."""

GROUPS = {"runs": RUN_TESTS, "programs": PROGRAM_TESTS}
SLOW_FIRST = tuple(f"tests/{folder}/" for folder in ("pipeline", "export", "models", "training"))

PROJECT = Path(__file__).parents[1]
HEIGHT, WIDTH = 96, 112
TILES = ("geometry=tiles", "geometry.height=64", "geometry.width=64", "geometry.overlap_px=16")


def texture(seed: int, *, rgb: bool = False, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A cloudy surface; every seed gives another one. (H, W) or (H, W, 3 RGB) uint8."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, size), (0, 0), 3)
    gray = np.clip(128 + 25 * noise / noise.std(), 0, 255).astype(np.uint8)
    return np.dstack([gray, gray // 2, 255 - gray]) if rgb else gray


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    path.write_bytes(cv2.imencode(path.suffix, stored)[1].tobytes())


def make_image_set(root: Path, *, rgb: bool = False, num: tuple[int, int, int, int] = (10, 8, 6, 6)) -> Path:
    """Write train/good, val/good, test/good and test/hole (a bright square of 14 px, with a mask), so many of each."""
    seed = 0
    for folder, count in zip(("train/good", "val/good", "test/good", "test/hole"), num, strict=True):
        for index in range(count):
            pixels = texture(seed, rgb=rgb)
            if folder == "test/hole":
                y, x = 10 + 11 * index % 60, 12 + 13 * index % 80
                pixels[y : y + 14, x : x + 14] = 255
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                mask[y : y + 14, x : x + 14] = 255
                save_image(root / f"ground_truth/hole/{index:02}_mask.png", mask)
            save_image(root / folder / f"{index:02}.png", pixels)
            seed += 1
    return root


def pytest_configure(config: pytest.Config) -> None:
    """Compute with one thread where several workers share the cores; take interrupts as usual where they are ignored.

    They are ignored where the tests were started in the background of a shell. A process hands "ignored" on to the
    programs that it starts, and those are to be interrupted.
    """
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the tests of a file, and those of each of GROUPS, on one worker (pytest 9.2 ignores `xdist_group`)."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return next((name for name, files in GROUPS.items() if file in files), file)

    config.option.loadscopereorder = False  # the number of tests says little of their time; see below
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers begin with what takes long, so that none of it is left for the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(item.nodeid.split("::", 1)[0]))


def _rank(file: str) -> int:
    if file in RUN_TESTS or file in PROGRAM_TESTS:
        return 0
    return 1 if file.startswith(SLOW_FIRST) else 2


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    out: str
    err: str

    def mistake(self) -> str:
        """The one line of a program that ended for a user's mistake, and that said and did nothing else."""
        assert self.code == 2, self.err
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err


@dataclass(kw_only=True)
class Started:
    """A program that runs; its output is complete when it has ended."""

    ask: Callable[[object], object]
    process: int
    files: tuple[Path, Path]
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            code = self.ask({"poll": self.process})
            assert code is None or isinstance(code, int)
            self.code = code
        return self.code

    def wait(self, seconds: float = 240) -> Ended:
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < end, "the program does not end"
            time.sleep(0.02)
        return self.ended(code)

    def ended(self, code: int) -> Ended:
        out, err = (path.read_text() for path in self.files)
        return Ended(code=code, out=out, err=err)


class Programs:
    """Starts the scripts of `scripts/`; see program_server.py."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._server = subprocess.Popen(
            [sys.executable, PROJECT / "tests/program_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._server.stdout is not None
        assert json.loads(self._server.stdout.readline()) == "ready"

    def start(
        self,
        script: str,
        *arguments: object,
        folder: Path = PROJECT,
        modules: Sequence[Path] = (),
        environment: Mapping[str, object] = MappingProxyType({}),
    ) -> Started:
        """Start a script in `folder`, with modules of `modules` before all others and more in its environment."""
        self._count += 1
        files = (self._folder / f"{self._count}.out", self._folder / f"{self._count}.err")
        request = {
            "script": str(PROJECT / "scripts" / script),
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "modules": [str(path) for path in modules],
            "environment": {key: str(value) for key, value in environment.items()},
            "out": str(files[0]),
            "err": str(files[1]),
        }
        process = self._ask({"start": request})
        assert isinstance(process, int)
        return Started(ask=self._ask, process=process, files=files)

    def run(self, script: str, *arguments: object, folder: Path = PROJECT, modules: Sequence[Path] = ()) -> Ended:
        return self.start(script, *arguments, folder=folder, modules=modules).wait()

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=30)

    def _ask(self, request: object) -> object:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    running = Programs(tmp_path_factory.mktemp("programs"))
    yield running
    running.close()


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """One run of scripts/train.py on gray tiles, which many tests look at and none changes."""

    root: Path
    name: str
    ended: Ended

    @property
    def folder(self) -> Path:
        return self.root / "runs" / self.name

    @property
    def data(self) -> Path:
        return self.root / "images"

    @property
    def bundle(self) -> Path:
        return self.folder / f"{self.name}.zellige"


def train_arguments(root: Path, name: str, *more: str, data: Path | None = None) -> list[str]:
    """Arguments of scripts/train.py for a small run under `root`."""
    return [
        "data=folder",
        f"data.root={data or root / 'images'}",
        *TILES,
        "model.bank_size=128",
        "engine.num_threads=1",
        f"runs_dir={root / 'runs'}",
        f"tracking.store={root / 'mlruns'}",
        f"run_name={name}",
        *more,
    ]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store without runs, to be copied: making one takes seconds."""
    from zellige.tracking import make_store

    store = tmp_path_factory.mktemp("template") / "mlruns"
    make_store(store)
    return store


@pytest.fixture(scope="session")
def trained_run(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    root = tmp_path_factory.mktemp("finished")
    make_image_set(root / "images")
    ended = programs.run("train.py", *train_arguments(root, "gray-tiles"))
    assert ended.code == 0, ended.err
    return TrainedRun(root=root, name="gray-tiles", ended=ended)
