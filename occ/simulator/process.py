"""The simulator as a process of its own: how tests, the demo and benchmarks start it and how it knows when to end."""

import json
import os
import select
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from occ.simulator.client import SimulatorClient

ROOT = Path(__file__).resolve().parents[2]
CHECK_PARENT_EVERY = 0.25
PATIENCE = 20.0
DEFAULTS = ("--json", "--port", "0", "--control-port", "0", "--tenants", "0")


class SimulatorProcess:
    """`python -m occ.simulator` with a client for its control port; ends with the context, and with our own process.

    Free ports and no stores unless `arguments` (of the command line, such as ["--latency", "0.05"]) say otherwise.
    Raises RuntimeError if it does not start.
    """

    def __init__(self, arguments: Sequence[str] = (), *, environ: Mapping[str, str] | None = None) -> None:
        self._arguments = arguments
        self._environ = environ
        self.started: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "occ.simulator", *DEFAULTS, "--with-parent", str(os.getpid()), *self._arguments],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        stdout = self._process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line:
            self._end()
            raise RuntimeError("the simulator did not start; its complaint is on standard error")
        self.started = json.loads(line)
        self.client = SimulatorClient(self.started["control_url"])
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        self._end()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def dev_stores(self) -> str:
        """What OCC_DEV_STORES has to be for its stores."""
        return str(self.started["dev_stores"])

    def _end(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def watch_parent(parent: int, gone: Callable[[], object], *, watch_pipe: bool = True) -> None:
    """Call `gone` once process `parent` is no longer our parent, or a pipe on standard input has ended.

    Polled, because a death signal would already come when the thread that started us ends.
    """

    def watch() -> None:
        listens = watch_pipe and sys.stdin is not None and stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
        while os.getppid() == parent and not (listens and _ended(sys.stdin.fileno())):
            if not listens:
                time.sleep(CHECK_PARENT_EVERY)
        gone()

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def _ended(pipe: int) -> bool:
    ready, _, _ = select.select([pipe], [], [], CHECK_PARENT_EVERY)
    return bool(ready) and not os.read(pipe, 4096)
