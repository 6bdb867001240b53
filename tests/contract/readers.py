"""The example readers of events in processes of their own, under the rights that docs/security.md gives them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

TAKE_OVER_AFTER = 0.4  # seconds
TOLD = b"look at everything"


@dataclass
class Readers:
    """Starts readers on one ledger, and ends those that are left."""

    command: Sequence[str]
    folder: Path
    ledger: Path
    url: str
    repeats: int  # a file knows no transactions: two that take each other for dead may both write a line
    settings: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _started: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.running):
            self.kill(name)

    def start(self) -> str:
        """One more, under a name nobody had."""
        self._started += 1
        name = f"reader-{self._started}"
        with self._output(name).open("wb") as output:
            self.running[name] = subprocess.Popen(
                [*self.command, name, str(self.ledger)],
                cwd=self.folder,
                env={
                    "PATH": os.environ["PATH"],
                    "REDIS_URL": self.url,
                    "TAKE_OVER_AFTER": str(TAKE_OVER_AFTER),
                    **self.settings,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return name

    def kill(self, name: str) -> None:
        """Without a chance to tidy up."""
        reader = self.running.pop(name)
        assert reader.poll() is None, self.output(name).decode()
        reader.kill()
        reader.wait(timeout=180)

    def output(self, name: str) -> bytes:
        """Everything a reader has written."""
        return self._output(name).read_bytes()

    def _output(self, name: str) -> Path:
        return self.ledger.with_name(f"{name}.log")


def python_command() -> list[str]:
    """How the example for Python is started."""
    return [sys.executable, "follow_events.py"]


def node_command() -> list[str]:
    """How the example for Node is started."""
    return ["node", "follow-events.mjs"]
