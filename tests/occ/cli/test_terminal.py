"""On a real terminal: a table that is redrawn, a cursor that comes back, a key that is not shown."""

import errno
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from integrations.connections.record import Cause
from integrations.connections.records import Records
from tests.integrations.oracle_commerce.fakes import slot
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import PROJECT
from tests.occ.cli.many import asked, rest
from tests.waiting import wait_until

SHOW_CURSOR = "\x1b[?25h"


@dataclass
class Terminal:
    """What a program in a terminal of 80 columns shows, and a keyboard."""

    pid: int
    descriptor: int
    shown: str = ""
    exit_code: int | None = field(default=None)

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        """Until this is on the screen."""
        while text not in self.shown:
            assert self._read(), f"ended without {text!r}: {self.shown[-500:]}"

    def wait_for_end(self) -> int:
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code

    def _read(self) -> bool:
        try:
            read = os.read(self.descriptor, 65536)
        except OSError as error:  # Linux says so when the program has ended
            if error.errno != errno.EIO:
                raise
            return False
        self.shown += read.decode()
        return bool(read)


@contextmanager
def terminal(*arguments: str, **variables: str) -> Iterator[Terminal]:
    """`occ` in a terminal of its own."""
    command = [sys.executable, "-m", "occ.cli", *arguments]
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(PROJECT), **variables}
    pid, descriptor = pty.fork()
    if not pid:
        os.execve(sys.executable, command, environment)  # noqa: S606
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    started = Terminal(pid, descriptor)
    try:
        yield started
    finally:
        if started.exit_code is None:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.close(descriptor)


@pytest.mark.server
@pytest.mark.usefixtures("installation")
def test_a_watched_connection_is_a_table_that_changes(worker: Worker) -> None:
    worker.begin()
    worker.prove_key()
    worker.count_shipping_methods(1)
    with terminal("status", "m-1", "--watch") as screen:
        screen.wait_for("shipment-update")
        worker.wait(slot("order-update"), Cause("store_error", "HTTP 503"), seconds=40)
        screen.wait_for("store_error (HTTP 503)")
        worker.register("order-submit")
        screen.wait_for("registered")
        screen.type("\x03")
        assert screen.wait_for_end() == 130
    assert SHOW_CURSOR in screen.shown
    assert "Traceback" not in screen.shown


@pytest.mark.server
@pytest.mark.usefixtures("installation")
def test_all_connections_are_watched_in_one_table(worker: Worker) -> None:
    worker.begin("m-1")
    with terminal("status", "--watch") as screen:
        screen.wait_for("1 connections")
        worker.connect("m-2")
        screen.wait_for("2 connections")
        os.kill(screen.pid, 15)
        assert screen.wait_for_end() == 143
    assert SHOW_CURSOR in screen.shown


@pytest.mark.server
@pytest.mark.usefixtures("installation")
def test_a_terminal_that_can_only_print_gets_lines(worker: Worker) -> None:
    worker.connect()
    with terminal("status", "m-1", "--watch", TERM="dumb") as screen:
        screen.wait_for("m-1 is active")
        screen.type("\x03")
        assert screen.wait_for_end() == 130
    assert "\x1b" not in screen.shown


@pytest.mark.server
@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize(("answer", "exit_code", "left"), [("n", 130, []), ("y", 0, ["m-1", "m-2"])])
def test_somebody_is_asked_before_stores_are_left(
    answer: str, exit_code: int, left: list[str], records: Records
) -> None:
    rest(records, "m-1", "m-2")
    with terminal("disconnect", "m-1", "m-2", "nobody", TERM="dumb") as screen:
        screen.wait_for("Disconnect m-1, m-2? [y/N]: ")
        assert "Our callback URL is removed from the store" in screen.shown
        screen.type(f"{answer}\n")
        assert screen.wait_for_end() == (exit_code or 1)  # nobody is unknown
    assert [who for who in ("m-1", "m-2") if asked(records, who, "disconnect_asked")] == left


@pytest.mark.usefixtures("sealing_key")
def test_who_types_the_ids_cannot_be_asked() -> None:
    with terminal("disconnect", "--file", "-") as screen:
        assert screen.wait_for_end() == 2
    assert "pass --yes" in screen.shown


@pytest.mark.server
@pytest.mark.usefixtures("installation")
def test_many_are_a_bar_with_what_failed_above_it(records: Records) -> None:
    rest(records, "m-1", "m-2")
    with terminal("revalidate", "m-1", "m-2", "nobody") as screen:
        assert screen.wait_for_end() == 1
    assert "3/3" in screen.shown
    assert "nobody: there is no such connection" in screen.shown
    assert "m-1: being looked at" not in screen.shown
    assert "revalidate: 2 accepted, 1 failed" in screen.shown
    assert SHOW_CURSOR in screen.shown


@pytest.mark.usefixtures("sealing_key")
def test_a_key_that_is_typed_is_not_shown() -> None:
    with terminal("seal", "m-1") as screen:
        screen.wait_for("Application key (not shown): ")
        wait_until(lambda: not termios.tcgetattr(screen.descriptor)[3] & termios.ECHO)
        screen.type("eyJ0.eyJ9.typed\n")
        assert screen.wait_for_end() == 0
    assert "typed" not in screen.shown
    assert "sealed.v1." in screen.shown
