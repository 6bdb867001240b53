"""`occ metrics`: serves on loopback unless told otherwise, ends when told to, prints once if asked."""

import re
import signal
import socket
import subprocess
import sys

import pytest
import redis
import requests

from tests.occ.cli.conftest import PROJECT, Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]


def test_the_metrics_are_printed_once_if_asked(occ: Occ, redis_client: redis.Redis) -> None:
    told = occ("metrics", "--once")
    assert told.exit_code == 0
    assert "\nocc_up 1.0\n" in told.stdout
    assert told.stderr == ""


def test_the_metrics_are_served_on_loopback_until_told_to_stop() -> None:
    command = [sys.executable, "-m", "occ.cli", "metrics", "--port", "0"]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)
        assert url is not None, line + process.stderr.read()
        assert "occ_up 1.0" in requests.get(url[0], timeout=180).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=180) == 0
        assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_told_of(occ: Occ) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = occ("metrics", "--port", str(taken.getsockname()[1]))
    assert told.exit_code == 2
    assert "--port" in told.stderr
