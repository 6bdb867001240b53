import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from occ.simulator.process import ROOT, SimulatorProcess
from tests.processes import is_running
from tests.waiting import wait_until

pytestmark = pytest.mark.server

FREE_PORTS = ["--port", "0", "--control-port", "0"]


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """A Python process with its standard input and output; killed at the end, whatever the test did to it."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, process.stdin, process.stdout
        finally:
            process.kill()


def wait_for_end(pid: int) -> None:
    wait_until(lambda: not is_running(pid), what="its end")


def test_it_runs_as_a_process_with_a_client() -> None:
    with SimulatorProcess(["--tenants", "2", "--latency", "0.01"]) as process:
        assert [tenant["name"] for tenant in process.started["tenants"]] == ["m-1", "m-2"]
        assert process.started["tenants"] == [
            {**tenant, "application_key_file": None} for tenant in process.client.tenants()
        ]
        assert process.dev_stores == f"127.0.0.0/8:{process.started['port']}"
        assert process.client.about()["latency"] == 0.01
        pid = process.pid
    assert not is_running(pid)


def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    parent = (
        "import sys, time\n"
        "from occ.simulator.process import SimulatorProcess\n"
        "with SimulatorProcess() as process:\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with started("-c", parent) as (_, _, stdout):
        pid = int(stdout.readline())
        assert is_running(pid)
    try:
        wait_for_end(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_it_tells_people_how_to_try_it_and_ends_on_a_signal(tmp_path: Path) -> None:
    stores = tmp_path / "stores.json"
    stores.write_text(json.dumps([{"name": "shop", "shipping_methods": 0}, {}]))
    keys = tmp_path / "keys"
    arguments = ["-m", "occ.simulator", *FREE_PORTS, "--stores", str(stores), "--keys", str(keys)]
    with started(*arguments) as (process, _, stdout):
        lines = [stdout.readline()]
        while lines[-1] and "Ctrl+C" not in lines[-1]:
            lines.append(stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    text = "".join(lines)
    assert "2 simulated stores" in text
    assert "OCC_DEV_STORES=127.0.0.0/8:" in text
    assert "./run occ connect shop --store-url http://127.1.0.1:" in text
    key = keys / "shop.key"
    assert str(key) in text
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().count(".") == 2


def test_it_ends_when_a_pipe_on_its_standard_input_does() -> None:
    arguments = ["-m", "occ.simulator", *FREE_PORTS, "--json", "--with-parent"]
    with started(*arguments) as (process, stdin, stdout):
        assert len(json.loads(stdout.readline())["tenants"]) == 3
        stdin.close()
        assert process.wait(60) == 0


def test_a_taken_port_comes_with_advice() -> None:
    with SimulatorProcess() as process:
        taken = str(process.started["port"])
        command = [sys.executable, "-m", "occ.simulator", "--port", taken, "--control-port", "0"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 1
    assert "--port 0" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--stores", "/no/such/file"], "cannot start"),
        (["--stores", __file__], "cannot start"),
        (["--tls-cert", "/no/such/file", "--tls-key", "/no/such/file"], "cannot start"),
        (["--tls-cert", "x"], "belong together"),
    ],
)
def test_it_says_why_it_cannot_start(arguments: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "occ.simulator", *FREE_PORTS, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode != 0
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr
