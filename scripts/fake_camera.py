"""Aravis's fake GigE camera on 127.0.0.1, started for a measurement and killed in the middle of it."""

import os
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ADDRESS = "127.0.0.1"


class FakeCamera:
    """A context manager. Needs aravis-tools, and nothing else on port 3956 of 127.0.0.1."""

    def __init__(self, *, lost_per_thousand: float = 0) -> None:
        self._command = ["arv-fake-gv-camera-0.8", "-i", ADDRESS, "-r", str(lost_per_thousand)]
        self._timer: threading.Timer | None = None
        self._cpu_s = 0.0
        self.num_restarts = 0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._kill()

    def restart_after(self, seconds: float, away_s: float) -> None:
        """Kill the camera in so many seconds, and start it anew after some more."""
        self._timer = threading.Timer(seconds, self._restart, [away_s])
        self._timer.start()

    def cpu_s(self) -> float:
        """CPU seconds of the camera so far. Source: proc(5), fields utime and stime of stat."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return self._cpu_s + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command)
        time.sleep(0.3)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _restart(self, away_s: float) -> None:
        self._cpu_s = self.cpu_s()
        self._kill()
        time.sleep(away_s)
        self._start()
        self.num_restarts += 1
