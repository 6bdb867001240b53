"""`./run up` for real: everything starts, one at a time, shows itself to its owner only, and ends without a trace."""

import base64
import http.client
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from occ.local.server import EmbeddedServer
from tests.occ.local.running_up import Up, up
from tests.ports import free_port
from tests.processes import command_line, is_running
from tests.waiting import wait_until

pytestmark = pytest.mark.end_to_end


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody else listens at."""
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", free_port()))
        occupied.listen()
        yield occupied.getsockname()[1]


def test_everything_runs_shows_itself_to_its_owner_comes_back_and_ends_without_a_trace(tmp_path: Path) -> None:
    with taken_port() as for_flower, taken_port() as for_metrics:
        ports = ("--flower-port", str(for_flower), "--metrics-port", str(for_metrics))
        with up(tmp_path, "--workers", "2", *ports) as running:
            running.await_words("occ-connect is running.")
            assert set(running.started) == {"worker-1", "worker-2", "quarantine", "beat", "flower", "metrics"}
            assert f"(port {for_flower} is taken)" in running.said
            assert f"(port {for_metrics} is taken)" in running.said
            server = EmbeddedServer.running_in(running.data / "server")
            assert server is not None
            with redis.Redis.from_url(server.url) as client:
                client.set("kept", "between starts")
                of_the_server = int(client.info("server")["process_id"])
            running.await_words("worker-1@")
            assert_a_second_one_on_the_same_data_is_refused_and_names_the_first(running, tmp_path / "second")
            assert_flower_is_on_loopback_behind_a_login_that_only_the_owner_can_read(running)
            assert_metrics_are_on_loopback_where_it_says_and_know_the_server(running)

            first = running.started["worker-1"]
            os.kill(first, signal.SIGKILL)
            os.kill(of_the_server, signal.SIGKILL)
            wait_until(lambda: running.started["worker-1"] != first and "server" in running.started)
            assert EmbeddedServer.running_in(running.data / "server") == server

            everything = list(running.started.values())
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(60) == 0
            assert not any(is_running(process) for process in everything)
    assert EmbeddedServer.running_in(running.data / "server") is None
    with EmbeddedServer(running.data / "server") as again, redis.Redis.from_url(again.url) as client:
        assert client.get("kept") == b"between starts"


def assert_a_second_one_on_the_same_data_is_refused_and_names_the_first(first: Up, folder: Path) -> None:
    folder.mkdir()
    with up(folder, "--no-flower", OCC_DATA_DIR=str(first.data)) as second:
        assert second.process.wait(60) == 1
        assert f"is running on {first.data} already (process {first.process.pid})" in second.log


def assert_flower_is_on_loopback_behind_a_login_that_only_the_owner_can_read(running: Up) -> None:
    (flower,) = [int(number) for number in re.findall(r"http://127\.0\.0\.1:(\d+)(?!\d*/metrics)", running.said)]
    password = (running.data / "flower" / "password").read_text(encoding="ascii").strip()
    assert password not in running.said
    assert password not in command_line(running.started["flower"])
    wait_until(lambda: status_of(flower, "/workers") is not None)
    assert status_of(flower, "/workers") == 401
    assert status_of(flower, "/workers", f"occ:{password}") == 200
    assert status_of(flower, "/api/workers") == 401
    assert accepts("127.0.0.1", flower)
    assert not accepts("127.0.0.2", flower)  # on Linux as local as 127.0.0.1, for who listens everywhere


def assert_metrics_are_on_loopback_where_it_says_and_know_the_server(running: Up) -> None:
    (port,) = [int(number) for number in re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", running.said)]
    wait_until(lambda: status_of(port, "/metrics") == 200)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=180) as told:
        assert b"\nocc_up 1.0\n" in told.read()
    assert not accepts("127.0.0.2", port)


def test_problems_of_the_settings_are_reported_once_and_nothing_stays(tmp_path: Path) -> None:
    with up(tmp_path, "--no-flower", OCC_LEASE="1s", OCC_RETRY_ATTEMPTS="many") as running:
        assert running.process.wait(60) == 1
        assert running.log.count("OCC_LEASE") == 1
        assert "OCC_RETRY_ATTEMPTS" in running.log
        assert running.started == {}
    assert EmbeddedServer.running_in(running.data / "server") is None


def test_with_a_server_of_ones_own_there_is_no_embedded_one(tmp_path: Path) -> None:
    with up(tmp_path, "--no-flower", OCC_REDIS_URL="redis://127.0.0.1:1/0") as running:
        assert running.process.wait(60) == 1
        assert "OCC_SEALING_KEYS: required" in running.log
    assert not (running.data / "server").exists()
    assert not (running.data / "sealing-keys").exists()


def status_of(port: int, path: str, login: str | None = None) -> int | None:
    """The HTTP status, or None as long as nobody is there."""
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True
