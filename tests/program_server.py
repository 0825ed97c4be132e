"""Run the scripts in forked processes of their own, after the heavy imports were paid once.

Reads one JSON request a line, answers one JSON line each: {"start": {...}} gives the new process's id, {"poll": id}
its exit code or null. Ends with its standard input.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import traceback

HEAVY = (
    "alembic.command",
    "matplotlib.pyplot",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "onnxscript",
    "pygments.formatters.html",
    "sklearn.metrics",
    "sqlalchemy.dialects.sqlite",
    "torch._dynamo",
    "torch.onnx._internal.exporter",
    "zellige.comparison",
    "zellige.extension",
    "zellige.finished_run",
    "zellige.release",
    "zellige.shared_run",
    "zellige.suggestion",
    "zellige.sweep",
    "zellige.training.gradient",
    "zellige.training.one_pass",
    "zellige.training.supervised",
)


def preload() -> None:
    """Import, compose and export once: the first time, both read what every later time is made from."""
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in HEAVY:
        importlib.import_module(name)
    compose_something()
    export_something()
    gc.freeze()  # what is there stays: no process has to look through it for what can go


def compose_something() -> None:
    from hydra import compose, initialize_config_dir

    from zellige.config import PROJECT, register_schemas

    register_schemas()
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        compose("train", ["data=folder", "data.root=x", "geometry=tiles", "model.stages=[1]"])


def export_something() -> None:
    import torch

    from zellige.core.types import Color, Geometry, GeometryMode
    from zellige.export.onnx import to_onnx
    from zellige.models.detector import DetectorOutput

    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> DetectorOutput:
            return DetectorOutput(anomaly_map=images.float(), score=images.float().mean((1, 2, 3)))

    to_onnx(Brightness(), geometry=Geometry(mode=GeometryMode.RESIZE, height=32, width=32), color=Color.GRAY)


def start(
    script: str, arguments: list[str], folder: str, modules: list[str], environment: dict[str, str], out: str, err: str
) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [script, *arguments]
        sys.path[:0] = [*modules, os.path.dirname(script)]  # noqa: PTH120
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def poll(process: int) -> int | None:
    done, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def serve() -> None:
    preload()
    print(json.dumps("ready"), flush=True)  # noqa: T201
    for line in sys.stdin:
        request = json.loads(line)
        answer = start(**request["start"]) if "start" in request else poll(request["poll"])
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve()
