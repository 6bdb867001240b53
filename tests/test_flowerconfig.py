"""Flower's settings, as the real Flower takes them: no login, no window; nobody else's address unless one is named."""

import base64
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from occ.local.commands import flower_command
from occ.local.processes import PROJECT
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.server


def plain(port: int, folder: Path) -> Sequence[str]:
    """As the README and Celery's manual have it."""
    return [sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--port={port}", f"--db={folder / 'tasks'}"]


def ours(port: int, folder: Path) -> Sequence[str]:
    return flower_command(port=port, database=str(folder / "tasks"))


@contextmanager
def flower(command: Sequence[str], redis_url: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], "OCC_REDIS_URL": redis_url, **environment},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=180)


@pytest.mark.parametrize("command", [plain, ours])
def test_flower_does_not_start_without_a_login(command: Callable[[int, Path], Sequence[str]], tmp_path: Path) -> None:
    with flower(command(free_port(), tmp_path), "redis://127.0.0.1:1/0") as process:
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "USER:PASSWORD in FLOWER_BASIC_AUTH" in output


def test_a_plain_flower_listens_on_loopback_and_asks_for_the_login(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    with flower(plain(port, tmp_path), redis_url, FLOWER_BASIC_AUTH="occ:correct-horse"):
        wait_until(lambda: status(port, "/healthcheck") == 200, what="Flower")
        assert status(port, "/workers") == 401
        assert status(port, "/workers", login="occ:wrong") == 401
        assert status(port, "/workers", login="occ:correct-horse") == 200
        assert listening(port) == {"127.0.0.1"}


def status(port: int, path: str, login: str | None = None) -> int | None:
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def listening(port: int) -> set[str]:
    """Addresses of this machine, IPv4 and IPv6, at which somebody listens on the port."""
    found: set[str] = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                words = bytes.fromhex(address)
                raw = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                found.add(socket.inet_ntop(family, raw))
    return found


def test_every_setting_is_one_that_this_flower_knows() -> None:
    """A misspelt one would be passed over in silence."""
    code = (
        "from flower import options as o; from tornado.options import options; options.basic_auth = ['a:b'];"
        "config = {}; exec(open('flowerconfig.py').read(), config);"
        "print(*(n for n, v in config.items() if n in o.default_options))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "OCC_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    assert set(asked.stdout.split()) == {
        *("address", "read_only", "tasks_columns", "format_task", "persistent", "state_save_interval", "max_tasks")
    }
