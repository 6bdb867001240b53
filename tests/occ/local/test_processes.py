"""What exits is started again and named; what is stopped leaves nothing; who is killed takes everything along."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from structlog.testing import capture_logs

from occ.local.processes import (
    EXITS_IN_A_ROW_THAT_ARE_A_LOOP,
    LONGEST_WAIT,
    PROJECT,
    STEADY_AFTER,
    Program,
    Restarts,
    Supervisor,
)
from occ.local.server import EmbeddedServer
from occ.local.tether import tethered
from tests.processes import command_line, is_running
from tests.waiting import wait_until

pytestmark = pytest.mark.server

SLEEPER = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
STUBBORN = (
    *(sys.executable, "-S", "-c"),
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
)
WITH_A_CHILD = (
    *(sys.executable, "-S", "-c"),
    """if True:
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        time.sleep(60)
    """,
)
SUPERVISING = """
import os, sys
from occ.local.processes import Program, Supervisor
from occ.local.stop_signal import stop_signal
command = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
with stop_signal() as stop, Supervisor(os.environ) as supervisor:
    print("children", *[supervisor.start(Program(f"child-{n}", command)) for n in range(3)], flush=True)
    while not stop.wait(0.05):
        supervisor.tend()
print("ended in order", flush=True)
"""
TETHERED = """
import signal, subprocess, sys, time
from occ.local.tether import tethered
wanted, how, *command = sys.argv[1:]
command, pipe = tethered(command, signal.Signals[wanted], by_pipe=how == "by pipe")
print(subprocess.Popen(command, start_new_session=True, pass_fds=pipe).pid, flush=True)
time.sleep(60)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(os.environ, log_folder=tmp_path / "logs", grace=2.0) as supervisor:
        yield supervisor


def test_a_killed_child_is_started_again_with_a_line_that_says_how_it_ended(supervisor: Supervisor) -> None:
    first = supervisor.start(Program("worker-1", SLEEPER))
    os.kill(first, signal.SIGKILL)
    with capture_logs() as lines:
        wait_until(lambda: supervisor.pids.get("worker-1", first) != first, meanwhile=supervisor.tend)
    exited = the_line("process_exited", lines)
    assert (exited["process"], exited["how"], exited["exits"]) == ("worker-1", "SIGKILL", 1)
    assert the_line("process_restarted", lines)["pid"] == supervisor.pids["worker-1"]


def test_a_child_that_goes_on_exiting_waits_longer_each_time_and_is_called_a_loop(tmp_path: Path) -> None:
    clock = Clock()
    program = Program("beat", (sys.executable, "-S", "-c", "raise SystemExit(3)"))
    with capture_logs() as lines, Supervisor(os.environ, log_folder=tmp_path, clock=clock) as supervisor:
        supervisor.start(program)
        for _ in range(EXITS_IN_A_ROW_THAT_ARE_A_LOOP):
            wait_until(lambda: not supervisor.pids)
            supervisor.tend()
            clock.now += LONGEST_WAIT
            supervisor.tend()
    exits = [line for line in lines if "next_start_in" in line]
    assert [line["next_start_in"] for line in exits] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert [line["event"] for line in exits] == ["process_exited"] * 4 + ["process_keeps_exiting"]
    assert {line["how"] for line in exits} == {"exit code 3"}


def test_waits_between_starts_are_bounded_and_forgotten_after_a_steady_while() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    waits = []
    for _ in range(12):
        waits.append(restarts.exited())
        restarts.started()
    assert max(waits) == waits[-1] == LONGEST_WAIT
    assert restarts.is_loop
    clock.now += STEADY_AFTER
    assert restarts.exited() == waits[0]
    assert not restarts.is_loop


def test_a_child_is_not_started_before_its_wait_is_over() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    wait = restarts.exited()
    clock.now += wait - 0.01
    assert not restarts.is_due
    clock.now += 0.01
    assert restarts.is_due


def test_stopping_leaves_no_child_and_no_grandchild(supervisor: Supervisor, tmp_path: Path) -> None:
    started = [supervisor.start(Program("parent", WITH_A_CHILD)), supervisor.start(Program("sleeper", SLEEPER))]
    output = tmp_path / "logs" / "parent.log"
    wait_until(lambda: output.read_text(encoding="ascii").endswith("\n"))
    supervisor.stop()
    assert not any(is_running(process) for process in [*started, int(output.read_text(encoding="ascii"))])
    assert supervisor.pids == {}


def test_a_child_that_does_not_end_in_time_is_killed_and_named(tmp_path: Path) -> None:
    with capture_logs() as lines, Supervisor(os.environ, log_folder=tmp_path, grace=0.2) as supervisor:
        stubborn = supervisor.start(Program("stubborn", STUBBORN))
        wait_until(lambda: (tmp_path / "stubborn.log").read_text(encoding="ascii") != "")
    assert not is_running(stubborn)
    assert the_line("process_killed", lines)["process"] == "stubborn"


def test_what_a_crashed_child_had_started_does_not_go_on_beside_its_successor(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    first = supervisor.start(Program("parent", WITH_A_CHILD))
    output = tmp_path / "logs" / "parent.log"
    wait_until(lambda: output.read_text(encoding="ascii").endswith("\n"))
    grandchild = int(output.read_text(encoding="ascii"))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervisor.pids.get("parent", first) != first, meanwhile=supervisor.tend)
    wait_until(lambda: not is_running(grandchild))


def test_each_child_has_its_own_environment_beside_the_common_one(tmp_path: Path) -> None:
    show = (sys.executable, "-S", "-c", "import os; print(os.environ['COMMON'], os.environ.get('LOGIN'))")
    with Supervisor({"COMMON": "yes"}, log_folder=tmp_path) as supervisor:
        supervisor.start(Program("flower", show, environment={"LOGIN": "secret"}))
        supervisor.start(Program("beat", show))
        wait_until(lambda: not supervisor.pids)
    assert (tmp_path / "flower.log").read_text(encoding="ascii") == "yes secret\n"
    assert (tmp_path / "beat.log").read_text(encoding="ascii") == "yes None\n"


def test_two_children_of_one_name_are_refused(supervisor: Supervisor) -> None:
    supervisor.start(Program("worker-1", SLEEPER))
    with pytest.raises(ValueError, match="worker-1"):
        supervisor.start(Program("worker-1", SLEEPER))


def test_children_are_started_by_the_main_thread_only(supervisor: Supervisor) -> None:
    refused: list[BaseException] = []

    def start() -> None:
        try:
            supervisor.start(Program("worker-1", SLEEPER))
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert refused


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_parent_told_to_stop_ends_its_children_in_order(number: signal.Signals) -> None:
    with python(SUPERVISING) as parent:
        children = announced_children(parent.stdout)
        parent.send_signal(number)
        assert parent.stdout.read().endswith("ended in order\n")
        assert parent.wait() == 0
        assert not any(is_running(child) for child in children)


@pytest.mark.parametrize("settled", [False, True])
def test_a_killed_parent_leaves_no_child(*, settled: bool) -> None:
    with python(SUPERVISING) as parent:
        children = announced_children(parent.stdout)
        if settled:  # else the children are still on their way to becoming what they should
            wait_until(lambda: not any("tether.py" in command_line(child) for child in children))
        parent.kill()
        wait_until(lambda: not any(is_running(child) for child in children))


def test_a_deaf_child_is_killed_with_its_parent_if_that_is_what_it_should_get() -> None:
    with python(TETHERED, "SIGKILL", "by signal", *STUBBORN) as parent:
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "deaf\n"
        parent.kill()
        wait_until(lambda: not is_running(child))


def test_where_the_system_has_no_such_signal_a_watcher_ends_the_child() -> None:
    with python(TETHERED, "SIGTERM", "by pipe", *SLEEPER) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        assert is_running(child)
        parent.kill()
        wait_until(lambda: not is_running(child))


def test_a_watcher_goes_when_its_child_ends_and_holds_nothing_of_it() -> None:
    code = "import os, time; print('done', flush=True); os.close(1); time.sleep(60)"
    command, pipe = tethered([sys.executable, "-S", "-c", code], signal.SIGTERM, by_pipe=True)
    with subprocess.Popen(command, pass_fds=pipe, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"done\n"
        assert process.poll() is None, "the output ended, though the child and its watcher have not"
        process.kill()


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    command, _ = tethered([sys.executable, "-S", "-c", "print('began')"], signal.SIGTERM)
    somebody_else = str(os.getppid())
    command[command.index(str(os.getpid()))] = somebody_else
    assert subprocess.run(command, capture_output=True, check=False).stdout == b""


@pytest.mark.server
def test_a_killed_server_is_started_again_and_stopped_last(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "server") as server:
        at_the_end = (
            "import signal, sys, time, redis\n"
            "def note(*_):\n"
            "    with redis.Redis.from_url(sys.argv[1]) as client: client.set('noted', 'at the end')\n"
            "    sys.exit()\n"
            "signal.signal(signal.SIGTERM, note)\n"
            "print('ready', flush=True)\n"
            "time.sleep(60)\n"
        )
        with capture_logs() as lines, Supervisor(os.environ, server=server, log_folder=tmp_path / "logs") as supervisor:
            supervisor.start(Program("worker-1", (sys.executable, "-c", at_the_end, server.url)))
            first = server.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: server.pid not in {None, first}, meanwhile=supervisor.tend)
            wait_until(lambda: (tmp_path / "logs" / "worker-1.log").read_text(encoding="ascii") == "ready\n")
        assert the_line("process_exited", lines)["process"] == "server"
        assert the_line("process_restarted", lines)["process"] == "server"
        assert server.pid is None
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("noted") == b"at the end"


class Python(subprocess.Popen[str]):
    stdout: IO[str]


@contextmanager
def python(code: str, *arguments: str) -> Iterator[Python]:
    """A Python process of its own, gone afterwards."""
    with Python([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        try:
            yield process
        finally:
            process.kill()


def announced_children(output: IO[str]) -> list[int]:
    for line in output:
        if line.startswith("children "):
            return [int(child) for child in line.split()[1:]]
    raise AssertionError("it ended without a word")


def the_line(event: str, lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    (line,) = [line for line in lines if line["event"] == event]
    return line
