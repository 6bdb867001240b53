"""The example programs that receive deliveries."""

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.ports import free_port
from tests.waiting import wait_until


class ExampleReceiver:
    """An example that receives deliveries, in a process of its own, always at the same port."""

    def __init__(self, command: list[str], folder: Path, ledger: Path) -> None:
        self.port = free_port()
        self.command, self.folder, self.ledger = [*command, str(self.port), str(ledger)], folder, ledger
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], **self.environment()}
        with self.ledger.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        wait_until(self._listens, what="the receiver to listen")

    def environment(self) -> Mapping[str, str]:
        """What it is told in its environment."""
        return {}

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
