"""All places where a secret could be seen by somebody who has no private key, each as bytes to search."""

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from occ.cli.command_line import run
from occ.local.commands import flower_command
from tests.pipeline import REPOSITORY, Pipeline
from tests.ports import free_port
from tests.waiting import wait_until

FLOWER_LOGIN = ("operator", "FlowerPassword9k3v")
_MOST_TASK_PAGES = 60


class Wiretap:
    """Everything that any client says to the server, as MONITOR shows it: also messages that nobody keeps."""

    def __init__(self, url: str) -> None:
        self.heard = bytearray()
        self._client: Any = redis.Redis.from_url(url)
        connection: Any = self._client.connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()
        self._connection = connection
        self._socket: socket.socket = connection._sock
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(1 << 20):
                self.heard += data

    def everything(self) -> bytes:
        """What was said until now: MONITOR tells it a moment after the command was answered."""
        mark = uuid.uuid4().hex.encode()
        self._client.echo(mark)
        wait_until(lambda: mark in self.heard, what="the server to tell what was said")
        return bytes(self.heard)

    def forget(self) -> None:
        """What was said until now was looked at."""
        self.heard.clear()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.disconnect()
        self._client.close()


class Watch:
    """Looks again and again, while runs are under way, at what is there only for a moment."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.seen = {"inspect": bytearray(), "messages": bytearray(), "ps": bytearray()}
        self._pipeline = pipeline
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.3):
            self.seen["messages"] += messages(self._pipeline)
            self.seen["ps"] += command_lines()
            inspected = self._pipeline.producer.control.inspect(timeout=0.5)
            self.seen["inspect"] += repr([inspected.active(), inspected.reserved(), inspected.scheduled()]).encode()

    def stop(self) -> None:
        """That was enough."""
        self._over.set()
        self._thread.join()


class Flower:
    """The real Flower on a pipeline, with a login as in the shipped set-up."""

    def __init__(self, pipeline: Pipeline) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = flower_command(port=port, database=str(pipeline.folder / "flower-tasks"))
        pipeline._start("flower", command, {"FLOWER_BASIC_AUTH": ":".join(FLOWER_LOGIN)})
        wait_until(self._answers, what="Flower to answer")

    def _answers(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/healthcheck", timeout=5).ok
        return False

    def get(self, path: str, login: tuple[str, str] | None = FLOWER_LOGIN) -> requests.Response:
        """One page."""
        return requests.get(f"{self.url}{path}", auth=login, timeout=180)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """All tasks it has seen, by id."""
        found: dict[str, dict[str, Any]] = self.get("/api/tasks?limit=100000").json()
        return found

    def everything(self) -> bytes:
        """Pages and API, as somebody with the login sees them."""
        tasks = self.tasks()
        failed = [task_id for task_id, task in tasks.items() if task["state"] != "SUCCESS"]
        some = [*failed, *tasks][:_MOST_TASK_PAGES]
        workers = self.get("/api/workers?refresh=1").json()
        paths = [
            *("/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks?limit=100000", "/api/workers?refresh=1"),
            *("/api/queues/length", "/api/task/types", "/tasks/datatable?draw=1&start=0&length=100000"),
            *(f"/worker/{worker}" for worker in workers),
            *(f"/{page}/{task_id}" for task_id in some for page in ("task", "api/task/info")),
        ]
        return b"\n".join(self.get(path).content for path in paths)


def server_dump(client: Any) -> bytes:
    """All keys with their values, streams with their groups."""
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"set": client.smembers,
        b"stream": lambda key: (client.xrange(key), client.xinfo_groups(key)),
    }
    parts: list[object] = []
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        if kind in readers:  # else it has just gone
            parts.append((key, readers[kind](key)))
    return _plain(parts)


def messages(pipeline: Pipeline) -> bytes:
    """What is in queues, or taken and not acknowledged."""
    with redis.Redis.from_url(pipeline.server.url) as client:
        queues = [client.lrange(key, 0, -1) for key in client.scan_iter(count=1000, _type="list")]
        return _plain([queues, client.hgetall("unacked"), client.xrange("occ:inbox")])


def slow_log(client: Any) -> bytes:
    """Every command that was slower than the threshold, which the suite sets to nothing."""
    return _plain(client.execute_command("SLOWLOG", "GET", "-1"))


def files(folder: Path, *, but: Sequence[str] = ()) -> bytes:
    """All files below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in but]
    return b"\n".join(f"{path}\n".encode() + path.read_bytes() for path in paths)


def logs(pipeline: Pipeline) -> bytes:
    """What all processes that ever ran have written, and the server's own log."""
    return b"\n".join(path.read_bytes() for path in pipeline.folder.rglob("*.log"))


def inspected(pipeline: Pipeline) -> bytes:
    """What `celery inspect` tells about workers at rest."""
    inspect = pipeline.producer.control.inspect(timeout=3)
    told = [inspect.conf(with_defaults=True), inspect.report(), inspect.stats(), inspect.registered()]
    return repr([*told, inspect.active_queues(), inspect.revoked(), inspect.active()]).encode()


def celery_report(pipeline: Pipeline, app: str = "tasks", **environment: str) -> bytes:
    """`celery report`: versions and settings, made to be pasted into bug reports."""
    command = [sys.executable, "-m", "celery", "-A", app, "report"]
    environ = {**pipeline.environment, **environment}
    return subprocess.run(command, env=environ, cwd=REPOSITORY, capture_output=True, check=True, timeout=240).stdout


def command_lines() -> bytes:
    """What `ps` shows everybody."""
    return subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, check=True).stdout


def printed_by_occ(pipeline: Pipeline, merchants: Iterable[str]) -> bytes:
    """`occ` about all these merchants, for people and for programs."""
    told = []
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OCC_")]:
            patch.delenv(name)
        for name, value in pipeline.environment.items():
            if name.startswith("OCC_"):
                patch.setenv(name, value)
        for arguments in _command_lines_of_occ(merchants):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run(arguments)
            assert code in {0, 4}, (arguments, err.getvalue())
            told.append(f"{out.getvalue()}\n{err.getvalue()}")
    return "\n".join(told).encode()


def _command_lines_of_occ(merchants: Iterable[str]) -> Iterator[list[str]]:
    for arguments in (["status"], ["refused", "--last", "10000"]):
        yield arguments
        yield [*arguments, "--json"]
    yield ["metrics", "--once"]
    for merchant in merchants:
        for command in ("explain", "timeline", "status"):
            yield [command, merchant]
            if command != "explain":
                yield [command, merchant, "--json"]


def history(pipeline: Pipeline, merchants: Iterable[str]) -> bytes:
    """Events and timelines, read as other systems read them."""
    timelines = [pipeline.records.timeline(merchant) for merchant in merchants]
    return json.dumps([pipeline.records.events(count=100_000), timelines]).encode()


def _plain(value: object) -> bytes:
    """A value of the server as text; `repr` would double the backslashes of JSON within."""
    return re.sub(rb"\\\\+", rb"\\", repr(value).encode())
