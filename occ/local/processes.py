"""Child processes that have to stay up: what exits is started again, and none outlives this process."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import structlog

from occ.local.private_files import private_folder
from occ.local.server import EmbeddedServer
from occ.local.server_binary import ServerError
from occ.local.tether import tethered

PROJECT = Path(__file__).resolve().parents[2]
"""Where celeryconfig.py is; children run here, so that Celery finds it whatever folder we were started in."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
STEADY_AFTER = 60.0
"""Seconds: a child that ran this long was well, and the next exit counts as its first."""

EXITS_IN_A_ROW_THAT_ARE_A_LOOP = 5

_LOG_LIMIT = 20_000_000
_CHECK_EVERY = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, under which name. `environment` is what this one needs beside what all get."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Restarts:
    """When something that exited may be started again: sooner at first, later while it goes on exiting."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at = clock()
        self._in_a_row = 0
        self.total = 0
        self.due_at: float | None = None

    @property
    def is_loop(self) -> bool:
        """It keeps exiting soon after each start."""
        return self._in_a_row >= EXITS_IN_A_ROW_THAT_ARE_A_LOOP

    @property
    def is_due(self) -> bool:
        """It has exited, and its wait is over."""
        return self.due_at is not None and self._clock() >= self.due_at

    def exited(self) -> float:
        """Note an exit; returns the wait before the next start in seconds."""
        now = self._clock()
        if now - self._started_at >= STEADY_AFTER:
            self._in_a_row = 0
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**self._in_a_row)
        self._in_a_row += 1
        self.total += 1
        self.due_at = now + wait
        return wait

    def started(self) -> None:
        """Note a start."""
        self._started_at = self._clock()
        self.due_at = None


class _Child:
    def __init__(self, program: Program, process: "subprocess.Popen[bytes]", restarts: Restarts) -> None:
        self.program = program
        self.process = process
        self.restarts = restarts


class Supervisor:
    """Keeps programs, and the embedded server if there is one, running until it is stopped.

    Used by a main thread, which calls `tend` several times a second: children are started, restarted and stopped in
    those calls. Output goes where ours goes, or into `<log_folder>/<name>.log`. `grace` is how long (seconds) children
    get to end in order.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        server: EmbeddedServer | None = None,
        log_folder: Path | None = None,
        grace: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = dict(environment)
        self._server = server
        self._server_restarts = Restarts(clock)
        self._log_folder = log_folder
        self._grace = grace
        self._clock = clock
        self._children: dict[str, _Child] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of what runs now, by name."""
        return {name: child.process.pid for name, child in self._children.items() if child.process.poll() is None}

    def start(self, program: Program) -> int:
        """Start a program and keep it running from now on; returns its process id."""
        if program.name in self._children:
            raise ValueError(f"there is a process called {program.name} already")
        child = _Child(program, self._spawned(program), Restarts(self._clock))
        self._children[program.name] = child
        log.info("process_started", process=program.name, pid=child.process.pid)
        return child.process.pid

    def tend(self) -> None:
        """Note what has exited and start again what is due. Does not wait."""
        self._tend_server()
        for child in self._children.values():
            if child.restarts.due_at is None and child.process.poll() is not None:
                _kill_group(child.process.pid)  # what it had started must not go on beside its successor
                _note_exit(child.program.name, child.process.returncode, child.restarts)
            if child.restarts.is_due:
                self._start_again(child)

    def stop(self) -> None:
        """End the programs in order, by force those that take too long, and the server last. Ctrl+C cuts it short."""
        children, self._children = self._children, {}
        processes = {name: child.process for name, child in children.items()}
        for process in processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            self._await(processes.values())
        except KeyboardInterrupt:
            log.warning("stopping_at_once")
        for name, process in processes.items():
            if process.poll() is None:
                log.warning("process_killed", process=name, pid=process.pid, after=self._grace)
            _kill_group(process.pid)
            process.wait()
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_again(self, child: _Child) -> None:
        try:
            child.process = self._spawned(child.program)
        except OSError as error:  # no memory, no disk: may pass, and must not take the others down
            _note_failed_start(child.program.name, str(error), child.restarts)
        else:
            child.restarts.started()
            _note_restart(child.program.name, child.process.pid, child.restarts)

    def _tend_server(self) -> None:
        server, restarts = self._server, self._server_restarts
        if server is None:
            return
        if restarts.due_at is None and server.exit_status is not None:
            _note_exit("server", server.exit_status, restarts)
        if restarts.is_due:
            try:
                server.start()
            except (ServerError, OSError) as error:
                _note_failed_start("server", str(error), restarts)
            else:
                restarts.started()
                _note_restart("server", server.pid, restarts)

    def _spawned(self, program: Program) -> "subprocess.Popen[bytes]":
        # By force if we are killed: told to end in order, they would wait for a server that ends together with us.
        # Nothing is lost by it: the record is the truth, and beat and Flower mend or replace their files.
        command, pipe = tethered(program.command, signal.SIGKILL)
        with self._output(program.name) as output:
            return subprocess.Popen(  # noqa: S603 - our own programs
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=PROJECT,
                env=self._environment | dict(program.environment),
                start_new_session=True,  # a terminal's Ctrl+C reaches us alone, and we end the others in order
                pass_fds=pipe,
            )

    @contextmanager
    def _output(self, name: str) -> Iterator[IO[bytes] | None]:
        if self._log_folder is None:
            yield None
            return
        path = private_folder(self._log_folder) / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as file:
            yield file

    def _await(self, processes: "Collection[subprocess.Popen[bytes]]") -> None:
        until = self._clock() + self._grace
        while any(process.poll() is None for process in processes) and self._clock() < until:
            time.sleep(_CHECK_EVERY)


def _note_exit(name: str, status: int, restarts: Restarts) -> None:
    wait = restarts.exited()
    report = log.error if restarts.is_loop else log.warning
    event = "process_keeps_exiting" if restarts.is_loop else "process_exited"
    report(event, process=name, how=_how(status), exits=restarts.total, next_start_in=wait)


def _note_restart(name: str, pid: int | None, restarts: Restarts) -> None:
    log.info("process_restarted", process=name, pid=pid, exits=restarts.total)


def _note_failed_start(name: str, explanation: str, restarts: Restarts) -> None:
    log.error("process_not_started", process=name, explanation=explanation, next_start_in=restarts.exited())


def _how(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _kill_group(leader: int) -> None:
    """End a child and all it started: each child leads a session of its own."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(leader, signal.SIGKILL)
