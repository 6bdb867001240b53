"""Clocks that a test can set: real programs, with `moved_clock.c` preloaded."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from occ.local.server import EmbeddedServer
from occ.local.server_binary import ServerBinary, find_server_binary
from tests.waiting import wait_until

_SOURCE = Path(__file__).with_name("moved_clock.c")


class MovedClock:
    """The wall clock of the programs that are started with this environment; right until it is set."""

    def __init__(self, folder: Path) -> None:
        """Raises LookupError where nothing can be compiled and preloaded."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None or not sys.platform.startswith("linux"):
            raise LookupError("no C compiler to make a clock that can be set with, or no Linux")
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "moved_clock.so"
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise LookupError("the C compiler cannot make a library to preload")
        self._off_by = folder / "off-by"
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFF_BY": str(self._off_by)}

    def set(self, off_by: int) -> None:
        """From now on it is wrong by so many seconds."""
        written = self._off_by.with_suffix(".new")
        written.write_text(str(off_by))
        written.replace(self._off_by)


class ClockedServer(EmbeddedServer):
    """A server whose clock can be set."""

    def __init__(self, folder: Path) -> None:
        """Raises LookupError where nothing can be compiled and preloaded."""
        self._moved = MovedClock(folder.with_name(f"{folder.name}.clock"))
        program = find_server_binary(os.environ.get("OCC_SERVER_PROGRAM", ""))
        wrapper = folder.with_name(f"{folder.name}.program")
        exports = " ".join(f"{name}='{value}'" for name, value in self._moved.environment.items())
        wrapper.write_text(f"#!/bin/sh\nexport {exports}\nexec '{program.path}' \"$@\"\n")
        wrapper.chmod(0o700)
        super().__init__(folder, binary=ServerBinary(str(wrapper), program.name, program.version))

    def set_clock(self, off_by: int) -> None:
        """From now on its clock is wrong by so many seconds."""
        self._moved.set(off_by)
        with redis.Redis.from_url(self.url) as client:  # it remembers the time for a moment
            wait_until(lambda: abs(client.time()[0] - time.time() - off_by) < 10, what="the clock to be set")


def clocked_server(folder: Path) -> ClockedServer:
    """A server with a clock that can be set; skips the test where there is no compiler."""
    try:
        return ClockedServer(folder)
    except LookupError as reason:
        pytest.skip(str(reason))
