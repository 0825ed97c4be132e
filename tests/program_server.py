"""Run the scripts in forked processes of their own, after the heavy imports were paid once.

Reads one JSON request a line, answers one JSON line each: {"start": {...}} gives the new process's id, {"poll": id}
its exit code or null. Ends with its standard input.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import traceback

HEAVY = (
    "matplotlib.pyplot",
    "onnxscript",
    "sklearn.metrics",
    "torch._dynamo",
    "torch.onnx._internal.exporter",
    "zellige.finished_run",
    "zellige.release",
    "zellige.training.gradient",
    "zellige.training.one_pass",
)


def preload() -> None:
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in HEAVY:
        importlib.import_module(name)


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
