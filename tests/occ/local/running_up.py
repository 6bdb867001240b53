"""`./run up` as a process, and what it says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from occ.local.processes import PROJECT
from tests.processes import is_running
from tests.waiting import wait_until


class Up:
    """A running `./run up` and what it says."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.data = folder / "data"
        self._output, self._log = folder / "output", folder / "log"
        environment = {**os.environ, "OCC_DATA_DIR": str(self.data), "PYTHONPATH": str(PROJECT), **settings}
        with self._output.open("wb") as output, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "occ.local.up", *options],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )

    @property
    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def started(self) -> dict[str, int]:
        """The latest process id of each supervised process."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return {
            line["process"]: line["pid"] for line in lines if line["event"] in {"process_started", "process_restarted"}
        }

    def await_words(self, words: str) -> None:
        wait_until(lambda: words in self.said + self.log, meanwhile=self._still_there)

    def _still_there(self) -> None:
        assert self.process.poll() is None, self.log


@contextmanager
def up(folder: Path, *options: str, **settings: str) -> Iterator[Up]:
    up = Up(folder, *options, **settings)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()
        wait_until(lambda: not any(is_running(process) for process in up.started.values()))
